// The table of CPU targets, with the lowering choices that go with each.
#include "passes/lower/target.h"

#include <string>

namespace smelt {

namespace {

/// Lowering choices by target; the names are the enumerators of targets.def.
struct Choices {
  DotKind dot;
  int64_t vectorBytes, registers, rowBlock;
  std::string_view lookUp = {};
  int64_t lookUpBytes = 0;
  std::string_view lookUpOf32 = {};
  bool hasFma = true, hasHalf = true, tiles = false;
};
// 32 vector registers of 64 bytes hold 8 rows of two accumulators; 16 of 32 bytes or 32 of 16 bytes
// hold 2.
constexpr std::string_view tbl = "llvm.aarch64.neon.tbl1.v16i8";
constexpr std::string_view tbl2 = "llvm.aarch64.neon.tbl2.v16i8";
constexpr std::string_view pshufb512 = "llvm.x86.avx512.pshuf.b.512";
constexpr std::string_view vpermb = "llvm.x86.avx512.permvar.qi.512";
constexpr Choices X86V4Vnni{DotKind::Vnni512, 64, 32, 8, pshufb512, 64};
constexpr Choices X86V4Vbmi{DotKind::Vnni512, 64, 32, 8, pshufb512, 64, vpermb};
constexpr Choices X86V4Amx{DotKind::Vnni512, 64, 32, 8, pshufb512, 64, vpermb, true, true, true};
constexpr Choices X86V3AvxVnni{DotKind::Vnni256, 32, 16, 2, "llvm.x86.avx2.pshuf.b", 32};
constexpr Choices X86V3{DotKind::Maddubs256, 32, 16, 2, "llvm.x86.avx2.pshuf.b", 32};
constexpr Choices X86V2{
    DotKind::Maddubs128, 16, 16, 1, "llvm.x86.ssse3.pshuf.b.128", 16, {}, false, false};
constexpr Choices Arm64I8mm{DotKind::Smmla128, 16, 32, 2, tbl, 16, tbl2};
constexpr Choices Arm64Dotprod{DotKind::Sdot128, 16, 32, 2, tbl, 16, tbl2};
constexpr Choices Arm64{DotKind::Smull128, 16, 32, 1, tbl, 16, tbl2};
// Vectors of 16 lanes are taken apart there.
constexpr Choices Riscv64{DotKind::Words, 16, 16, 1, {}, 0, {}, true, false};

constexpr KernelTarget table[] = {
#define TARGET(enumerator, name, row, triple, cpu, features, portable, needs)                      \
  {row,                                                                                            \
   name,                                                                                           \
   triple,                                                                                         \
   cpu,                                                                                            \
   features,                                                                                       \
   portable,                                                                                       \
   enumerator.dot,                                                                                 \
   enumerator.vectorBytes,                                                                         \
   enumerator.registers,                                                                           \
   enumerator.rowBlock,                                                                            \
   enumerator.lookUp,                                                                              \
   enumerator.lookUpBytes,                                                                         \
   enumerator.lookUpOf32,                                                                          \
   enumerator.tiles,                                                                               \
   enumerator.hasFma,                                                                              \
   enumerator.hasHalf},
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
