// One node for each slm op, in block order.
#include "compiler/graph/to_graph.h"

#include "compiler/dialect/slm.h"
#include "passes/raise/raise.h"
#include "runtime/artifact/format.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include "llvm/ADT/DenseMap.h"

#include <cmath>
#include <compare>
#include <cstring>
#include <map>

using namespace mlir;

namespace smelt {
namespace {

class Converter {
public:
  explicit Converter(const WeightResolver &resolve) : resolve(resolve) {}

  Result<Graph> run(ModuleOp module);

private:
  Status convert(Operation &op);
  Status convertLinear(slm::LinearOp op);
  Status convertWeight(Value value);
  int32_t add(Node node, Value value);
  int32_t nodeOf(Value value) const { return nodes.lookup(value); }
  int32_t weightOf(Value value) const { return weightIds.lookup(value); }

  const WeightResolver &resolve;
  Graph graph;
  llvm::DenseMap<Value, int32_t> nodes, weightIds;
};

ActivationKind kindOf(slm::Activation kind) { return ActivationKind(uint32_t(kind)); }

int32_t Converter::add(Node node, Value value) {
  node.width = node.width ? node.width : slm::widthOf(value);
  graph.nodes.push_back(std::move(node));
  int32_t index = int32_t(graph.nodes.size() - 1);
  if (value)
    nodes[value] = index;
  return index;
}

Status Converter::convertWeight(Value value) {
  SMELT_ASSIGN(WeightView view, resolve(value));
  weightIds[value] = int32_t(graph.weights.size());
  graph.weights.push_back(std::move(view));
  return {};
}

Status Converter::convertLinear(slm::LinearOp op) {
  Node linear;
  linear.kind = NodeKind::Linear;
  linear.name = op.getName().str();
  linear.inputs = {nodeOf(op.getInput())};
  for (Value weight : op.getWeights())
    linear.weights.push_back(weightOf(weight));
  if (op.getBias()) {
    linear.hasBias = true;
    linear.weights.push_back(weightOf(op.getBias()));
  }
  int64_t width = slm::widthOf(op);
  if (op.getGated()) {
    linear.width = 2 * width;
    int32_t pair = add(linear, {});
    Node gate, up, product;
    gate.kind = up.kind = NodeKind::Slice;
    product.kind = NodeKind::Gated;
    gate.inputs = up.inputs = {pair};
    gate.width = up.width = product.width = width;
    up.first = width;
    product.inputs = {add(gate, {}), add(up, {})};
    product.activation = kindOf(*op.getGated());
    add(product, op.getResult());
    return {};
  }
  linear.width = width;
  if (!op.getResidual()) {
    add(linear, op.getResult());
    return {};
  }
  Node sum;
  sum.kind = NodeKind::Add;
  sum.width = width;
  sum.inputs = {nodeOf(op.getResidual()), add(linear, {})};
  add(sum, op.getResult());
  return {};
}

Status Converter::convert(Operation &op) {
  if (isa<slm::WeightOp, slm::RotaryTableOp, slm::JoinOp>(op))
    return convertWeight(op.getResult(0));
  if (auto linear = dyn_cast<slm::LinearOp>(op))
    return convertLinear(linear);

  Node node;
  node.kind = NodeKind::Add;
  if (auto embedding = dyn_cast<slm::EmbeddingOp>(op)) {
    node.kind = NodeKind::Embedding;
    node.name = embedding.getName().str();
    node.weights = {weightOf(embedding.getTable())};
    node.scalar = embedding.getScale().convertToDouble();
    if (auto offset = embedding.getPositionOffset())
      node.positionOffset = int64_t(*offset);
    node.tokenTypes = embedding.getTokenTypes().has_value();
    add(node, embedding);
    return {};
  }
  for (Value operand : op.getOperands()) {
    bool isWeight = weightIds.count(operand) != 0;
    (isWeight ? node.weights : node.inputs)
        .push_back(isWeight ? weightOf(operand) : nodeOf(operand));
  }
  if (auto norm = dyn_cast<slm::RmsNormOp>(op)) {
    node.kind = NodeKind::RmsNorm;
    node.epsilon = norm.getEpsilon().convertToDouble();
  } else if (auto norm = dyn_cast<slm::LayerNormOp>(op)) {
    node.kind = NodeKind::LayerNorm;
    node.epsilon = norm.getEpsilon().convertToDouble();
    node.hasBias = bool(norm.getBias());
  } else if (auto norm = dyn_cast<slm::HeadNormOp>(op)) {
    node.kind = NodeKind::HeadNorm;
    node.epsilon = norm.getEpsilon().convertToDouble();
    node.headDim = int64_t(norm.getHeadDim());
  } else if (auto rope = dyn_cast<slm::RopeOp>(op)) {
    node.kind = NodeKind::Rope;
    node.headDim = int64_t(rope.getHeadDim());
    node.rotaryDim = int64_t(rope.getRotaryDim());
    node.interleaved = rope.getInterleaved();
  } else if (auto attention = dyn_cast<slm::AttentionOp>(op)) {
    node.kind = NodeKind::Attention;
    node.heads = int64_t(attention.getHeads());
    node.kvHeads = int64_t(attention.getKvHeads());
    node.headDim = int64_t(attention.getHeadDim());
    node.scalar = attention.getScale().convertToDouble();
    node.softcap = attention.getSoftcap().convertToDouble();
    node.window = int64_t(attention.getWindow());
    node.bidirectional = attention.getBidirectional();
    node.layer = int64_t(attention.getLayer());
    if (auto slopes = attention.getSlopes())
      node.slopes.assign(slopes->begin(), slopes->end());
    graph.layers = std::max(graph.layers, node.layer + 1);
  } else if (auto gated = dyn_cast<slm::GatedOp>(op)) {
    node.kind = NodeKind::Gated;
    node.activation = kindOf(gated.getKind());
  } else if (auto activation = dyn_cast<slm::ActivationOp>(op)) {
    node.kind = NodeKind::Activation;
    node.activation = kindOf(activation.getKind());
  } else if (isa<slm::AddOp>(op)) {
    node.kind = NodeKind::Add;
  } else if (isa<slm::MulOp>(op)) {
    node.kind = NodeKind::Mul;
  } else if (auto scale = dyn_cast<slm::ScaleOp>(op)) {
    node.kind = NodeKind::Scale;
    node.scalar = scale.getFactor().convertToDouble();
  } else if (auto softcap = dyn_cast<slm::SoftcapOp>(op)) {
    node.kind = NodeKind::Softcap;
    node.scalar = softcap.getCap().convertToDouble();
  } else if (auto slice = dyn_cast<slm::SliceOp>(op)) {
    node.kind = NodeKind::Slice;
    node.first = int64_t(slice.getFirst());
  } else if (isa<slm::SelectRowsOp>(op)) {
    node.kind = NodeKind::SelectRows;
  } else {
    return internalError("op " + op.getName().getStringRef().str() +
                         " has no node in the graph; raise comes before");
  }
  add(node, op.getResult(0));
  return {};
}

Result<Graph> Converter::run(ModuleOp module) {
  auto function = module.lookupSymbol<func::FuncOp>("main");
  if (!function || function.getNumArguments() != 1 || function.getNumResults() != 1)
    return internalError("the module has no @main from token ids to logits; raise comes before");
  for (Operation &op : function.front().without_terminator())
    SMELT_TRY(convert(op));
  Value logits = function.front().getTerminator()->getOperand(0);
  // The logits are the last node by construction of the block; if not, a slice of everything makes
  // them so.
  if (nodeOf(logits) != int32_t(graph.nodes.size() - 1)) {
    Node whole;
    whole.kind = NodeKind::Slice;
    whole.inputs = {nodeOf(logits)};
    add(whole, logits);
  }
  graph.vocabSize = slm::widthOf(logits);
  if (auto role = function->getAttrOfType<IntegerAttr>(outputAttribute))
    graph.givesVectors = role.getInt() == int64_t(format::PortRole::HiddenState) ||
                         role.getInt() == int64_t(format::PortRole::Embedding);
  return std::move(graph);
}

/// What makes two rotary tables the same.
struct TableKey {
  std::vector<double> frequencies;
  bool isSin;
  double factor;
  auto operator<=>(const TableKey &) const = default;
};

/// f(position * frequency[i]) * factor as floats [positions, frequencies].
std::vector<std::byte> evaluateTable(const TableKey &key, int64_t positions) {
  size_t half = key.frequencies.size();
  std::vector<std::byte> bytes(size_t(positions) * half * sizeof(float));
  for (size_t p = 0; p < size_t(positions); ++p)
    for (size_t i = 0; i < half; ++i) {
      double angle = double(p) * key.frequencies[i];
      float value = float(key.factor * (key.isSin ? std::sin(angle) : std::cos(angle)));
      std::memcpy(bytes.data() + (p * half + i) * sizeof value, &value, sizeof value);
    }
  return bytes;
}

Result<WeightView> viewOf(const WeightStore &weights, slm::WeightOp weight) {
  return weights.view(int64_t(weight.getId()), int64_t(weight.getOffset()), slm::rowsOf(weight),
                      slm::widthOf(weight), int64_t(weight.getRowStride()),
                      int64_t(weight.getColStride()));
}

/// Vectors joined so far, by the places of their parts.
using JoinKey = std::vector<std::tuple<uint64_t, uint64_t, int64_t, uint64_t>>;

Result<int64_t> joinVectors(WeightStore &weights, std::map<JoinKey, int64_t> &known,
                            slm::JoinOp op) {
  JoinKey key;
  std::vector<float> values;
  for (Value part : op.getParts()) {
    auto weight = part.getDefiningOp<slm::WeightOp>();
    if (!weight)
      return internalError("a part of slm.join is no slm.weight");
    SMELT_ASSIGN(WeightView view, viewOf(weights, weight));
    key.push_back({weight.getId(), weight.getOffset(), view.cols, weight.getColStride()});
    values.resize(values.size() + size_t(view.cols));
    readRows(view, 0, 1, values.data() + values.size() - view.cols);
  }
  if (auto found = known.find(key); found != known.end())
    return found->second;
  auto bytes = std::as_bytes(std::span(values));
  SMELT_ASSIGN(int64_t id, weights.addOwned("joined", {bytes.begin(), bytes.end()}, StoredType::F32,
                                            {1, int64_t(values.size())}));
  known.emplace(std::move(key), id);
  return id;
}

} // namespace

WeightResolver makeResolver(std::shared_ptr<WeightStore> weights, int64_t positions) {
  auto tables = std::make_shared<std::map<TableKey, int64_t>>();
  auto joined = std::make_shared<std::map<JoinKey, int64_t>>();
  return [weights = std::move(weights), tables = std::move(tables), joined = std::move(joined),
          positions](Value value) -> Result<WeightView> {
    if (auto weight = value.getDefiningOp<slm::WeightOp>())
      return viewOf(*weights, weight);
    if (auto join = value.getDefiningOp<slm::JoinOp>()) {
      SMELT_ASSIGN(int64_t id, joinVectors(*weights, *joined, join));
      return weights->view(id, 0, 1, slm::widthOf(join), slm::widthOf(join), 1);
    }
    auto table = value.getDefiningOp<slm::RotaryTableOp>();
    if (!table)
      return internalError(
          "a value that is neither slm.weight nor slm.join nor slm.rotary_table has no data");
    ArrayRef<double> frequencies = table.getInvFreq();
    int64_t half = int64_t(frequencies.size());
    TableKey key{frequencies.vec(), table.getIsSin(), table.getFactor().convertToDouble()};
    auto known = tables->find(key);
    if (known == tables->end()) {
      const char *name = table.getIsSin() ? "rotary sin" : "rotary cos";
      SMELT_ASSIGN(int64_t id, weights->addOwned(name, evaluateTable(key, positions),
                                                 StoredType::F32, {positions, half}));
      known = tables->emplace(std::move(key), id).first;
    }
    return weights->view(known->second, 0, positions, half, half, 1);
  };
}

Result<Graph> toGraph(ModuleOp module, const WeightResolver &resolve) {
  return Converter(resolve).run(module);
}

} // namespace smelt
