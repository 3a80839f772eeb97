// The raise pass: every node, in order, is tried against the patterns of patterns.def.
#include "passes/raise/raise.h"

#include "passes/raise/finish.h"
#include "passes/raise/patterns/patterns.h"

#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {
namespace {

struct Pattern {
  Match (*function)(RaiseContext &, NodeOp);
  StringLiteral name;
  StringLiteral anchors;
};
constexpr Pattern patterns[] = {
#define RAISE_PATTERN(function, name, anchors, summary) {function, name, anchors},
#include "passes/raise/patterns.def"
#undef RAISE_PATTERN
};

/// Patterns by the op they start at; com.microsoft ops as ms:Op.
llvm::StringMap<SmallVector<const Pattern *>> patternsByAnchor() {
  llvm::StringMap<SmallVector<const Pattern *>> table;
  for (const Pattern &pattern : patterns) {
    SmallVector<StringRef> anchors;
    pattern.anchors.split(anchors, ' ', -1, false);
    for (StringRef anchor : anchors)
      table[anchor].push_back(&pattern);
  }
  return table;
}

/// The pattern that raised the node; null if none did.
const Pattern *raiseNode(RaiseContext &context, NodeOp node, ArrayRef<const Pattern *> candidates) {
  context.builder.setInsertionPoint(node);
  const Pattern *closest = candidates.empty() ? nullptr : candidates.front();
  Match best = Match::no();
  for (const Pattern *pattern : candidates) {
    Match match = pattern->function(context, node);
    if (match.kind == Match::Yes)
      return pattern;
    if (match.kind <= best.kind)
      continue;
    closest = pattern;
    best = std::move(match);
  }
  // For the report, should the node be needed in the end.
  if (closest)
    node->setAttr(closestAttribute, context.builder.getStringAttr(closest->name));
  if (best.kind == Match::Near)
    node->setAttr(whyAttribute, context.builder.getStringAttr(best.why));
  return nullptr;
}

class RaisePass : public PassWrapper<RaisePass, OperationPass<ModuleOp>> {
public:
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(RaisePass)

  StringRef getArgument() const override { return "raise"; }
  StringRef getDescription() const override { return "raise onnx nodes to the model dialect"; }
  void getDependentDialects(DialectRegistry &registry) const override {
    registry.insert<slm::SLMDialect>();
  }

  void runOnOperation() override {
    auto function = getOperation().lookupSymbol<func::FuncOp>("main");
    if (!function || !llvm::hasSingleElement(function.getBody())) {
      getOperation().emitError("no function @main with one block to raise");
      return signalPassFailure();
    }
    RaiseContext context(function);
    llvm::StringMap<SmallVector<const Pattern *>> table = patternsByAnchor();
    SmallVector<NodeOp> nodes(function.front().getOps<NodeOp>());
    std::map<StringRef, int64_t> raised;
    for (NodeOp node : nodes) {
      bool isMicrosoft = node.getDomain() == "com.microsoft";
      std::string anchor = (isMicrosoft                ? "ms:"
                            : node.getDomain().empty() ? ""
                                                       : "other:") +
                           node.getType().str();
      if (const Pattern *pattern = raiseNode(context, node, table.lookup(anchor)))
        ++raised[pattern->name];
    }
    NamedAttrList counts;
    for (auto [name, count] : raised)
      counts.append(name, context.builder.getI64IntegerAttr(count));
    getOperation()->setAttr(patternCountsAttribute, counts.getDictionary(&getContext()));
    finishRaising(context);
  }
};

} // namespace

std::unique_ptr<Pass> createRaisePass() { return std::make_unique<RaisePass>(); }

void addRaisePasses(OpPassManager &passes, const std::string &configPath) {
  passes.addPass(createRaisePass());
  passes.addPass(createCheckRaisedPass());
  if (!configPath.empty())
    passes.addPass(createCheckConfigPass(configPath));
}

void registerRaisePasses() {
  registerPass(createRaisePass);
  registerPass(createCheckRaisedPass);
  registerPass([] { return createCheckConfigPass(); });
}

} // namespace smelt
