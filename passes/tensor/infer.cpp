// Rank, element type and, where they are plain, dimensions of what primitives make.
#include "passes/tensor/builder.h"

#include "passes/lower/tensor_spec.h"

#include "llvm/ADT/StringSwitch.h"

#include <limits>

using namespace mlir;

namespace smelt::tensor {

bool isPrimitive(StringRef type) { return findTensorOp(type).has_value(); }

namespace {

using Types = std::optional<SmallVector<RankedTensorType>>;
using Dims = SmallVector<int64_t>;

/// One primitive being inferred.
struct Inference {
  Builder &b;
  StringRef type;
  ArrayRef<Value> inputs;
  DictionaryAttr attributes;
  int64_t rankHint;
  std::string &why;

  Types run();

private:
  Types refuse(const llvm::Twine &text) {
    why = text.str();
    return std::nullopt;
  }
  Types one(ArrayRef<int64_t> dims, Type element) {
    if (dims.size() > format::maxRank)
      return refuse("rank " + llvm::Twine(dims.size()) + " is more than " +
                    llvm::Twine(format::maxRank));
    return SmallVector<RankedTensorType>{RankedTensorType::get(dims, element)};
  }
  Value in(size_t i) const { return i < inputs.size() ? inputs[i] : Value(); }
  Dims dims(size_t i) const { return Dims(cast<RankedTensorType>(in(i).getType()).getShape()); }
  int64_t rank(size_t i) const { return b.rank(in(i)); }
  int64_t integer(StringRef name) const {
    auto value = attributes.getAs<IntegerAttr>(name);
    return value ? value.getInt() : 0;
  }
  ArrayRef<int64_t> ints(StringRef name) const {
    auto value = attributes.getAs<DenseI64ArrayAttr>(name);
    return value ? value.asArrayRef() : ArrayRef<int64_t>();
  }
  bool broadcast(Dims &into, ArrayRef<int64_t> other);
  Types map();
  Types reduce();
  Types matmul();
  Types byShape(bool isExpand);
  Types slice();
  Types concat();
  Types gatherND();
  Types resized();
  Types topK();
  Types oneHot();
  Types window();
};

bool Inference::broadcast(Dims &into, ArrayRef<int64_t> other) {
  if (into.size() < other.size())
    into.insert(into.begin(), other.size() - into.size(), 1);
  size_t shift = into.size() - other.size();
  for (size_t i = 0; i < other.size(); ++i) {
    int64_t &dim = into[shift + i];
    if (dim == 1 || (dim == dynamic && other[i] != 1))
      dim = other[i] == dynamic ? dynamic : other[i];
    else if (other[i] != 1 && other[i] != dynamic && other[i] != dim)
      return false;
  }
  return true;
}

Types Inference::map() {
  Dims shape;
  for (size_t i = 0; i < inputs.size(); ++i)
    if (!broadcast(shape, dims(i)))
      return refuse("its inputs' shapes do not broadcast");
  Type boolean = IntegerType::get(b.at.getContext(), 1);
  bool isPredicate = llvm::StringSwitch<bool>(type)
                         .Cases({"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual",
                                 "IsNaN", "IsInf", "And", "Or", "Xor", "Not"},
                                true)
                         .Default(false);
  if (type == "Cast") {
    Type element = computedTypeOf(integer("to"), b.at.getContext());
    return element ? one(shape, element) : refuse("no such element type");
  }
  size_t first = type == "Where" ? 1 : 0;
  Type element = b.element(in(first));
  for (size_t i = first + 1; i < inputs.size(); ++i)
    if (type != "Pow" && b.element(in(i)) != element)
      return refuse("its inputs have different element types");
  bool needsFloat =
      llvm::StringSwitch<bool>(type)
          .Cases({"Exp", "Log", "Sqrt", "Reciprocal", "Sin", "Cos", "Tan", "Atan"}, true)
          .Cases({"Tanh", "Sigmoid", "Erf", "Floor", "Ceil", "Round", "Softplus"}, true)
          .Cases({"IsNaN", "IsInf"}, true)
          .Default(false);
  if (needsFloat && !isa<FloatType>(element))
    return refuse("it needs floats");
  return one(shape, isPredicate ? boolean : element);
}

Types Inference::reduce() {
  Dims shape = dims(0), kept;
  SmallVector<bool> reduced(shape.size(), false);
  for (int64_t axis : ints("axes"))
    reduced[size_t(axis)] = true;
  for (size_t i = 0; i < shape.size(); ++i)
    if (!reduced[i] || integer("keepdims"))
      kept.push_back(reduced[i] ? 1 : shape[i]);
  return one(kept, b.element(in(0)));
}

Types Inference::matmul() {
  Dims x = dims(0), y = dims(1);
  if (x.size() < 2 || y.size() < 2)
    return refuse("products need ranks of 2 and more");
  int64_t inner = x.back(), other = y[y.size() - 2];
  if (inner != dynamic && other != dynamic && inner != other)
    return refuse("it multiplies " + llvm::Twine(inner) + " columns by " + llvm::Twine(other) +
                  " rows");
  Dims shape(x.begin(), x.end() - 2);
  if (!broadcast(shape, ArrayRef<int64_t>(y).drop_back(2)))
    return refuse("its batches do not broadcast");
  shape.push_back(x[x.size() - 2]);
  shape.push_back(y.back());
  Type element = b.element(in(0));
  if (element.isInteger(8))
    element = b.at.getI32Type();
  return one(shape, element);
}

/// Reshape and Expand: the rank is the length of the second input.
Types Inference::byShape(bool isExpand) {
  Dims source = dims(0);
  std::optional<Tensor> target = b.constant(in(1));
  int64_t length = b.dim(in(1), 0);
  if (length == dynamic)
    length = rankHint;
  if (length < 0)
    return refuse("the rank of its result is not known: it is as long as a shape that is computed "
                  "when the model runs");
  if (length > int64_t(format::maxRank))
    return refuse("rank " + llvm::Twine(length) + " is more than " + llvm::Twine(format::maxRank));
  Dims shape(size_t(length), dynamic);
  for (size_t i = 0; i < shape.size(); ++i) {
    int64_t dim = b.element(in(1), int64_t(i), 0).known; // parts of it may be known
    if (!isExpand && dim == 0 && !integer("allowzero"))
      shape[i] = i < source.size() ? source[i] : dynamic;
    else if (dim >= 0)
      shape[i] = dim;
  }
  if (isExpand) {
    if (!broadcast(shape, source))
      return refuse("its shape does not broadcast");
    return one(shape, b.element(in(0)));
  }
  // One dimension is what the others leave.
  if (target && llvm::count(shape, dynamic) == 1 && !llvm::is_contained(source, dynamic)) {
    int64_t total = 1, others = 1;
    for (int64_t dim : source)
      total *= dim;
    for (int64_t dim : shape)
      others *= dim == dynamic ? 1 : dim;
    if (others > 0 && total % others == 0)
      *llvm::find(shape, dynamic) = total / others;
  }
  return one(shape, b.element(in(0)));
}

Types Inference::slice() {
  Dims shape = dims(0);
  std::optional<Tensor> starts = b.constant(in(1)), ends = b.constant(in(2));
  std::optional<Tensor> steps = b.constant(in(3));
  bool isKnown = starts && ends && (!in(3) || steps);
  for (const std::optional<Tensor> &bounds : {starts, ends, steps})
    if (bounds && bounds->elements() != int64_t(ints("axes").size()))
      return refuse("its bounds are not one for each axis");
  for (auto [i, axis] : llvm::enumerate(ints("axes"))) {
    int64_t &dim = shape[size_t(axis)];
    int64_t step = steps ? steps->integer(int64_t(i)) : 1;
    if (!isKnown || dim == dynamic || step == 0) {
      dim = dynamic;
      continue;
    }
    auto bound = [&](int64_t at, int64_t least, int64_t most) {
      return std::clamp(at < 0 ? at + dim : at, least, most);
    };
    int64_t first = starts->integer(int64_t(i)), last = ends->integer(int64_t(i));
    if (step > 0)
      dim = std::max<int64_t>(0, (bound(last, 0, dim) - bound(first, 0, dim) + step - 1) / step);
    else
      dim = std::max<int64_t>(0, (bound(first, -1, dim - 1) - bound(last, -1, dim - 1) - step - 1) /
                                     -step);
  }
  return one(shape, b.element(in(0)));
}

Types Inference::concat() {
  Dims shape = dims(0), other = dims(1);
  size_t axis = size_t(integer("axis"));
  if (shape.size() != other.size() || axis >= shape.size())
    return refuse("its inputs have different ranks");
  if (b.element(in(0)) != b.element(in(1)))
    return refuse("its inputs have different element types");
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i == axis)
      shape[i] = shape[i] == dynamic || other[i] == dynamic ? dynamic : shape[i] + other[i];
    else if (shape[i] == dynamic)
      shape[i] = other[i];
    else if (other[i] != dynamic && other[i] != shape[i])
      return refuse("its inputs' shapes do not fit");
  }
  return one(shape, b.element(in(0)));
}

Types Inference::gatherND() {
  Dims source = dims(0), indices = dims(1);
  int64_t batch = integer("batch_dims");
  int64_t depth = indices.empty() ? dynamic : indices.back();
  if (depth == dynamic)
    return refuse("the length of the last axis of its indices is not known");
  if (batch + depth > int64_t(source.size()) || batch >= int64_t(indices.size()))
    return refuse("its indices are longer than its data's rank");
  Dims shape(indices.begin(), indices.end() - 1);
  shape.append(source.begin() + batch + depth, source.end());
  return one(shape, b.element(in(0)));
}

/// Pad and Tile: rank stays, dimensions change.
Types Inference::resized() {
  Dims shape = dims(0);
  std::optional<Tensor> by = b.constant(in(1));
  SmallVector<int64_t> axes(ints("axes"));
  if (axes.empty())
    axes.assign(llvm::seq<int64_t>(0, int64_t(shape.size())).begin(),
                llvm::seq<int64_t>(0, int64_t(shape.size())).end());
  size_t count = type == "Pad" ? 2 * axes.size() : axes.size();
  bool isKnown = by && by->elements() == int64_t(count);
  for (auto [i, axis] : llvm::enumerate(axes)) {
    int64_t &dim = shape[size_t(axis)];
    if (!isKnown || dim == dynamic)
      dim = dynamic;
    else if (type == "Tile")
      dim *= by->integer(int64_t(i));
    else
      dim += by->integer(int64_t(i)) + by->integer(int64_t(i + axes.size()));
    if (dim < 0 && dim != dynamic)
      return refuse("it makes a negative dimension");
  }
  return one(shape, b.element(in(0)));
}

Types Inference::topK() {
  Dims shape = dims(0);
  std::optional<int64_t> k = b.constantInteger(in(1));
  shape[size_t(integer("axis"))] = k ? *k : dynamic;
  SmallVector<RankedTensorType> types{RankedTensorType::get(shape, b.element(in(0))),
                                      RankedTensorType::get(shape, b.at.getI64Type())};
  return types;
}

Types Inference::oneHot() {
  Dims shape = dims(0);
  std::optional<int64_t> depth = b.constantInteger(in(1));
  shape.insert(shape.begin() + integer("axis"), depth ? *depth : dynamic);
  return one(shape, b.element(in(2)));
}

/// Conv and pools: [n, channels, spatial...].
Types Inference::window() {
  Dims shape = dims(0);
  ArrayRef<int64_t> kernel = ints("kernel_shape"), strides = ints("strides"),
                    dilations = ints("dilations"), pads = ints("pads");
  size_t spatial = shape.size() - 2;
  Dims result{shape[0], type == "Conv" ? dims(1)[0] : shape[1]};
  for (size_t i = 0; i < spatial; ++i) {
    int64_t extent = type == "Conv" ? dims(1)[2 + i] : kernel[i];
    if (shape[2 + i] == dynamic || extent == dynamic || integer("ceil_mode")) {
      result.push_back(dynamic);
      continue;
    }
    int64_t room = shape[2 + i] + pads[i] + pads[spatial + i] - (dilations[i] * (extent - 1) + 1);
    result.push_back(room < 0 ? 0 : room / strides[i] + 1);
  }
  return one(result, b.element(in(0)));
}

Types Inference::run() {
  for (Value value : inputs)
    if (value && (!isa<RankedTensorType>(value.getType()) || !b.element(value)))
      return refuse("an input has no known rank, or an element type that nothing here computes "
                    "with");
  std::optional<TensorOp> op = findTensorOp(type.str());
  const TensorOpInfo &info = tensorOpInfo(*op);
  if (inputs.size() < info.leastInputs || inputs.size() > info.mostInputs)
    return refuse("it has " + llvm::Twine(inputs.size()) + " inputs");
  for (size_t i = 0; i < info.leastInputs; ++i)
    if (!in(i))
      return refuse("input " + llvm::Twine(i) + " is missing");
  Type element = inputs.empty() ? Type() : b.element(in(0));
  Type i64 = b.at.getI64Type();
  if (info.isMap)
    return map();
  switch (*op) {
  case TensorOp::ReduceSum:
  case TensorOp::ReduceMean:
  case TensorOp::ReduceMax:
  case TensorOp::ReduceMin:
  case TensorOp::ReduceProd:
    return reduce();
  case TensorOp::ArgMax:
  case TensorOp::ArgMin: {
    Dims shape = dims(0);
    size_t axis = size_t(integer("axis"));
    shape[axis] = 1;
    if (!integer("keepdims"))
      shape.erase(shape.begin() + int64_t(axis));
    return one(shape, i64);
  }
  case TensorOp::MatMul:
    return matmul();
  case TensorOp::Reshape:
    return byShape(false);
  case TensorOp::Expand:
    return byShape(true);
  case TensorOp::Squeeze: {
    Dims shape;
    for (auto [i, dim] : llvm::enumerate(dims(0)))
      if (!llvm::is_contained(ints("axes"), int64_t(i)))
        shape.push_back(dim);
    return one(shape, element);
  }
  case TensorOp::Unsqueeze: {
    Dims shape = dims(0);
    for (int64_t axis : ints("axes"))
      shape.insert(shape.begin() + axis, 1);
    return one(shape, element);
  }
  case TensorOp::Flatten: {
    Dims shape{1, 1};
    for (auto [i, dim] : llvm::enumerate(dims(0))) {
      int64_t &part = shape[int64_t(i) < integer("axis") ? 0 : 1];
      part = part == dynamic || dim == dynamic ? dynamic : part * dim;
    }
    return one(shape, element);
  }
  case TensorOp::Transpose: {
    Dims shape;
    for (int64_t from : ints("perm"))
      shape.push_back(dims(0)[size_t(from)]);
    return one(shape, element);
  }
  case TensorOp::Slice:
    return slice();
  case TensorOp::Concat:
    return concat();
  case TensorOp::Pad:
  case TensorOp::Tile:
    return resized();
  case TensorOp::Gather: {
    Dims shape = dims(0), indices = dims(1);
    int64_t axis = integer("axis");
    Dims result(shape.begin(), shape.begin() + axis);
    result.append(indices.begin(), indices.end());
    result.append(shape.begin() + axis + 1, shape.end());
    return one(result, element);
  }
  case TensorOp::GatherElements:
    if (rank(0) != rank(1))
      return refuse("its indices have another rank than its data");
    return one(dims(1), element);
  case TensorOp::GatherND:
    return gatherND();
  case TensorOp::ScatterND:
    if (rank(1) < 1 || b.dim(in(1), -1) == dynamic)
      return refuse("the length of the last axis of its indices is not known");
    return one(dims(0), element);
  case TensorOp::ScatterElements:
  case TensorOp::Trilu:
  case TensorOp::CumSum:
    return one(dims(0), element);
  case TensorOp::TopK:
    return topK();
  case TensorOp::Range: {
    return one({dynamic}, element);
  }
  case TensorOp::ConstantOfShape: {
    int64_t length = b.dim(in(0), 0) == dynamic ? rankHint : b.dim(in(0), 0);
    if (length < 0)
      return refuse("the rank of its result is not known");
    Dims shape(size_t(length), dynamic);
    if (std::optional<Tensor> target = b.constant(in(0)))
      shape = Dims(target->integers());
    auto value = attributes.getAs<ElementsAttr>("value");
    return one(shape, computedType(cast<RankedTensorType>(value.getType()).getElementType()));
  }
  case TensorOp::Shape:
    return one({integer("end") - integer("start")}, i64);
  case TensorOp::Size:
    return one({}, i64);
  case TensorOp::NonZero:
    return one({rank(0), dynamic}, i64);
  case TensorOp::OneHot:
    return oneHot();
  case TensorOp::EyeLike: {
    Type given = computedTypeOf(integer("dtype"), b.at.getContext());
    return one(dims(0), given ? given : element);
  }
  case TensorOp::Conv:
  case TensorOp::AveragePool:
  case TensorOp::MaxPool:
    return window();
  default:
    return refuse("it is no primitive");
  }
}

} // namespace

Types inferTypes(Builder &builder, StringRef type, ArrayRef<Value> inputs,
                 DictionaryAttr attributes, unsigned results, int64_t rankHint, std::string &why) {
  if (!isPrimitive(type)) {
    why = ("\"" + type + "\" is no primitive").str();
    return std::nullopt;
  }
  Types types = Inference{builder, type, inputs, attributes, rankHint, why}.run();
  if (types && types->size() != results) {
    why = "it has " + std::to_string(results) + " results";
    return std::nullopt;
  }
  return types;
}

} // namespace smelt::tensor
