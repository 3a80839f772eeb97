// How rows of logits are divided among workgroups that look for the largest.
#pragma once

#include <cstdint>

namespace smelt {

/// Columns that a workgroup looks at: 16 a thread of 128.
inline constexpr int64_t argmaxPart = 2048;
inline int64_t argmaxParts(int64_t cols) { return (cols + argmaxPart - 1) / argmaxPart; }

} // namespace smelt
