// smelt run: one prompt, one answer.
#include "runtime/model/prefix_cache.h"
#include "runtime/tools/commands.h"
#include "runtime/tools/common.h"

#include <chrono>
#include <cstdio>

#include <unistd.h>

namespace smelt::cli {

namespace {

/// No context holds the tokens of more text than this.
constexpr size_t mostPromptBytes = 64 << 20;

Result<std::string> readPrompt() {
  if (::isatty(STDIN_FILENO) == 1)
    return invalidArgument("no prompt found; give it after the model, or on stdin");
  std::string text;
  char piece[1 << 16];
  while (size_t got = std::fread(piece, 1, sizeof piece, stdin)) {
    text.append(piece, got);
    if (text.size() > mostPromptBytes)
      return exhausted("the prompt on stdin has more than " + std::to_string(mostPromptBytes) +
                       " bytes, which no context holds; shorten it");
  }
  if (std::ferror(stdin))
    return invalidArgument("cannot read the prompt from stdin");
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r'))
    text.pop_back();
  return text;
}

Result<std::vector<int32_t>> encodePrompt(const Model &model, const Arguments &arguments,
                                          const std::string &text) {
  if (arguments.flag("raw")) {
    if (arguments.given("system"))
      return invalidArgument("--system needs the chat template, which --raw leaves out; drop one");
    return model.encode(text);
  }
  if (!model.chatTemplate())
    return unsupported("the artifact has no chat template; use --raw to continue plain text");
  std::vector<ChatMessage> messages;
  if (arguments.given("system"))
    messages.push_back({"system", arguments.text("system")});
  messages.push_back({"user", text});
  return model.encodeChat(messages);
}

/// Puts what an earlier run has cached into slot 0.
Status loadCached(Session &session, const std::string &path) {
  Result<uint32_t> loaded = loadPrefix(session, 0, path);
  if (!loaded.ok() && loaded.status().code() != StatusCode::NotFound)
    return std::move(loaded).status();
  return {};
}

} // namespace

Status commandRun(const Arguments &arguments) {
  auto start = std::chrono::steady_clock::now();
  std::string prompt;
  if (arguments.operands.size() > 1) {
    prompt = arguments.operands[1];
  } else {
    SMELT_ASSIGN(prompt, readPrompt());
  }
  if (prompt.empty())
    return invalidArgument("the prompt is empty; give some text to answer");

  SMELT_ASSIGN(std::unique_ptr<Session> session, openSession(arguments, arguments.operands[0]));
  const Model &model = session->model();
  SMELT_ASSIGN(GenerateOptions options, generateOptions(arguments, model.config()));
  SMELT_ASSIGN(std::vector<int32_t> tokens, encodePrompt(model, arguments, prompt));
  if (arguments.given("prompt-cache"))
    SMELT_TRY(loadCached(*session, arguments.text("prompt-cache")));
  std::chrono::duration<double> opened = std::chrono::steady_clock::now() - start;

  InterruptGuard interrupt;
  auto show = [](std::string_view text) {
    return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() &&
           std::fflush(stdout) == 0;
  };
  SMELT_ASSIGN(GenerateResult result,
               generate(*session, 0, tokens, options, show, &interrupt.flag()));
  bool written = result.finish != FinishReason::Callback;
  written = std::fputs("\n", stdout) >= 0 && std::fflush(stdout) == 0 && written;
  if (!written)
    return invalidArgument("cannot write the answer to stdout");
  if (arguments.flag("stats")) {
    std::fprintf(stderr, "ready after %.3f s; ", opened.count());
    printStats(result);
  }
  // A file that has helped with most of the prompt is left as it is.
  if (arguments.given("prompt-cache") && session->cached(0).size() >= tokens.size() &&
      2 * result.reusedTokens < result.promptTokens)
    SMELT_TRY(savePrefix(*session, 0, result.promptTokens, arguments.text("prompt-cache")));
  return result.finish == FinishReason::Cancelled ? cancelled("interrupted") : Status();
}

} // namespace smelt::cli
