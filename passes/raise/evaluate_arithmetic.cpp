// Elementwise arithmetic, comparisons, reductions and generators of the evaluator.
#include "passes/raise/evaluate_internal.h"

#include "llvm/ADT/StringSwitch.h"

#include <cmath>
#include <limits>

using namespace mlir;

namespace smelt::evaluation {
namespace {

using Unary = double (*)(double);
using Binary = double (*)(double, double);

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double softplus(double x) { return std::log1p(std::exp(x)); }
double sign(double x) { return double((x > 0) - (x < 0)); }
double remainderOf(double a, double b) { return b == 0 ? 0 : a - b * std::floor(a / b); }

Unary unaryOf(StringRef type) {
  return llvm::StringSwitch<Unary>(type)
      .Case("Neg", [](double x) { return -x; })
      .Case("Abs", [](double x) { return std::fabs(x); })
      .Case("Sqrt", [](double x) { return std::sqrt(x); })
      .Case("Reciprocal", [](double x) { return 1 / x; })
      .Case("Cos", [](double x) { return std::cos(x); })
      .Case("Sin", [](double x) { return std::sin(x); })
      .Case("Exp", [](double x) { return std::exp(x); })
      .Case("Log", [](double x) { return std::log(x); })
      .Case("Tanh", [](double x) { return std::tanh(x); })
      .Case("Erf", [](double x) { return std::erf(x); })
      .Case("Floor", [](double x) { return std::floor(x); })
      .Case("Ceil", [](double x) { return std::ceil(x); })
      .Case("Round", [](double x) { return std::nearbyint(x); })
      .Case("Relu", [](double x) { return std::max(x, 0.0); })
      .Case("Sigmoid", sigmoid)
      .Case("Softplus", softplus)
      .Case("Sign", sign)
      .Default(nullptr);
}

Binary binaryOf(StringRef type, bool isInteger) {
  if (type == "Div" && isInteger)
    return [](double a, double b) { return b == 0 ? 0 : std::trunc(a / b); };
  return llvm::StringSwitch<Binary>(type)
      .Case("Add", [](double a, double b) { return a + b; })
      .Case("Sub", [](double a, double b) { return a - b; })
      .Case("Mul", [](double a, double b) { return a * b; })
      .Case("Div", [](double a, double b) { return a / b; })
      .Case("Pow", [](double a, double b) { return std::pow(a, b); })
      .Case("Mod", remainderOf)
      .Case("Max", [](double a, double b) { return std::max(a, b); })
      .Case("Min", [](double a, double b) { return std::min(a, b); })
      .Default(nullptr);
}

Binary predicateOf(StringRef type) {
  return llvm::StringSwitch<Binary>(type)
      .Case("Equal", [](double a, double b) { return double(a == b); })
      .Case("Less", [](double a, double b) { return double(a < b); })
      .Case("LessOrEqual", [](double a, double b) { return double(a <= b); })
      .Case("Greater", [](double a, double b) { return double(a > b); })
      .Case("GreaterOrEqual", [](double a, double b) { return double(a >= b); })
      .Case("And", [](double a, double b) { return double(a != 0 && b != 0); })
      .Case("Or", [](double a, double b) { return double(a != 0 || b != 0); })
      .Case("Xor", [](double a, double b) { return double((a != 0) != (b != 0)); })
      .Default(nullptr);
}

/// Index of the element of `shape` that broadcasting reads for `at`.
int64_t broadcastIndex(ArrayRef<int64_t> shape, ArrayRef<int64_t> strides, ArrayRef<int64_t> at) {
  int64_t index = 0;
  size_t shift = at.size() - shape.size();
  for (size_t i = 0; i < shape.size(); ++i)
    if (shape[i] != 1)
      index += at[shift + i] * strides[i];
  return index;
}

std::optional<Tensor> applyBinary(const Tensor &a, const Tensor &b, Binary function,
                                  TensorKind kind) {
  auto shape = broadcast(a.shape, b.shape);
  if (!shape)
    return std::nullopt;
  Tensor result;
  result.kind = kind;
  result.shape = *shape;
  if (!a.hasData() || !b.hasData() || result.elements() > evaluationLimit)
    return result;
  std::vector<double> values;
  values.reserve(size_t(result.elements()));
  if (a.shape == b.shape || b.elements() == 1) {
    bool isScalar = a.shape != b.shape;
    for (int64_t i = 0, count = result.elements(); i < count; ++i)
      values.push_back(function(a.at(i), b.at(isScalar ? 0 : i)));
  } else {
    SmallVector<int64_t> aStrides = stridesOf(a.shape), bStrides = stridesOf(b.shape);
    forEachIndex(*shape, [&](ArrayRef<int64_t> at) {
      values.push_back(function(a.at(broadcastIndex(a.shape, aStrides, at)),
                                b.at(broadcastIndex(b.shape, bStrides, at))));
    });
  }
  result.data = std::make_shared<const std::vector<double>>(std::move(values));
  return result;
}

std::optional<Tensor> applyUnary(const Tensor &a, llvm::function_ref<double(double)> function,
                                 TensorKind kind) {
  Tensor result = a;
  result.kind = kind;
  if (!a.hasData())
    return result;
  std::vector<double> values;
  values.reserve(a.data->size());
  for (double value : *a.data)
    values.push_back(function(value));
  result.data = std::make_shared<const std::vector<double>>(std::move(values));
  return result;
}

Results evaluateWhere(const Call &call) {
  const Tensor *condition = call.input(0), *a = call.input(1), *b = call.input(2);
  if (!condition || !a || !b)
    return std::nullopt;

  auto ab = broadcast(a->shape, b->shape);
  auto shape = ab ? broadcast(*ab, condition->shape) : std::nullopt;
  if (!shape)
    return std::nullopt;
  Tensor result;
  result.kind = a->kind;
  result.shape = *shape;
  if (!condition->hasData() || !a->hasData() || !b->hasData() ||
      result.elements() > evaluationLimit)
    return one(result);
  SmallVector<int64_t> cs = stridesOf(condition->shape), as = stridesOf(a->shape),
                       bs = stridesOf(b->shape);
  std::vector<double> values;
  values.reserve(size_t(result.elements()));
  forEachIndex(*shape, [&](ArrayRef<int64_t> at) {
    values.push_back(condition->at(broadcastIndex(condition->shape, cs, at)) != 0
                         ? a->at(broadcastIndex(a->shape, as, at))
                         : b->at(broadcastIndex(b->shape, bs, at)));
  });
  return one(Tensor::make(result.kind, result.shape, std::move(values)));
}

Results evaluateCast(const Call &call) {
  const Tensor *input = call.input(0);
  if (!input)
    return std::nullopt;
  // TensorProto.DataType: 1 float, 10 float16, 11 double, 16 bfloat16, 9 bool, the rest used here
  // whole numbers.
  int64_t to = call.integer("to", 0);
  bool isFloat = to == 1 || to == 10 || to == 11 || to == 16;
  if (to == 9)
    return one(*applyUnary(*input, [](double x) { return double(x != 0); }, TensorKind::Boolean));
  if (isFloat)
    return one(*applyUnary(*input, [](double x) { return x; }, TensorKind::Float));
  if ((to >= 2 && to <= 7) || to == 12 || to == 13)
    return one(*applyUnary(*input, [](double x) { return std::trunc(x); }, TensorKind::Integer));
  return std::nullopt;
}

Results evaluateRange(const Call &call) {
  const Tensor *start = call.input(0), *limit = call.input(1), *delta = call.input(2);
  if (!start || !limit || !delta || !start->isSingle() || !limit->isSingle() ||
      !delta->isSingle() || delta->at(0) == 0)
    return std::nullopt;
  double count = std::max(0.0, std::ceil((limit->at(0) - start->at(0)) / delta->at(0)));
  if (!(count <= double(evaluationLimit)))
    return std::nullopt;
  std::vector<double> values;
  for (int64_t i = 0; i < int64_t(count); ++i)
    values.push_back(start->at(0) + double(i) * delta->at(0));
  return one(Tensor::make(start->kind, {int64_t(count)}, std::move(values)));
}

Results evaluateConstantOfShape(const Call &call) {
  const Tensor *shape = call.input(0);
  if (!shape || !shape->hasData())
    return std::nullopt;
  Tensor value = Tensor::scalar(TensorKind::Float, 0);
  if (auto given = call.attributes.getAs<ElementsAttr>("value"))
    if (std::optional<Tensor> tensor = tensorOf(given); tensor && tensor->elements() == 1)
      value = *tensor;
  SmallVector<int64_t> dims = shape->integers();
  __int128 count = 1;
  for (int64_t dim : dims)
    if (dim < 0 || (count *= dim) > evaluationLimit)
      return std::nullopt;
  return one(Tensor::make(value.kind, dims, std::vector<double>(size_t(count), value.at(0))));
}

/// ReduceX over `axes`, kept as 1 if keepdims.
Results evaluateReduction(const Call &call, double start, Binary function, bool isMean) {
  const Tensor *input = call.input(0);
  if (!input)
    return std::nullopt;
  SmallVector<int64_t> axes;
  if (auto given = call.list("axes", 1))
    axes = *given;
  else if (call.input(1) || (call.inputs.size() > 1 && call.integer("noop_with_empty_axes", 0)))
    return std::nullopt;
  SmallVector<bool> reduced(input->shape.size(), axes.empty());
  for (int64_t axis : axes) {
    auto at = axisOf(axis, input->shape.size());
    if (!at)
      return std::nullopt;
    reduced[size_t(*at)] = true;
  }
  bool keep = call.integer("keepdims", 1) != 0;
  Tensor result;
  result.kind = input->kind;
  SmallVector<int64_t> kept;
  int64_t group = 1;
  for (size_t i = 0; i < input->shape.size(); ++i) {
    kept.push_back(reduced[i] ? 1 : input->shape[i]);
    group *= reduced[i] ? input->shape[i] : 1;
    if (!reduced[i] || keep)
      result.shape.push_back(kept.back());
  }
  if (!input->hasData())
    return one(result);
  SmallVector<int64_t> strides = stridesOf(kept);
  std::vector<double> values(size_t(result.elements()), start);
  int64_t source = 0;
  forEachIndex(input->shape, [&](ArrayRef<int64_t> at) {
    int64_t index = 0;
    for (size_t i = 0; i < at.size(); ++i)
      index += reduced[i] ? 0 : at[i] * strides[i];
    values[size_t(index)] = function(values[size_t(index)], input->at(source++));
  });
  if (isMean)
    for (double &value : values)
      value /= double(std::max<int64_t>(group, 1));
  return one(Tensor::make(result.kind, result.shape, std::move(values)));
}

Results evaluateReductionNamed(const Call &call) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  Binary sum = [](double a, double b) { return a + b; };
  if (call.type == "ReduceSum" || call.type == "ReduceMean")
    return evaluateReduction(call, 0, sum, call.type == "ReduceMean");
  if (call.type == "ReduceMax")
    return evaluateReduction(
        call, -infinity, [](double a, double b) { return std::max(a, b); }, false);
  if (call.type == "ReduceMin")
    return evaluateReduction(
        call, infinity, [](double a, double b) { return std::min(a, b); }, false);
  if (call.type == "ReduceProd")
    return evaluateReduction(call, 1, [](double a, double b) { return a * b; }, false);
  return std::nullopt;
}

Results evaluateCumSum(const Call &call) {
  const Tensor *input = call.input(0), *axis = call.input(1);
  if (!input || !axis || !axis->isSingle() || call.integer("exclusive", 0) ||
      call.integer("reverse", 0))
    return std::nullopt;
  auto along = axisOf(axis->integer(0), input->shape.size());
  if (!along)
    return std::nullopt;
  if (!input->hasData())
    return one(*input);
  std::vector<double> values(*input->data);
  int64_t stride = stridesOf(input->shape)[size_t(*along)];
  int64_t source = 0;
  forEachIndex(input->shape, [&](ArrayRef<int64_t> at) {
    if (at[size_t(*along)] > 0)
      values[size_t(source)] += values[size_t(source - stride)];
    ++source;
  });
  return one(Tensor::make(input->kind, input->shape, std::move(values)));
}

Results evaluateTrilu(const Call &call) {
  const Tensor *input = call.input(0), *k = call.input(1);
  if (!input || input->shape.size() < 2 || (k && !k->isSingle()))
    return std::nullopt;
  int64_t shift = k ? k->integer(0) : 0;
  bool upper = call.integer("upper", 1) != 0;
  if (!input->hasData())
    return one(*input);
  std::vector<double> values(*input->data);
  size_t source = 0;
  forEachIndex(input->shape, [&](ArrayRef<int64_t> at) {
    int64_t distance = at[at.size() - 1] - at[at.size() - 2] - shift;
    if (upper ? distance < 0 : distance > 0)
      values[source] = 0;
    ++source;
  });
  return one(Tensor::make(input->kind, input->shape, std::move(values)));
}

/// Batched product with numpy broadcasting of the leading axes; the value only when it is small.
Results evaluateMatMul(const Call &call) {
  const Tensor *a = call.input(0), *b = call.input(1);
  if (!a || !b || a->shape.size() < 2 || b->shape.size() < 2)
    return std::nullopt;
  ArrayRef<int64_t> aShape(a->shape), bShape(b->shape);
  int64_t rows = aShape[aShape.size() - 2], inner = aShape.back(), cols = bShape.back();
  auto batch = broadcast(aShape.drop_back(2), bShape.drop_back(2));
  if (!batch || bShape[bShape.size() - 2] != inner)
    return std::nullopt;
  Tensor result;
  result.shape = *batch;
  result.shape.append({rows, cols});
  result.kind = a->kind;
  if (!a->hasData() || !b->hasData() ||
      __int128(result.elements()) * std::max<int64_t>(inner, 1) > evaluationLimit)
    return one(result);
  SmallVector<int64_t> as = stridesOf(aShape.drop_back(2)), bs = stridesOf(bShape.drop_back(2));
  std::vector<double> values;
  forEachIndex(result.shape, [&](ArrayRef<int64_t> at) {
    ArrayRef<int64_t> outer = at.drop_back(2);
    int64_t aAt =
        broadcastIndex(aShape.drop_back(2), as, outer) * rows * inner + at[at.size() - 2] * inner;
    int64_t bAt = broadcastIndex(bShape.drop_back(2), bs, outer) * inner * cols + at.back();
    double sum = 0;
    for (int64_t k = 0; k < inner; ++k)
      sum += a->at(aAt + k) * b->at(bAt + k * cols);
    values.push_back(sum);
  });
  return one(Tensor::make(result.kind, result.shape, std::move(values)));
}

/// Ops whose result has the first input's shape and whose value nothing here needs.
bool keepsShape(StringRef type) {
  return llvm::StringSwitch<bool>(type)
      .Cases({"Softmax", "Gelu", "LayerNormalization", "RMSNormalization",
              "SimplifiedLayerNormalization"},
             true)
      .Default(false);
}

} // namespace

Results evaluateArithmetic(const Call &call) {
  const Tensor *first = call.input(0);
  if (call.type == "Cast")
    return evaluateCast(call);
  if (call.type == "Where")
    return evaluateWhere(call);
  if (call.type == "Range")
    return evaluateRange(call);
  if (call.type == "ConstantOfShape")
    return evaluateConstantOfShape(call);
  if (call.type == "CumSum")
    return evaluateCumSum(call);
  if (call.type == "Trilu")
    return evaluateTrilu(call);
  if (call.type == "MatMul")
    return evaluateMatMul(call);
  if (call.type.starts_with("Reduce"))
    return evaluateReductionNamed(call);
  if (!first)
    return std::nullopt;
  if (Unary function = unaryOf(call.type))
    return one(*applyUnary(*first, function, first->kind));
  if (call.type == "Not")
    return one(*applyUnary(*first, [](double x) { return double(x == 0); }, TensorKind::Boolean));
  if (call.type == "IsNaN")
    return one(
        *applyUnary(*first, [](double x) { return double(std::isnan(x)); }, TensorKind::Boolean));
  if (call.type == "Clip") {
    const Tensor *low = call.input(1), *high = call.input(2);
    if ((low && !low->isSingle()) || (high && !high->isSingle()))
      return std::nullopt;
    double from = low ? low->at(0) : -std::numeric_limits<double>::infinity();
    double to = high ? high->at(0) : std::numeric_limits<double>::infinity();
    return one(*applyUnary(
        *first, [&](double x) { return std::min(std::max(x, from), to); }, first->kind));
  }
  bool isPredicate = predicateOf(call.type) != nullptr;
  if (Binary function = isPredicate ? predicateOf(call.type)
                                    : binaryOf(call.type, first->kind == TensorKind::Integer)) {
    Tensor result = *first;
    if (isPredicate)
      result.kind = TensorKind::Boolean;
    for (size_t i = 1; i < call.inputs.size(); ++i) {
      if (!call.inputs[i])
        return std::nullopt;
      auto next = applyBinary(result, *call.inputs[i], function,
                              isPredicate ? TensorKind::Boolean : first->kind);
      if (!next)
        return std::nullopt;
      result = std::move(*next);
    }
    return one(std::move(result));
  }
  if (keepsShape(call.type)) {
    Tensor result = *first;
    result.data = nullptr;
    return one(std::move(result));
  }
  return std::nullopt;
}

} // namespace smelt::evaluation
