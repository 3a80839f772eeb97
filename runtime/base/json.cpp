// JSON by RFC 8259: recursive descent with a depth limit, and the writer.
#include "runtime/base/json.h"

#include <charconv>
#include <cmath>
#include <cstdio>

namespace smelt {

namespace {

constexpr int deepest = 64;

class Parser {
public:
  explicit Parser(std::string_view text) : text(text) {}

  Result<Json> document() {
    SMELT_ASSIGN(Json value, parseValue(0));
    skipSpace();
    if (at != text.size())
      return failure("something follows the value");
    return value;
  }

private:
  Status failure(const char *what) const {
    return corrupt(std::string("JSON: ") + what + " at byte " + std::to_string(at));
  }
  void skipSpace() {
    while (at < text.size() &&
           (text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r'))
      ++at;
  }
  bool take(char c) {
    skipSpace();
    if (at >= text.size() || text[at] != c)
      return false;
    ++at;
    return true;
  }
  bool takeWord(std::string_view word) {
    if (text.substr(at, word.size()) != word)
      return false;
    at += word.size();
    return true;
  }

  Result<Json> parseValue(int depth) {
    skipSpace();
    if (at == text.size())
      return failure("a value is missing");
    if (depth > deepest)
      return failure("too many levels");
    switch (text[at]) {
    case '{':
      return parseObject(depth);
    case '[':
      return parseArray(depth);
    case '"': {
      SMELT_ASSIGN(std::string value, parseString());
      return Json(std::move(value));
    }
    case 't':
      if (takeWord("true"))
        return Json(true);
      break;
    case 'f':
      if (takeWord("false"))
        return Json(false);
      break;
    case 'n':
      if (takeWord("null"))
        return Json();
      break;
    default:
      return parseNumber();
    }
    return failure("unknown word");
  }

  Result<Json> parseNumber() {
    const char *begin = text.data() + at, *end = text.data() + text.size();
    if (*begin == '+' || (*begin != '-' && (*begin < '0' || *begin > '9')))
      return failure("unexpected character");
    int64_t whole = 0;
    auto [wholeEnd, wholeError] = std::from_chars(begin, end, whole);
    double real = 0;
    auto [realEnd, realError] = std::from_chars(begin, end, real);
    if (realError != std::errc() || !std::isfinite(real))
      return failure("a number that cannot be read");
    at += size_t(realEnd - begin);
    return wholeError == std::errc() && wholeEnd == realEnd ? Json(whole) : Json(real);
  }

  bool parseHex(uint32_t &unit) {
    if (text.size() - at < 4)
      return false;
    auto [end, error] = std::from_chars(text.data() + at, text.data() + at + 4, unit, 16);
    if (error != std::errc() || end != text.data() + at + 4)
      return false;
    at += 4;
    return true;
  }

  static void appendUtf8(std::string &out, uint32_t c) {
    if (c < 0x80) {
      out += char(c);
      return;
    }
    int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    out += char((0xff00 >> (more + 1) & 0xff) | c >> 6 * more);
    while (more-- > 0)
      out += char(0x80 | (c >> 6 * more & 0x3f));
  }

  Result<std::string> parseString() {
    std::string out;
    ++at;
    while (at < text.size() && text[at] != '"') {
      char c = text[at++];
      if (uint8_t(c) < 0x20)
        return failure("a control character in a string");
      if (c != '\\') {
        out += c;
        continue;
      }
      if (at == text.size())
        break;
      constexpr std::string_view escapes = "\"\\/bfnrt", images = "\"\\/\b\f\n\r\t";
      char escape = text[at++];
      if (size_t index = escapes.find(escape); index != escapes.npos) {
        out += images[index];
        continue;
      }
      uint32_t unit = 0, low = 0;
      if (escape != 'u' || !parseHex(unit))
        return failure("an unknown escape");
      if (unit >= 0xd800 && unit < 0xdc00 && takeWord("\\u") && parseHex(low) && low >= 0xdc00 &&
          low < 0xe000)
        unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
      appendUtf8(out, unit >= 0xd800 && unit < 0xe000 ? 0xfffd : unit);
    }
    if (at >= text.size())
      return failure("a string that does not end");
    ++at;
    return out;
  }

  Result<Json> parseArray(int depth) {
    Json::Array items;
    ++at;
    if (take(']'))
      return Json(std::move(items));
    do {
      SMELT_ASSIGN(Json item, parseValue(depth + 1));
      items.push_back(std::move(item));
    } while (take(','));
    if (!take(']'))
      return failure("expected ',' or ']'");
    return Json(std::move(items));
  }

  Result<Json> parseObject(int depth) {
    Json::Object members;
    ++at;
    if (take('}'))
      return Json(std::move(members));
    do {
      skipSpace();
      if (at == text.size() || text[at] != '"')
        return failure("expected a key");
      SMELT_ASSIGN(std::string key, parseString());
      if (!take(':'))
        return failure("expected ':'");
      SMELT_ASSIGN(Json value, parseValue(depth + 1));
      members.emplace_back(std::move(key), std::move(value));
    } while (take(','));
    if (!take('}'))
      return failure("expected ',' or '}'");
    return Json(std::move(members));
  }

  std::string_view text;
  size_t at = 0;
};

void writeString(std::string &out, const std::string &text) {
  out += '"';
  for (char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (uint8_t(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", unsigned(c));
      out += escape;
    } else {
      out += c;
    }
  }
  out += '"';
}

template <typename T> void writeNumber(std::string &out, T value) {
  char digits[40];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

} // namespace

Result<Json> Json::parse(std::string_view text) { return Parser(text).document(); }

double Json::number(double fallback) const {
  if (const int64_t *whole = std::get_if<int64_t>(&held))
    return double(*whole);
  const double *real = std::get_if<double>(&held);
  return real ? *real : fallback;
}

const Json *Json::find(std::string_view key) const {
  if (const Object *members = object())
    for (const auto &[name, value] : *members)
      if (name == key)
        return &value;
  return nullptr;
}

void Json::set(std::string key, Json value) {
  if (!object())
    held = Object();
  std::get<Object>(held).emplace_back(std::move(key), std::move(value));
}

std::string Json::dump(int indent) const {
  std::string out;
  write(out, indent, 0);
  return out;
}

void Json::write(std::string &out, int indent, int level) const {
  auto newLine = [&](int depth) {
    if (indent != 0) {
      out += '\n';
      out.append(size_t(indent) * size_t(depth), ' ');
    }
  };
  bool first = true;
  if (const Object *members = object()) {
    out += '{';
    for (const auto &[key, value] : *members) {
      out += first ? "" : indent != 0 ? "," : ", ";
      first = false;
      newLine(level + 1);
      writeString(out, key);
      out += ": ";
      value.write(out, indent, level + 1);
    }
    if (!first)
      newLine(level);
    out += '}';
  } else if (const Array *items = array()) {
    out += '[';
    for (const Json &item : *items) {
      out += first ? "" : indent != 0 ? "," : ", ";
      first = false;
      newLine(level + 1);
      item.write(out, indent, level + 1);
    }
    if (!first)
      newLine(level);
    out += ']';
  } else if (const std::string *text = string()) {
    writeString(out, *text);
  } else if (const bool *truth = std::get_if<bool>(&held)) {
    out += *truth ? "true" : "false";
  } else if (const int64_t *whole = std::get_if<int64_t>(&held)) {
    writeNumber(out, *whole);
  } else if (const double *real = std::get_if<double>(&held); real && std::isfinite(*real)) {
    writeNumber(out, *real);
  } else {
    out += "null";
  }
}

} // namespace smelt
