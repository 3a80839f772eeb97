// How a linear is dealt to threads on a GPU.
#pragma once

#include "passes/lower/gpu_kernels.h"
#include "passes/lower/kernels/layout.h"

namespace smelt {

/// Whether warps multiply tiles by the matrix unit: many rows of integers, on NVIDIA's devices.
inline bool linearByTiles(const KernelSpec &spec, const GpuTarget &target) {
  return target.isPtx() && !spec.one && activationInfo(spec.activation).planes != 0;
}

/// Blocks of manyInterleave token rows that a workgroup computes together, each with the same
/// weights once they are decoded.
inline int64_t linearRowBlocks(const KernelSpec &spec, const GpuTarget &target) {
  if (!linearByTiles(spec, target))
    return 1;
  return spec.epilogue == LinearEpilogue::Gated ? 2 : 4;
}

/// Token rows that a workgroup computes together.
inline int64_t linearRows(const KernelSpec &spec, const GpuTarget &target) {
  return spec.one ? 1 : manyInterleave * linearRowBlocks(spec, target);
}

/// A workgroup computes 16 output rows, a tile of weights, whose blocks of inputs are dealt to so
/// many slices one by one. The slices do not depend on the number of token rows.
inline int64_t linearSlices(const KernelSpec &spec, const GpuTarget &target) {
  const int64_t blocks = roundUp(spec.cols, blockInputs) / blockInputs;
  return std::min<int64_t>(int64_t(std::bit_ceil(uint64_t(blocks))), target.threads / tileRows);
}

/// Of a slice: one a row of the tile, or a warp.
inline int64_t linearSliceThreads(const KernelSpec &spec, const GpuTarget &target) {
  return linearByTiles(spec, target) ? target.subgroup : tileRows;
}

/// Wide kernels: a warp is a tile with all token rows of the workgroup. Of a gated linear, every
/// other warp is a tile of the gate.
struct WideTiles {
  /// More warps would wait for each other at every block of inputs.
  static constexpr int64_t warps = 4;

  explicit WideTiles(const KernelSpec &spec)
      : parts(spec.epilogue == LinearEpilogue::Gated ? 2 : 1),
        rowBlocks(hasTwoPlanes(spec) ? 4 : 8), residentThreads(isHeavy(spec) ? 256 : 384) {}

  int64_t parts;
  int64_t rowBlocks;       ///< of manyInterleave token rows, whose activations fit the memory
  int64_t residentThreads; ///< GpuLaunch: so that no register is spilled
  int64_t outputs() const { return warps / parts * tileRows; }

private:
  static bool hasTwoPlanes(const KernelSpec &spec) {
    return activationInfo(spec.activation).planes == 2;
  }
  /// Two planes of inputs, two sums of a result, or more scales.
  static bool isHeavy(const KernelSpec &spec) {
    const FormatInfo &info = formatInfo(spec.format);
    return hasTwoPlanes(spec) || info.grid == Grid::Asymmetric || info.group == 16;
  }
};

inline GpuLaunch linearLaunch(const KernelSpec &spec, const GpuTarget &target) {
  GpuLaunch launch;
  if (spec.wide) {
    const WideTiles tiles(spec);
    launch.threads = tiles.warps * target.subgroup;
    launch.groups = roundUp(spec.rows, tiles.outputs()) / tiles.outputs();
    launch.rowsPerGroup = manyInterleave * tiles.rowBlocks;
    launch.residentThreads = tiles.residentThreads;
    return launch;
  }
  launch.threads = linearSliceThreads(spec, target) * linearSlices(spec, target);
  launch.groups = roundUp(spec.rows, tileRows) / tileRows;
  launch.rowsPerGroup = linearRows(spec, target);
  return launch;
}

} // namespace smelt
