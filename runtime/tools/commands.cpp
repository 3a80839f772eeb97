// The table of the runtime's commands and their options.
#include "runtime/tools/commands.h"

namespace smelt::cli {

namespace {

constexpr Option options[] = {
#define OPTION(command, ...) {#command, __VA_ARGS__},
#include "runtime/tools/options.def"
};

constexpr Command commands[] = {
    {"run", "MODEL [PROMPT]", "answer one prompt; it is read from stdin when not given", commandRun,
     options},
    {"chat", "MODEL", "hold a conversation; /reset starts anew, /exit ends it", commandChat,
     options},
    {"bench", "MODEL", "measure speed and memory beside the machine's limits", commandBench,
     options},
    {"inspect", "MODEL", "show what an artifact holds and how it was made", commandInspect,
     options},
};

} // namespace

std::span<const Command> runtimeCommands() { return commands; }

} // namespace smelt::cli
