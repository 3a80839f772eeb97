// Biases of attention scores that grow with the position of the key (ALiBi,
// https://arxiv.org/abs/2108.12409), recognised by their values at sample sizes.
#include "passes/raise/patterns/patterns.h"

#include <cmath>

using namespace mlir;

namespace smelt {
namespace {

/// The sum of the biases at one binding.
class BiasSum {
public:
  /// Fails if a bias has no value or does not fit.
  bool open(Samples &samples, ArrayRef<ScoreBias> biases, int64_t headCount) {
    const Binding &binding = samples.inputs();
    heads = headCount;
    for (const ScoreBias &bias : biases) {
      const Tensor *tensor = samples.get(bias.value);
      if (!tensor || !tensor->hasData() || tensor->shape.size() > 4)
        return false;
      Term term{tensor, bias.factor, {0, 0, 0, 0}};
      SmallVector<int64_t, 5> shape = tensor->shape;
      if (shape.size() == 3 && shape[0] == binding.batch * heads && shape[0] != 1) {
        shape[0] = heads;
        shape.insert(shape.begin(), binding.batch);
      }
      const int64_t wanted[] = {binding.batch, heads, binding.sequence, binding.total()};
      size_t shift = 4 - shape.size();
      int64_t stride = 1;
      for (size_t i = 4; i-- > shift; stride *= shape[i - shift]) {
        int64_t dim = shape[i - shift];
        if (dim != 1 && dim != wanted[i])
          return false;
        term.strides[i] = dim == 1 ? 0 : stride;
      }
      terms.push_back(term);
    }
    return true;
  }

  /// The value of one score's bias; nothing if the key is hidden.
  std::optional<double> at(int64_t b, int64_t h, int64_t s, int64_t t) const {
    double sum = 0;
    for (const Term &term : terms) {
      double value = term.tensor->at(b * term.strides[0] + h * term.strides[1] +
                                     s * term.strides[2] + t * term.strides[3]);
      // A bias that no score outweighs hides, as false does.
      if (term.tensor->kind == TensorKind::Boolean ? value == 0 : value * term.factor <= -1e4)
        return std::nullopt;
      if (term.tensor->kind != TensorKind::Boolean)
        sum += value * term.factor;
    }
    return sum;
  }

private:
  struct Term {
    const Tensor *tensor;
    double factor;
    int64_t strides[4];
  };
  SmallVector<Term> terms;
  int64_t heads = 0;
};

/// What the slopes multiply: the key's index, or its number among its slot's tokens.
enum class Meaning { Index, Counted };

/// True if every token's query sees exactly the tokens of its past (padding too iff not
/// `hidesPadding`), with a bias that differs from slope * position by the same for all keys.
/// Slopes not known yet (NaN) are read.
bool fits(const BiasSum &bias, const Binding &binding, Meaning meaning, bool hidesPadding,
          std::vector<double> &slopes) {
  for (int64_t b = 0; b < binding.batch; ++b) {
    std::vector<double> positions;
    double counted = 0;
    for (int64_t t = 0; t < binding.total(); ++t) {
      counted += binding.isToken(b, t);
      positions.push_back(meaning == Meaning::Index ? double(t) : counted - 1);
    }
    for (int64_t s = 0; s < binding.sequence; ++s) {
      if (!binding.isToken(b, binding.past + s))
        continue;
      for (size_t h = 0; h < slopes.size(); ++h) {
        double firstBias = 0, firstPosition = -1;
        for (int64_t t = 0; t < binding.total(); ++t) {
          std::optional<double> value = bias.at(b, int64_t(h), s, t);
          bool isSeen = t <= binding.past + s && (!hidesPadding || binding.isToken(b, t));
          if (value.has_value() != isSeen)
            return false;
          // Padding that is seen stands at no position.
          if (!isSeen || !binding.isToken(b, t))
            continue;
          double position = positions[size_t(t)];
          if (firstPosition < 0) {
            firstBias = *value;
            firstPosition = position;
          } else if (std::isnan(slopes[h])) {
            slopes[h] = (*value - firstBias) / (position - firstPosition);
          } else if (!(std::fabs(*value - firstBias - slopes[h] * (position - firstPosition)) <=
                       1e-6 * (1 + std::fabs(*value)))) {
            return false;
          }
        }
      }
    }
  }
  return true;
}

} // namespace

std::optional<std::vector<double>> slopesOf(RaiseContext &context, ArrayRef<ScoreBias> biases,
                                            int64_t heads, std::string &why) {
  why = "the sum of its biases cannot be evaluated from the graph's mask and sizes";
  constexpr int64_t mostHeads = 4096;
  if (heads < 1 || heads > mostHeads)
    return std::nullopt;
  std::vector<BiasSum> sums(context.bindings() + 1);
  for (size_t i = 0; i <= context.bindings(); ++i) {
    Samples &samples = i < context.bindings() ? context.samplesAt(i) : context.longSample();
    if (!sums[i].open(samples, biases, heads))
      return std::nullopt;
  }
  why = "its biases are not a causal mask with slope * position of the key, the slope constant";
  for (Meaning meaning : {Meaning::Index, Meaning::Counted})
    for (bool hidesPadding : {true, false}) {
      std::vector<double> slopes(size_t(heads), std::nan(""));
      bool isSloped = true;
      for (size_t i = 0; i < context.bindings() && isSloped; ++i)
        isSloped = fits(sums[i], context.binding(i), meaning, hidesPadding, slopes);
      isSloped &= llvm::none_of(slopes, [](double slope) { return std::isnan(slope); });
      // The long binding has one query after many keys, no padding.
      if (!isSloped ||
          !fits(sums.back(), context.longSample().inputs(), meaning, hidesPadding, slopes))
        continue;
      for (double &slope : slopes)
        slope = double(float(slope));
      if (llvm::all_of(slopes, [](double slope) { return slope == 0; }))
        slopes.clear();
      return slopes;
    }
  return std::nullopt;
}

} // namespace smelt
