// CONTRACT quantized: what lowering relies on in linears and embeddings.
#include "passes/quantize/quantize.h"

using namespace mlir;

namespace smelt {

namespace {

class CheckQuantizedPass : public PassWrapper<CheckQuantizedPass, OperationPass<ModuleOp>> {
public:
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(CheckQuantizedPass)

  StringRef getArgument() const final { return "slm-check-quantized"; }
  StringRef getDescription() const final {
    return "check that every linear and embedding has its format, precision and place";
  }

  void runOnOperation() final {
    bool failed = false;
    getOperation()->walk([&](Operation *op) {
      if (auto linear = dyn_cast<slm::LinearOp>(op)) {
        failed |= checkStorage(op, linear.getFormat(), linear.getPackedOffset()).failed();
        failed |= checkActivation(linear).failed();
      }
      if (auto embedding = dyn_cast<slm::EmbeddingOp>(op))
        failed |= checkStorage(op, embedding.getFormat(), embedding.getPackedOffset()).failed();
    });
    if (failed)
      signalPassFailure();
  }

private:
  static LogicalResult checkStorage(Operation *op, std::optional<StringRef> format,
                                    std::optional<uint64_t> offset) {
    if (!format)
      return op->emitOpError("has no weight format");
    if (Result<WeightFormat> found = findFormat(*format); !found)
      return op->emitOpError() << "has an " << found.status().message();
    if (!offset)
      return op->emitOpError("has no packed weights");
    if (*offset % 64 != 0)
      return op->emitOpError() << "has packed weights at " << *offset
                               << ", which is no multiple of 64";
    return success();
  }

  static LogicalResult checkActivation(slm::LinearOp linear) {
    if (!linear.getActivation())
      return linear.emitOpError("has no activation precision");
    Result<ActivationFormat> found = findActivation(*linear.getActivation());
    if (!found)
      return linear.emitOpError() << "has an " << found.status().message();
    if (linear.getFormat() == StringRef(formatInfo(WeightFormat::F32).name) &&
        *found != ActivationFormat::F32)
      return linear.emitOpError() << "rounds its inputs to " << *linear.getActivation()
                                  << " although its weights are float32";
    return success();
  }
};

} // namespace

std::unique_ptr<Pass> createCheckQuantizedPass() { return std::make_unique<CheckQuantizedPass>(); }

} // namespace smelt
