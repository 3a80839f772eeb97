// The decompositions: one function an ONNX op or family, listed in decompose.def.
#pragma once

#include "passes/tensor/builder.h"

#include <limits>

namespace smelt::tensor {

/// What the results of the node are now; null for results that nothing reads.
using Values = SmallVector<Value>;
constexpr int64_t toTheEnd = std::numeric_limits<int64_t>::max();

#define TENSOR_DECOMPOSITION(function, anchors) Values function(Builder &b);
#include "passes/tensor/decompose/decompose.def"
#undef TENSOR_DECOMPOSITION

// --- linear.cpp
/// a x w, as slm.linear where w is a stored matrix [K, N] of floats; `bias` [N] may be null.
Value product(Builder &b, Value a, Value w, Value bias = {});
/// table[ids], as slm.embedding where table is a stored matrix of floats [rows, width].
Value lookUp(Builder &b, Value table, Value ids);

// --- rotary.cpp
/// Rotates the first 2 * r columns of x [B, H, S, D] by cos and sin [B or 1, S, r].
Value rotate(Builder &b, Value x, Value cos, Value sin, bool isInterleaved);
/// Rows `positions` [B, S] of a table [P, r].
Value tableRows(Builder &b, Value table, Value positions);

// --- attention_core.cpp
struct Attention {
  Value query;      ///< [B, H, S, D]
  Value key, value; ///< [B, KV, T, D], KV divides H
  double scale = 0; ///< 0: 1 / sqrt(D)
  double softcap = 0;
  Value bias;    ///< added after softcap, broadcasts to [B, H, S, T]; may be null
  Value allowed; ///< bool, broadcasts to [B, H, S, T]; may be null
  Value sink;    ///< [1, H, 1, 1]: a score that takes part in the softmax but has no value
};
struct Attended {
  Value output;                                ///< [B, H, S, D]
  Value scores, capped, biased, probabilities; ///< [B, H, S, T], after each step
};
Attended attend(Builder &b, const Attention &attention);
/// [B, S, H * D] -> [B, H, S, D]
Value splitHeads(Builder &b, Value x, int64_t heads);
/// [B, H, S, D] -> [B, S, H * D]
Value joinHeads(Builder &b, Value x);

// --- stored.cpp
/// The elements of a stored tensor, row-major, whatever it is stored as.
class Stored {
public:
  /// Nothing if the value is computed, or its elements do not lie in order.
  static std::optional<Stored> of(Builder &b, Value value);
  int64_t elements() const { return count; }
  ArrayRef<int64_t> shape() const { return dims; }
  double at(int64_t index) const;
  int64_t integer(int64_t index) const { return int64_t(at(index)); }
  /// Bytes of packed codes.
  uint8_t byte(int64_t index) const;
  /// A text that is the same for the same elements.
  const std::string &key() const { return identity; }

private:
  std::span<const std::byte> bytes;
  Type element;
  std::optional<Tensor> constant;
  SmallVector<int64_t> dims;
  int64_t count = 0;
  std::string identity;
};
/// A new stored matrix of floats, made by `fill` once for each `key`: what is stored once stays
/// tied.
Value storedFloats(Builder &b, const std::string &key, ArrayRef<int64_t> shape,
                   llvm::function_ref<void(std::vector<float> &)> fill);

// --- elementwise.cpp
Value silu(Builder &b, Value x);

} // namespace smelt::tensor
