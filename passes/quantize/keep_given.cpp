// Weights that the model file gives quantized keep their codes, scales and zero points.
#include "passes/quantize/quantize.h"

using namespace mlir;

namespace smelt {

Result<LinearWeights> linearWeights(slm::LinearOp linear, const WeightResolver &resolve) {
  LinearWeights weights{linear.getName().str(), {}, linear.getGated().has_value()};
  for (Value weight : linear.getWeights()) {
    SMELT_ASSIGN(WeightView view, resolve(weight));
    weights.parts.push_back(std::move(view));
  }
  return weights;
}

Result<std::vector<std::string>> keepGivenCodes(ModuleOp module, const WeightResolver &resolve) {
  std::vector<std::string> lost;
  Status status;
  auto choose = [&](auto op, const LinearWeights &weights) {
    if (std::optional<WeightFormat> format = givenFormat(weights))
      op.setFormat(formatInfo(*format).name);
    else if (llvm::any_of(weights.parts, [](const WeightView &part) { return bool(part.given); }))
      lost.push_back(op.getName().str());
  };
  module.walk([&](Operation *op) {
    if (!status.ok())
      return;
    if (auto linear = dyn_cast<slm::LinearOp>(op)) {
      Result<LinearWeights> weights = linearWeights(linear, resolve);
      if (weights)
        choose(linear, *weights);
      status = weights.status();
    } else if (auto embedding = dyn_cast<slm::EmbeddingOp>(op)) {
      Result<WeightView> view = resolve(embedding.getTable());
      if (view)
        choose(embedding, {embedding.getName().str(), {*view}, false});
      status = view.status();
    }
  });
  SMELT_TRY(std::move(status));
  return lost;
}

} // namespace smelt
