// Linking one object file into a shared object, in process.
#pragma once

#include "runtime/base/status.h"

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace smelt {

/// Links a relocatable ELF object with lld into a shared object without undefined symbols;
/// `emulation` is lld's name of the target (elf_x86_64, aarch64elf).
Result<std::vector<std::byte>> linkSharedObject(std::span<const char> object,
                                                std::string_view emulation);

} // namespace smelt
