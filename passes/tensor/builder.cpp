// Making of primitive ops: inference, folding, one op for equal ones.
#include "passes/tensor/builder.h"

#include "passes/raise/context.h"
#include "passes/raise/evaluate.h"

#include <limits>

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt::tensor {

namespace {

/// Folded values larger than this are worked out when the program runs instead.
constexpr int64_t foldLimit = int64_t(1) << 16;
constexpr int64_t toTheEnd = std::numeric_limits<int64_t>::max();

} // namespace

Type computedTypeOf(int64_t onnxType, MLIRContext *context) {
  mlir::Builder builder(context);
  switch (onnxType) {
  case 1:  // float
  case 10: // float16
  case 16: // bfloat16
    return builder.getF32Type();
  case 11:
    return builder.getF64Type();
  case 2:  // uint8
  case 21: // uint4
    return builder.getIntegerType(8, false);
  case 3:  // int8
  case 22: // int4
    return builder.getI8Type();
  case 4: // uint16
  case 5: // int16
  case 6: // int32
    return builder.getI32Type();
  case 7:  // int64
  case 12: // uint32
  case 13: // uint64
    return builder.getI64Type();
  case 9:
    return builder.getI1Type();
  default:
    return {};
  }
}

int64_t onnxTypeOf(Type element) {
  if (isa<FloatType>(element))
    return isa<Float64Type>(element) ? 11 : 1;
  switch (element.getIntOrFloatBitWidth()) {
  case 1:
    return 9;
  case 8:
    return element.isUnsignedInteger() ? 2 : 3;
  case 32:
    return 6;
  default:
    return 7;
  }
}

Type computedType(Type element) {
  MLIRContext *context = element.getContext();
  if (isa<Float16Type, BFloat16Type>(element))
    return Float32Type::get(context);
  if (isa<Float32Type, Float64Type>(element))
    return element;
  auto integer = dyn_cast<IntegerType>(element);
  if (!integer)
    return {};
  auto whole = [&](unsigned width) { return IntegerType::get(context, width); };
  switch (integer.getWidth()) {
  case 1:
  case 64:
    return whole(integer.getWidth());
  case 32:
    return integer.isUnsigned() ? whole(64) : whole(32);
  case 16:
    return whole(32);
  case 8:
  case 4:
    return integer.isUnsigned() ? Type(IntegerType::get(context, 8, IntegerType::Unsigned))
                                : Type(whole(8));
  default:
    return {};
  }
}

DictionaryAttr Attributes::get(MLIRContext *context) const {
  mlir::Builder builder(context);
  NamedAttrList list;
  for (const auto &[name, entry] : entries) {
    if (const auto *value = std::get_if<int64_t>(&entry))
      list.set(name, builder.getI64IntegerAttr(*value));
    else if (const auto *values = std::get_if<SmallVector<int64_t>>(&entry))
      list.set(name, builder.getDenseI64ArrayAttr(*values));
    else
      list.set(name, std::get<Attribute>(entry));
  }
  return list.getDictionary(context);
}

Builder::Builder(func::FuncOp function, TensorWeights *weights)
    : at(function.getContext()), function(function), weights(weights) {
  auto module = function->getParentOfType<ModuleOp>();
  auto opsets = module ? module->getAttrOfType<DictionaryAttr>("onnx.opsets") : DictionaryAttr();
  auto version = opsets ? opsets.getAs<IntegerAttr>("ai.onnx") : IntegerAttr();
  constexpr int64_t newest = 23; // of IR written by hand
  standardOpset = version ? version.getInt() : newest;
}

//===--- The node being taken apart -----------------------------------------------------------===//

void Builder::start(NodeOp node) {
  current = node;
  at.setInsertionPoint(node);
  why.clear();
}

Value Builder::input(unsigned index) const { return inputOf(current, index); }

bool Builder::uses(unsigned result) const {
  return result < current->getNumResults() && !current->getResult(result).use_empty();
}

int64_t Builder::integer(StringRef name, int64_t otherwise) const {
  return integerOf(current, name, otherwise);
}

double Builder::real(StringRef name, double otherwise) const {
  return floatOf(current, name, otherwise);
}

std::string Builder::string(StringRef name, StringRef otherwise) const {
  return stringOf(current, name, otherwise).str();
}

std::optional<SmallVector<int64_t>> Builder::ints(StringRef name) const {
  if (auto value = current.getNodeAttributes().getAs<DenseI64ArrayAttr>(name))
    return SmallVector<int64_t>(value.asArrayRef());
  return std::nullopt;
}

std::optional<SmallVector<int64_t>> Builder::list(StringRef name, unsigned index) {
  if (auto given = ints(name))
    return given;
  Value value = input(index);
  if (!value)
    return std::nullopt;
  std::optional<Tensor> tensor = constant(value);
  if (!tensor) {
    fail("its " + name + " are computed when the model runs; only constants are supported");
    return std::nullopt;
  }
  return tensor->integers();
}

//===--- Failure and facts --------------------------------------------------------------------===//

std::nullptr_t Builder::fail(const llvm::Twine &text) {
  if (why.empty())
    why = text.str();
  return nullptr;
}

static RankedTensorType typeOf(Value value) {
  return value ? dyn_cast<RankedTensorType>(value.getType()) : RankedTensorType();
}

int64_t Builder::rank(Value value) const {
  auto type = typeOf(value);
  return type ? type.getRank() : 0;
}

int64_t Builder::dim(Value value, int64_t axis) const {
  auto type = typeOf(value);
  if (!type)
    return dynamic;
  axis += axis < 0 ? type.getRank() : 0;
  return axis >= 0 && axis < type.getRank() ? type.getDimSize(unsigned(axis)) : dynamic;
}

Type Builder::element(Value value) const {
  auto type = typeOf(value);
  return type ? computedType(type.getElementType()) : Type();
}

int64_t Builder::axis(int64_t axis, int64_t rank) {
  int64_t front = axis < 0 ? axis + rank : axis;
  if (front < 0 || front >= rank) {
    fail("axis " + llvm::Twine(axis) + " lies outside rank " + llvm::Twine(rank));
    return 0;
  }
  return front;
}

std::optional<Tensor> Builder::constant(Value value) const {
  auto op = value ? value.getDefiningOp<ConstantOp>() : ConstantOp();
  return op ? tensorOf(op.getValue()) : std::nullopt;
}

std::optional<int64_t> Builder::constantInteger(Value value) const {
  std::optional<Tensor> tensor = constant(value);
  if (!tensor || tensor->elements() != 1)
    return std::nullopt;
  return tensor->integer(0);
}

std::optional<WeightView> Builder::weightView(Value value) const {
  Operation *op = value ? value.getDefiningOp() : nullptr;
  WeightView view;
  auto setShape = [&](ArrayRef<int64_t> shape) {
    view.shape.assign(shape.begin(), shape.end());
    view.strides.assign(shape.size(), 1);
    for (size_t i = shape.size(); i-- > 1;)
      view.strides[i - 1] = view.strides[i] * shape[i];
  };
  auto begin = [&](int64_t id, StringAttr name, Type type) {
    auto ranked = cast<RankedTensorType>(type);
    view.id = id;
    view.name = name;
    view.element = ranked.getElementType();
    setShape(ranked.getShape());
    return view;
  };
  if (auto stored = dyn_cast_or_null<WeightOp>(op))
    return begin(stored.getId(), stored.getNameAttr(), stored.getType());
  if (auto constant = dyn_cast_or_null<ConstantOp>(op); constant && constant.getId())
    return begin(*constant.getId(), constant.getNameAttr(), constant.getType());
  auto node = dyn_cast_or_null<NodeOp>(op);
  if (!node || !node.getDomain().empty())
    return std::nullopt;
  StringRef type = node.getType();
  auto result = typeOf(value);
  if (type == "Transpose") {
    std::optional<WeightView> inner = weightView(node.getInputs()[0]);
    auto order = node.getNodeAttributes().getAs<DenseI64ArrayAttr>("perm");
    if (!inner || !order || size_t(order.size()) != inner->shape.size())
      return std::nullopt;
    view = *inner;
    for (size_t i = 0; i < view.shape.size(); ++i) {
      view.shape[i] = inner->shape[size_t(order[int64_t(i)])];
      view.strides[i] = inner->strides[size_t(order[int64_t(i)])];
    }
    return view;
  }
  if (type != "Reshape" && type != "Squeeze" && type != "Unsqueeze" && type != "Flatten")
    return std::nullopt;
  std::optional<WeightView> inner = weightView(node.getInputs()[0]);
  if (!inner || !result.hasStaticShape())
    return std::nullopt;
  // A reshape keeps a view only if the elements lie in order.
  int64_t expected = 1;
  for (size_t i = inner->shape.size(); i-- > 0; expected *= inner->shape[i])
    if (inner->shape[i] != 1 && inner->strides[i] != expected)
      return std::nullopt;
  view = *inner;
  setShape(result.getShape());
  return view;
}

//===--- Making -------------------------------------------------------------------------------===//

/// A constant of `type` whose elements are `values`, rounded or saturated to it.
static DenseElementsAttr denseOf(RankedTensorType type, const Tensor &tensor) {
  Type element = type.getElementType();
  SmallVector<Attribute> unused;
  int64_t count = tensor.elements();
  if (isa<Float64Type>(element))
    return DenseElementsAttr::get(type, ArrayRef<double>(*tensor.data));
  if (isa<Float32Type>(element)) {
    SmallVector<float> floats;
    for (int64_t i = 0; i < count; ++i)
      floats.push_back(float(tensor.at(i)));
    return DenseElementsAttr::get(type, ArrayRef<float>(floats));
  }
  unsigned width = element.getIntOrFloatBitWidth();
  if (width == 1) {
    SmallVector<bool> bits;
    for (int64_t i = 0; i < count; ++i)
      bits.push_back(tensor.at(i) != 0);
    return DenseElementsAttr::get(type, ArrayRef<bool>(bits));
  }
  SmallVector<APInt> whole;
  for (int64_t i = 0; i < count; ++i)
    whole.push_back(APInt(64, uint64_t(tensor.integer(i)), true).sextOrTrunc(width));
  return DenseElementsAttr::get(type, whole);
}

Value Builder::constant(Type element, ArrayRef<int64_t> shape, const std::vector<double> &values) {
  auto type = RankedTensorType::get(shape, element);
  Tensor tensor = Tensor::make(TensorKind::Float, shape, values);
  DenseElementsAttr value = type.getNumElements()
                                ? denseOf(type, tensor)
                                : DenseElementsAttr::get(type, ArrayRef<Attribute>{});
  Value &made = constants[value];
  if (!made) {
    OpBuilder::InsertionGuard guard(at);
    at.setInsertionPointToStart(&function.front());
    made = ConstantOp::create(at, at.getUnknownLoc(), type, value, at.getStringAttr("folded"),
                              IntegerAttr());
  }
  return made;
}

Value Builder::i64(ArrayRef<int64_t> values) {
  std::vector<double> wide(values.begin(), values.end());
  return constant(at.getI64Type(), {int64_t(values.size())}, wide);
}

Value Builder::i64(int64_t value) { return constant(at.getI64Type(), {}, {double(value)}); }

Value Builder::like(Value value, double scalar) {
  if (failed() || !value)
    return {};
  return constant(element(value), {}, {scalar});
}

Value Builder::floatScalar(double value) { return constant(at.getF32Type(), {}, {value}); }

Value Builder::addWeight(const llvm::Twine &name, std::vector<float> values,
                         ArrayRef<int64_t> shape) {
  if (!weights)
    return fail("stored weights cannot be read here");
  Result<int64_t> id =
      weights->add(name.str(), std::move(values), std::vector<int64_t>(shape.begin(), shape.end()));
  if (!id.ok())
    return fail(id.status().message());
  OpBuilder::InsertionGuard guard(at);
  at.setInsertionPointToStart(&function.front());
  return WeightOp::create(at, at.getUnknownLoc(), RankedTensorType::get(shape, at.getF32Type()),
                          at.getI64IntegerAttr(*id), at.getStringAttr(name.str()));
}

std::optional<SmallVector<Value>> Builder::fold(StringRef type, ArrayRef<Value> inputs,
                                                DictionaryAttr attributes,
                                                ArrayRef<RankedTensorType> results) {
  if (type == "Shape" && results[0].hasStaticShape()) {
    auto source = typeOf(inputs[0]);
    int64_t first = attributes.getAs<IntegerAttr>("start").getInt();
    SmallVector<int64_t> dims(
        source.getShape().slice(size_t(first), size_t(results[0].getDimSize(0))));
    if (llvm::none_of(dims, ShapedType::isDynamic))
      return SmallVector<Value>{i64(dims)};
    return std::nullopt;
  }
  auto mode = attributes.getAs<IntegerAttr>("fmod");
  if (inputs.empty() || (mode && mode.getInt()))
    return std::nullopt;
  SmallVector<std::optional<Tensor>> tensors;
  for (Value value : inputs) {
    tensors.push_back(constant(value));
    if (value && (!tensors.back() || tensors.back()->elements() > foldLimit))
      return std::nullopt;
  }
  SmallVector<const Tensor *> pointers;
  for (std::optional<Tensor> &tensor : tensors)
    pointers.push_back(tensor ? &*tensor : nullptr);
  auto values = evaluateNode(type, attributes, pointers, results.size());
  if (!values)
    return std::nullopt;
  SmallVector<Value> folded;
  for (auto [tensor, resultType] : llvm::zip(*values, results)) {
    if (!tensor.hasData() || tensor.elements() > foldLimit ||
        int64_t(tensor.shape.size()) != resultType.getRank())
      return std::nullopt;
    folded.push_back(constant(resultType.getElementType(), tensor.shape, *tensor.data));
  }
  return folded;
}

/// One length as the dimension that it goes back to; null if it is none.
Value Builder::simplifyLength(StringRef type, ArrayRef<Value> inputs, DictionaryAttr attributes,
                              RankedTensorType result) {
  Value first = inputs[0];
  Dimension length;
  if (type == "Shape" && result.getDimSize(0) == 1) {
    int64_t start = attributes.getAs<IntegerAttr>("start").getInt();
    length = dimension(first, start);
    if (length.root == first && length.axis == start)
      return {};
  } else if ((type == "Gather" || type == "Slice") && rank(first) == 1 &&
             result.getElementType().isInteger(64) && result.getNumElements() == 1) {
    std::optional<Tensor> index = constant(inputs[1]);
    if (!index || index->elements() != 1 || dim(first, 0) == dynamic ||
        (type == "Slice" && inputs.size() > 3 && inputs[3]))
      return {};
    int64_t at = index->integer(0);
    at += at < 0 ? dim(first, 0) : 0;
    if (at < 0 || at >= dim(first, 0))
      return {};
    length = element(first, at, 0);
  }
  Value vector = asValue(length);
  return vector && result.getRank() == 0 ? squeeze(vector, {0}) : vector;
}

/// The value that the op would copy, or one that is known; null if there is none.
Value Builder::simplify(StringRef type, ArrayRef<Value> inputs, DictionaryAttr attributes,
                        RankedTensorType result) {
  Value first = inputs.empty() ? Value() : inputs[0];
  if (type == "Identity" || (type == "Cast" && element(first) == result.getElementType()))
    return first;
  if (type == "Equal" && first == inputs[1] && result.hasStaticShape() &&
      result.getNumElements() == 1 && !isFloat(first))
    return constant(result.getElementType(), result.getShape(), {1});
  if (type == "Concat" && rank(first) == 1)
    for (unsigned i : {0u, 1u})
      if (dim(inputs[i], 0) == 0)
        return inputs[1 - i];
  bool isLength = type == "Gather" || type == "Slice" || type == "Shape";
  if (isLength && (!result.hasStaticShape() || result.getNumElements() != 1))
    return {};
  return isLength ? simplifyLength(type, inputs, attributes, result) : Value();
}

SmallVector<Value> Builder::makeAll(StringRef type, ArrayRef<Value> inputs,
                                    const Attributes &attributes, unsigned results,
                                    int64_t rankHint) {
  SmallVector<Value> none(results);
  if (failed())
    return none;
  // Trailing inputs that are not given need no place.
  while (!inputs.empty() && !inputs.back())
    inputs = inputs.drop_back();
  DictionaryAttr dictionary = attributes.get(at.getContext());
  std::string text;
  auto types = inferTypes(*this, type, inputs, dictionary, results, rankHint, text);
  if (!types) {
    fail(text);
    return none;
  }
  if (auto folded = fold(type, inputs, dictionary, *types))
    return *folded;
  if (results == 1)
    if (Value same = simplify(type, inputs, dictionary, (*types)[0]))
      return {same};
  SmallVector<Value> operands(inputs.begin(), inputs.end());
  StringAttr typeAttribute = at.getStringAttr(type);
  std::vector<const void *> key{typeAttribute.getAsOpaquePointer(),
                                dictionary.getAsOpaquePointer()};
  for (Value operand : operands)
    key.push_back(operand.getAsOpaquePointer());
  if (auto found = known.find(key); found != known.end())
    return found->second;
  for (Value &operand : operands)
    if (!operand)
      operand = NoneOp::create(at, current->getLoc(), at.getNoneType());
  SmallVector<Type> resultTypes(types->begin(), types->end());
  auto made = NodeOp::create(at, current->getLoc(), resultTypes, operands, type, "",
                             current.getName(), dictionary, 0u);
  SmallVector<Value> values(made->getResults());
  known[key] = values;
  return values;
}

Value Builder::make(StringRef type, ArrayRef<Value> inputs, const Attributes &attributes) {
  return makeAll(type, inputs, attributes, 1)[0];
}

std::string Builder::uniqueName(StringRef name) {
  int &count = names[name];
  if (++count == 1)
    return name.str();
  return uniqueName((name + "#" + llvm::Twine(count)).str());
}

//===--- Formulas -----------------------------------------------------------------------------===//

Value Builder::cast(Value value, Type element) {
  if (failed() || !value)
    return {};
  return make("Cast", {value}, Attributes().integer("to", onnxTypeOf(element)));
}

Value Builder::reduce(StringRef type, Value value, ArrayRef<int64_t> axes, bool keep) {
  SmallVector<int64_t> front;
  for (int64_t at : axes)
    front.push_back(axis(at, rank(value)));
  llvm::sort(front);
  return make(type, {value}, Attributes().ints("axes", front).integer("keepdims", keep));
}

Value Builder::transpose(Value value, ArrayRef<int64_t> order) {
  if (llvm::equal(order, llvm::seq<int64_t>(0, int64_t(order.size()))))
    return value;
  return make("Transpose", {value}, Attributes().ints("perm", order));
}

Value Builder::reshape(Value value, ArrayRef<int64_t> shape) { return reshape(value, i64(shape)); }

Value Builder::reshape(Value value, Value shape, bool allowZero, int64_t rankHint) {
  return makeAll("Reshape", {value, toI64(shape)}, Attributes().integer("allowzero", allowZero), 1,
                 rankHint)[0];
}

Value Builder::squeeze(Value value, ArrayRef<int64_t> axes) {
  SmallVector<int64_t> front;
  for (int64_t at : axes)
    front.push_back(axis(at, rank(value)));
  llvm::sort(front);
  return front.empty() ? value : make("Squeeze", {value}, Attributes().ints("axes", front));
}

Value Builder::unsqueeze(Value value, ArrayRef<int64_t> axes) {
  SmallVector<int64_t> front;
  for (int64_t at : axes)
    front.push_back(axis(at, rank(value) + int64_t(axes.size())));
  llvm::sort(front);
  return front.empty() ? value : make("Unsqueeze", {value}, Attributes().ints("axes", front));
}

Value Builder::expand(Value value, Value shape) { return make("Expand", {value, toI64(shape)}); }

Value Builder::concat(ArrayRef<Value> values, int64_t along) {
  if (failed() || values.empty())
    return {};
  int64_t front = axis(along, rank(values[0]));
  Value result = values[0];
  for (Value value : values.drop_front())
    result = make("Concat", {result, value}, Attributes().integer("axis", front));
  return result;
}

Value Builder::gather(Value value, Value indices, int64_t along) {
  return make("Gather", {value, indices}, Attributes().integer("axis", axis(along, rank(value))));
}

Value Builder::shapeOf(Value value) { return dimsOf(value, 0, rank(value)); }

Value Builder::dimsOf(Value value, int64_t first, int64_t count) {
  return make("Shape", {value}, Attributes().integer("start", first).integer("end", first + count));
}

Value Builder::dimOf(Value value, int64_t along) {
  int64_t front = axis(along, rank(value));
  return squeeze(dimsOf(value, front, 1), {0});
}

Value Builder::slice(Value value, int64_t along, int64_t first, int64_t end, int64_t step) {
  int64_t front = axis(along, rank(value));
  if (first == 0 && step == 1 && end == toTheEnd)
    return value;
  return make("Slice",
              {value, i64(ArrayRef<int64_t>(first)), i64(ArrayRef<int64_t>(end)),
               step == 1 ? Value() : i64(ArrayRef<int64_t>(step))},
              Attributes().ints("axes", {front}));
}

Value Builder::slice(Value value, int64_t along, Value first, Value end) {
  int64_t front = axis(along, rank(value));
  return make("Slice", {value, asVector(toI64(first)), asVector(toI64(end))},
              Attributes().ints("axes", {front}));
}

// softmax(x) = exp(x - max x) / sum exp(x - max x)
Value Builder::softmax(Value value, int64_t along) {
  Value shifted = sub(value, reduce("ReduceMax", value, {along}));
  Value exponential = unary("Exp", shifted);
  return div(exponential, reduce("ReduceSum", exponential, {along}));
}

} // namespace smelt::tensor
