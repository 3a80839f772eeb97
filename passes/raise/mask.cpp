// Attention masks, recognised by what they let through at sample sizes.
#include "passes/raise/patterns/patterns.h"

using namespace mlir;

namespace smelt {
namespace {

/// A mask value that hides a key: false, or a bias that no score outweighs.
bool isHidden(const Tensor &mask, int64_t at) {
  return mask.kind == TensorKind::Boolean ? mask.at(at) == 0 : mask.at(at) <= -1e4;
}

/// Strides of a mask [batch or 1, heads or 1, sequence or 1, total or 1], missing leading axes 1;
/// null if it does not fit.
std::optional<SmallVector<int64_t, 4>> stridesFor(const Tensor &mask, const Binding &binding) {
  int64_t wanted[] = {binding.batch, 0, binding.sequence, binding.total()};
  SmallVector<int64_t, 4> strides(4, 0);
  if (mask.shape.size() > 4)
    return std::nullopt;
  size_t shift = 4 - mask.shape.size();
  int64_t stride = 1;
  for (size_t i = 4; i-- > shift; stride *= mask.shape[i - shift]) {
    int64_t dim = mask.shape[i - shift];
    if (dim == 1)
      continue;
    // A mask that differs by head is a bias, not a mask.
    if (dim != wanted[i])
      return std::nullopt;
    strides[i] = stride;
  }
  return strides;
}

/// Keys that the only query of the long binding sees: its own and the `count - 1` before it.
std::optional<int64_t> windowAtLength(RaiseContext &context, Value value) {
  Samples &samples = context.longSample();
  const Tensor *mask = samples.get(value);
  int64_t total = samples.inputs().total();
  if (!mask || !mask->hasData() || !stridesFor(*mask, samples.inputs()))
    return std::nullopt;
  if (mask->elements() != total)
    return mask->elements() == 1 && !isHidden(*mask, 0) ? std::optional<int64_t>(0) : std::nullopt;
  int64_t count = 0;
  while (count < total && !isHidden(*mask, total - 1 - count))
    ++count;
  for (int64_t t = 0; t < total - count; ++t)
    if (!isHidden(*mask, t))
      return std::nullopt;
  return count == total ? 0 : count;
}

/// True if a token's query sees exactly the tokens of its past within the window; padding hides iff
/// `hidesPadding`.
bool fits(const Tensor &mask, const Binding &binding, ArrayRef<int64_t> strides, int64_t window,
          bool hidesPadding) {
  for (int64_t b = 0; b < binding.batch; ++b)
    for (int64_t s = 0; s < binding.sequence; ++s) {
      int64_t query = binding.past + s;
      if (!binding.isToken(b, query))
        continue;
      for (int64_t t = 0; t < binding.total(); ++t) {
        bool expected = t <= query && (window == 0 || t > query - window) &&
                        (!hidesPadding || binding.isToken(b, t));
        int64_t at = b * strides[0] + s * strides[2] + t * strides[3];
        if (isHidden(mask, at) == expected)
          return false;
        // What is seen must be seen with no bias.
        if (expected && mask.kind != TensorKind::Boolean && mask.at(at) != 0)
          return false;
      }
    }
  return true;
}

} // namespace

std::optional<CausalMask> causalMaskOf(RaiseContext &context, Value value, std::string &why) {
  why = "its mask cannot be evaluated from the graph's mask and sizes";
  std::optional<int64_t> window = windowAtLength(context, value);
  if (!window)
    return std::nullopt;
  bool withPadding = true, withoutPadding = true;
  for (size_t i = 0; i < context.bindings(); ++i) {
    const Tensor *mask = context.sample(value, i);
    if (!mask || !mask->hasData())
      return std::nullopt;
    auto strides = stridesFor(*mask, context.binding(i));
    if (!strides) {
      why = "its mask does not have the shape [batch, 1, sequence, total]";
      return std::nullopt;
    }
    withPadding &= fits(*mask, context.binding(i), *strides, *window, true);
    withoutPadding &= fits(*mask, context.binding(i), *strides, *window, false);
  }
  if (!withPadding && !withoutPadding) {
    why = "its mask is neither causal nor a causal window, with or without padding";
    return std::nullopt;
  }
  return CausalMask{*window};
}

} // namespace smelt
