// What distinguishes one generated kernel from another: the vocabulary between the program and the
// kernel generator.
#pragma once

#include "runtime/formats/caches.h"
#include "runtime/formats/formats.h"

#include <cstdint>
#include <optional>
#include <string>

namespace smelt {

/// One row per kernel family; the operand lists stand beside the emitters
/// (passes/lower/kernels/*.cpp).
enum class KernelKind : uint32_t {
  Embed,          ///< table rows -> float rows
  Norm,           ///< rms or layer norm -> float rows, residual rows or activations
  Quantize,       ///< float rows -> activations
  Linear,         ///< activations x packed weights -> float rows
  RopeAppend,     ///< head norm and rotary on queries and keys; keys and values into the cache
  AttentionOne,   ///< decode: one partial result per (kv head, block of positions)
  AttentionMerge, ///< merges the partial results of AttentionOne
  AttentionMany,  ///< prefill: whole attention of a tile of rows
  Elementwise,    ///< add, mul, scale, activation, gated, softcap on float rows
  ArgmaxParts,    ///< GPUs only, beside the program: the largest of each part of a row of logits
  Argmax,         ///< GPUs only: the largest of the parts
  BlockMaxima,    ///< GPUs only, beside the program: the largest of each block of a row of logits
  Candidates,     ///< GPUs only: the few largest logits
};

enum class NormOutput : uint32_t { Float, AddToResidual, Activation, FloatAndActivation };
enum class LinearEpilogue : uint32_t { Store, AddTo, Gated };
enum class ElementwiseKind : uint32_t { Add, Mul, Scale, Softcap, Activation, Gated };

/// All parameters are compile-time constants of the kernel; unused ones stay at their defaults.
struct KernelSpec {
  KernelKind kind = KernelKind::Embed;
  bool one = false;        ///< for exactly one row; activations are then not interleaved
  bool wide = false;       ///< GPUs only: Linear of many rows, for gpuWideRows and more
  bool logitRows = false;  ///< works on the logit domain; not with `one`, where it is the same
  bool shared = false;     ///< the code that kernels of several shapes call (sharedForm)
  bool gatherRows = false; ///< input row r is row LogitRows[r] of the token domain
  WeightFormat format = WeightFormat::F32;
  ActivationFormat activation = ActivationFormat::F32;
  int64_t rows = 0;      ///< Linear: outputs N (a gated pair: F); Embed: vocabulary
  int64_t cols = 0;      ///< width K of the input
  int64_t inStride = 0;  ///< floats between rows of a float input
  int64_t outStride = 0; ///< floats between rows of a float output
  int64_t keyStride = 0; ///< RopeAppend: floats between rows of k; values likewise in valueStride
  int64_t valueStride = 0;
  int64_t heads = 0, kvHeads = 0, headDim = 0, rotaryDim = 0;
  int64_t window = 0;
  bool bidirectional = false; ///< attention: all positions of the slot up to its last in this step
  int64_t firstRow = 0;       ///< Embed: added to what is looked up
  int64_t firstIndex = 0;     ///< Embed: where what is looked up starts in operand 1; AttentionOne
                              ///< that appends: where the values start there
  int64_t maxTokens = 0;      ///< bound of the token domain
  int64_t maxContext = 0;     ///< bound of positions
  CacheFormat cache = CacheFormat::F16;
  uint32_t activationKind =
      0; ///< smelt::ActivationKind of Gated and Activation; of Quantize: applied first
  NormOutput normOutput = NormOutput::Float;
  LinearEpilogue epilogue = LinearEpilogue::Store;
  ElementwiseKind elementwise = ElementwiseKind::Add;
  /// Gated Linear and AttentionMerge of one row: in which precision their results are written;
  /// none: float rows.
  std::optional<ActivationFormat> result;
  bool ownCopy = false;   ///< one row: every thread writes (Norm) or reads (Linear) its own copy of
                          ///< the activations (layout.h)
  bool appends = false;   ///< AttentionOne: does RopeAppend's work too
  bool layerNorm = false; ///< Norm: subtract the mean
  bool bias = false;      ///< Linear, Norm
  bool interleaved = false;                ///< rotary pairs (2i, 2i + 1)
  bool compactRotary = false;              ///< two small rotary tables (rotary_table.h)
  bool slopes = false;                     ///< Attention: scores get slope * (key - query position)
  bool queryNorm = false, keyNorm = false; ///< head norms
  double epsilon = 0, scalar = 1, softcap = 0;

  /// Symbol: equal specs have equal names and only they.
  std::string name() const;
};

/// A number in the letters of a symbol, exact: equal texts are equal numbers.
std::string symbolText(double value);

} // namespace smelt
