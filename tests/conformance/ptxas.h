// What NVIDIA's assembler makes of a kernel.
#pragma once

#include "runtime/base/status.h"

#include <array>
#include <cstdint>
#include <string>

namespace smelt::conformance {

/// Data centre and desktop GPUs from Ampere to Hopper, and Jetson Orin (sm_87).
inline constexpr std::array<const char *, 4> ptxChips = {"sm_80", "sm_87", "sm_89", "sm_90"};

struct Assembled {
  int64_t registers = 0;    ///< of a thread
  int64_t spilledBytes = 0; ///< stores and loads together
};

/// Unsupported: what `ptxas` says against the file.
Result<Assembled> assemblePtx(const std::string &ptxas, const std::string &file,
                              const std::string &chip);

} // namespace smelt::conformance
