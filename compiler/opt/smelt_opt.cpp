// smelt-opt: runs passes on IR, or on an ONNX model (smelt-opt --import=model.onnx --raise
// --check-raised).
#include "compiler/dialect/onnx.h"
#include "compiler/dialect/slm.h"
#include "compiler/onnx/importer.h"
#include "passes/fuse/fuse.h"
#include "passes/quantize/quantize.h"
#include "passes/raise/raise.h"
#include "passes/tensor/tensor.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"

#include "llvm/Support/CommandLine.h"
#include "llvm/Support/SourceMgr.h"

#include <cstdio>

/// Imports `path`, runs the passes given on the command line and prints the result.
static int runOnModel(const std::string &path, const mlir::PassPipelineCLParser &pipeline,
                      mlir::DialectRegistry &registry) {
  mlir::MLIRContext context(registry);
  smelt::Result<smelt::ImportedModel> model = smelt::importOnnx(context, path);
  if (!model.ok()) {
    std::fprintf(stderr, "error: %s\n", model.status().message().c_str());
    return 1;
  }
  mlir::PassManager passes(&context);
  auto onError = [](const llvm::Twine &) { return mlir::failure(); };
  if (mlir::failed(pipeline.addToPipeline(passes, onError)) ||
      mlir::failed(passes.run(*model->module)))
    return 1;
  mlir::OpPrintingFlags flags;
  flags.elideLargeElementsAttrs(64);
  model->module->print(llvm::outs(), flags);
  llvm::outs() << '\n';
  return 0;
}

int main(int argc, char **argv) {
  smelt::registerRaisePasses();
  smelt::registerTensorPasses();
  smelt::registerFusePasses();
  smelt::registerQuantizePasses();
  mlir::DialectRegistry registry;
  registry.insert<mlir::func::FuncDialect, smelt::onnx_ir::ONNXDialect, smelt::slm::SLMDialect>();
  for (int i = 1; i < argc; ++i) {
    if (!llvm::StringRef(argv[i]).starts_with("--import="))
      continue;
    llvm::cl::opt<std::string> import("import", llvm::cl::desc("ONNX model to import"));
    mlir::PassPipelineCLParser pipeline("", "passes to run");
    if (!llvm::cl::ParseCommandLineOptions(argc, argv, "smelt-opt: passes on an imported model\n"))
      return 1;
    return runOnModel(import, pipeline, registry);
  }
  return mlir::asMainReturnCode(mlir::MlirOptMain(
      argc, argv, "smelt-opt: passes on IR; --import=model.onnx reads ONNX\n", registry));
}
