// Chooses the instruction set level of the hot loops.
#include "calibration/kernels.h"
#include "calibration/tile_kernels.h"

namespace smelt {

namespace base {
extern const RowKernels rowKernelTable;
extern const TileKernels tileKernelTable;
} // namespace base
#ifdef SMELT_HAS_V3
namespace v3 {
extern const RowKernels rowKernelTable;
extern const TileKernels tileKernelTable;
} // namespace v3
static bool cpuHasV3() {
  static const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                          __builtin_cpu_supports("bmi2");
  return has;
}
#endif

const RowKernels &rowKernels() {
#ifdef SMELT_HAS_V3
  if (cpuHasV3())
    return v3::rowKernelTable;
#endif
  return base::rowKernelTable;
}

const TileKernels &tileKernels() {
#ifdef SMELT_HAS_V3
  if (cpuHasV3())
    return v3::tileKernelTable;
#endif
  return base::tileKernelTable;
}

} // namespace smelt
