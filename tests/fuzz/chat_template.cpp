// Fuzz target: any text as a chat template, rendered with a short conversation.
#include "fuzz.h"

#include "runtime/tokenizer/chat_template.h"

#include <string_view>

using namespace smelt;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  auto chat = ChatTemplate::parse({reinterpret_cast<const char *>(data), size});
  if (!chat.ok())
    return 0;
  std::vector<ChatMessage> messages = {
      {"system", "s"}, {"user", "Hello \u65E5"}, {"assistant", ""}};
  ChatContext context;
  context.bosToken = "<s>";
  context.tools =
      Value::list({Value::map({{Value("name"), Value("f")}, {Value("n"), Value(2.5)}})});
  (void)chat->renderMessages(messages, true, context);
  return 0;
}

std::vector<uint8_t> fuzzSeed() {
  static constexpr std::string_view source =
      "{#- c -#}{{ bos_token }}{% set ns = namespace(n=0, l=[]) %}{% macro m(a, b=2) %}{{ a ~ b | "
      "upper }}"
      "{{ caller() if caller is defined }}{% endmacro %}{% for x in messages if x.role != 'tool' "
      "%}\n"
      "  {%- if loop.first and not x['content'] is none -%}{{ x.content.split('l')[::-1] | "
      "join(',') }}\n"
      "  {%- elif x.content in 'abc' or ns.n % 3 == 1 %}{{ m(x.role, b=ns.l[:-1]) }}{% else %}{% "
      "continue %}\n"
      "  {%- endif %}{% set ns.n = ns.n + 1 %}{% set ns.l = ns.l + [x] %}{% endfor %}\n"
      "{% call m('q') %}{{ tools | tojson(indent=2) }}{% endcall %}{% filter trim %} {{ {'k': (1, "
      "2.5)} }} {% endfilter %}\n"
      "{% set b %}{{ range(3) | map('string') | list }}{% endset %}{{ b | replace('1', 'x') | "
      "indent(2) }}"
      "{{ tools | selectattr('n', 'gt', 1) | map(attribute='name') | first | default('none') }}";
  return {source.begin(), source.end()};
}
