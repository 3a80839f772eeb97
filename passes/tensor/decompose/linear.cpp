// Products: by stored matrices as slm.linear, tables as slm.embedding, all others as MatMul.
#include "passes/tensor/decompose/decompose.h"

using namespace mlir;

namespace smelt::tensor {

namespace {

/// Rows that slm ops compute with are single precision, and so are their weights, once read.
bool isSingle(Type element) { return isa<Float32Type, Float16Type, BFloat16Type>(element); }

/// slm.weight [rows, cols] of a matrix view.
Value weightOp(Builder &b, const WeightView &view, int64_t rows, int64_t cols, int64_t rowStride,
               int64_t colStride) {
  return slm::WeightOp::create(
      b.at, b.at.getUnknownLoc(), RankedTensorType::get({rows, cols}, b.at.getF32Type()),
      b.at.getI64IntegerAttr(view.id), view.name, b.at.getI64IntegerAttr(view.offset),
      b.at.getI64IntegerAttr(rowStride), b.at.getI64IntegerAttr(colStride));
}

/// A stored matrix that slm ops can read.
std::optional<WeightView> matrixOf(Builder &b, Value w) {
  if (!w || b.rank(w) != 2)
    return std::nullopt;
  std::optional<WeightView> view = b.weightView(w);
  if (!view || view->shape.size() != 2 || !isSingle(view->element) || view->shape[0] < 1 ||
      view->shape[1] < 1)
    return std::nullopt;
  return view;
}

/// A bias [width] as a weight; null if it is not stored as one.
Value biasOf(Builder &b, Value bias, int64_t width) {
  std::optional<WeightView> view = bias ? b.weightView(bias) : std::nullopt;
  if (!view || view->shape.empty() || !isSingle(view->element))
    return {};
  int64_t count = 1;
  for (int64_t dim : view->shape)
    count *= dim;
  if (count != width || view->shape.back() != width)
    return {};
  return weightOp(b, *view, 1, width, width * view->strides.back(), view->strides.back());
}

} // namespace

Value product(Builder &b, Value a, Value w, Value bias) {
  if (b.failed())
    return {};
  std::optional<WeightView> view = matrixOf(b, w);
  if (!view || b.rank(a) < 1 || !b.element(a).isF32()) {
    // ONNX: a vector on the left is a row, on the right a column, and goes again afterwards.
    bool isRow = b.rank(a) == 1, isColumn = b.rank(w) == 1;
    Value left = isRow ? b.unsqueeze(a, {0}) : a, right = isColumn ? b.unsqueeze(w, {1}) : w;
    Value y = b.matmul(left, right);
    SmallVector<int64_t> dropped;
    if (isRow)
      dropped.push_back(-2);
    if (isColumn)
      dropped.push_back(-1);
    y = b.squeeze(y, dropped);
    return bias ? b.add(y, bias) : y;
  }
  int64_t cols = view->shape[0], rows = view->shape[1];
  if (b.dim(a, -1) != dynamic && b.dim(a, -1) != cols)
    return b.fail("it multiplies " + llvm::Twine(b.dim(a, -1)) + " columns by " +
                  llvm::Twine(cols) + " rows");
  bool isMatrix = b.rank(a) == 2 && b.dim(a, -1) == cols;
  Value flat = isMatrix ? a : b.reshape(a, {-1, cols});
  if (b.failed())
    return {};
  Value weight = weightOp(b, *view, rows, cols, view->strides[1], view->strides[0]);
  Value vector = biasOf(b, bias, rows);
  auto type = RankedTensorType::get({b.dim(flat, 0), rows}, b.at.getF32Type());
  Value y = slm::LinearOp::create(b.at, b.node()->getLoc(), type, flat, ValueRange{weight}, vector,
                                  Value(), b.at.getStringAttr(b.uniqueName(b.node().getName())),
                                  slm::ActivationAttr(), StringAttr(), StringAttr(), IntegerAttr());
  if (!isMatrix)
    y = b.reshape(y, b.concat({b.dimsOf(a, 0, b.rank(a) - 1), b.i64(ArrayRef<int64_t>(rows))}, 0),
                  true);
  return bias && !vector ? b.add(y, bias) : y;
}

Value lookUp(Builder &b, Value table, Value ids) {
  if (b.failed())
    return {};
  std::optional<WeightView> view = matrixOf(b, table);
  if (!view)
    return b.gather(table, ids, 0);
  int64_t rows = view->shape[0], cols = view->shape[1];
  // Reading 0, 1, 2, ... by the ids checks them and turns those that count from the end.
  Type i32 = b.at.getI32Type();
  Value count = b.make("Range", {b.constant(i32, {}, {0}), b.constant(i32, {}, {double(rows)}),
                                 b.constant(i32, {}, {1})});
  Value checked = b.gather(count, ids, 0);
  Value flat = b.rank(ids) == 1 ? checked : b.reshape(checked, ArrayRef<int64_t>{-1});
  if (b.failed())
    return {};
  Value weight = weightOp(b, *view, rows, cols, view->strides[0], view->strides[1]);
  OperationState state(b.node()->getLoc(), slm::EmbeddingOp::getOperationName());
  state.addOperands({flat, weight});
  state.addTypes(RankedTensorType::get({b.dim(flat, 0), cols}, b.at.getF32Type()));
  state.addAttribute("name", b.at.getStringAttr(b.uniqueName(b.node().getName())));
  Value y = b.at.create(state)->getResult(0);
  if (b.rank(ids) == 1)
    return y;
  return b.reshape(y, b.concat({b.shapeOf(ids), b.i64(ArrayRef<int64_t>(cols))}, 0), true);
}

// FusedMatMul: alpha * op(a) x op(b)
Values matmul(Builder &b) {
  Value x = b.input(0), y = b.input(1);
  if (b.node().getType() == "MatMul")
    return {product(b, x, y)};
  if (b.integer("transBatchA", 0) || b.integer("transBatchB", 0))
    return {b.fail("transposed batches are not supported")};
  auto turn = [&](Value value) {
    int64_t rank = b.rank(value);
    if (rank < 2)
      return value;
    auto range = llvm::seq<int64_t>(0, rank);
    SmallVector<int64_t> order(range.begin(), range.end());
    std::swap(order[size_t(rank - 1)], order[size_t(rank - 2)]);
    return b.transpose(value, order);
  };
  if (b.integer("transA", 0))
    x = turn(x);
  if (b.integer("transB", 0))
    y = turn(y);
  return {b.mul(product(b, x, y), b.real("alpha", 1))};
}

// alpha * op(a) x op(b) + beta * c
Values gemm(Builder &b) {
  Value x = b.input(0), y = b.input(1), c = b.input(2);
  if (b.rank(x) != 2 || b.rank(y) != 2)
    return {b.fail("it needs matrices")};
  if (b.integer("transA", 0))
    x = b.transpose(x, {1, 0});
  if (b.integer("transB", 0))
    y = b.transpose(y, {1, 0});
  double alpha = b.real("alpha", 1), beta = b.real("beta", 1);
  bool isPlain = alpha == 1 && beta == 1;
  Value result = b.mul(product(b, x, y, isPlain ? c : Value()), alpha);
  if (c && !isPlain && beta != 0)
    result = b.add(result, b.mul(c, beta));
  return {result};
}

namespace {

/// One operand of an Einsum: its axes in order of their labels.
struct Labelled {
  Value value;
  std::string labels;
};

/// Drops, by summing, the labels that are not among `kept`, then orders the rest as in `order`.
Value arrange(Builder &b, Labelled operand, const std::string &kept, const std::string &order) {
  SmallVector<int64_t> summed;
  std::string left;
  for (size_t i = 0; i < operand.labels.size(); ++i) {
    if (kept.find(operand.labels[i]) == std::string::npos)
      summed.push_back(int64_t(i));
    else
      left += operand.labels[i];
  }
  Value value =
      summed.empty() ? operand.value : b.reduce("ReduceSum", operand.value, summed, false);
  SmallVector<int64_t> perm;
  for (char label : order)
    if (size_t at = left.find(label); at != std::string::npos)
      perm.push_back(int64_t(at));
  return b.transpose(value, perm);
}

} // namespace

// Two operands as one product: [batch, left, summed] x [batch, summed, right].
Values einsum(Builder &b) {
  std::string equation;
  for (char c : b.string("equation", ""))
    if (c != ' ')
      equation += c;
  size_t arrow = equation.find("->");
  if (arrow == std::string::npos || equation.find('.') != std::string::npos || b.inputs() > 2)
    return {b.fail("only equations of one or two operands with an explicit result and without "
                   "\"...\" are supported, found \"" +
                   equation + "\"")};
  std::string inputs = equation.substr(0, arrow), out = equation.substr(arrow + 2);
  SmallVector<Labelled> operands;
  SmallVector<StringRef> parts;
  StringRef(inputs).split(parts, ',');
  if (parts.size() != b.inputs())
    return {b.fail("its equation has another number of operands")};
  for (auto [i, part] : llvm::enumerate(parts)) {
    std::string sorted = part.str();
    std::sort(sorted.begin(), sorted.end());
    if (int64_t(part.size()) != b.rank(b.input(unsigned(i))) ||
        std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end())
      return {b.fail("its equation does not fit its operands, or repeats a label")};
    operands.push_back({b.input(unsigned(i)), part.str()});
  }
  if (operands.size() == 1)
    return {arrange(b, operands[0], out, out)};
  std::string batch, left, right, summed;
  const std::string &x = operands[0].labels, &y = operands[1].labels;
  auto has = [](const std::string &text, char c) { return text.find(c) != std::string::npos; };
  for (char c : out)
    (has(x, c) && has(y, c) ? batch : has(x, c) ? left : right) += c;
  for (char c : x)
    if (has(y, c) && !has(out, c))
      summed += c;
  auto dims = [&](const std::string &labels) {
    Value sizes = b.i64(ArrayRef<int64_t>{});
    for (char c : labels) {
      const Labelled &from = operands[has(x, c) ? 0 : 1];
      sizes = b.concat({sizes, b.dimsOf(from.value, int64_t(from.labels.find(c)), 1)}, 0);
    }
    return sizes;
  };
  auto count = [&](const std::string &labels) {
    return b.reduce("ReduceProd", dims(labels), {0}, true);
  };
  Value l = arrange(b, operands[0], batch + left + summed, batch + left + summed);
  Value r = arrange(b, operands[1], batch + summed + right, batch + summed + right);
  l = b.reshape(l, b.concat({count(batch), count(left), count(summed)}, 0), true);
  r = b.reshape(r, b.concat({count(batch), count(summed), count(right)}, 0), true);
  Value z = b.reshape(b.matmul(l, r), dims(batch + left + right), true);
  return {arrange(b, {z, batch + left + right}, out, out)};
}

} // namespace smelt::tensor
