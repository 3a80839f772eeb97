// Runs one ONNX model through import, raise, fuse, graph and reference and compares its logits with
// golden ones.
//
// smelt_exports_test MODEL.onnx SCENARIOS TOLERANCE, SCENARIOS as exports_test.py writes them: for
// each scenario its name (length, bytes), the numbers of tokens, of rows and of logits a row, the
// tokens (id, position, slot), the rows' tokens and the logits, all int32 and float32. Prints
// "SCENARIO ok|wrong MAXIMAL_ERROR" for each, or "refused" and the reason. Exit code 0: all ok, 2:
// refused, 1: anything else.
#include "compiler/graph/to_graph.h"
#include "compiler/onnx/importer.h"
#include "passes/fuse/fuse.h"
#include "passes/raise/raise.h"
#include "tests/reference/reference.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Pass/PassManager.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>

using namespace smelt;

namespace {

struct Scenario {
  std::string name;
  std::vector<BatchToken> tokens;
  std::vector<int32_t> rows; // tokens whose logits are known
  std::vector<float> logits; // [rows, vocabulary]
};

template <typename T> T readValue(std::ifstream &file) {
  T value{};
  file.read(reinterpret_cast<char *>(&value), sizeof value);
  return value;
}

std::vector<Scenario> readScenarios(const char *path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<Scenario> scenarios;
  while (file.peek() != EOF) {
    Scenario scenario;
    scenario.name.resize(size_t(readValue<int32_t>(file)));
    file.read(scenario.name.data(), std::streamsize(scenario.name.size()));
    int32_t count = readValue<int32_t>(file), rows = readValue<int32_t>(file),
            width = readValue<int32_t>(file);
    for (int32_t i = 0; i < count; ++i) {
      int32_t id = readValue<int32_t>(file), position = readValue<int32_t>(file),
              slot = readValue<int32_t>(file);
      scenario.tokens.push_back({id, position, slot});
    }
    for (int32_t i = 0; i < rows; ++i)
      scenario.rows.push_back(readValue<int32_t>(file));
    scenario.logits.resize(size_t(rows) * size_t(width));
    file.read(reinterpret_cast<char *>(scenario.logits.data()),
              std::streamsize(scenario.logits.size() * sizeof(float)));
    scenarios.push_back(std::move(scenario));
  }
  return scenarios;
}

/// All errors that passes report, or nothing.
std::string runPasses(mlir::MLIRContext &context, mlir::ModuleOp module) {
  std::string errors;
  mlir::ScopedDiagnosticHandler handler(&context, [&](mlir::Diagnostic &diagnostic) {
    if (diagnostic.getSeverity() == mlir::DiagnosticSeverity::Error)
      errors += diagnostic.str() + "\n";
    return mlir::success();
  });
  mlir::PassManager passes(&context);
  addRaisePasses(passes);
  addFusePasses(passes);
  bool isDone = mlir::succeeded(passes.run(module));
  return isDone || !errors.empty() ? errors : "the passes failed and do not say why";
}

int refuse(const std::string &why) {
  std::printf("refused\n%s\n", why.c_str());
  return 2;
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: smelt_exports_test MODEL.onnx SCENARIOS TOLERANCE\n");
    return 1;
  }
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  Result<ImportedModel> model = importOnnx(context, argv[1]);
  if (!model.ok())
    return refuse(model.status().message());
  if (std::string errors = runPasses(context, *model->module); !errors.empty())
    return refuse(errors);
  WeightResolver resolve = makeResolver(model->weights, 256);
  Result<Graph> graph = toGraph(*model->module, resolve);
  Status status = graph.ok() ? checkGraph(*graph) : graph.status();
  if (!status.ok()) {
    std::printf("broken\n%s\n", status.message().c_str());
    return 1;
  }
  double tolerance = std::atof(argv[3]);
  bool isRight = true;
  std::vector<Scenario> scenarios = readScenarios(argv[2]);
  for (const Scenario &scenario : scenarios) {
    std::vector<double> logits = referenceLogits(*graph, scenario.tokens, scenario.rows);
    double worst = logits.size() == scenario.logits.size() ? 0 : INFINITY;
    for (size_t i = 0; i < logits.size() && i < scenario.logits.size(); ++i)
      worst = std::fmax(worst, std::fabs(logits[i] - double(scenario.logits[i])));
    bool isOk = worst <= tolerance;
    isRight &= isOk;
    std::printf("%s %s %.3g\n", scenario.name.c_str(), isOk ? "ok" : "wrong", worst);
  }
  return isRight && !scenarios.empty() ? 0 : 1;
}
