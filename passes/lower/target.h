// CPU targets as the kernel generator sees them.
#pragma once

#include "runtime/base/status.h"

#include <cstdint>
#include <span>
#include <string_view>

namespace smelt {

/// How a target multiplies bytes; every kind gives the same exact integers.
enum class DotKind {
  Vnni512,    ///< vpdpbusd on 64 bytes
  Vnni256,    ///< the same on 32
  Maddubs256, ///< pairs into saturating int16, 32 bytes
  Maddubs128, ///< the same on 16
  Smmla128,   ///< two activation rows at a time; like Sdot128 where there is one
  Sdot128,
  Smull128, ///< products of 16 bits, added in pairs
  Words,    ///< int32 products in plain vectors: any CPU
};

/// One row of runtime/devices/targets.def with its lowering choices.
struct KernelTarget {
  uint32_t row; ///< number in the artifact
  std::string_view name, triple, cpu, features;
  bool portable; ///< part of --target portable
  DotKind dot;
  int64_t vectorBytes, registers; ///< of the vector unit
  int64_t rowBlock; ///< token rows that a many-row linear kernel keeps in registers (divides 8)
  /// LLVM intrinsic that looks bytes up in 16 others, and on how many it works at once; empty:
  /// none.
  std::string_view lookUp;
  int64_t lookUpBytes;
  /// The same in 32 others, or in 64 of which two halves are alike; empty: none.
  std::string_view lookUpOf32;
  bool tiles;           ///< AMX-INT8 multiplies the tiles of eight rows
  bool hasFma, hasHalf; ///< instructions for fma, and for float16 <-> float
};

/// All targets, best first.
std::span<const KernelTarget> kernelTargets();
/// Finds a target by name; the error lists the names there are.
Result<const KernelTarget *> findTarget(std::string_view name);

} // namespace smelt
