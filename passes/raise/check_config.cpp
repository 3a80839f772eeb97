// config.json beside the model against the graph: exporters have dropped windows and changed
// epsilons.
#include "passes/raise/raise.h"

#include "compiler/dialect/slm.h"
#include "passes/json_text.h"

#include "mlir/IR/BuiltinOps.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"

#include <cmath>
#include <cstdio>
#include <set>

using namespace mlir;

namespace smelt {
namespace {

/// A number as people write it: 512, 1e-05.
std::string shortest(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

class CheckConfigPass : public PassWrapper<CheckConfigPass, OperationPass<ModuleOp>> {
public:
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(CheckConfigPass)

  CheckConfigPass() = default;
  CheckConfigPass(const CheckConfigPass &other) : PassWrapper(other) {}
  StringRef getArgument() const override { return "check-config"; }
  StringRef getDescription() const override {
    return "warn where config.json disagrees with the graph";
  }

  void runOnOperation() override {
    auto buffer = llvm::MemoryBuffer::getFile(path.getValue());
    if (!buffer)
      return;
    llvm::Expected<llvm::json::Value> parsed = parseJson((*buffer)->getBuffer());
    if (!parsed) {
      getOperation().emitWarning()
          << path.getValue() << " is not JSON: " << llvm::toString(parsed.takeError());
      return;
    }
    const llvm::json::Object *config = parsed->getAsObject();
    if (!config)
      return;
    if (const llvm::json::Object *text = config->getObject("text_config"))
      config = text;
    compareAttention(*config);
    compareNorms(*config);
    compareRotary(*config);
  }

private:
  void warn(StringRef what, double inConfig, double inGraph) {
    getOperation().emitWarning()
        << what
        << llvm::formatv(" is {0} in {1} but {2} in the graph; the graph is compiled",
                         shortest(inConfig), path.getValue(), shortest(inGraph))
               .str();
  }

  /// Any window or softcap the graph has must be the config's, and the other way round unless the
  /// config switches it off.
  void compareAttention(const llvm::json::Object &config) {
    std::set<int64_t> windows;
    std::set<double> softcaps;
    getOperation().walk([&](slm::AttentionOp attention) {
      if (!attention.getBidirectional()) // encoders' configs count theirs in other ways
        windows.insert(int64_t(attention.getWindow()));
      softcaps.insert(attention.getSoftcap().convertToDouble());
    });
    if (windows.empty())
      return;
    int64_t graphWindow = *windows.rbegin();
    int64_t window = config.getInteger("sliding_window").value_or(0);
    if (config.getBoolean("use_sliding_window") == false)
      window = 0;
    // A window as long as the context never cuts anything.
    if (window >= config.getInteger("max_position_embeddings")
                      .value_or(std::numeric_limits<int64_t>::max()) &&
        graphWindow == 0)
      window = 0;
    if (window != graphWindow)
      warn("sliding_window", double(window), double(graphWindow));
    double softcap = config.getNumber("attn_logit_softcapping").value_or(0);
    if (std::fabs(softcap - *softcaps.rbegin()) > 1e-5)
      warn("attn_logit_softcapping", softcap, *softcaps.rbegin());
  }

  void compareNorms(const llvm::json::Object &config) {
    std::optional<double> epsilon = config.getNumber("rms_norm_eps");
    if (!epsilon)
      epsilon = config.getNumber("layer_norm_eps");
    if (!epsilon)
      return;
    std::set<double> found;
    getOperation().walk([&](Operation *op) {
      if (auto norm = dyn_cast<slm::RmsNormOp>(op))
        found.insert(norm.getEpsilon().convertToDouble());
      if (auto norm = dyn_cast<slm::LayerNormOp>(op))
        found.insert(norm.getEpsilon().convertToDouble());
    });
    for (double value : found)
      if (std::fabs(value - *epsilon) > 1e-3 * *epsilon)
        warn("the norms' epsilon", *epsilon, value);
  }

  /// inv_freq[1] = base^(-2 / rotary_dim) where nothing rescales the frequencies.
  void compareRotary(const llvm::json::Object &config) {
    std::optional<double> base = config.getNumber("rope_theta");
    const llvm::json::Object *parameters = config.getObject("rope_parameters");
    if (!base && parameters)
      base = parameters->getNumber("rope_theta");
    const llvm::json::Object *scaling = config.getObject("rope_scaling");
    if (!base || scaling)
      return;
    if (parameters && parameters->getString("rope_type").value_or("default") != "default")
      return;
    std::set<double> found;
    getOperation().walk([&](slm::RotaryTableOp table) {
      ArrayRef<double> frequencies = table.getInvFreq();
      if (frequencies.size() > 1 && frequencies[1] > 0)
        found.insert(std::round(std::pow(frequencies[1], -double(frequencies.size()))));
    });
    // Models with two kinds of layers have a second base; one of them must be this.
    bool isThere = found.empty();
    for (double value : found)
      isThere |= std::fabs(value - *base) <= 1e-3 * *base;
    if (!isThere)
      warn("rope_theta", *base, *found.begin());
  }

public:
  Option<std::string> path{*this, "path",
                           llvm::cl::desc("config.json to compare with; need not exist")};
};

} // namespace

std::unique_ptr<Pass> createCheckConfigPass(std::string path) {
  auto pass = std::make_unique<CheckConfigPass>();
  pass->path = std::move(path);
  return pass;
}

} // namespace smelt
