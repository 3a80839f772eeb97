// Layouts of buffers that only kernels share: quantized activations and attention partials.
#pragma once

#include "passes/lower/kernel_spec.h"

#include <algorithm>
#include <bit>
#include <cstdint>

namespace smelt {

/// Activations lie in blocks of `interleave` rows: 1 in one-row kernels, 8 in many-row kernels,
/// where the last block's rows lie in 1, 2, 4 or 8 (interleaveOf), as if its arrays were for so
/// many: they begin where those of 8 do. Within a block, K padded to 64 with zeros, G = Kpadded /
/// 32 groups of 32 inputs, 2 G halves of 16:
///   INT8, INT16:
///          dword codes[planes][Kpadded / 4][interleave]  (byte b of dword d = input 4d + b, two's
///          complement; INT8: one plane; INT16: the high and the low one, code = 255 * high + low,
///          both in -127..127). On CPUs with tiles (KernelTarget::tiles), blocks of 8 have their
///          bytes as codes[planes][Kpadded / 64][8 rows][64 inputs]: what a tile loads.
///          float scale[G][interleave]                (a8g64 and a8t repeat what groups share)
///          int32 offset[G][interleave]               (-128 * the sum of the group's codes: what
///          takes an offset of 128 off a dot product) float scaledSum[G][interleave] (scale * sum
///          of the codes, rounded once) int32 halfOffset[2 G][interleave], float halfScaledSum[2
///          G][interleave]  (of halves)
///   float: float x[Kpadded][interleave], then float sum[G][interleave] (sum over the group in
///   input order, from 0), float halfSum[2 G][interleave]
struct ActivationLayout {
  int64_t interleave, paddedCols, groups;
  bool quantized;
  bool tiles; ///< codes of blocks of 8 rows lie as the rows of tiles
  int64_t planes, planeBytes;
  int64_t scaleInputs; ///< written together: what shares a scale, or a group where the row does
  /// Bytes from the block's start; the sums are `offset` or, of float activations, `sum`.
  int64_t scaleOffset, sumOffset, scaledSumOffset, halfSumOffset, halfScaledSumOffset;
  int64_t blockBytes; ///< multiple of 64

  /// Byte of the code of `input` of a row within its block's plane, `width` rows lying side by
  /// side.
  int64_t codeAt(int64_t input, int64_t row, int64_t width) const {
    if (tiles && width == interleave)
      return (input / blockInputs * interleave + row) * blockInputs + input % blockInputs;
    return (input / 4 * width + row) * 4 + input % 4;
  }
};
inline constexpr int64_t manyInterleave = 8;
/// Rows side by side in the block that holds `row`, of `rows` in all.
inline int64_t interleaveOf(const ActivationLayout &layout, int64_t row, int64_t rows) {
  int64_t inBlock = std::min(rows - row / layout.interleave * layout.interleave, layout.interleave);
  return int64_t(std::bit_ceil(uint64_t(inBlock)));
}
/// INT16 codes are highFactor * high + low: with this factor both planes are symmetric.
inline constexpr int64_t highFactor = 255;

/// ActivationLayout::scaleInputs.
inline int64_t inputsWrittenTogether(ActivationFormat format) {
  return std::max(activationInfo(format).group, groupInputs);
}

inline ActivationLayout activationLayout(ActivationFormat format, int64_t cols, bool one,
                                         bool tiles = false) {
  ActivationLayout l{};
  l.interleave = one ? 1 : manyInterleave;
  l.paddedCols = roundUp(cols, blockInputs);
  l.groups = l.paddedCols / groupInputs;
  l.planes = activationInfo(format).planes;
  l.scaleInputs = inputsWrittenTogether(format);
  l.quantized = l.planes > 0;
  l.tiles = tiles && l.quantized && !one;
  l.planeBytes = l.paddedCols * l.interleave * (l.quantized ? 1 : sizeof(float));
  int64_t end = l.planeBytes * (l.quantized ? l.planes : 1);
  auto append = [&](int64_t count) {
    int64_t at = end;
    end += roundUp(count * l.interleave * 4, 64);
    return at;
  };
  l.scaleOffset = l.quantized ? append(l.groups) : 0;
  l.sumOffset = append(l.groups);
  l.scaledSumOffset = l.quantized ? append(l.groups) : 0;
  l.halfSumOffset = append(2 * l.groups);
  l.halfScaledSumOffset = l.quantized ? append(2 * l.groups) : 0;
  l.blockBytes = end;
  return l;
}
/// Bytes of the activations of `rows` rows, whichever kernel writes them.
inline int64_t activationBytes(ActivationFormat format, int64_t cols, int64_t rows) {
  int64_t many = activationLayout(format, cols, false).blockBytes * roundUp(rows, manyInterleave) /
                 manyInterleave;
  int64_t one = activationLayout(format, cols, true).blockBytes;
  return many > one ? many : one;
}
/// What is cheap to make every thread makes for itself (KernelSpec::ownCopy): waiting for a share
/// of it costs more. Copies of one row lie one behind the other; should there be more threads, some
/// write the same bytes to one copy.
inline constexpr int64_t threadCopies = 128;

/// Attention is cut into blocks of this many positions, counted from position 0, in decode and
/// prefill alike; the softmax of a block is finished by itself and blocks are merged in order (the
/// same bits for every cut of the work).
inline constexpr int64_t attentionBlock = 64;
/// Partials of AttentionOne: for every query head h and block j: float max, float sum, then
/// (64-byte aligned) float out[headDim]; entry (h * blocks + j) where blocks = maxContext /
/// attentionBlock; the stride is this many floats.
inline int64_t partialStride(int64_t headDim) { return 16 + roundUp(headDim, 16); }

} // namespace smelt
