// Tracing of elements through nodes that only move them.
#include "passes/raise/movement.h"
#include "passes/raise/patterns/patterns.h"

#include "llvm/ADT/StringSwitch.h"

#include <cmath>

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {
namespace {

bool movesElements(StringRef type) {
  return llvm::StringSwitch<bool>(type)
      .Cases({"Reshape", "Transpose", "Unsqueeze", "Squeeze", "Slice", "Split"}, true)
      .Cases({"Concat", "Expand", "Gather", "GatherND", "Tile", "Identity", "Flatten"}, true)
      .Cases({"Neg", "Mul", "Div", "Cast"}, true)
      .Default(false);
}

/// Tags of rows seen through axes: factor * (1 + token * width + first + column), `width` being the
/// source's.
Tensor rowTags(const Samples &samples, ArrayRef<int64_t> axes, int64_t width, int64_t first,
               double factor) {
  SmallVector<int64_t, 5> shape = samples.shapeOf(axes);
  SmallVector<int64_t> strides(axes.size(), 0);
  int64_t column = 1, count = 1;
  for (size_t i = axes.size(); i-- > 0;) {
    if (axes[i] > 0) {
      strides[i] = column;
      column *= axes[i];
    } else {
      strides[i] = axes[i] == axisBatch ? samples.inputs().sequence * width : width;
    }
    count *= shape[i];
  }
  std::vector<double> values;
  values.reserve(size_t(count));
  for (int64_t i = 0; i < count; ++i) {
    int64_t rest = i, tag = 1 + first;
    for (size_t axis = shape.size(); axis-- > 0; rest /= shape[axis])
      tag += rest % shape[axis] * strides[axis];
    values.push_back(factor * double(tag));
  }
  return Tensor::make(TensorKind::Float, shape, std::move(values));
}

constexpr int maximalDepth = 48, maximalNodes = 256;
constexpr int64_t maximalTags = 1 << 20;

} // namespace

bool RaiseContext::traceRows(Trace &state, const Rows &rows, Tensor &tags) {
  const Samples &samples = small[state.binding];
  // Where column c of these rows lies in the source, and by what it was multiplied.
  Value source = rows.value;
  int64_t first = 0;
  double factor = 1;
  while (state.isDeep) {
    if (auto slice = source.getDefiningOp<slm::SliceOp>()) {
      first += int64_t(slice.getFirst());
      source = slice.getInput();
    } else if (auto scale = source.getDefiningOp<slm::ScaleOp>()) {
      factor *= scale.getFactor().convertToDouble();
      source = scale.getInput();
    } else {
      break;
    }
  }
  int64_t width = slm::widthOf(source);
  if (samples.inputs().batch * samples.inputs().sequence * rows.width() > maximalTags ||
      (state.source && state.source != source))
    return false;
  state.source = source;
  tags = rowTags(samples, rows.axes, width, first, factor);
  return true;
}

bool RaiseContext::trace(Trace &state, Value value, int depth, Tensor &tags) {
  if (depth > maximalDepth || --state.budget < 0)
    return false;
  if (std::optional<Rows> rows = rowsOf(value))
    return traceRows(state, *rows, tags);
  if (cached.count(value)) {
    const Tensor *shape = sample(value, state.binding);
    if (!shape || shape->elements() > maximalTags || (state.source && state.source != value))
      return false;
    state.source = value;
    std::vector<double> values;
    for (int64_t i = 0; i < shape->elements(); ++i)
      values.push_back(double(i + 1));
    tags = Tensor::make(TensorKind::Float, shape->shape, std::move(values));
    return true;
  }
  auto node = value.getDefiningOp<NodeOp>();
  if (!node || !node.getDomain().empty() || !movesElements(node.getType()))
    return false;
  SmallVector<Tensor> inputs(node.getInputs().size());
  SmallVector<const Tensor *> pointers;
  int moved = 0, empty = 0;
  for (auto [index, input] : llvm::enumerate(node.getInputs())) {
    const Tensor *known = input.getDefiningOp<NoneOp>() ? nullptr : sample(input, state.binding);
    if (input.getDefiningOp<NoneOp>()) {
      pointers.push_back(nullptr);
    } else if (known && known->elements() == 0) {
      // Nothing moves: the rest of a head that is rotated as a whole.
      inputs[index] = Tensor::make(known->kind, known->shape, {});
      pointers.push_back(&inputs[index]);
      ++empty;
    } else if (known && known->hasData()) {
      pointers.push_back(known);
    } else {
      if (!trace(state, input, depth + 1, inputs[index]))
        return false;
      pointers.push_back(&inputs[index]);
      ++moved;
    }
  }
  // Products scale only by a constant, and only what is moved may be divided.
  if (node.getType() == "Mul" || node.getType() == "Div") {
    const Tensor *left = pointers[0], *right = pointers[1];
    const Tensor *factor = left == &inputs[0] ? right : left;
    if (moved != 1 || factor->elements() != 1 || (node.getType() == "Div" && factor == left))
      return false;
  } else if (moved == 0 || moved + empty != (node.getType() == "Concat" ? int(inputs.size()) : 1)) {
    return false;
  }
  auto results =
      evaluateNode(node.getType(), node.getNodeAttributes(), pointers, node->getNumResults());
  if (!results)
    return false;
  tags = std::move((*results)[cast<OpResult>(value).getResultNumber()]);
  return tags.hasData() && tags.elements() <= maximalTags;
}

std::optional<Movement> RaiseContext::movementOf(Value value, size_t binding, bool isDeep) {
  Trace state{binding, isDeep, maximalNodes, {}};
  Movement movement;
  if (!trace(state, value, 0, movement.tags) || !state.source)
    return std::nullopt;
  movement.source = state.source;
  return movement;
}

// --- columns of rows

/// The shape of heads [batch, heads, .., ..], batch and heads perhaps as one axis.
static SmallVector<int64_t, 5> headShape(const Tensor &tags, const Binding &binding) {
  SmallVector<int64_t, 5> shape = tags.shape;
  if (shape.size() == 3 && shape[0] % binding.batch == 0) {
    shape[0] /= binding.batch;
    shape.insert(shape.begin(), binding.batch);
  }
  return shape;
}

/// Heads of new rows alone, where the graph has no cache, each perhaps repeated for its queries.
static std::optional<HeadView> rowHeads(RaiseContext &context, Value value, bool isTransposed) {
  HeadView view{};
  for (size_t i = 0; i < 2; ++i) {
    std::optional<Movement> movement = context.movementOf(strip(value), i);
    if (!movement)
      return std::nullopt;
    const Binding &binding = context.binding(i);
    const Tensor &tags = movement->tags;
    SmallVector<int64_t, 5> shape = headShape(tags, binding);
    int64_t width = slm::widthOf(movement->source);
    if (shape.size() != 4 || tags.elements() == 0 || shape[0] != binding.batch ||
        shape[isTransposed ? 3 : 2] != binding.sequence)
      return std::nullopt;
    int64_t dim = shape[isTransposed ? 2 : 3], heads = dim ? width / dim : 0;
    if (heads == 0 || width % dim || shape[1] % heads)
      return std::nullopt;
    int64_t repeat = shape[1] / heads;
    double scale = tags.at(0);
    for (int64_t b = 0, at = 0; b < shape[0]; ++b)
      for (int64_t h = 0; h < shape[1]; ++h)
        for (int64_t x = 0; x < shape[2]; ++x)
          for (int64_t y = 0; y < shape[3]; ++y, ++at) {
            int64_t t = isTransposed ? y : x, d = isTransposed ? x : y;
            double index = double((b * binding.sequence + t) * width + h / repeat * dim + d);
            if (std::fabs(tags.at(at) - scale * (index + 1)) >
                1e-9 * std::fabs(scale) * (index + 1))
              return std::nullopt;
          }
    Rows rows{movement->source, {axisBatch, heads, axisSequence, dim}};
    view = {std::move(rows), heads, repeat, dim, scale};
  }
  view.rows.value = peelScale(view.rows.value, view.scale);
  return view;
}

/// The view of one binding; see columnView.
static std::optional<ColumnView> columnViewAt(const Movement &movement, const Binding &binding,
                                              int64_t width) {
  const Tensor &tags = movement.tags;
  if (tags.elements() == 0)
    return std::nullopt;
  ColumnView view;
  size_t rank = tags.shape.size();
  SmallVector<int64_t> deltas(rank, 0);
  int64_t stride = 1;
  for (size_t i = rank; i-- > 0; stride *= tags.shape[i])
    deltas[i] = tags.shape[i] > 1 ? int64_t(tags.at(stride) - tags.at(0)) : 0;
  // An affine map: the tag of an element is the first one's plus the sum of its index times the
  // deltas.
  for (int64_t i = 0; i < tags.elements(); ++i) {
    int64_t rest = i;
    double expected = tags.at(0);
    for (size_t axis = rank; axis-- > 0; rest /= tags.shape[axis])
      expected += double(rest % tags.shape[axis] * deltas[axis]);
    if (tags.at(i) != expected)
      return std::nullopt;
  }
  view.first = int64_t(tags.at(0)) - 1;
  if (tags.at(0) < 1 || view.first >= width)
    return std::nullopt;
  bool hasBatch = false, hasSequence = false;
  for (size_t i = 0; i < rank; ++i) {
    int64_t size = tags.shape[i], delta = deltas[i];
    if (size == 1) {
      view.axes.push_back(1);
    } else if (delta == binding.sequence * width && size == binding.batch && !hasBatch) {
      view.axes.push_back(axisBatch);
      hasBatch = true;
    } else if (delta == width && size == binding.sequence && !hasSequence) {
      view.axes.push_back(axisSequence);
      hasSequence = true;
    } else if (delta == width && size == binding.batch * binding.sequence && !hasBatch &&
               !hasSequence) {
      view.axes.push_back(axisTokens);
      hasBatch = hasSequence = true;
    } else if (delta > 0 && delta < width) {
      view.axes.push_back(size);
    } else {
      return std::nullopt;
    }
  }
  view.width = 1;
  for (size_t i = rank; i-- > 0;)
    if (view.axes[i] > 1) {
      if (deltas[i] != view.width)
        return std::nullopt;
      view.width *= view.axes[i];
    }
  // Without the sequence these are the first tokens' rows.
  if (!hasBatch || view.first + view.width > width)
    return std::nullopt;
  return view;
}

std::optional<ColumnView> columnView(RaiseContext &context, Value value, Value &source) {
  std::optional<ColumnView> found;
  // Bindings 0 and 1 have several batches and tokens of different number, so that no axis can be
  // mistaken for another in both.
  for (size_t i = 0; i < 2; ++i) {
    std::optional<Movement> movement = context.movementOf(value, i);
    if (!movement || context.cached.count(movement->source))
      return std::nullopt;
    source = movement->source;
    std::optional<ColumnView> view =
        columnViewAt(*movement, context.binding(i), slm::widthOf(source));
    bool isWhole = view && llvm::any_of(view->axes, [](int64_t axis) {
                     return axis == axisSequence || axis == axisTokens;
                   });
    // The first token of a step is the text's first only where texts come whole.
    if (!view || (!isWhole && context.hasCache) ||
        (found && (found->axes != view->axes || found->first != view->first)))
      return std::nullopt;
    found = view;
  }
  return found;
}

// --- heads of keys and values

std::optional<HeadView> headView(RaiseContext &context, Value value, bool isTransposed,
                                 std::string &why) {
  if (!context.hasCache) {
    std::optional<HeadView> view = rowHeads(context, value, isTransposed);
    if (!view && rowsOrPermuted(context, strip(value)))
      view = rowHeads(context, value, isTransposed);
    why = "keys or values are not rows [batch, heads, sequence, head size]";
    return view;
  }
  HeadView view{};
  for (size_t i = 0; i < 2; ++i) {
    std::optional<Movement> movement = context.movementOf(value, i);
    if (!movement) {
      why = "keys or values are not a cache with new rows appended, only moved";
      return std::nullopt;
    }
    const Binding &binding = context.binding(i);
    auto cache = context.cached.find(movement->source);
    if (cache == context.cached.end()) {
      why = "keys or values are not appended to a cache input";
      return std::nullopt;
    }
    const Cached &source = cache->second;
    const Tensor &tags = movement->tags;
    int64_t total = binding.total();
    SmallVector<int64_t, 5> shape = headShape(tags, binding);
    if (shape.size() != 4 || shape[0] != binding.batch || shape[isTransposed ? 3 : 2] != total ||
        shape[isTransposed ? 2 : 3] != source.dim || shape[1] % source.heads ||
        tags.elements() == 0) {
      why = "keys or values do not have the shape [batch, heads, total, head size]";
      return std::nullopt;
    }
    int64_t repeat = shape[1] / source.heads;
    double scale = tags.at(0);
    for (int64_t b = 0, at = 0; b < shape[0]; ++b)
      for (int64_t h = 0; h < shape[1]; ++h)
        for (int64_t x = 0; x < shape[2]; ++x)
          for (int64_t y = 0; y < shape[3]; ++y, ++at) {
            int64_t t = isTransposed ? y : x, d = isTransposed ? x : y;
            int64_t index = ((b * source.heads + h / repeat) * total + t) * source.dim + d;
            if (std::fabs(tags.at(at) - scale * double(index + 1)) >
                1e-9 * std::fabs(scale) * double(index + 1)) {
              why = "keys or values are not the cache with each head repeated for its group of "
                    "queries";
              return std::nullopt;
            }
          }
    view = {source.rows, source.heads, repeat, source.dim, scale};
  }
  return view;
}

} // namespace smelt
