// Linking object files into a shared object, in process.
#pragma once

#include "runtime/base/status.h"

#include "llvm/TargetParser/Triple.h"

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace smelt {

/// Writes the parts, one after the other, as one file. Exhausted: the system's reason.
[[nodiscard]] Status writeFile(const std::string &path, std::span<const std::string> parts);

/// Links relocatable ELF objects of one target with lld into a shared object without undefined
/// symbols.
Result<std::vector<std::byte>> linkSharedObject(std::span<const std::string> objects,
                                                const llvm::Triple &triple);

} // namespace smelt
