// Chat templates: renders a conversation to the text that a model was trained on.
#pragma once

#include "runtime/base/status.h"
#include "runtime/tokenizer/value.h"

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace smelt {

struct ChatMessage {
  std::string role; ///< "system", "user", "assistant", "tool"
  std::string content;
};

/// What a template may ask for beside the messages.
struct ChatContext {
  std::string bosToken, eosToken; ///< texts of the special tokens; empty: the model has none
  Value tools;                    ///< a list of JSON schemas as maps, or undefined
  Value extra; ///< a map of further variables (enable_thinking, ...), or undefined
};

/// A parsed template in the subset of Jinja that chat templates use, with the settings of Hugging
/// Face transformers: trim_blocks, lstrip_blocks, a sandbox in which nothing but namespaces can be
/// changed, `tojson` without HTML escapes. It is not changed by use: any number of threads may
/// share one.
class ChatTemplate {
public:
  /// Fails with the line and what was expected there. A source nested too deeply is refused.
  static Result<ChatTemplate> parse(std::string_view source);
  ChatTemplate(ChatTemplate &&) noexcept;
  ChatTemplate &operator=(ChatTemplate &&) noexcept;
  ~ChatTemplate();

  /// Renders with the variables of a map. Fails when the template says so (raise_exception), uses
  /// what is undefined, or needs more steps, memory or depth than a chat template may.
  Result<std::string> render(const Value &variables) const;

  /// Renders messages, by default so that the model goes on with an assistant's answer.
  Result<std::string> renderMessages(std::span<const ChatMessage> messages,
                                     bool addGenerationPrompt = true,
                                     const ChatContext &context = {}) const;

private:
  struct Parts;
  explicit ChatTemplate(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts;
};

} // namespace smelt
