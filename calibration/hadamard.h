// Orthonormal Hadamard rotations of blocks of channels.
#pragma once

#include <cstdint>

namespace smelt {

/// Multiplies every run of `block` values of x [n] by the orthonormal Hadamard matrix of that size,
/// which is its own inverse. `block` is a power of two that divides n.
template <typename T> void rotateBlocks(T *x, int64_t n, int64_t block);
extern template void rotateBlocks<float>(float *, int64_t, int64_t);
extern template void rotateBlocks<double>(double *, int64_t, int64_t);
/// Multiplies every column of x [size, cols] by the Hadamard matrix of `size`, a power of two.
void rotateRows(float *x, int64_t size, int64_t cols);

/// The largest power of two that divides a head's size: a size such as 80 has no Hadamard matrix
/// that is cheap to apply, but 5 blocks of 16 do.
int64_t hadamardBlock(int64_t headDim);

} // namespace smelt
