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

/// What the node says about itself, or that something before it is to blame.
std::string reasonOf(NodeOp node) {
  if (auto why = node->getAttrOfType<StringAttr>(whyAttribute))
    return why.getValue().str();
  for (Value input : node.getInputs())
    if (auto before = input.getDefiningOp<NodeOp>())
      return ("its input from \"" + before.getName() + "\" was not raised").str();
  for (Operation *user : node->getUsers())
    if (auto after = dyn_cast<NodeOp>(user))
      return ("it serves \"" + after.getName() + "\", which was not raised").str();
  return "no pattern starts at this op";
}

class CheckRaisedPass : public PassWrapper<CheckRaisedPass, OperationPass<ModuleOp>> {
public:
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(CheckRaisedPass)

  StringRef getArgument() const override { return "check-raised"; }
  StringRef getDescription() const override {
    return "fail with the list of nodes that were not raised";
  }

  void runOnOperation() override {
    std::string report;
    llvm::raw_string_ostream out(report);
    int64_t count = 0;
    getOperation().walk([&](NodeOp node) {
      ++count;
      out << "\n  \"" << node.getName() << "\" "
          << (node.getDomain().empty() ? "ai.onnx" : node.getDomain()) << "::" << node.getType()
          << " (";
      printTypes(out, node.getInputs());
      out << ") -> (";
      printTypes(out, node.getOutputs());
      auto closest = node->getAttrOfType<StringAttr>(closestAttribute);
      out << "): " << reasonOf(node)
          << "; closest pattern: " << (closest ? closest.getValue() : "none");
    });
    if (count != 0) {
      getOperation().emitError() << count << (count == 1 ? " node was" : " nodes were")
                                 << " not raised to the model dialect:" << report;
      return signalPassFailure();
    }
    bool hasLogits = false;
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      auto terminator = dyn_cast<func::ReturnOp>(function.front().getTerminator());
      hasLogits |= terminator && terminator.getNumOperands() == 1 &&
                   function.getNumArguments() == 1 &&
                   isa_and_nonnull<slm::SLMDialect>(
                       terminator.getOperand(0).getDefiningOp()
                           ? terminator.getOperand(0).getDefiningOp()->getDialect()
                           : nullptr);
    }
    if (!hasLogits) {
      getOperation().emitError(
          "the graph is no language model: no output is computed from token ids row by row");
      return signalPassFailure();
    }
  }
};

} // namespace

std::unique_ptr<Pass> createCheckRaisedPass() { return std::make_unique<CheckRaisedPass>(); }

} // namespace smelt
