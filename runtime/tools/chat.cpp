// smelt chat: a conversation whose history stays in the key/value cache.
#include "runtime/tools/commands.h"
#include "runtime/tools/common.h"

#include <cstdio>
#include <iostream>

#include <unistd.h>

namespace smelt::cli {

namespace {

/// Reads a line; false at the end of input or after Ctrl-C at the prompt.
bool readLine(bool terminal, std::string &line) {
  if (terminal) {
    std::fputs("> ", stdout);
    std::fflush(stdout);
  }
  return bool(std::getline(std::cin, line));
}

} // namespace

Status commandChat(const Arguments &arguments) {
  SMELT_ASSIGN(std::unique_ptr<Session> session, openSession(arguments, arguments.operands[0]));
  const Model &model = session->model();
  SMELT_ASSIGN(GenerateOptions options, generateOptions(arguments, model.config()));
  if (!model.chatTemplate())
    return unsupported("the artifact has no chat template; use 'smelt run --raw' for plain text");

  std::vector<ChatMessage> opening;
  if (arguments.given("system"))
    opening.push_back({"system", arguments.text("system")});
  std::vector<ChatMessage> messages = opening;
  bool terminal = ::isatty(STDIN_FILENO) == 1;
  InterruptGuard interrupt;
  if (terminal)
    std::puts("/reset starts anew, /exit or Ctrl-D ends, Ctrl-C stops an answer");

  for (std::string line; readLine(terminal, line);) {
    if (line == "/exit")
      return {};
    if (line == "/reset") {
      messages = opening;
      continue;
    }
    if (line.starts_with('/') && terminal) {
      std::puts("known commands: /reset and /exit");
      continue;
    }
    if (line.empty())
      continue;
    messages.push_back({"user", line});
    interrupt.flag() = false;
    auto show = [](std::string_view text) {
      return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() &&
             std::fflush(stdout) == 0;
    };
    auto answer = [&]() -> Result<GenerateResult> {
      SMELT_ASSIGN(std::vector<int32_t> tokens, model.encodeChat(messages));
      return generate(*session, 0, tokens, options, show, &interrupt.flag());
    };
    Result<GenerateResult> result = answer();
    if (!result.ok() && (result.status().code() != StatusCode::Exhausted || !terminal))
      return result.status();
    if (!result.ok()) {
      // A full context is no reason to throw the user out.
      messages.pop_back();
      std::fprintf(stderr, "%s\n/reset starts a new conversation\n",
                   result.status().message().c_str());
      continue;
    }
    if (std::fputs("\n", stdout) < 0 || std::fflush(stdout) != 0 ||
        result->finish == FinishReason::Callback)
      return invalidArgument("cannot write the answer to stdout");
    messages.push_back({"assistant", result->text});
    if (arguments.flag("stats"))
      printStats(*result);
  }
  if (terminal)
    std::puts("");
  return {};
}

} // namespace smelt::cli
