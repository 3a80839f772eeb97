// Tests of chat templates: messages, errors, and limits that hostile templates meet. What they
// render is compared with jinja2 in tests/differential.
#include "runtime/tokenizer/chat_template.h"

#include <gtest/gtest.h>

using namespace smelt;

namespace {

/// The rendering, or "error: " and the message.
std::string render(std::string_view source, const Value &variables = Value::map({})) {
  auto chat = ChatTemplate::parse(source);
  if (!chat.ok())
    return "error: " + chat.status().message();
  auto text = chat->render(variables);
  return text.ok() ? *text : "error: " + text.status().message();
}

TEST(ChatTemplate, RendersMessages) {
  auto chat = ChatTemplate::parse("{% for m in messages %}<|{{ m.role }}|>{{ m['content'] | trim "
                                  "}}{{ eos_token }}\n{% endfor %}"
                                  "{% if add_generation_prompt %}<|assistant|>{% endif %}");
  ASSERT_TRUE(chat.ok()) << chat.status().message();
  std::vector<ChatMessage> messages = {{"system", " be brief "}, {"user", "hi"}};
  ChatContext context;
  context.eosToken = "</s>";
  EXPECT_EQ(*chat->renderMessages(messages, true, context),
            "<|system|>be brief</s>\n<|user|>hi</s>\n<|assistant|>");
  EXPECT_EQ(*chat->renderMessages(messages, false), "<|system|>be brief\n<|user|>hi\n");
}

TEST(ChatTemplate, TakesToolsAndFurtherVariables) {
  auto chat = ChatTemplate::parse("{% if tools %}{{ tools | tojson }}{% endif %}{{ mode }}");
  ASSERT_TRUE(chat.ok());
  ChatContext context;
  context.tools = Value::list({Value::map({{Value("name"), Value("f")}})});
  context.extra = Value::map({{Value("mode"), Value("x")}});
  EXPECT_EQ(*chat->renderMessages({}, true, context), "[{\"name\": \"f\"}]x");
  EXPECT_EQ(*chat->renderMessages({}, true), "");
}

TEST(ChatTemplate, InvalidTextOfMessagesIsMended) {
  auto chat = ChatTemplate::parse("{{ messages[0].content | length }}");
  ASSERT_TRUE(chat.ok());
  std::vector<ChatMessage> messages = {{"user", "a\xFF"}};
  EXPECT_EQ(*chat->renderMessages(messages), "2");
}

TEST(ChatTemplate, ErrorsNameTheLineAndWhatWasFound) {
  EXPECT_EQ(render("a\n{% if x %}\n"),
            "error: line 2 of the chat template: the template ends, expected 'endif'");
  EXPECT_EQ(render("{{ a b }}"), "error: line 1 of the chat template: found 'b', expected '}}'");
  EXPECT_EQ(render("\n\n{{ missing.x }}"), "error: line 3 of the chat template: 'missing' is "
                                           "undefined, so it has no attribute 'x'");
  EXPECT_EQ(render("{{ x | sparkle }}"),
            "error: line 1 of the chat template: there is no filter 'sparkle'");
  EXPECT_EQ(render("{{ 1 + 'a' }}"),
            "error: line 1 of the chat template: '+' does not work on 1 and 'a'");
  EXPECT_EQ(render("{{ raise_exception('roles must alternate') }}"),
            "error: line 1 of the chat template: the template refuses the conversation: roles must "
            "alternate");
  EXPECT_EQ(render("{% include 'x' %}"),
            "error: line 1 of the chat template: unknown statement 'include'");
}

/// Expects a failure that says `words`, soon.
void expectStopped(std::string_view source, std::string_view words) {
  std::string result = render(source);
  EXPECT_TRUE(result.starts_with("error: ")) << source;
  EXPECT_NE(result.find(words), std::string::npos) << result;
}

TEST(ChatTemplate, StopsEndlessWork) {
  std::string loops = "{% set l = range(1000) %}";
  for (char name : std::string("abcdef"))
    loops += std::string("{% for ") + name + " in l %}";
  for (int i = 0; i < 6; ++i)
    loops += "{% endfor %}";
  expectStopped(loops, "steps");
  expectStopped("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nested too deeply");
  expectStopped("{{ range(10000000) | list }}", "100000");
}

TEST(ChatTemplate, StopsGrowingMemory) {
  expectStopped(
      "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}"
      "{% endfor %}{{ ns.s }}",
      "more than");
  expectStopped("{{ 'x' * 10000000000 }}", "too long");
  expectStopped("{{ [1] * 10000000000 }}", "too long");
  expectStopped("{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l "
                "%}{% endfor %}",
                "more than");
  // A list that holds itself twice, again and again, is small and prints endlessly.
  expectStopped("{% set ns = namespace(l=[1]) %}{% for i in range(90) %}{% set ns.l = [ns.l, ns.l] "
                "%}{% endfor %}"
                "{{ ns.l }}",
                "steps");
  expectStopped("{% set ns = namespace(l=[1]) %}{% for i in range(90) %}{% set ns.l = [ns.l, ns.l] "
                "%}{% endfor %}"
                "{{ ns.l | tojson(indent=50) }}",
                "steps");
  expectStopped(
      "{% set ns = namespace(l=[]) %}{% for i in range(5000) %}{% set ns.l = [ns.l] %}{% endfor %}",
      "nested too deeply");
}

TEST(ChatTemplate, StopsDeepNesting) {
  auto wrapped = [](char open, char close) {
    return "{{ " + std::string(5000, open) + "1" + std::string(5000, close) + " }}";
  };
  std::string minus(5000, '-');
  expectStopped(wrapped('(', ')'), "nested too deeply");
  expectStopped(wrapped('[', ']'), "nested too deeply");
  expectStopped("{{ " + minus + "1 }}", "nested too deeply");
  std::string ifs, sum = "{{ 1", dots = "{{ a";
  for (int i = 0; i < 5000; ++i) {
    ifs += "{% if 1 %}";
    sum += " + 1";
    dots += ".b";
  }
  expectStopped(ifs, "nested too deeply");
  expectStopped(sum + " }}", "nested too deeply");
  expectStopped(dots + " }}", "nested too deeply");
}

TEST(ChatTemplate, ANamespaceMayHoldItself) {
  EXPECT_EQ(render("{% set ns = namespace(x=1) %}{% set ns.self = ns %}{{ ns.self.self.x }}"), "1");
}

TEST(ChatTemplate, NumbersDoNotWrap) {
  expectStopped("{{ 9223372036854775807 + 1 }}", "64 bits");
  expectStopped("{{ 10 ** 30 }}", "64 bits");
  expectStopped("{{ 99999999999999999999 }}", "too large");
  EXPECT_EQ(render("{{ (-9223372036854775807 - 1) % -1 }}"), "0");
  expectStopped("{{ (-9223372036854775807 - 1) // -1 }}", "64 bits");
}

} // namespace
