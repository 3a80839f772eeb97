// The tensorize pass: every node, in order, is taken apart into primitives.
#include "passes/tensor/decompose/decompose.h"
#include "passes/tensor/tensor.h"

#include "passes/raise/context.h"

#include "mlir/Pass/PassRegistry.h"

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {
namespace tensor {
namespace {

using Decomposition = Values (*)(Builder &);

/// Decompositions by the op they take; com.microsoft ops as ms:Op.
const llvm::StringMap<Decomposition> &decompositions() {
  static const llvm::StringMap<Decomposition> table = [] {
    llvm::StringMap<Decomposition> made;
    auto add = [&](Decomposition function, StringRef anchors) {
      SmallVector<StringRef> names;
      anchors.split(names, ' ', -1, false);
      for (StringRef name : names)
        made[name] = function;
    };
#define TENSOR_DECOMPOSITION(function, anchors) add(function, anchors);
#include "passes/tensor/decompose/decompose.def"
#undef TENSOR_DECOMPOSITION
    return made;
  }();
  return table;
}

Decomposition decompositionOf(NodeOp node) {
  std::string key = (node.getDomain().empty()              ? ""
                     : node.getDomain() == "com.microsoft" ? "ms:"
                                                           : "other:") +
                    node.getType().str();
  return decompositions().lookup(key);
}

class Tensorizer {
public:
  Tensorizer(func::FuncOp function, TensorWeights *weights)
      : function(function), builder(function, weights) {}

  void run();

private:
  void setArgumentTypes();
  void block(Block &block);
  void node(NodeOp node);
  bool choice(NodeOp node);
  void mark(NodeOp node, const llvm::Twine &why);
  void eraseDead(Block &block);

  func::FuncOp function;
  Builder builder;
};

void Tensorizer::mark(NodeOp node, const llvm::Twine &why) {
  node->setAttr(tensorWhyAttribute, builder.at.getStringAttr(why));
}

/// Half precision is computed in float, from the graph's inputs on.
void Tensorizer::setArgumentTypes() {
  for (BlockArgument argument : function.getArguments())
    if (auto type = dyn_cast<RankedTensorType>(argument.getType()))
      if (Type element = computedType(type.getElementType()))
        argument.setType(RankedTensorType::get(type.getShape(), element));
}

/// An If whose condition is known becomes its branch; the others have their branches taken apart.
/// Results have the rank and element type that both branches agree on. False if it failed.
bool Tensorizer::choice(NodeOp node) {
  builder.start(node);
  Value condition = builder.input(0);
  auto region = [&](StringRef name) -> Region * {
    int64_t index = builder.integer(name, -1);
    return index >= 0 && index < int64_t(node->getNumRegions()) ? &node->getRegion(unsigned(index))
                                                                : nullptr;
  };
  Region *branches[] = {region("then_branch"), region("else_branch")};
  if (!condition || !branches[0] || !branches[1]) {
    mark(node, "it lacks a condition or a branch");
    return false;
  }
  if (std::optional<Tensor> known = builder.constant(condition); known && known->elements() == 1) {
    Block &taken = branches[known->at(0) != 0 ? 0 : 1]->front();
    Operation *end = taken.getTerminator();
    SmallVector<NodeOp> nodes(taken.getOps<NodeOp>());
    for (Operation &op : llvm::make_early_inc_range(taken.without_terminator()))
      op.moveBefore(node);
    for (NodeOp inner : nodes)
      this->node(inner);
    // The nodes' values may have been replaced meanwhile.
    for (auto [result, value] : llvm::zip(node->getResults(), end->getOperands()))
      result.replaceAllUsesWith(value);
    node->erase();
    return true;
  }
  for (Region *branch : branches) {
    Builder::Scope scope(builder);
    block(branch->front());
  }
  builder.start(node);
  if (builder.rank(condition) > 0)
    condition = builder.reshape(condition, ArrayRef<int64_t>{});
  Operation *ends[] = {branches[0]->front().getTerminator(), branches[1]->front().getTerminator()};
  for (unsigned i = 0; i < node->getNumResults(); ++i) {
    auto one = dyn_cast<RankedTensorType>(ends[0]->getOperand(i).getType());
    auto other = dyn_cast<RankedTensorType>(ends[1]->getOperand(i).getType());
    if (!one || !other || one.getRank() != other.getRank() ||
        computedType(one.getElementType()) != computedType(other.getElementType())) {
      mark(node, "its branches give values of different ranks or element types");
      return false;
    }
    SmallVector<int64_t> dims(one.getShape());
    for (auto [dim, second] : llvm::zip(dims, other.getShape()))
      dim = dim == second ? dim : dynamic;
    node->getResult(i).setType(RankedTensorType::get(dims, computedType(one.getElementType())));
  }
  node.getInputsMutable().assign(ValueRange{condition});
  return true;
}

void Tensorizer::node(NodeOp node) {
  // What stands before an input that was not understood is not to blame, unless its op is unknown
  // too.
  bool isBlocked = llvm::any_of(node.getInputs(), [](Value input) {
    Operation *before = input.getDefiningOp();
    return before && before->hasAttr(tensorWhyAttribute);
  });
  bool isChoice = node.getDomain().empty() && node.getType() == "If";
  Decomposition decompose = decompositionOf(node);
  if (!decompose && !isChoice)
    return mark(node, "there is no way to run this op");
  if (isBlocked)
    return mark(node, "");
  if (isChoice) {
    choice(node);
    return;
  }
  builder.start(node);
  for (Value input : node.getInputs())
    if (!isa<NoneType>(input.getType()) && !builder.element(input))
      return mark(node, "an input has no known rank, or an element type that nothing here "
                        "computes with");
  Values values = decompose(builder);
  if (builder.failed())
    return mark(node, builder.reason());
  values.resize(node->getNumResults());
  for (auto [i, value] : llvm::enumerate(values))
    if (!value && !node->getResult(unsigned(i)).use_empty())
      return mark(node, "its result " + llvm::Twine(i) + " is not computed");
  for (auto [result, value] : llvm::zip(node->getResults(), values))
    if (value)
      result.replaceAllUsesWith(value);
  node->erase();
}

void Tensorizer::block(Block &block) {
  SmallVector<NodeOp> nodes(block.getOps<NodeOp>());
  for (NodeOp next : nodes)
    node(next);
}

void Tensorizer::eraseDead(Block &block) {
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block))) {
    for (Region &region : op.getRegions())
      for (Block &inner : region)
        eraseDead(inner);
    if (op.use_empty() && !op.hasTrait<OpTrait::IsTerminator>())
      op.erase();
  }
}

void Tensorizer::run() {
  setArgumentTypes();
  block(function.front());
  // A region's dead ops keep values outside of it alive: twice is enough for both.
  eraseDead(function.front());
  eraseDead(function.front());
  auto end = cast<func::ReturnOp>(function.front().getTerminator());
  function.setFunctionType(FunctionType::get(
      function.getContext(), function.front().getArgumentTypes(), end.getOperandTypes()));
}

} // namespace
} // namespace tensor

namespace {

class TensorizePass : public PassWrapper<TensorizePass, OperationPass<ModuleOp>> {
public:
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(TensorizePass)

  explicit TensorizePass(TensorWeights *weights = nullptr) : weights(weights) {}

  StringRef getArgument() const override { return "tensorize"; }
  StringRef getDescription() const override {
    return "take onnx nodes apart into primitives on whole tensors";
  }
  void getDependentDialects(DialectRegistry &registry) const override {
    registry.insert<slm::SLMDialect>();
  }

  void runOnOperation() override {
    auto function = getOperation().lookupSymbol<func::FuncOp>("main");
    if (!function || !llvm::hasSingleElement(function.getBody())) {
      getOperation().emitError("no function @main with one block");
      return signalPassFailure();
    }
    tensor::Tensorizer(function, weights).run();
  }

private:
  TensorWeights *weights;
};

/// Nodes that are no primitives, each with its reason.
class CheckTensorPass : public PassWrapper<CheckTensorPass, OperationPass<ModuleOp>> {
public:
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(CheckTensorPass)

  StringRef getArgument() const override { return "check-tensor"; }
  StringRef getDescription() const override {
    return "fail with the list of nodes that are no primitives";
  }

  void runOnOperation() override {
    std::string text;
    int64_t count = 0, blocked = 0;
    getOperation().walk([&](NodeOp node) {
      auto why = node->getAttrOfType<StringAttr>(tensor::tensorWhyAttribute);
      bool isChoice = node.getDomain().empty() && node.getType() == "If";
      if (!why && (isChoice || (node.getDomain().empty() && tensor::isPrimitive(node.getType()))))
        return;
      if (why && why.getValue().empty()) {
        ++blocked;
        return;
      }
      ++count;
      text += ("\n  \"" + node.getName() + "\" " +
               (node.getDomain().empty() ? "ai.onnx" : node.getDomain()) + "::" + node.getType() +
               ": " + (why ? why.getValue() : "it was not taken apart"))
                  .str();
    });
    if (count + blocked == 0)
      return;
    getOperation().emitError() << "the graph cannot run as it stands: " << count
                               << (count == 1 ? " node is" : " nodes are") << " not supported"
                               << (blocked ? " (" + std::to_string(blocked) + " more read them)"
                                           : std::string())
                               << text;
    signalPassFailure();
  }
};

} // namespace

std::unique_ptr<Pass> createTensorizePass(TensorWeights *weights) {
  return std::make_unique<TensorizePass>(weights);
}

std::unique_ptr<Pass> createCheckTensorPass() { return std::make_unique<CheckTensorPass>(); }

void registerTensorPasses() {
  registerPass([] { return createTensorizePass(nullptr); });
  registerPass([] { return createCheckTensorPass(); });
}

} // namespace smelt
