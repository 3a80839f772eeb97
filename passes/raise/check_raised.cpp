// The contract after raising, and the report of what breaks it.
#include "passes/raise/finish.h"
#include "passes/raise/raise.h"

#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {
namespace {

void printTypes(llvm::raw_ostream &out, ValueRange values) {
  llvm::interleaveComma(values, out, [&](Value value) {
    if (auto type = dyn_cast<RankedTensorType>(value.getType())) {
      out << '[';
      llvm::interleaveComma(type.getShape(), out, [&](int64_t dim) {
        if (dim == ShapedType::kDynamic)
          out << '?';
        else
          out << dim;
      });
      out << "] " << type.getElementType();
    } else if (isa<NoneType>(value.getType())) {
      out << '-';
    } else {
      out << "[...]";
    }
  });
}

/// Why the node is still there: `isRoot` if the cause lies in itself and not in another node of the
/// list.
std::string reasonOf(NodeOp node, bool &isRoot) {
  isRoot = true;
  if (auto why = node->getAttrOfType<StringAttr>(whyAttribute))
    return why.getValue().str();
  isRoot = false;
  for (Value input : node.getInputs())
    if (auto before = input.getDefiningOp<NodeOp>())
      return ("its input from \"" + before.getName() + "\" was not raised").str();
  for (Operation *user : node->getUsers())
    if (auto after = dyn_cast<NodeOp>(user))
      return ("it serves \"" + after.getName() + "\", which was not raised").str();
  isRoot = true;
  return "no pattern starts at this op";
}

void printNode(llvm::raw_ostream &out, NodeOp node, StringRef reason) {
  out << "\n  \"" << node.getName() << "\" "
      << (node.getDomain().empty() ? "ai.onnx" : node.getDomain()) << "::" << node.getType()
      << " (";
  printTypes(out, node.getInputs());
  out << ") -> (";
  printTypes(out, node.getOutputs());
  auto closest = node->getAttrOfType<StringAttr>(closestAttribute);
  out << "): " << reason << "; closest pattern: " << (closest ? closest.getValue() : "none");
}

/// True if a function of token ids computes one value in slm ops.
bool hasLogits(ModuleOp module) {
  for (auto function : module.getOps<func::FuncOp>()) {
    if (function.isExternal() || function.getNumArguments() != 1)
      continue;
    auto terminator = dyn_cast<func::ReturnOp>(function.front().getTerminator());
    Operation *last = terminator && terminator.getNumOperands() == 1
                          ? terminator.getOperand(0).getDefiningOp()
                          : nullptr;
    if (last && isa<slm::SLMDialect>(last->getDialect()))
      return true;
  }
  return false;
}

class CheckRaisedPass : public PassWrapper<CheckRaisedPass, OperationPass<ModuleOp>> {
public:
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(CheckRaisedPass)

  StringRef getArgument() const override { return "check-raised"; }
  StringRef getDescription() const override {
    return "fail with the list of nodes that were not raised";
  }

  void runOnOperation() override {
    // Causes first, what merely depends on them after.
    std::string causes, others;
    llvm::raw_string_ostream toCauses(causes), toOthers(others);
    int64_t count = 0, roots = 0;
    getOperation().walk([&](NodeOp node) {
      bool isRoot = false;
      std::string reason = reasonOf(node, isRoot);
      printNode(isRoot ? toCauses : toOthers, node, reason);
      ++count;
      roots += isRoot;
    });
    if (count != 0) {
      getOperation().emitError() << count << (count == 1 ? " node was" : " nodes were")
                                 << " not raised to the model dialect, " << roots
                                 << " of them for a reason of their own (listed first):" << causes
                                 << others;
      return signalPassFailure();
    }
    if (!hasLogits(getOperation())) {
      getOperation().emitError(
          "the graph is no language model: no output is computed from token ids row by row");
      return signalPassFailure();
    }
  }
};

} // namespace

std::unique_ptr<Pass> createCheckRaisedPass() { return std::make_unique<CheckRaisedPass>(); }

} // namespace smelt
