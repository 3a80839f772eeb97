// GPU targets as the kernel generator sees them.
#pragma once

#include "runtime/artifact/format.h"

#include <array>
#include <cstdint>
#include <string_view>

namespace smelt {

/// How kernels are written for a family of devices.
struct GpuTarget {
  std::string_view name;    ///< in --target
  format::GpuCodeKind kind; ///< which decides the route from the gpu dialect, too
  /// Of a workgroup at most, a power of two, 64 and more; warps that multiply tiles: twice as many.
  int64_t threads;
  int64_t subgroup;                ///< threads that can exchange values without memory; 1: none
  std::string_view chip, features; ///< of LLVM's back end, where the route has one

  bool isPtx() const { return kind == format::GpuCodeKind::Ptx; }
};

/// Vulkan 1.1 with nothing beyond what every device must have: 128 threads, 16 KiB of workgroup
/// memory; the size of subgroups is not known.
inline constexpr GpuTarget vulkanTarget{"vulkan", format::GpuCodeKind::SpirV, 128, 1, "", ""};

/// NVIDIA GPUs from Ampere on, with products of bytes in fours and in tiles, and byte permutation.
/// The driver compiles for the device: PTX 7.0 is taken by that of CUDA 11.0 and every newer one.
inline constexpr GpuTarget cudaTarget{"cuda", format::GpuCodeKind::Ptx, 256, 32, "sm_80", "+ptx70"};

/// Tokens of a step, where the context has so many: fewer leave a large device without work.
inline constexpr int64_t gpuStepTokens = 512;

inline constexpr std::array<const GpuTarget *, 2> gpuTargets = {&vulkanTarget, &cudaTarget};

} // namespace smelt
