// Reads SentencePiece's precompiled character maps, which tokenizer.json holds as base64.
#pragma once

#include "runtime/base/status.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace smelt {

/// The rows {key, image} of a map, ascending, without those that a shorter key hides or that are
/// too long to be looked up (runtime/tokenizer/charsmap.h). Layout: u32 bytes of a darts-clone
/// double array of u32 units, the array, then images that end with a zero byte (sentencepiece,
/// src/normalizer.cc).
Result<std::vector<std::pair<std::string, std::string>>> readCharsmap(std::string_view base64);

} // namespace smelt
