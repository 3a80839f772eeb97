// How rows of logits are divided among threads that look for the largest few.
#pragma once

#include <cstdint>

namespace smelt {

/// Threads of a workgroup of the first kernel, each with a block of columns that lie so far apart.
inline constexpr int64_t blockMaximaThreads = 64, blockColumns = 32;
inline int64_t candidateGroups(int64_t cols) {
  return (cols + blockMaximaThreads * blockColumns - 1) / (blockMaximaThreads * blockColumns);
}
inline int64_t candidateBlocks(int64_t cols) { return candidateGroups(cols) * blockMaximaThreads; }

} // namespace smelt
