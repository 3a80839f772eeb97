// Layouts of buffers that only kernels share: quantized activations and attention partials.
#pragma once

#include "passes/lower/kernel_spec.h"

#include <cstdint>

namespace smelt {

/// Activations lie in blocks of `interleave` rows: 1 in one-row kernels, 8 in many-row kernels.
/// Within a block, K padded to 64 with zeros, G = Kpadded / 32 groups:
///   INT8:  dword codes[Kpadded / 4][interleave]  (byte b of dword d = input 4d + b, two's
///   complement)
///          float scale[G][interleave]            (a8t repeats the row's scale)
///          int32 sum[G][interleave]              (sum of the group's codes)
///          float scaledSum[G][interleave]        (scale * sum, rounded once)
///   float: float x[Kpadded][interleave], then float sum[G][interleave] (sum over the group in
///   input order, from 0)
struct ActivationLayout {
  int64_t interleave, paddedCols, groups;
  bool quantized;
  int64_t scaleOffset, sumOffset, scaledSumOffset; ///< bytes from the block's start
  int64_t blockBytes;                              ///< multiple of 64
};
inline constexpr int64_t manyInterleave = 8;

inline ActivationLayout activationLayout(ActivationFormat format, int64_t cols, bool one) {
  ActivationLayout l{};
  l.interleave = one ? 1 : manyInterleave;
  l.paddedCols = roundUp(cols, blockInputs);
  l.groups = l.paddedCols / groupInputs;
  l.quantized = format != ActivationFormat::F32;
  int64_t perGroup = roundUp(l.groups * l.interleave * 4, 64);
  int64_t codes = l.paddedCols * l.interleave * (l.quantized ? 1 : 4);
  l.scaleOffset = codes;
  l.sumOffset = l.quantized ? codes + perGroup : codes;
  l.scaledSumOffset = codes + 2 * perGroup;
  l.blockBytes = codes + perGroup * (l.quantized ? 3 : 1);
  return l;
}
/// Bytes of the activations of `rows` rows, whichever kernel writes them.
inline int64_t activationBytes(ActivationFormat format, int64_t cols, int64_t rows) {
  int64_t many = activationLayout(format, cols, false).blockBytes * roundUp(rows, manyInterleave) /
                 manyInterleave;
  int64_t one = activationLayout(format, cols, true).blockBytes;
  return many > one ? many : one;
}

/// Attention is cut into blocks of this many positions, counted from position 0, in decode and
/// prefill alike; the softmax of a block is finished by itself and blocks are merged in order (the
/// same bits for every cut of the work).
inline constexpr int64_t attentionBlock = 64;
/// Partials of AttentionOne: for every query head h and block j: float max, float sum, then
/// (64-byte aligned) float out[headDim]; entry (h * blocks + j) where blocks = maxContext /
/// attentionBlock; the stride is this many floats.
inline int64_t partialStride(int64_t headDim) { return 16 + roundUp(headDim, 16); }

} // namespace smelt
