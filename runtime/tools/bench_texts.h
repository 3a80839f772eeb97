// Part of `smelt bench` for encoders: texts alone and many of mixed length together.
#pragma once

#include "runtime/base/json.h"
#include "runtime/base/status.h"
#include "runtime/model/model.h"

#include <cstdint>
#include <memory>

namespace smelt::cli {

/// Seconds of one short text, and texts and tokens per second of many of mixed length that are
/// given together, tokenizing included. Null where the model gives neither embeddings nor classes
/// of texts, or has no tokenizer.
Result<Json> measureTexts(const std::shared_ptr<const Model> &model, uint32_t threads,
                          uint64_t rounds);

} // namespace smelt::cli
