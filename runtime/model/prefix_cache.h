// Cached prompts on disk: what a slot holds, to be loaded instead of computed again.
#pragma once

#include "runtime/model/session.h"

#include <string>

namespace smelt {

/// Writes the first `length` positions of a slot: their tokens, keys and values. The file is
/// written beside `path` and renamed, so it is there as a whole or not at all. Unsupported: the
/// model's states cannot be taken apart; InvalidArgument, Exhausted: the file cannot be written.
Status savePrefix(const Session &session, int32_t slot, uint32_t length, const std::string &path);

/// Makes a slot hold what savePrefix() wrote; returns the number of positions. It fits the same
/// artifact with the same cache precision, on any processor and with any context that is long
/// enough. NotFound: no such file; Corrupt: damaged, or something else; InvalidArgument: it comes
/// from another artifact; Exhausted: the context is shorter. After a failure the slot is empty,
/// unless the file was refused before anything of it was read.
Result<uint32_t> loadPrefix(Session &session, int32_t slot, const std::string &path);

} // namespace smelt
