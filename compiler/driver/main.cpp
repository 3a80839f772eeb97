// The `smelt-compiler` program: the compiler's commands and, for the list of all, the runtime's.
// `smelt` starts it when it is needed.
#include "compiler/driver/inspect_model.h"
#include "compiler/driver/options.h"
#include "runtime/artifact/reader.h"
#include "runtime/tools/commands.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
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

Status compareReportFiles(const cli::Arguments &arguments) {
  SMELT_ASSIGN(CompareLimits limits, readCompareLimits(arguments));
  SMELT_ASSIGN(Json before, readReport(arguments.operands[0]));
  SMELT_ASSIGN(Json after, readReport(arguments.operands[1]));
  SMELT_ASSIGN(Comparison found, compareReports(before, after, limits));
  std::printf("%s", found.text.c_str());
  std::string exceeded;
  for (const std::string &sentence : found.exceeded)
    exceeded += (exceeded.empty() ? "" : "; ") + sentence;
  return exceeded.empty() ? Status() : invalidArgument(exceeded);
}

Status runReport(const cli::Arguments &arguments) {
  if (arguments.flag("compare"))
    return compareReportFiles(arguments);
  SMELT_ASSIGN(ReportOptions options, readReportOptions(arguments));
  const bool asJson = arguments.flag("json");
  std::string output = arguments.text("output");
  if (output.empty())
    output = asJson ? "-" : std::filesystem::path(options.models[0]).stem().string() + ".html";
  SMELT_ASSIGN(Json report, collectReport(options));
  const std::string text = asJson ? report.dump(1) + "\n" : reportHtml(report);
  if (asJson && output == "-") {
    std::printf("%s", text.c_str());
    return {};
  }
  std::ofstream file(output, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  return file ? Status()
              : invalidArgument("cannot write '" + output + "': " + std::strerror(errno));
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
      {"report", "MODEL [MODELS...]",
       "a page on an artifact: bytes, errors, quality, speed; or what changed between two reports",
       runReport, compilerOptions()},
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
