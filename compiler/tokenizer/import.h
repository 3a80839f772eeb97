// Reads the tokenizer, the chat template and the generation defaults that lie beside a model.
#pragma once

#include "runtime/base/status.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace smelt {

/// How the model's authors want it sampled; what they do not say is empty.
struct GenerationDefaults {
  std::optional<bool> doSample;
  std::optional<double> temperature, topP, minP, repetitionPenalty;
  std::optional<int64_t> topK;
};

struct TokenizerImport {
  std::vector<std::byte> blob; ///< for Tokenizer::open
  std::string chatTemplate;    ///< Jinja source for ChatTemplate::parse; empty: the model has none
  std::string bosToken, eosToken; ///< as the chat template is given them; empty: none
  int32_t bosId = -1, padId = -1; ///< -1: none
  std::vector<int32_t> eosIds;    ///< each ends a generation
  bool addBos = false;            ///< encoding puts bosId before a text
  GenerationDefaults generation;
};

/// Reads tokenizer.json (needed) and, where they exist, tokenizer_config.json,
/// special_tokens_map.json, generation_config.json, config.json, genai_config.json,
/// chat_template.jinja and chat_template.json of `modelFolder`. A part of tokenizer.json that smelt
/// does not do is refused by its type's name.
Result<TokenizerImport> importTokenizer(const std::filesystem::path &modelFolder);

} // namespace smelt
