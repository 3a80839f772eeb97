// What `smelt eval` runs: an artifact by the runtime, or the float model of an ONNX file.
#pragma once

#include "runtime/base/status.h"
#include "runtime/tokenizer/chat_template.h"
#include "runtime/tokenizer/tokenizer.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace smelt {

struct ModelSettings {
  int64_t context = 512;      ///< tokens of the longest sequence that there must be room for
  int64_t wanted = 0;         ///< more room if the model has it
  int threads = 0;            ///< 0: one per core
  std::string target;         ///< code of artifacts to use; empty: the best for this CPU
  std::string device = "cpu"; ///< what runs artifacts that predict tokens; see chooseDevice()
};

/// A model that predicts tokens or, if isEncoder(), gives embeddings of texts.
class EvaluatedModel {
public:
  /// Opens `path`: an artifact if it is called *.smelt, an ONNX model otherwise.
  static Result<std::unique_ptr<EvaluatedModel>> open(const std::string &path,
                                                      const ModelSettings &settings);
  virtual ~EvaluatedModel() = default;

  /// Receives the logits [vocab] after a token.
  using Receiver = std::function<Status(int64_t position, std::span<const float> logits)>;
  /// The logits after tokens [first, tokens.size()) of one sequence, in order.
  virtual Status logits(const std::vector<int32_t> &tokens, int64_t first,
                        const Receiver &receiver) = 0;
  /// The greedy answer to a prompt, at most so many tokens.
  virtual Result<std::string> answer(const std::vector<int32_t> &prompt, int64_t maxTokens) = 0;
  /// One embedding a text.
  virtual Result<std::vector<std::vector<float>>> embed(std::span<const std::string> texts) = 0;

  virtual bool isEncoder() const = 0;
  virtual int64_t vocabSize() const = 0;
  virtual uint64_t bytes() const = 0;             ///< of the artifact, or of the model's files
  virtual const Tokenizer *tokenizer() const = 0; ///< null: it cannot read text
  virtual int32_t bosToken() const = 0;           ///< that every prompt starts with; -1: none
  /// The prompt of a conversation in text. Unsupported without a chat template.
  virtual Result<std::string> renderChat(std::span<const ChatMessage> messages) const = 0;

  /// Ids of a text: with the first token of a prompt if `prompt`.
  Result<std::vector<int32_t>> encode(std::string_view text, bool prompt, bool parseSpecial) const;
};

} // namespace smelt
