// CPU targets as the kernel generator sees them.
#pragma once

#include "runtime/base/status.h"

#include <cstdint>
#include <span>
#include <string_view>

namespace smelt {

/// How a target multiplies bytes; every kind gives the same exact integers.
enum class DotKind { Vnni512, Maddubs256, Sdot128 };

/// One row of runtime/devices/targets.def with its lowering choices.
struct KernelTarget {
  uint32_t row; ///< number in the artifact
  std::string_view name, triple, cpu, features;
  DotKind dot;
  int64_t rowBlock; ///< token rows that a many-row linear kernel keeps in registers (divides 8)
};

/// All targets, best first.
std::span<const KernelTarget> kernelTargets();
/// Finds a target by name; the error lists the names there are.
Result<const KernelTarget *> findTarget(std::string_view name);

} // namespace smelt
