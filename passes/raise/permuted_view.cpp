// Rows whose columns are a linear's in another order, or some of them: per-head interleaved
// projections (GPT-NeoX's [heads, q k v, dim], Bloom's, Falcon's). The order moves into the
// weights: rows of the matrix are taken in runs, so that nothing is left to permute at run time.
#include "passes/raise/movement.h"

#include <cmath>

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {
namespace {

/// Columns of the source's rows in the order in which a value's axes run over them, times a factor.
struct ColumnOrder {
  SmallVector<int64_t, 5> axes;
  SmallVector<int64_t> columns;
  double factor = 1;
  bool operator==(const ColumnOrder &) const = default;
};

/// The order, if the tags are factor * (1 + token * width + column) with the tokens along the axes
/// that `sequence` and the steps of the tags say.
std::optional<ColumnOrder> orderWith(const Tensor &tags, const Binding &binding, int64_t width,
                                     size_t sequence, double factor) {
  size_t rank = tags.shape.size();
  SmallVector<int64_t> strides(rank, 1);
  for (size_t i = rank; i-- > 1;)
    strides[i - 1] = strides[i] * tags.shape[i];
  auto step = [&](size_t axis) { return (tags.at(strides[axis]) - tags.at(0)) / factor; };
  ColumnOrder order;
  order.factor = factor;
  SmallVector<int64_t> tokenSteps(rank, 0); // of the token index
  int64_t tokens = 1;
  for (size_t i = 0; i < rank; ++i) {
    bool isSequence = i == sequence;
    bool isBatch = !isSequence && tags.shape[i] == binding.batch && tags.shape[i] > 1 &&
                   step(i) == double(binding.sequence * width);
    order.axes.push_back(isBatch                             ? axisBatch
                         : !isSequence                       ? tags.shape[i]
                         : tags.shape[i] == binding.sequence ? axisSequence
                                                             : axisTokens);
    tokenSteps[i] = isBatch ? binding.sequence : isSequence ? 1 : 0;
    tokens *= isBatch || isSequence ? tags.shape[i] : 1;
  }
  if (tokens != binding.batch * binding.sequence)
    return std::nullopt;
  // The first token's elements in order are the columns; those of every other token the same.
  for (bool isReading : {true, false})
    for (int64_t at = 0; at < tags.elements(); ++at) {
      int64_t token = 0, column = 0, columns = 1;
      for (size_t i = rank; i-- > 0;) {
        int64_t index = at / strides[i] % tags.shape[i];
        token += index * tokenSteps[i];
        if (order.axes[i] > 0) {
          column += index * columns;
          columns *= tags.shape[i];
        }
      }
      double tag = tags.at(at) / factor - 1;
      if (isReading && token == 0) {
        if (column != int64_t(order.columns.size()) || tag != std::floor(tag) || tag < 0 ||
            tag >= double(width))
          return std::nullopt;
        order.columns.push_back(int64_t(tag));
      } else if (!isReading && tag != double(token * width + order.columns[size_t(column)])) {
        return std::nullopt;
      }
    }
  return order;
}

std::optional<ColumnOrder> orderAt(const Tensor &tags, const Binding &binding, int64_t width) {
  if (tags.elements() == 0)
    return std::nullopt;
  int64_t stride = 1;
  for (size_t i = tags.shape.size(); i-- > 0; stride *= tags.shape[i]) {
    if (tags.shape[i] != binding.sequence && tags.shape[i] != binding.batch * binding.sequence)
      continue;
    double factor = (tags.at(stride) - tags.at(0)) / double(width);
    if (factor == 0 || !std::isfinite(factor))
      continue;
    if (auto order = orderWith(tags, binding, width, i, factor))
      return order;
  }
  return std::nullopt;
}

/// The weights of the given rows of `parts` laid one after the other, in as few runs as they lie
/// in.
SmallVector<Value> takeRows(OpBuilder &builder, ValueRange parts, ArrayRef<int64_t> rows) {
  SmallVector<Value> taken;
  for (size_t i = 0; i < rows.size();) {
    int64_t first = rows[i];
    size_t part = 0;
    while (first >= slm::rowsOf(parts[part]))
      first -= slm::rowsOf(parts[part++]);
    auto weight = parts[part].getDefiningOp<slm::WeightOp>();
    int64_t count = 1;
    while (i + size_t(count) < rows.size() && rows[i + size_t(count)] == rows[i] + count &&
           first + count < slm::rowsOf(weight))
      ++count;
    i += size_t(count);
    auto type = RankedTensorType::get({count, slm::widthOf(weight)}, builder.getF32Type());
    int64_t stride = int64_t(weight.getRowStride());
    taken.push_back(slm::WeightOp::create(
        builder, weight.getLoc(), type, weight.getIdAttr(), weight.getNameAttr(),
        builder.getI64IntegerAttr(int64_t(weight.getOffset()) + first * stride),
        weight.getRowStrideAttr(), weight.getColStrideAttr()));
  }
  return taken;
}

/// The same for the columns of a vector, joined to one.
Value takeColumns(OpBuilder &builder, Value vector, ArrayRef<int64_t> columns) {
  SmallVector<Value> parts{vector}, taken;
  if (auto joined = vector.getDefiningOp<slm::JoinOp>())
    parts.assign(joined.getParts().begin(), joined.getParts().end());
  for (size_t i = 0; i < columns.size();) {
    int64_t first = columns[i];
    size_t part = 0;
    while (first >= slm::widthOf(parts[part]))
      first -= slm::widthOf(parts[part++]);
    auto weight = parts[part].getDefiningOp<slm::WeightOp>();
    int64_t count = 1;
    while (i + size_t(count) < columns.size() && columns[i + size_t(count)] == columns[i] + count &&
           first + count < slm::widthOf(weight))
      ++count;
    i += size_t(count);
    int64_t stride = int64_t(weight.getColStride());
    auto type = RankedTensorType::get({1, count}, builder.getF32Type());
    taken.push_back(slm::WeightOp::create(
        builder, weight.getLoc(), type, weight.getIdAttr(), weight.getNameAttr(),
        builder.getI64IntegerAttr(int64_t(weight.getOffset()) + first * stride),
        builder.getI64IntegerAttr(count * stride), weight.getColStrideAttr()));
  }
  if (taken.size() == 1)
    return taken.front();
  auto type = RankedTensorType::get({1, int64_t(columns.size())}, builder.getF32Type());
  return slm::JoinOp::create(builder, vector.getLoc(), type, taken);
}

/// More parts than heads of any model; rows one by one are no matter of heads.
constexpr size_t mostParts = 1024;

/// The columns in that order: a slice of the source if they lie side by side, else a linear of
/// their own; null if the source is none.
Value takeColumnsOf(RaiseContext &context, Value source, const ColumnOrder &order) {
  OpBuilder &builder = context.builder;
  bool isRange = true;
  for (size_t i = 0; i < order.columns.size(); ++i)
    isRange &= order.columns[i] == order.columns[0] + int64_t(i);
  auto type = RankedTensorType::get({ShapedType::kDynamic, int64_t(order.columns.size())},
                                    builder.getF32Type());
  if (isRange)
    return type == source.getType() ? source
                                    : slm::SliceOp::create(builder, source.getLoc(), type, source,
                                                           uint64_t(order.columns[0]))
                                          .getResult();
  auto linear = source.getDefiningOp<slm::LinearOp>();
  if (!linear || linear.getResidual() || linear.getGated())
    return {};
  SmallVector<Value> weights = takeRows(builder, linear.getWeights(), order.columns);
  if (weights.size() > mostParts) {
    for (Value weight : weights)
      weight.getDefiningOp()->erase();
    return {};
  }
  Value bias = linear.getBias() ? takeColumns(builder, linear.getBias(), order.columns) : Value();
  return slm::LinearOp::create(builder, linear.getLoc(), type, linear.getInput(), weights, bias,
                               Value(), builder.getStringAttr(context.uniqueName(linear.getName())),
                               slm::ActivationAttr(), StringAttr(), StringAttr(), IntegerAttr());
}

} // namespace

std::optional<Rows> rowsOfTags(RaiseContext &context, Value source, ArrayRef<Tensor> tags) {
  if (context.cached.count(source))
    return std::nullopt;
  std::optional<ColumnOrder> order;
  for (auto [i, at] : llvm::enumerate(tags)) {
    std::optional<ColumnOrder> found = orderAt(at, context.binding(i), slm::widthOf(source));
    if (!found || (order && !(*order == *found)))
      return std::nullopt;
    order = std::move(found);
  }
  Value rows = order ? takeColumnsOf(context, source, *order) : Value();
  if (!rows)
    return std::nullopt;
  if (order->factor != 1)
    rows = slm::ScaleOp::create(context.builder, source.getLoc(), rows.getType(), rows,
                                APFloat(order->factor));
  return Rows{rows, order->axes};
}

std::optional<Rows> rowsOrPermuted(RaiseContext &context, Value value) {
  if (std::optional<Rows> rows = context.rowsOf(value))
    return rows;
  Operation *maker = value ? value.getDefiningOp() : nullptr;
  std::optional<Movement> first = maker ? context.movementOf(value, 0, true) : std::nullopt;
  std::optional<Movement> second = first ? context.movementOf(value, 1, true) : std::nullopt;
  if (!second || first->source != second->source)
    return std::nullopt;
  // The value may have readers before the node being raised.
  OpBuilder::InsertionGuard guard(context.builder);
  context.builder.setInsertionPointAfter(maker);
  std::optional<Rows> rows =
      rowsOfTags(context, first->source, {std::move(first->tags), std::move(second->tags)});
  if (rows)
    context.setRows(value, rows->value, rows->axes);
  return rows;
}

} // namespace smelt
