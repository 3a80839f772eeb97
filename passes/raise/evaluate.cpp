// The evaluator's entry and the helpers of its two halves.
#include "passes/raise/evaluate_internal.h"

#include "mlir/IR/BuiltinTypes.h"

#include <cmath>
#include <limits>

using namespace mlir;

namespace smelt {

int64_t Tensor::elements() const {
  int64_t count = 1;
  for (int64_t dim : shape)
    if (__builtin_mul_overflow(count, dim, &count))
      return std::numeric_limits<int64_t>::max();
  return count;
}

int64_t Tensor::integer(int64_t index) const {
  double value = at(index);
  if (std::isnan(value))
    return 0;
  if (value >= 9.2e18)
    return std::numeric_limits<int64_t>::max();
  if (value <= -9.2e18)
    return std::numeric_limits<int64_t>::min();
  return int64_t(value);
}

SmallVector<int64_t> Tensor::integers() const {
  SmallVector<int64_t> values;
  for (int64_t i = 0, count = elements(); i < count; ++i)
    values.push_back(integer(i));
  return values;
}

Tensor Tensor::make(TensorKind kind, ArrayRef<int64_t> shape, std::vector<double> values) {
  Tensor tensor;
  tensor.kind = kind;
  tensor.shape.assign(shape.begin(), shape.end());
  tensor.data = std::make_shared<const std::vector<double>>(std::move(values));
  return tensor;
}

std::optional<Tensor> tensorOf(ElementsAttr value) {
  auto type = dyn_cast<RankedTensorType>(value.getType());
  auto dense = dyn_cast<DenseElementsAttr>(value);
  if (!type || !dense || type.getNumElements() > evaluationLimit)
    return std::nullopt;
  Tensor tensor;
  std::vector<double> values;
  values.reserve(size_t(type.getNumElements()));
  if (isa<FloatType>(type.getElementType())) {
    for (const APFloat &element : dense.getValues<APFloat>()) {
      APFloat wide = element;
      bool inexact = false;
      wide.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &inexact);
      values.push_back(wide.convertToDouble());
    }
  } else if (auto integer = dyn_cast<IntegerType>(type.getElementType())) {
    tensor.kind = integer.getWidth() == 1 ? TensorKind::Boolean : TensorKind::Integer;
    bool isSigned = !integer.isUnsigned() && integer.getWidth() != 1;
    for (const APInt &element : dense.getValues<APInt>())
      values.push_back(isSigned ? double(element.getSExtValue()) : double(element.getZExtValue()));
  } else {
    return std::nullopt;
  }
  return Tensor::make(tensor.kind, type.getShape(), std::move(values));
}

namespace evaluation {

int64_t Call::integer(StringRef name, int64_t otherwise) const {
  auto value = attributes.getAs<IntegerAttr>(name);
  return value ? value.getInt() : otherwise;
}

std::optional<SmallVector<int64_t>> Call::list(StringRef name, size_t index) const {
  if (auto value = attributes.getAs<DenseI64ArrayAttr>(name))
    return SmallVector<int64_t>(value.asArrayRef());
  const Tensor *tensor = input(index);
  if (!tensor || !tensor->hasData())
    return std::nullopt;
  return tensor->integers();
}

Results one(Tensor tensor) { return SmallVector<Tensor>{std::move(tensor)}; }

SmallVector<int64_t> stridesOf(ArrayRef<int64_t> shape) {
  SmallVector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;)
    strides[i - 1] = strides[i] * shape[i];
  return strides;
}

std::optional<SmallVector<int64_t, 5>> broadcast(ArrayRef<int64_t> a, ArrayRef<int64_t> b) {
  if (a.size() < b.size())
    std::swap(a, b);
  SmallVector<int64_t, 5> shape(a.begin(), a.end());
  size_t shift = a.size() - b.size();
  for (size_t i = 0; i < b.size(); ++i) {
    int64_t &dim = shape[shift + i];
    if (dim == 1)
      dim = b[i];
    else if (b[i] != 1 && b[i] != dim)
      return std::nullopt;
  }
  return shape;
}

std::optional<int64_t> axisOf(int64_t axis, size_t rank) {
  if (axis < 0)
    axis += int64_t(rank);
  if (axis < 0 || axis >= int64_t(rank))
    return std::nullopt;
  return axis;
}

void forEachIndex(ArrayRef<int64_t> shape, function_ref<void(ArrayRef<int64_t>)> visit) {
  for (int64_t dim : shape)
    if (dim <= 0)
      return;
  SmallVector<int64_t> index(shape.size(), 0);
  while (true) {
    visit(index);
    size_t axis = shape.size();
    while (axis > 0 && ++index[axis - 1] == shape[axis - 1])
      index[--axis] = 0;
    if (axis == 0)
      return;
  }
}

Tensor gatherElements(const Tensor &source, ArrayRef<int64_t> shape,
                      function_ref<int64_t(ArrayRef<int64_t>)> index) {
  Tensor result;
  result.kind = source.kind;
  result.shape.assign(shape.begin(), shape.end());
  if (!source.hasData() || result.elements() > evaluationLimit)
    return result;
  std::vector<double> values;
  values.reserve(size_t(result.elements()));
  forEachIndex(shape, [&](ArrayRef<int64_t> at) { values.push_back(source.at(index(at))); });
  result.data = std::make_shared<const std::vector<double>>(std::move(values));
  return result;
}

} // namespace evaluation

std::optional<SmallVector<Tensor>> evaluateNode(StringRef type, DictionaryAttr attributes,
                                                ArrayRef<const Tensor *> inputs,
                                                size_t resultCount) {
  evaluation::Call call{type, attributes, inputs, resultCount};
  evaluation::Results results = evaluation::evaluateMovement(call);
  if (!results)
    results = evaluation::evaluateArithmetic(call);
  if (!results || results->size() != resultCount)
    return std::nullopt;
  for (const Tensor &tensor : *results) {
    __int128 count = 1;
    for (int64_t dim : tensor.shape) {
      count *= dim;
      // A hostile shape must not overflow the products that later nodes form.
      if (dim < 0 || count > (__int128(1) << 40))
        return std::nullopt;
    }
  }
  return results;
}

} // namespace smelt
