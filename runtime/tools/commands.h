// The commands of the runtime; the compiler's driver lists them beside its own.
#pragma once

#include "runtime/tools/cli.h"

#include <span>

namespace smelt::cli {

/// run, chat, bench, embed, classify, inspect and devices, in this order.
std::span<const Command> runtimeCommands();

Status commandRun(const Arguments &arguments);
Status commandChat(const Arguments &arguments);
Status commandBench(const Arguments &arguments);
Status commandEmbed(const Arguments &arguments);
Status commandClassify(const Arguments &arguments);
Status commandInspect(const Arguments &arguments);
Status commandDevices(const Arguments &arguments);

} // namespace smelt::cli
