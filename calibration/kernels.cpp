// Chooses the instruction set level of the hot loops.
#include "calibration/kernels.h"
#include "calibration/adjoint_kernels.h"
#include "calibration/tile_kernels.h"

namespace smelt {

// One namespace per level that CMakeLists.txt compiles the kernel files for.
#define SMELT_DECLARE_LEVEL(level)                                                                 \
  namespace level {                                                                                \
  extern const RowKernels rowKernelTable;                                                          \
  extern const TileKernels tileKernelTable;                                                        \
  extern const AdjointKernels adjointKernelTable;                                                  \
  }
SMELT_DECLARE_LEVEL(base)
#ifdef SMELT_X86_LEVELS
SMELT_DECLARE_LEVEL(v3)
SMELT_DECLARE_LEVEL(v4)
#endif

namespace {

std::vector<KernelLevel> findLevels() {
  std::vector<KernelLevel> levels;
#ifdef SMELT_X86_LEVELS
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    levels.push_back({"v4", v4::rowKernelTable, v4::tileKernelTable, v4::adjointKernelTable});
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi2"))
    levels.push_back({"v3", v3::rowKernelTable, v3::tileKernelTable, v3::adjointKernelTable});
#endif
  levels.push_back({"base", base::rowKernelTable, base::tileKernelTable, base::adjointKernelTable});
  return levels;
}

} // namespace

const std::vector<KernelLevel> &kernelLevels() {
  static const std::vector<KernelLevel> levels = findLevels();
  return levels;
}

const RowKernels &rowKernels() { return kernelLevels().front().rows; }
const TileKernels &tileKernels() { return kernelLevels().front().tiles; }
const AdjointKernels &adjointKernels() { return kernelLevels().front().adjoints; }

} // namespace smelt
