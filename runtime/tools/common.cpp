// Shared parts of the commands.
#include "runtime/tools/common.h"

#include <csignal>
#include <cstdio>
#include <limits>

namespace smelt::cli {

namespace {

std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free);
struct sigaction previousAction;

Result<uint32_t> count(const Arguments &arguments, std::string_view name) {
  int64_t value = arguments.whole(name);
  if (value > std::numeric_limits<uint32_t>::max())
    return invalidArgument("--" + std::string(name) + " is " + std::to_string(value) +
                           ", which is too large");
  return uint32_t(value);
}

} // namespace

Result<uint32_t> threadCount(const Arguments &arguments) { return count(arguments, "threads"); }

Result<std::unique_ptr<Session>> openSession(const Arguments &arguments, const std::string &path) {
  SMELT_ASSIGN(std::shared_ptr<const Model> model, Model::open(path, arguments.text("target")));
  SessionOptions options;
  SMELT_ASSIGN(options.context, count(arguments, "context"));
  SMELT_ASSIGN(options.threads, threadCount(arguments));
  options.device = arguments.text("device");
  if (arguments.given("gpu-layers")) {
    SMELT_ASSIGN(options.gpuLayers, count(arguments, "gpu-layers"));
  }
  if (arguments.given("draft")) {
    SMELT_ASSIGN(options.draft, Model::open(arguments.text("draft")));
  }
  return Session::create(std::move(model), options);
}

Result<GenerateOptions> generateOptions(const Arguments &arguments,
                                        const format::ModelConfig &config) {
  GenerateOptions options;
  options.sampling = SamplingOptions::defaultsOf(config);
  SMELT_ASSIGN(options.maxTokens, count(arguments, "max-tokens"));
  if (arguments.given("temperature"))
    options.sampling.temperature = float(arguments.real("temperature"));
  if (arguments.given("top-k")) {
    SMELT_ASSIGN(options.sampling.topK, count(arguments, "top-k"));
  }
  if (arguments.given("top-p"))
    options.sampling.topP = float(arguments.real("top-p"));
  if (arguments.given("repetition-penalty"))
    options.sampling.repetitionPenalty = float(arguments.real("repetition-penalty"));
  options.sampling.minP = float(arguments.real("min-p"));
  options.sampling.seed = uint64_t(arguments.whole("seed"));
  options.stop = arguments.list("stop");
  options.speculate = !arguments.flag("no-speculation");
  return options;
}

InterruptGuard::InterruptGuard() {
  interrupted = false;
  struct sigaction action = {};
  action.sa_handler = [](int) { interrupted.store(true, std::memory_order_relaxed); };
  // Without SA_RESTART: a read from the terminal ends at once.
  ::sigaction(SIGINT, &action, &previousAction);
}

InterruptGuard::~InterruptGuard() { ::sigaction(SIGINT, &previousAction, nullptr); }

std::atomic<bool> &InterruptGuard::flag() { return interrupted; }

std::string fixedText(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string bytesText(double bytes) {
  if (bytes < 1e3)
    return fixedText(bytes, 0) + " B";
  if (bytes < 1e6)
    return fixedText(bytes / 1e3, 1) + " kB";
  return bytes < 1e9 ? fixedText(bytes / 1e6, 1) + " MB" : fixedText(bytes / 1e9, 2) + " GB";
}

void printStats(const GenerateResult &result) {
  uint32_t read = result.promptTokens - result.reusedTokens;
  size_t decoded =
      result.tokens.empty() ? 0 : result.tokens.size() - 1; // the first is the prompt's
  std::fprintf(
      stderr,
      "prompt: %u tokens (%u from the cache), %.1f tok/s; first token after %.3f s; answer: "
      "%zu tokens, %.1f tok/s, %u of %u drafted tokens accepted; ended by: %s\n",
      result.promptTokens, result.reusedTokens,
      result.promptSeconds > 0 ? read / result.promptSeconds : 0.0, result.firstTokenSeconds,
      result.tokens.size(), result.decodeSeconds > 0 ? double(decoded) / result.decodeSeconds : 0.0,
      result.acceptedTokens, result.draftedTokens,
      std::string(finishReasonName(result.finish)).c_str());
}

} // namespace smelt::cli
