// Parsing and rendering of chat templates.
#include "runtime/tokenizer/chat_template.h"

#include "runtime/tokenizer/template_eval.h"
#include "runtime/tokenizer/unicode.h"

namespace smelt {

struct ChatTemplate::Parts {
  jinja::Block block;
};

ChatTemplate::ChatTemplate(std::unique_ptr<Parts> parts) : parts(std::move(parts)) {}
ChatTemplate::ChatTemplate(ChatTemplate &&) noexcept = default;
ChatTemplate &ChatTemplate::operator=(ChatTemplate &&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

Result<ChatTemplate> ChatTemplate::parse(std::string_view source) {
  constexpr size_t maxBytes = 4u << 20;
  if (source.size() > maxBytes)
    return unsupported("the chat template has " + std::to_string(source.size()) +
                       " bytes, at most 4 MiB are supported");
  SMELT_ASSIGN(std::vector<jinja::Token> tokens, jinja::tokenize(source));
  auto parts = std::make_unique<Parts>();
  SMELT_ASSIGN(parts->block, jinja::parseTemplate(std::move(tokens)));
  return ChatTemplate(std::move(parts));
}

Result<std::string> ChatTemplate::render(const Value &variables) const {
  jinja::Limits limits;
  // A long conversation may take more: each text of it passes through a template several times.
  limits.bytes += variables.weight() * 64;
  limits.steps += variables.weight() * 64;
  return jinja::Evaluator(variables, limits).run(parts->block);
}

Result<std::string> ChatTemplate::renderMessages(std::span<const ChatMessage> messages,
                                                 bool addGenerationPrompt,
                                                 const ChatContext &context) const {
  std::vector<Value> list;
  for (const ChatMessage &message : messages)
    list.push_back(Value::map({{Value("role"), Value(toValidUtf8(message.role))},
                               {Value("content"), Value(toValidUtf8(message.content))}}));
  std::vector<Value::Entry> variables = {
      {Value("messages"), Value::list(std::move(list))},
      {Value("tools"), context.tools.isUndefined() ? Value(nullptr) : context.tools},
      {Value("documents"), Value(nullptr)},
      {Value("add_generation_prompt"), Value(addGenerationPrompt)},
  };
  if (!context.bosToken.empty())
    variables.emplace_back(Value("bos_token"), Value(context.bosToken));
  if (!context.eosToken.empty())
    variables.emplace_back(Value("eos_token"), Value(context.eosToken));
  if (context.extra.isMap())
    for (const Value::Entry &entry : context.extra.entries())
      variables.push_back(entry);
  return render(Value::map(std::move(variables)));
}

} // namespace smelt
