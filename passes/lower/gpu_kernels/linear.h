// How a linear is dealt to threads on a GPU.
#pragma once

#include "passes/lower/gpu_kernels.h"
#include "passes/lower/kernels/layout.h"

namespace smelt {

/// Token rows that a workgroup computes together.
inline int64_t linearRows(const KernelSpec &spec) { return spec.one ? 1 : manyInterleave; }

/// A workgroup is 16 output rows x slices: a tile of weights, whose blocks of inputs are dealt to
/// the slices one by one. The slices do not depend on the number of token rows.
inline int64_t linearSlices(const KernelSpec &spec, const GpuTarget &target) {
  const int64_t blocks = roundUp(spec.cols, blockInputs) / blockInputs;
  return std::min<int64_t>(int64_t(std::bit_ceil(uint64_t(blocks))), target.threads / tileRows);
}

inline GpuLaunch linearLaunch(const KernelSpec &spec, const GpuTarget &target) {
  GpuLaunch launch;
  launch.threads = tileRows * linearSlices(spec, target);
  launch.groups = roundUp(spec.rows, tileRows) / tileRows;
  launch.rowsPerGroup = linearRows(spec);
  return launch;
}

} // namespace smelt
