// The table of CPU targets, with the lowering choices that go with each.
#include "passes/lower/target.h"

#include <string>

namespace smelt {

namespace {

/// Lowering choices by target; the names are the enumerators of targets.def.
struct Choices {
  DotKind dot;
  int64_t rowBlock;
};
// 32 vector registers of 64 bytes hold 8 rows of two accumulators; 16 of 32 bytes or 32 of 16 bytes
// hold 2.
constexpr Choices X86V4Vnni{DotKind::Vnni512, 8};
constexpr Choices X86V3{DotKind::Maddubs256, 2};
constexpr Choices Arm64Dotprod{DotKind::Sdot128, 2};

constexpr KernelTarget table[] = {
#define TARGET(enumerator, name, row, triple, cpu, features, needs)                                \
  {row, name, triple, cpu, features, enumerator.dot, enumerator.rowBlock},
#include "runtime/devices/targets.def"
};

} // namespace

std::span<const KernelTarget> kernelTargets() { return table; }

Result<const KernelTarget *> findTarget(std::string_view name) {
  std::string known;
  for (const KernelTarget &target : table) {
    if (target.name == name)
      return &target;
    known += (known.empty() ? "" : ", ") + std::string(target.name);
  }
  return invalidArgument("unknown target '" + std::string(name) + "', expected one of " + known);
}

} // namespace smelt
