// The TensorProgram section of an artifact, checked and in place.
#pragma once

#include "runtime/artifact/format.h"
#include "runtime/base/status.h"

#include <span>
#include <string_view>
#include <vector>

namespace smelt {

/// "f32", "i64", ...; "unknown" for numbers that are no type.
std::string_view elementTypeName(format::ElementType type);
/// Bytes of one element.
uint64_t elementBytes(format::ElementType type);
inline constexpr uint32_t elementTypeCount = 7;

/// Product of dimensions, times `each`; false when one is negative or the product is beyond 2^46.
bool tensorBytes(std::span<const int64_t> dims, uint64_t each, uint64_t &bytes);

/// Points into the section. After read() succeeds these hold: all indices and name offsets are
/// inside their lists; operands, types and ranks fit the action; jumps go forward; constants lie
/// inside the weights, 64-byte aligned; Rows name instructions of the program that touch only
/// weights, scratch and rows, between widths that are known; roles fit types and ranks, partners
/// fit each other.
struct TensorProgram {
  std::vector<const char *> kernelNames;
  std::span<const format::TensorEntry> tensors;
  std::span<const format::TensorInstruction> instructions;
  std::span<const format::TensorPort> inputs, outputs;
  std::span<const char> names;

  const char *name(uint32_t offset) const { return names.data() + offset; }

  /// `weightBytes`: size of the weights section; `program`: instructions of the program section,
  /// whose operands are checked already. Corrupt says what does not fit.
  static Result<TensorProgram> read(std::span<const std::byte> section, uint64_t weightBytes,
                                    std::span<const format::Instruction> program);
};

} // namespace smelt
