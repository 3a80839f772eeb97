// The `smelt` program: the runtime's commands, and the way to the compiler's. Those are another
// program's, which is started when it is needed: LLVM takes longer to load than a prompt to answer.
#include "runtime/artifact/reader.h"
#include "runtime/tools/commands.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include <unistd.h>

using namespace smelt;

/// The compiler's program, installed beside this one; empty if it is not.
static std::string compilerProgram() {
  std::error_code error;
  std::filesystem::path program =
      std::filesystem::read_symlink("/proc/self/exe", error).replace_filename("smelt-compiler");
  return std::filesystem::exists(program, error) ? program.string() : std::string();
}

/// Whether the words are a command of the runtime's. `inspect` is one for artifacts alone.
static bool isForRuntime(std::span<const char *const> words) {
  auto isNamed = [&](const cli::Command &command) { return command.name == words[0]; };
  if (words.empty() || std::ranges::none_of(cli::runtimeCommands(), isNamed))
    return false;
  return std::string_view(words[0]) != "inspect" ||
         std::ranges::any_of(words.subspan(1), isArtifact);
}

int main(int argc, char **argv) {
  if (!isForRuntime(std::span(argv + 1, size_t(std::max(argc - 1, 0)))))
    if (std::string program = compilerProgram(); !program.empty()) {
      execv(program.c_str(), argv);
      std::fprintf(stderr, "smelt: cannot start '%s': %s\n", program.c_str(), std::strerror(errno));
      return 1;
    }
  return cli::runMain(argc, argv, cli::runtimeCommands());
}
