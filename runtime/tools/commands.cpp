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
    {"embed", "MODEL [TEXT...]",
     "embeddings of texts, or of the lines of stdin; a tab parts a pair", commandEmbed, options},
    {"classify", "MODEL [TEXT...]", "classes of texts or of their tokens; a tab parts a pair",
     commandClassify, options},
    {"inspect", "MODEL", "show what an artifact holds and how it was made", commandInspect,
     options},
    {"devices", "", "list what models can run on here, and why something is not used",
     commandDevices, options},
};

} // namespace

std::span<const Command> runtimeCommands() { return commands; }

} // namespace smelt::cli
