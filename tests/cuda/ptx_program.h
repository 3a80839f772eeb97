// A kernel in PTX, made ready to be executed on the CPU warp by warp: the instructions that LLVM
// writes for our kernels, nothing else. What is not known is refused by name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace smelt::ptx {

inline constexpr int warpLanes = 32;

struct Instruction;
/// Values of registers: of each one 32 lanes, at the byte that an instruction names.
using Execute = void (*)(std::byte *registers, const Instruction &instruction, uint32_t lanes);

enum class Combine : uint8_t { And, Or, Add };

enum class Action : uint8_t {
  Compute, ///< `execute`
  Load,    ///< place[0].. = the words at place[4] + offset
  Store,   ///< the words at place[4] + offset = place[0]..
  Atomic,  ///< place[0] = old word at place[4]; combined with place[1]
  Branch,
  Shuffle, ///< place[0] = place[1] of the lane `lane xor place[2]`
  Tile,    ///< place[0..3] = place[10..13] + product of codes place[4..7] and inputs place[8..9]
  Barrier,
  Return,
};

struct Instruction {
  Action action = Action::Compute;
  bool isShared = false;          ///< of memory
  bool isHalf = false;            ///< of Load: two bytes of memory, zeros above them
  Combine combine = Combine::And; ///< of Atomic
  bool guardNot = false;
  bool isSigned = false; ///< of Tile: the codes
  int8_t count = 1;      ///< of Load and Store: registers; of Tile: words of inputs
  int32_t guard = -1;    ///< place of a predicate that lanes must have; -1: none
  uint32_t target = 0;   ///< of Branch
  int64_t offset = 0;
  Execute execute = nullptr;
  uint32_t place[14] = {};
  uint32_t line = 0; ///< in the text
};

/// Registers that a launch sets.
struct Specials {
  uint32_t thread, group[3];
  std::vector<uint32_t> parameters;
};

struct Program {
  std::string name;
  uint32_t threads = 0; ///< of a workgroup: .maxntid
  uint32_t sharedBytes = 0;
  std::vector<Instruction> code;
  std::vector<std::byte> registers; ///< of a warp before it starts: zeros and constants
  Specials specials;
};

/// Reads the only kernel of a module. False: `error` says what is wrong with which line, as an
/// assembler would.
bool readProgram(std::string_view text, Program &program, std::string &error);

/// How an operation computes, and the bytes of its registers, the result's first; null: not known.
struct Operation {
  Execute execute = nullptr;
  std::vector<int> bytes;
};
const Operation *findOperation(std::string_view name);

/// Memory that kernels may touch.
class GlobalMemory {
public:
  virtual ~GlobalMemory() = default;
  virtual bool holds(uint64_t address, size_t bytes) = 0;
};

/// Runs all workgroups of a launch. False: `error` says what went wrong where.
bool runProgram(const Program &program, const uint32_t groups[3],
                const std::vector<uint64_t> &arguments, GlobalMemory &memory, std::string &error);

} // namespace smelt::ptx
