// Which bytes of the weights section a program reads, and what for.
#pragma once

#include "runtime/artifact/reader.h"

#include <cstdint>
#include <span>
#include <vector>

namespace smelt {

/// What an operand names: the bytes up to where the next operand begins, or the section ends.
struct WeightPart {
  uint64_t offset = 0, bytes = 0;
  size_t firstReader = 0;    ///< of the instructions
  format::OpLabel label{};   ///< of the last reader
  bool isMultiplied = false; ///< a linear or the head reads it; others only look up, or are small
};

/// Of a program, in order of their offsets. `section`: bytes of all weights.
std::vector<WeightPart> weightPartsOf(std::span<const format::Instruction> instructions,
                                      uint64_t section);

/// Bytes of weights that a decoded token reads: all linears once.
uint64_t weightBytesOfToken(const Artifact &artifact);

} // namespace smelt
