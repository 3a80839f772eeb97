// Choice of the sample sizes and evaluation of values at them.
#include "passes/raise/samples.h"

#include <random>

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {

Role roleOf(func::FuncOp function, unsigned argument) {
  auto type = dyn_cast<RankedTensorType>(function.getArgumentTypes()[argument]);
  auto name = function.getArgAttrOfType<StringAttr>(argument, "onnx.name");
  if (!type || !name)
    return Role::Unknown;
  if (isa<FloatType>(type.getElementType()))
    return type.getRank() == 4 ? Role::Cache : Role::Unknown;
  if (!type.getElementType().isSignlessInteger() || type.getRank() != 2)
    return Role::Unknown;
  // The names of a graph's interface are its contract with callers, unlike those of its nodes.
  StringRef text = name.getValue();
  if (text.contains("position"))
    return Role::Positions;
  if (text.contains("token_type") || text.contains("segment"))
    return Role::TokenTypes;
  if (text.contains("mask"))
    return Role::Mask;
  if (text.contains("input_ids") || text == "input" || text == "ids" || text == "tokens")
    return Role::Ids;
  return Role::Unknown;
}

static Binding bind(int64_t batch, int64_t sequence, int64_t past, unsigned seed) {
  Binding binding{batch, sequence, past, {}, {}, {}, {}};
  std::mt19937 random(seed);
  for (int64_t i = 0; i < batch * sequence; ++i) {
    // None of the lowest ids: graphs that find the padding by its id shall find none.
    binding.ids.push_back(double(8 + random() % 1000));
    binding.positions.push_back(double(past + i % sequence));
    binding.types.push_back(double(i % 3 == 1));
  }
  binding.mask.assign(size_t(batch * binding.total()), 1);
  return binding;
}

bool hasCacheInput(func::FuncOp function) {
  for (unsigned i = 0; i < function.getNumArguments(); ++i)
    if (roleOf(function, i) == Role::Cache)
      return true;
  return false;
}

/// Texts in one step: right padding, left padding, holes.
static std::vector<Binding> wholeTextBindings() {
  std::vector<Binding> bindings{bind(2, 3, 0, 1), bind(3, 5, 0, 2), bind(1, 4, 0, 3),
                                bind(2, 7, 0, 4)};
  bindings[1].positions = {1, 40, 77, 4095, 0, 100003, 2, 9, 31, 5, 3, 4, 8, 16, 511};
  for (size_t t : {0, 1, 5, 14})
    bindings[1].mask[t] = 0;
  std::mt19937 random(5);
  for (double &bit : bindings[3].mask)
    bit = double(random() % 3 != 0);
  return bindings;
}

std::vector<Binding> smallBindings(bool hasCache) {
  if (!hasCache)
    return wholeTextBindings();
  std::vector<Binding> bindings;
  bindings.push_back(bind(2, 3, 5, 1));
  // Left padding, and positions that tell angles of the given positions from angles of the index.
  Binding padded = bind(3, 2, 11, 2);
  padded.positions = {1, 40, 77, 4095, 0, 100003};
  for (int64_t t = 0; t < 4; ++t)
    padded.mask[size_t(t)] = 0;
  padded.mask[size_t(padded.total())] = 0;
  bindings.push_back(padded);
  bindings.push_back(bind(1, 4, 0, 3));
  // Holes in the mask: only a graph that really reads it sees them.
  Binding holes = bind(2, 7, 6, 4);
  std::mt19937 random(5);
  for (double &bit : holes.mask)
    bit = double(random() % 3 != 0);
  bindings.push_back(holes);
  return bindings;
}

Binding longBinding(bool hasCache) {
  constexpr int64_t longText = 1100;
  return hasCache ? bind(1, 1, (int64_t(1) << 18) - 2, 6) : bind(1, longText, 0, 6);
}

llvm::SmallVector<int64_t, 5> Samples::shapeOf(ArrayRef<int64_t> axes) const {
  SmallVector<int64_t, 5> shape;
  for (int64_t axis : axes)
    shape.push_back(axis == axisBatch      ? binding.batch
                    : axis == axisSequence ? binding.sequence
                    : axis == axisTokens   ? binding.batch * binding.sequence
                                           : axis);
  return shape;
}

/// Heads or head size of a cache that only the type of what is appended to it tells.
static int64_t appendedDim(BlockArgument cache, size_t axis) {
  for (Operation *user : cache.getUsers())
    if (auto node = dyn_cast<NodeOp>(user); node && node.getType() == "Concat")
      for (Value input : node.getInputs())
        if (auto type = dyn_cast<RankedTensorType>(input.getType());
            type && type.getRank() == 4 && !type.isDynamicDim(unsigned(axis)))
          return type.getDimSize(unsigned(axis));
  return ShapedType::kDynamic;
}

std::optional<Tensor> Samples::argument(BlockArgument argument) {
  if (argument.getOwner()->getParentOp() != function.getOperation())
    return std::nullopt;
  int64_t batch = binding.batch, sequence = binding.sequence, total = binding.total();
  switch (roleOf(function, argument.getArgNumber())) {
  case Role::Ids:
    return Tensor::make(TensorKind::Integer, {batch, sequence}, binding.ids);
  case Role::Mask:
    return Tensor::make(TensorKind::Integer, {batch, total}, binding.mask);
  case Role::Positions:
    return Tensor::make(TensorKind::Integer, {batch, sequence}, binding.positions);
  case Role::TokenTypes:
    return Tensor::make(TensorKind::Integer, {batch, sequence}, binding.types);
  case Role::Cache: {
    // [batch, heads, past, head size]: the symbolic axis besides the batch is the past.
    auto type = cast<RankedTensorType>(argument.getType());
    Tensor tensor;
    tensor.shape.assign(type.getShape().begin(), type.getShape().end());
    tensor.shape[0] = batch;
    if (tensor.shape[2] == ShapedType::kDynamic)
      tensor.shape[2] = binding.past;
    for (size_t axis : {1, 3})
      if (tensor.shape[axis] == ShapedType::kDynamic)
        tensor.shape[axis] = appendedDim(argument, axis);
    constexpr int64_t largest = 1 << 20; // of any real head count or head size
    for (int64_t dim : tensor.shape)
      if (dim < 0 || dim > largest)
        return std::nullopt;
    return tensor;
  }
  case Role::Unknown:
    return std::nullopt;
  }
  return std::nullopt;
}

std::optional<Tensor> Samples::evaluate(Value value) {
  if (auto blockArgument = dyn_cast<BlockArgument>(value))
    return argument(blockArgument);
  Operation *op = value.getDefiningOp();
  if (auto constant = dyn_cast<ConstantOp>(op))
    return tensorOf(constant.getValue());
  if (auto weight = dyn_cast<WeightOp>(op)) {
    Tensor tensor;
    auto type = cast<RankedTensorType>(weight.getType());
    tensor.kind = isa<FloatType>(type.getElementType()) ? TensorKind::Float : TensorKind::Integer;
    tensor.shape.assign(type.getShape().begin(), type.getShape().end());
    return tensor;
  }
  if (auto rows = dyn_cast<RowsOp>(op)) {
    Tensor tensor;
    tensor.shape = shapeOf(rows.getAxes());
    return tensor;
  }
  auto node = dyn_cast<NodeOp>(op);
  if (!node || !node.getDomain().empty() || node->getNumRegions() != 0)
    return std::nullopt;
  SmallVector<const Tensor *> inputs;
  for (Value input : node.getInputs()) {
    auto at = known.find(input);
    inputs.push_back(at != known.end() ? at->second.get() : nullptr);
  }
  auto results =
      evaluateNode(node.getType(), node.getNodeAttributes(), inputs, node->getNumResults());
  if (!results)
    return std::nullopt;
  return (*results)[cast<OpResult>(value).getResultNumber()];
}

const Tensor *Samples::get(Value value) {
  // An explicit stack: graphs may be as deep as they are long.
  SmallVector<Value> pending{value};
  while (!pending.empty()) {
    Value next = pending.back();
    if (known.count(next)) {
      pending.pop_back();
      continue;
    }
    size_t before = pending.size();
    if (auto node = next.getDefiningOp<NodeOp>())
      for (Value input : node.getInputs())
        if (!known.count(input))
          pending.push_back(input);
    if (pending.size() != before)
      continue;
    std::optional<Tensor> tensor = evaluate(next);
    known[next] = tensor ? std::make_shared<const Tensor>(std::move(*tensor)) : nullptr;
    pending.pop_back();
  }
  return known.lookup(value).get();
}

} // namespace smelt
