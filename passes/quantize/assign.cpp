// Chooses the storage format and the input precision of every linear and embedding.
#include "passes/quantize/quantize.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/SmallPtrSet.h"

using namespace mlir;

namespace smelt {

bool isHead(slm::LinearOp linear) {
  SmallVector<Operation *> work{linear};
  SmallPtrSet<Operation *, 8> seen;
  bool reachesEnd = false;
  while (!work.empty()) {
    Operation *op = work.pop_back_val();
    for (Operation *user : op->getUsers()) {
      // What feeds another layer is no head.
      if (isa<slm::LinearOp, slm::AttentionOp>(user))
        return false;
      reachesEnd |= user->hasTrait<OpTrait::IsTerminator>();
      if (seen.insert(user).second)
        work.push_back(user);
    }
  }
  return reachesEnd;
}

bool isSameView(Value a, Value b) {
  auto first = a.getDefiningOp<slm::WeightOp>(), second = b.getDefiningOp<slm::WeightOp>();
  return first && second && first.getType() == second.getType() &&
         first.getId() == second.getId() && first.getOffset() == second.getOffset() &&
         first.getRowStride() == second.getRowStride() &&
         first.getColStride() == second.getColStride();
}

bool isTied(slm::EmbeddingOp embedding, slm::LinearOp linear) {
  return linear.getWeights().size() == 1 &&
         isSameView(linear.getWeights()[0], embedding.getTable());
}

namespace {

class AssignSchemePass : public PassWrapper<AssignSchemePass, OperationPass<ModuleOp>> {
public:
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(AssignSchemePass)

  AssignSchemePass() = default;
  AssignSchemePass(const AssignSchemePass &other) : PassWrapper(other), matrices(other.matrices) {}
  explicit AssignSchemePass(const QuantizeScheme &scheme) {
    decoder = std::string(formatInfo(scheme.decoder).name);
    head = std::string(formatInfo(scheme.head).name);
    embedding = std::string(formatInfo(scheme.embedding).name);
    activation = std::string(activationName(scheme.activation));
    matrices = scheme.matrices;
  }

  StringRef getArgument() const final { return "slm-assign-scheme"; }
  StringRef getDescription() const final {
    return "choose the weight format and input precision of every linear";
  }

  void runOnOperation() final {
    for (const std::string &name : {decoder.getValue(), head.getValue(), embedding.getValue()})
      if (Result<WeightFormat> found = findFormat(name); !found) {
        getOperation()->emitError() << found.status().message();
        return signalPassFailure();
      }
    if (Result<ActivationFormat> found = findActivation(activation); !found) {
      getOperation()->emitError() << found.status().message();
      return signalPassFailure();
    }
    const std::string exact(activationName(ActivationFormat::F32));
    SmallVector<slm::LinearOp> linears;
    getOperation()->walk([&](slm::LinearOp linear) {
      linears.push_back(linear);
      std::string format = isHead(linear) ? head : decoder;
      std::string inputs = activation;
      if (auto own = matrices.find(linear.getName().str()); own != matrices.end()) {
        format = formatInfo(own->second.format).name;
        inputs = activationName(own->second.activation);
      }
      linear.setFormat(format);
      // There is no kernel that rounds the inputs of exact weights.
      linear.setActivation(format == formatInfo(WeightFormat::F32).name ? exact : inputs);
    });
    const std::string plain(formatInfo(WeightFormat::F32).name);
    getOperation()->walk([&](slm::EmbeddingOp op) {
      // A table of positions is small, and every token adds a row of it.
      auto own = matrices.find(op.getName().str());
      op.setFormat(own != matrices.end()    ? StringRef(formatInfo(own->second.format).name)
                   : op.getPositionOffset() ? StringRef(plain)
                                            : StringRef(embedding));
      for (slm::LinearOp linear : linears)
        if (isTied(op, linear))
          op.setFormat(*linear.getFormat());
    });
  }

  std::map<std::string, MatrixScheme> matrices;

  Option<std::string> decoder{*this, "decoder", llvm::cl::desc("format of the decoder's linears"),
                              llvm::cl::init("a4g32")};
  Option<std::string> head{*this, "head", llvm::cl::desc("format of the head"),
                           llvm::cl::init("s8c")};
  Option<std::string> embedding{
      *this, "embedding", llvm::cl::desc("format of an embedding that is not the head's weight"),
      llvm::cl::init("s8c")};
  Option<std::string> activation{*this, "activation",
                                 llvm::cl::desc("input precision of quantized linears"),
                                 llvm::cl::init("a8g32")};
};

} // namespace

std::unique_ptr<Pass> createAssignSchemePass(const QuantizeScheme &scheme) {
  return std::make_unique<AssignSchemePass>(scheme);
}

void registerQuantizePasses() {
  PassRegistration<AssignSchemePass>();
  registerPass([] { return createCheckQuantizedPass(); });
}

} // namespace smelt
