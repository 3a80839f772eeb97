// Cuts chat templates into tokens. Rules: jinja2 3.1 with trim_blocks and lstrip_blocks.
#include "runtime/tokenizer/template_ast.h"
#include "runtime/tokenizer/unicode.h"

namespace smelt::jinja {

namespace {

bool isSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool isDigit(char c) { return c >= '0' && c <= '9'; }
bool isNameStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || uint8_t(c) >= 0x80;
}

class Lexer {
public:
  explicit Lexer(std::string source) : source(std::move(source)) {}

  Result<std::vector<Token>> run() {
    while (at < source.size())
      SMELT_TRY(readText());
    push(Token::End, "");
    return std::move(tokens);
  }

private:
  Status fail(const std::string &what) const {
    return invalidArgument("line " + std::to_string(line) + " of the chat template: " + what);
  }
  void push(Token::Kind kind, std::string text) { tokens.push_back({kind, std::move(text), line}); }
  /// Moves on and counts lines.
  void advance(size_t count) {
    for (size_t i = 0; i < count; ++i)
      line += source[at + i] == '\n';
    at += count;
  }
  bool startsWith(std::string_view text) const {
    return std::string_view(source).substr(at).starts_with(text);
  }
  void skipSpace() {
    while (at < source.size() && isSpace(source[at]))
      advance(1);
  }

  Status readText();
  void pushData(std::string_view text, char sign, bool isVariable);
  Status readComment();
  Status readRaw();
  bool atRaw(size_t &length) const;
  Status readTag(bool variable);
  bool readTagEnd(bool variable);
  void trimNewline(char sign);
  Status readToken();
  Status readString();
  Status readNumber();
  Status unescape(std::string_view text, std::string &out) const;

  std::string source;
  size_t at = 0;
  uint32_t line = 1;
  bool lineStarting = true;
  std::string brackets; ///< those open in the current tag
  std::vector<Token> tokens;
};

/// Text before a tag. `sign` is the '-' or '+' after the tag's opening: '-' drops all white space
/// before it; without a sign a block drops the spaces between the start of its line and itself.
void Lexer::pushData(std::string_view text, char sign, bool isVariable) {
  if (sign == '-') {
    text = stripText(text, {}, false, true);
  } else if (sign != '+' && !isVariable) {
    size_t newline = text.rfind('\n');
    size_t start = newline == text.npos ? 0 : newline + 1;
    std::string_view tail = text.substr(start);
    if ((start > 0 || lineStarting) && stripText(tail, {}, true, false).empty())
      text = text.substr(0, start);
  }
  if (!text.empty())
    push(Token::Data, std::string(text));
}

/// Whether "{%- raw %}" stands here, and its length.
bool Lexer::atRaw(size_t &length) const {
  size_t i = at + 2;
  if (i < source.size() && (source[i] == '-' || source[i] == '+'))
    ++i;
  while (i < source.size() && isSpace(source[i]))
    ++i;
  if (source.compare(i, 3, "raw") != 0)
    return false;
  i += 3;
  while (i < source.size() && isSpace(source[i]))
    ++i;
  bool strips = i < source.size() && source[i] == '-';
  i += strips;
  if (source.compare(i, 2, "%}") != 0)
    return false;
  i += 2;
  while (strips && i < source.size() && isSpace(source[i]))
    ++i;
  length = i - at;
  return true;
}

Status Lexer::readText() {
  size_t start = at, open = at;
  for (;; ++open) {
    open = source.find('{', open);
    if (open == source.npos || open + 1 >= source.size()) {
      push(Token::Data, source.substr(start));
      at = source.size();
      return {};
    }
    char next = source[open + 1];
    if (next == '{' || next == '%' || next == '#')
      break;
  }
  char kind = source[open + 1];
  char sign = open + 2 < source.size() ? source[open + 2] : '\0';
  if (sign != '-' && sign != '+')
    sign = '\0';
  pushData(std::string_view(source).substr(start, open - start), sign, kind == '{');
  advance(open - start);
  if (size_t length = 0; kind == '%' && atRaw(length)) {
    lineStarting = source[at + length - 1] == '\n';
    advance(length);
    return readRaw();
  }
  advance(sign ? 3 : 2);
  lineStarting = false;
  if (kind == '#')
    return readComment();
  return readTag(kind == '{');
}

/// What the closing of a block or comment takes with it: '-' all white space, '+' nothing, else one
/// newline.
void Lexer::trimNewline(char sign) {
  if (sign == '-')
    skipSpace();
  else if (sign != '+' && at < source.size() && source[at] == '\n')
    advance(1);
  lineStarting = source[at - 1] == '\n';
}

Status Lexer::readComment() {
  size_t end = source.find("#}", at);
  if (end == source.npos)
    return fail("a comment is not closed");
  char sign = end > at ? source[end - 1] : '\0';
  advance(end + 2 - at);
  trimNewline(sign);
  return {};
}

/// Text up to "{% endraw %}".
Status Lexer::readRaw() {
  for (size_t open = at; (open = source.find("{%", open)) != source.npos; open += 2) {
    size_t i = open + 2;
    char openSign = i < source.size() ? source[i] : '\0';
    i += openSign == '-' || openSign == '+';
    while (i < source.size() && isSpace(source[i]))
      ++i;
    if (source.compare(i, 6, "endraw") != 0)
      continue;
    i += 6;
    while (i < source.size() && isSpace(source[i]))
      ++i;
    char closeSign = i < source.size() ? source[i] : '\0';
    i += closeSign == '-' || closeSign == '+';
    if (source.compare(i, 2, "%}") != 0)
      continue;
    pushData(std::string_view(source).substr(at, open - at), openSign, false);
    advance(i + 2 - at);
    trimNewline(closeSign);
    return {};
  }
  return fail("a raw block is not closed");
}

/// Whether the tag ends here; then moves behind it.
bool Lexer::readTagEnd(bool variable) {
  if (!brackets.empty())
    return false;
  std::string_view close = variable ? "}}" : "%}";
  char sign = at < source.size() ? source[at] : '\0';
  bool hasSign = sign == '-' || (sign == '+' && !variable);
  if (!std::string_view(source).substr(at + hasSign).starts_with(close))
    return false;
  push(variable ? Token::ExprEnd : Token::BlockEnd, "");
  advance(hasSign + 2);
  if (!variable)
    trimNewline(hasSign ? sign : '\0');
  else if (hasSign)
    skipSpace();
  lineStarting = source[at - 1] == '\n';
  return true;
}

Status Lexer::readTag(bool variable) {
  push(variable ? Token::ExprBegin : Token::BlockBegin, "");
  brackets.clear();
  while (true) {
    skipSpace();
    if (at >= source.size())
      return fail(std::string("a tag is not closed with '") + (variable ? "}}" : "%}") + "'");
    if (readTagEnd(variable))
      return {};
    SMELT_TRY(readToken());
  }
}

Status Lexer::readToken() {
  char c = source[at];
  if (c == '"' || c == '\'')
    return readString();
  if (isDigit(c))
    return readNumber();
  if (isNameStart(c)) {
    size_t end = at;
    while (end < source.size() && (isNameStart(source[end]) || isDigit(source[end])))
      ++end;
    push(Token::Name, source.substr(at, end - at));
    at = end;
    return {};
  }
  for (std::string_view two : {"//", "**", "==", "!=", ">=", "<="})
    if (startsWith(two)) {
      push(Token::Operator, std::string(two));
      at += 2;
      return {};
    }
  if (std::string_view("+-/*%~[](){}><=.:|,;").find(c) == std::string_view::npos)
    return fail(std::string("unexpected character '") + c + "'");
  if (c == '(' || c == '[' || c == '{') {
    brackets += c == '(' ? ')' : c == '[' ? ']' : '}';
  } else if (c == ')' || c == ']' || c == '}') {
    if (brackets.empty() || brackets.back() != c)
      return fail(std::string("'") + c + "' closes nothing");
    brackets.pop_back();
  }
  push(Token::Operator, std::string(1, c));
  ++at;
  return {};
}

Status Lexer::readString() {
  char quote = source[at];
  size_t end = at + 1;
  while (end < source.size() && source[end] != quote)
    end += source[end] == '\\' ? 2 : 1;
  if (end >= source.size())
    return fail("a string is not closed");
  std::string text;
  SMELT_TRY(unescape(std::string_view(source).substr(at + 1, end - at - 1), text));
  push(Token::String, std::move(text));
  advance(end + 1 - at);
  return {};
}

/// Python's escapes; an unknown one stays as it is written.
Status Lexer::unescape(std::string_view text, std::string &out) const {
  static constexpr std::string_view letters = "\\'\"abfnrtv", meanings = "\\'\"\a\b\f\n\r\t\v";
  while (!text.empty()) {
    char c = text[0];
    text.remove_prefix(1);
    if (c != '\\' || text.empty()) {
      out += c;
      continue;
    }
    char letter = text[0];
    text.remove_prefix(1);
    size_t known = letters.find(letter);
    unsigned digits = letter == 'x' ? 2 : letter == 'u' ? 4 : letter == 'U' ? 8 : 0;
    if (known != letters.npos) {
      out += meanings[known];
    } else if (letter == '\n') {
      // an escaped line end is no text
    } else if (digits > 0) {
      uint32_t value = 0;
      if (text.size() < digits)
        return fail("an escape in a string is cut short");
      for (char digit : text.substr(0, digits)) {
        size_t position = std::string_view("0123456789abcdef").find(char(digit | 0x20));
        if (position == std::string_view::npos || value > 0x1000000)
          return fail("an escape in a string is not hexadecimal");
        value = value * 16 + uint32_t(position);
      }
      text.remove_prefix(digits);
      appendUtf8(out, value);
    } else if (letter >= '0' && letter <= '7') {
      uint32_t value = uint32_t(letter - '0');
      for (int i = 0; i < 2 && !text.empty() && text[0] >= '0' && text[0] <= '7'; ++i) {
        value = value * 8 + uint32_t(text[0] - '0');
        text.remove_prefix(1);
      }
      appendUtf8(out, value);
    } else {
      out += '\\';
      out += letter;
    }
  }
  return {};
}

Status Lexer::readNumber() {
  size_t end = at;
  auto digits = [&] {
    while (end < source.size() && (isDigit(source[end]) || source[end] == '_'))
      ++end;
  };
  digits();
  bool isFloat = false;
  if (end + 1 < source.size() && source[end] == '.' && isDigit(source[end + 1])) {
    isFloat = true;
    ++end;
    digits();
  }
  if (end < source.size() && (source[end] == 'e' || source[end] == 'E')) {
    size_t mark = end++;
    if (end < source.size() && (source[end] == '+' || source[end] == '-'))
      ++end;
    if (end < source.size() && isDigit(source[end])) {
      isFloat = true;
      digits();
    } else {
      end = mark;
    }
  }
  std::string text;
  for (char c : std::string_view(source).substr(at, end - at))
    if (c != '_')
      text += c;
  push(isFloat ? Token::Float : Token::Integer, std::move(text));
  at = end;
  return {};
}

} // namespace

Result<std::vector<Token>> tokenize(std::string_view source) {
  if (!isValidUtf8(source))
    return corrupt("the chat template is not UTF-8");
  // All line ends become '\n'; one at the very end is dropped.
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    bool pair = source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n';
    if (!pair)
      text += source[i] == '\r' ? '\n' : source[i];
  }
  if (text.ends_with('\n'))
    text.pop_back();
  return Lexer(std::move(text)).run();
}

} // namespace smelt::jinja
