// Attention masks, recognised by what they let through at sample sizes.
#include "passes/raise/patterns/patterns.h"

#include "llvm/ADT/DenseSet.h"

using namespace mlir;
using namespace smelt::onnx_ir;

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

/// The range of keys that the middle query of the long binding sees (with a cache: the only one).
std::optional<AttentionMask> rangeAtLength(RaiseContext &context, Value value) {
  Samples &samples = context.longSample();
  const Binding &binding = samples.inputs();
  const Tensor *mask = samples.get(value);
  if (!mask || !mask->hasData())
    return std::nullopt;
  auto strides = stridesFor(*mask, binding);
  if (!strides)
    return std::nullopt;
  int64_t total = binding.total(), row = binding.sequence / 2, query = binding.past + row;
  auto isSeen = [&](int64_t t) {
    return !isHidden(*mask, row * (*strides)[2] + t * (*strides)[3]);
  };
  int64_t first = query, last = query;
  while (first > 0 && isSeen(first - 1))
    --first;
  while (last + 1 < total && isSeen(last + 1))
    ++last;
  for (int64_t t = 0; t < total; ++t)
    if (isSeen(t) != (t >= first && t <= last))
      return std::nullopt;
  AttentionMask range{first == 0 ? 0 : query - first + 1, last > query};
  // Both ways the window reaches equally far, or to both ends.
  if (range.isBidirectional &&
      (range.window == 0 ? last + 1 != total : last - query != query - first))
    return std::nullopt;
  return range;
}

/// True if a token's query sees exactly the tokens in its range; padding hides iff `hidesPadding`.
bool fits(const Tensor &mask, const Binding &binding, ArrayRef<int64_t> strides,
          const AttentionMask &range, bool hidesPadding) {
  for (int64_t b = 0; b < binding.batch; ++b)
    for (int64_t s = 0; s < binding.sequence; ++s) {
      int64_t query = binding.past + s;
      if (!binding.isToken(b, query))
        continue;
      for (int64_t t = 0; t < binding.total(); ++t) {
        bool expected = (t <= query || range.isBidirectional) &&
                        (range.window == 0 || std::abs(t - query) < range.window) &&
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

/// True if the arithmetic that leads to `value` names a whole number in (least, 2^31): perhaps a
/// window that is longer than the samples can show.
bool namesLengthBeyond(Value value, int64_t least, llvm::DenseSet<Value> &seen) {
  Operation *op = value.getDefiningOp();
  if (!op || !seen.insert(value).second)
    return false;
  if (auto constant = dyn_cast<ConstantOp>(op)) {
    std::optional<Tensor> tensor = tensorOf(constant.getValue());
    // Floats are what hides, not how far one sees.
    if (!tensor || !tensor->isSingle() || tensor->kind != TensorKind::Integer)
      return false;
    constexpr int64_t most = int64_t(1) << 31; // beyond lies "to the end"
    int64_t number = tensor->integer(0);
    return (number > least && number < most) || (number < -least && number > -most);
  }
  auto node = dyn_cast<NodeOp>(op);
  return node && llvm::any_of(node.getInputs(),
                              [&](Value input) { return namesLengthBeyond(input, least, seen); });
}

} // namespace

std::optional<AttentionMask> attentionMaskOf(RaiseContext &context, Value value, std::string &why) {
  if (!value) {
    why = "it has no mask: attention to tokens of later steps is not known";
    return context.hasCache ? std::nullopt : std::optional(AttentionMask{0, true});
  }
  why = "its mask cannot be evaluated from the graph's mask and sizes";
  std::optional<AttentionMask> range = rangeAtLength(context, value);
  if (!range)
    return std::nullopt;
  const Binding &longest = context.longSample().inputs();
  llvm::DenseSet<Value> seen;
  if (range->window == 0 && namesLengthBeyond(value, longest.total() / 2, seen)) {
    why = "its mask names a length beyond the " + std::to_string(longest.total()) +
          " tokens that it was tried at, perhaps a window";
    return std::nullopt;
  }
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
    withPadding &= fits(*mask, context.binding(i), *strides, *range, true);
    withoutPadding &= fits(*mask, context.binding(i), *strides, *range, false);
  }
  if (!withPadding && !withoutPadding) {
    why = "its mask is neither causal nor in both directions, in a window or not, with or without "
          "padding";
    return std::nullopt;
  }
  return range;
}

} // namespace smelt
