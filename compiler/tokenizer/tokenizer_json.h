// Translates the components of a tokenizer.json to steps of the blob.
#pragma once

#include "compiler/tokenizer/blob_writer.h"

#include <nlohmann/json.hpp>

namespace smelt {

/// Fills a blob from a parsed tokenizer.json. Throws nothing but what nlohmann::json throws on
/// false types.
Result<BlobContents> translateTokenizer(const nlohmann::json &tokenizer);

} // namespace smelt
