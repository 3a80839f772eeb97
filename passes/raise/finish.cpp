// Results, dead nodes and the place of slm.select_rows.
#include "passes/raise/finish.h"

#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {
namespace {

StringRef resultName(func::FuncOp function, unsigned index) {
  auto name = function.getResultAttrOfType<StringAttr>(index, "onnx.name");
  return name ? name.getValue() : "";
}

/// Rows that are a result of the graph, or that an embedding of the text is made of.
std::optional<Rows> resultRows(RaiseContext &context, Value value) {
  auto pooled = context.pooled.find(value);
  std::optional<Rows> rows =
      pooled != context.pooled.end() ? pooled->second.rows : context.rowsOf(value);
  return rows && rows->isFlat() ? rows : std::nullopt;
}

/// The result that is computed: raised rows, of several the logits, else what stands for the whole
/// text; -1 if none is raised.
int mainResultOf(RaiseContext &context, func::ReturnOp terminator) {
  int found = -1, best = -1;
  for (auto [index, value] : llvm::enumerate(terminator.getOperands())) {
    if (!resultRows(context, value))
      continue;
    int rank = resultName(context.function, unsigned(index)) == "logits" ? 2
               : context.pooled.contains(value)                          ? 1
                                                                         : 0;
    if (rank > best) {
      best = rank;
      found = int(index);
    }
  }
  return found;
}

/// What the rows of the result are. `name`: of the graph's output.
format::PortRole roleOfRows(RaiseContext &context, const Rows &rows, StringRef name) {
  using format::PortRole;
  // A decoder's result is by token even where the graph keeps the last one only.
  bool isWhole = context.hasCache || llvm::any_of(rows.axes, [](int64_t axis) {
                   return axis == axisSequence || axis == axisTokens;
                 });
  bool isLogits = name.contains("logits");
  if (!isWhole)
    return isLogits ? PortRole::Classes : PortRole::Embedding;
  bool isEncoder = llvm::any_of(context.function.front().getOps<slm::AttentionOp>(),
                                [](slm::AttentionOp op) { return op.getBidirectional(); });
  if (!isLogits)
    return isEncoder || name.contains("hidden_state") ? PortRole::HiddenState : PortRole::Logits;
  int64_t vocabulary = 0;
  for (slm::EmbeddingOp op : context.function.front().getOps<slm::EmbeddingOp>())
    if (!op.getPositionOffset() && !op.getTokenTypes())
      vocabulary = slm::rowsOf(op.getTable());
  return isEncoder && rows.width() < vocabulary ? PortRole::TokenClasses : PortRole::Logits;
}

/// Leaves on the function what its result is: @output, a PortRole, and for embeddings @pooling and
/// @normalize (ModelConfig in runtime/artifact/format.h).
void describeResult(RaiseContext &context, Value value, StringRef name) {
  OpBuilder &builder = context.builder;
  auto pooled = context.pooled.find(value);
  bool isPooled = pooled != context.pooled.end();
  format::PortRole role = roleOfRows(context, *resultRows(context, value), isPooled ? "" : name);
  func::FuncOp function = context.function;
  function->setAttr(outputAttribute, builder.getI64IntegerAttr(int64_t(role)));
  if (!isPooled)
    return;
  function->setAttr(poolingAttribute, builder.getI64IntegerAttr(int64_t(pooled->second.pooling)));
  function->setAttr(normalizeAttribute, builder.getBoolAttr(pooled->second.isNormalized));
}

/// Keeps the given results of the function.
void keepResults(func::FuncOp function, func::ReturnOp terminator, ArrayRef<Value> values) {
  terminator->setOperands(values);
  for (unsigned i = 0; i < function.getNumResults(); ++i)
    function.setResultAttrs(i, ArrayRef<NamedAttribute>{});
  function.removeResAttrsAttr();
  function.setFunctionType(FunctionType::get(function.getContext(), function.getArgumentTypes(),
                                             TypeRange(ValueRange(values))));
}

/// Erases ops whose results nothing reads, last first. Attention has an effect (its cache), but
/// none on a result not asked for.
void eraseDead(func::FuncOp function) {
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(function.front())))
    if (op.use_empty() && !op.hasTrait<OpTrait::IsTerminator>())
      op.erase();
}

/// One row a token: activations, and the token ids themselves.
bool isRows(Value value) {
  return !value.getDefiningOp() ||
         !isa<slm::WeightOp, slm::RotaryTableOp, slm::JoinOp>(value.getDefiningOp());
}

/// Gives a reason to every node that was not raised although nothing before it is to blame: no
/// pattern knows its op. Arithmetic on shapes and masks is not to blame; it is there for others.
void explainRest(RaiseContext &context) {
  auto isAuxiliary = [&](NodeOp node) {
    const Tensor *value = node->getNumResults() ? context.sample(node->getResult(0), 0) : nullptr;
    return value && value->hasData();
  };
  for (NodeOp node : context.function.front().getOps<NodeOp>()) {
    if (node->hasAttr(whyAttribute) || isAuxiliary(node))
      continue;
    bool isBlocked = llvm::any_of(node.getInputs(), [&](Value input) {
      auto before = input.getDefiningOp<NodeOp>();
      return before && !isAuxiliary(before);
    });
    if (!isBlocked)
      node->setAttr(whyAttribute,
                    context.builder.getStringAttr("no pattern raises this use of the op"));
  }
}

} // namespace

void placeSelectRows(func::FuncOp function) {
  Block &block = function.front();
  Operation *last = nullptr;
  for (Operation &op : block)
    if (isa<slm::AttentionOp>(op))
      last = &op;
  if (!last)
    last = &block.front();
  for (Operation *op = last; op && !op->hasTrait<OpTrait::IsTerminator>(); op = op->getNextNode()) {
    if (op->getNumResults() != 1 || !isRows(op->getResult(0)))
      continue;
    // All that ops after this one read from before must be its result.
    bool isCut = true;
    for (Operation *later = op->getNextNode(); later && isCut; later = later->getNextNode())
      for (Value operand : later->getOperands())
        isCut &= operand == op->getResult(0) || !isRows(operand) ||
                 (operand.getDefiningOp() && op->isBeforeInBlock(operand.getDefiningOp()));
    if (!isCut)
      continue;
    OpBuilder builder(op->getContext());
    builder.setInsertionPointAfter(op);
    auto select = slm::SelectRowsOp::create(builder, op->getLoc(), op->getResult(0).getType(),
                                            op->getResult(0));
    op->getResult(0).replaceAllUsesExcept(select.getResult(), select);
    return;
  }
}

void finishRaising(RaiseContext &context) {
  func::FuncOp function = context.function;
  auto terminator = cast<func::ReturnOp>(function.front().getTerminator());
  int logits = mainResultOf(context, terminator);
  if (logits >= 0)
    describeResult(context, terminator.getOperand(unsigned(logits)),
                   resultName(function, unsigned(logits)));
  SmallVector<Value> kept;
  for (auto [index, value] : llvm::enumerate(terminator.getOperands())) {
    if (context.states.contains(value))
      continue;
    if (logits < 0) {
      kept.push_back(value);
    } else if (int(index) == logits) {
      kept.push_back(resultRows(context, value)->value);
    } else if (auto type = dyn_cast<ShapedType>(value.getType());
               type && isa<FloatType>(type.getElementType())) {
      function.emitRemark() << "output \"" << resultName(function, unsigned(index))
                            << "\" is not computed: only \""
                            << resultName(function, unsigned(logits)) << "\" is";
    }
  }
  keepResults(function, terminator, kept);
  eraseDead(function);
  bool isRaised =
      logits >= 0 && llvm::all_of(function.front(), [](Operation &op) { return !isa<NodeOp>(op); });
  if (!isRaised)
    return explainRest(context);
  BitVector unused(function.getNumArguments());
  for (BlockArgument argument : function.getArguments())
    unused[argument.getArgNumber()] = argument.use_empty();
  if (function.eraseArguments(unused).failed())
    return;
  placeSelectRows(function);
  // Layers count in execution order, without those whose result was not needed.
  int64_t layer = 0;
  for (slm::AttentionOp attention : function.front().getOps<slm::AttentionOp>())
    attention.setLayer(uint64_t(layer++));
}

} // namespace smelt
