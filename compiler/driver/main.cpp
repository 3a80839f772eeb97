// The `smelt` program: the compiler's commands and the runtime's.
#include "compiler/driver/inspect_model.h"
#include "compiler/driver/options.h"
#include "runtime/tools/commands.h"

#include <cstdio>
#include <vector>

namespace smelt {

namespace {

Status runCompile(const cli::Arguments &arguments) {
  SMELT_ASSIGN(CompileOptions options, readCompileOptions(arguments));
  return compileModel(options);
}

Status runCalibrate(const cli::Arguments &arguments) {
  SMELT_ASSIGN(CalibrateOptions options, readCalibrateOptions(arguments));
  return calibrateModel(options);
}

Status runMerge(const cli::Arguments &arguments) {
  SMELT_ASSIGN(MergeOptions options, readMergeOptions(arguments));
  return mergeStatisticsFiles(options);
}

Status runEvaluate(const cli::Arguments &arguments) {
  SMELT_ASSIGN(EvaluateOptions options, readEvaluateOptions(arguments));
  SMELT_ASSIGN(Evaluation evaluation, evaluate(options));
  if (arguments.flag("json"))
    std::printf("%s\n", evaluationJson(evaluation, options).dump().c_str());
  else
    std::printf("%s", evaluationText(evaluation, !options.reference.empty()).c_str());
  return {};
}

/// The runtime's command shows artifacts; here a model that is still to be compiled as well.
Status runInspect(const cli::Arguments &arguments) {
  const std::string &path = arguments.operands[0];
  if (isArtifact(path))
    return cli::commandInspect(arguments);
  if (arguments.flag("verify"))
    return invalidArgument("'" + path + "' is no artifact: there is nothing for --verify to load");
  SMELT_ASSIGN(Json description, describeModel(path));
  std::printf("%s\n", arguments.flag("json") ? description.dump(2).c_str()
                                             : describeText(path, description).c_str());
  return {};
}

} // namespace

} // namespace smelt

int main(int argc, const char *const *argv) {
  using namespace smelt;
  std::vector<cli::Command> commands = {
      {"compile", "MODEL", "compile an ONNX model to an artifact", runCompile, compilerOptions()},
      {"calibrate", "MODEL", "collect statistics of an ONNX model on sample text", runCalibrate,
       compilerOptions()},
      {"merge", "STATS [STATS...]", "add statistics of 'smelt calibrate --shard'", runMerge,
       compilerOptions()},
      {"eval", "MODEL",
       "perplexity and task scores of an artifact, and its distance from the float model",
       runEvaluate, compilerOptions()},
  };
  for (cli::Command command : cli::runtimeCommands()) {
    if (command.name == "inspect") {
      command.help = "show what a model or an artifact holds, and what compiling would give";
      command.run = runInspect;
    }
    commands.push_back(command);
  }
  return cli::runMain(argc, argv, commands);
}
