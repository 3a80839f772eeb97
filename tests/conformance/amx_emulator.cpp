// The AMX instructions by a handler of SIGILL: decoding of their VEX forms, and what they do.
#include "tests/conformance/amx_emulator.h"

#if defined(__x86_64__) && defined(__linux__)

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ucontext.h>
#include <unistd.h>

namespace smelt::conformance {

namespace {

constexpr int matrixCount = 8, maxRows = 16, maxBytes = 64;

struct Matrix {
  uint8_t bytes[maxRows][maxBytes];
  int rows, rowBytes;
};
struct State {
  bool configured;
  Matrix matrices[matrixCount];
};
thread_local State state;

/// Only what a signal handler may call.
[[noreturn]] void refuse(const char *what) {
  const char *parts[] = {"AMX emulator: ", what, "\n"};
  for (const char *part : parts)
    if (::write(STDERR_FILENO, part, std::strlen(part)) < 0)
      break;
  ::_exit(70);
}

/// VEX.128.0F38 with its operands.
struct Instruction {
  uint8_t opcode, prefix; ///< prefix: 0 none, 1 66, 2 F3, 3 F2
  uint8_t mod, reg, rm, vvvv;
  uint64_t base; ///< of a memory operand, without its index
  uint64_t index;
  const uint8_t *end;
};

uint64_t registerValue(const mcontext_t &machine, int number) {
  constexpr int places[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                            REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  return uint64_t(machine.gregs[places[number]]);
}

template <typename T> T read(const uint8_t *&at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  at += sizeof value;
  return value;
}

/// Reads a memory operand behind ModRM (SDM volume 2, section 2.1.5).
void readMemory(Instruction &i, const uint8_t *&at, bool extendIndex, bool extendBase,
                const mcontext_t &machine) {
  bool hasBase = true;
  int base = i.rm;
  if (i.rm == 4) {
    const uint8_t sib = *at++;
    const int index = (sib >> 3 & 7) | extendIndex << 3;
    base = sib & 7;
    i.index = index == 4 ? 0 : registerValue(machine, index) << (sib >> 6);
    hasBase = base != 5 || i.mod != 0;
  } else if (i.rm == 5 && i.mod == 0) { // relative to the next instruction
    const int32_t distance = read<int32_t>(at);
    i.base = uint64_t(at) + uint64_t(int64_t(distance));
    return;
  }
  int64_t displacement = 0;
  if (i.mod == 1)
    displacement = read<int8_t>(at);
  else if (i.mod == 2 || !hasBase)
    displacement = read<int32_t>(at);
  i.base = (hasBase ? registerValue(machine, base | extendBase << 3) : 0) + uint64_t(displacement);
}

bool decode(Instruction &i, const mcontext_t &machine) {
  const uint8_t *at = reinterpret_cast<const uint8_t *>(machine.gregs[REG_RIP]);
  if (*at++ != 0xc4)
    return false;
  const uint8_t second = *at++, third = *at++;
  const bool wide = third >> 7, longVector = third >> 2 & 1;
  if ((second & 31) != 2 || wide || longVector)
    return false;
  i.prefix = third & 3;
  i.vvvv = ~(third >> 3) & 15;
  i.opcode = *at++;
  const uint8_t modrm = *at++;
  i.mod = modrm >> 6;
  i.reg = modrm >> 3 & 7;
  i.rm = modrm & 7;
  if (i.mod != 3)
    readMemory(i, at, !(second >> 6 & 1), !(second >> 5 & 1), machine);
  i.end = at;
  return true;
}

Matrix &shaped(int number) {
  Matrix &matrix = state.matrices[number];
  if (!state.configured || !matrix.rows || !matrix.rowBytes)
    refuse("a register without a shape");
  return matrix;
}

void configure(const uint8_t *from) {
  if (from[0] != 1)
    refuse("a palette other than 1");
  for (int i = 1; i < 16; ++i)
    if (from[i])
      refuse("reserved bytes, or a first row, in the configuration");
  std::memset(&state, 0, sizeof state);
  state.configured = true;
  for (int i = 0; i < matrixCount; ++i) {
    uint16_t rowBytes;
    std::memcpy(&rowBytes, from + 16 + 2 * i, 2);
    if (from[48 + i] > maxRows || rowBytes > maxBytes || !from[48 + i] != !rowBytes)
      refuse("a shape that no register has");
    state.matrices[i].rows = from[48 + i];
    state.matrices[i].rowBytes = rowBytes;
  }
}

void zero(Matrix &matrix) { std::memset(matrix.bytes, 0, sizeof matrix.bytes); }

void multiply(Matrix &sums, const Matrix &a, const Matrix &b, bool signedA, bool signedB) {
  if (&sums == &a || &sums == &b || &a == &b)
    refuse("a product with a register twice");
  if (sums.rows != a.rows || sums.rowBytes != b.rowBytes || a.rowBytes != 4 * b.rows)
    refuse("a product of shapes that do not fit");
  auto value = [](uint8_t byte, bool isSigned) { return isSigned ? int8_t(byte) : int(byte); };
  for (int row = 0; row < sums.rows; ++row)
    for (int column = 0; column < sums.rowBytes / 4; ++column) {
      uint32_t sum;
      std::memcpy(&sum, &sums.bytes[row][4 * column], 4);
      for (int input = 0; input < a.rowBytes; ++input)
        sum += uint32_t(value(a.bytes[row][input], signedA) *
                        value(b.bytes[input / 4][4 * column + input % 4], signedB));
      std::memcpy(&sums.bytes[row][4 * column], &sum, 4);
    }
}

bool execute(const Instruction &i) {
  auto rowAt = [&](int row) {
    return reinterpret_cast<uint8_t *>(i.base + i.index * uint64_t(row));
  };
  const bool memory = i.mod != 3;
  if (i.opcode == 0x49 && i.prefix == 0 && memory && i.reg == 0) {
    configure(rowAt(0));
  } else if (i.opcode == 0x49 && i.prefix == 0 && !memory && i.reg == 0 && i.rm == 0) {
    std::memset(&state, 0, sizeof state);
  } else if (i.opcode == 0x49 && i.prefix == 3 && !memory && i.rm == 0) {
    zero(shaped(i.reg));
  } else if (i.opcode == 0x4b && i.prefix == 3 && memory) {
    Matrix &matrix = shaped(i.reg);
    zero(matrix);
    for (int row = 0; row < matrix.rows; ++row)
      std::memcpy(matrix.bytes[row], rowAt(row), size_t(matrix.rowBytes));
  } else if (i.opcode == 0x4b && i.prefix == 2 && memory) {
    const Matrix &matrix = shaped(i.reg);
    for (int row = 0; row < matrix.rows; ++row)
      std::memcpy(rowAt(row), matrix.bytes[row], size_t(matrix.rowBytes));
  } else if (i.opcode == 0x5e && !memory && i.vvvv < matrixCount) {
    // TDPBUUD, TDPBUSD, TDPBSUD, TDPBSSD by prefix
    multiply(shaped(i.reg), shaped(i.rm), shaped(i.vvvv), i.prefix & 2, i.prefix & 1);
  } else {
    return false;
  }
  return true;
}

void onIllegal(int signal, siginfo_t *, void *context) {
  mcontext_t &machine = static_cast<ucontext_t *>(context)->uc_mcontext;
  Instruction instruction{};
  if (!decode(instruction, machine) || !execute(instruction)) {
    ::signal(signal, SIG_DFL); // returns to the instruction, which now ends the process
    return;
  }
  machine.gregs[REG_RIP] = greg_t(instruction.end);
}

} // namespace

bool canEmulateAmx() { return true; }

void emulateAmx() {
  struct sigaction action{};
  action.sa_sigaction = onIllegal;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGILL, &action, nullptr);
}

} // namespace smelt::conformance

#else

namespace smelt::conformance {
bool canEmulateAmx() { return false; }
void emulateAmx() {}
} // namespace smelt::conformance

#endif
