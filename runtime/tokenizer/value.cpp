// Values of chat templates and their text forms.
#include "runtime/tokenizer/value.h"

#include "runtime/tokenizer/unicode.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace smelt {

namespace {
constexpr uint64_t nodeWeight = 4, maxWeight = uint64_t(1) << 62;
uint64_t addWeights(uint64_t a, uint64_t b) { return std::min(a + b, maxWeight); }
} // namespace

Value Value::list(std::vector<Value> items, bool tuple) {
  uint32_t depth = 0;
  uint64_t weight = nodeWeight;
  for (const Value &item : items) {
    depth = std::max(depth, item.depth());
    weight = addWeights(weight, item.weight());
  }
  Value value;
  value.held =
      std::make_shared<const ListData>(ListData{std::move(items), tuple, depth + 1, weight});
  return value;
}

Value Value::map(std::vector<Entry> entries) {
  std::vector<Entry> unique;
  uint32_t depth = 0;
  uint64_t weight = nodeWeight;
  for (Entry &entry : entries) {
    weight = addWeights(weight, addWeights(entry.first.weight(), entry.second.weight()));
    depth = std::max({depth, entry.first.depth(), entry.second.depth()});
    auto same = std::find_if(unique.begin(), unique.end(),
                             [&](const Entry &other) { return other.first == entry.first; });
    if (same == unique.end())
      unique.push_back(std::move(entry));
    else
      same->second = std::move(entry.second);
  }
  Value value;
  value.held = std::make_shared<const MapData>(MapData{std::move(unique), depth + 1, weight});
  return value;
}

int64_t Value::integer() const {
  return kind() == Kind::Boolean ? int64_t(std::get<bool>(held)) : std::get<int64_t>(held);
}

double Value::number() const {
  return kind() == Kind::Float ? std::get<double>(held) : double(integer());
}

const Value *Value::find(const Value &key) const {
  for (const Entry &entry : entries())
    if (entry.first == key)
      return &entry.second;
  return nullptr;
}

uint32_t Value::depth() const {
  if (isList())
    return std::get<6>(held)->depth;
  return isMap() ? std::get<7>(held)->depth : 0;
}

uint64_t Value::weight() const {
  if (isString())
    return nodeWeight + string().size();
  if (isList())
    return std::get<6>(held)->weight;
  return isMap() ? std::get<7>(held)->weight : nodeWeight;
}

bool Value::truthy() const {
  switch (kind()) {
  case Kind::Undefined:
  case Kind::None:
    return false;
  case Kind::Boolean:
  case Kind::Integer:
    return integer() != 0;
  case Kind::Float:
    return std::get<double>(held) != 0;
  case Kind::String:
    return !string().empty();
  case Kind::List:
    return !items().empty();
  case Kind::Map:
    return !entries().empty();
  case Kind::Object:
    return true;
  }
  return false;
}

std::string floatText(double value) {
  if (std::isnan(value))
    return "nan";
  if (std::isinf(value))
    return value < 0 ? "-inf" : "inf";
  // Shortest digits as d.ddde±xx, then laid out as Python does: exponents from -4 to 15 without an
  // e.
  char buffer[40];
  auto [end, error] =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific);
  std::string text(buffer, end);
  size_t e = text.find('e');
  int exponent = std::stoi(text.substr(e + 1));
  std::string digits = text.substr(0, e), sign;
  if (digits[0] == '-') {
    sign = "-";
    digits.erase(0, 1);
  }
  if (exponent < -4 || exponent >= 16) {
    std::string power = std::to_string(std::abs(exponent));
    return sign + digits + (exponent < 0 ? "e-" : "e+") + (power.size() < 2 ? "0" : "") + power;
  }
  digits.erase(std::remove(digits.begin(), digits.end(), '.'), digits.end());
  if (exponent < 0)
    return sign + "0." + std::string(size_t(-exponent) - 1, '0') + digits;
  if (digits.size() <= size_t(exponent) + 1)
    return sign + digits + std::string(size_t(exponent) + 1 - digits.size(), '0') + ".0";
  return sign + digits.substr(0, size_t(exponent) + 1) + "." + digits.substr(size_t(exponent) + 1);
}

namespace {

void appendHex(std::string &out, const char *prefix, uint32_t value, unsigned digits) {
  out += prefix;
  for (unsigned i = digits; i-- > 0;)
    out += "0123456789abcdef"[value >> (4 * i) & 15];
}

/// Python's repr of a string. Of the characters outside ASCII only the usual invisible ones are
/// escaped.
std::string quoted(std::string_view text) {
  bool single = text.find('\'') == text.npos || text.find('"') != text.npos;
  char quote = single ? '\'' : '"';
  std::string out(1, quote);
  for (size_t at = 0; at < text.size();) {
    size_t start = at;
    uint32_t c = nextChar(text, at);
    if (c == uint32_t(quote) || c == '\\')
      out += '\\';
    if (c == '\n')
      out += "\\n";
    else if (c == '\r')
      out += "\\r";
    else if (c == '\t')
      out += "\\t";
    else if (c < 0x20 || (c >= 0x7F && c <= 0xA0) || c == 0xAD)
      appendHex(out, "\\x", c, 2);
    else if ((isPythonSpace(c) && c != ' ') || (c >= 0x200B && c <= 0x200F) ||
             (c >= 0x202A && c <= 0x202E) || (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF ||
             (c >= 0xE000 && c < 0xF900))
      appendHex(out, "\\u", c, 4);
    else
      out += text.substr(start, at - start);
  }
  return out += quote;
}

template <typename Range, typename Write>
std::string joined(const char *open, const Range &range, const char *close, Write write) {
  std::string out = open;
  bool first = true;
  for (const auto &item : range) {
    if (!first)
      out += ", ";
    first = false;
    write(out, item);
  }
  return out += close;
}

} // namespace

std::string Value::repr() const {
  switch (kind()) {
  case Kind::Undefined:
    return "Undefined";
  case Kind::None:
    return "None";
  case Kind::Boolean:
    return std::get<bool>(held) ? "True" : "False";
  case Kind::Integer:
    return std::to_string(integer());
  case Kind::Float:
    return floatText(std::get<double>(held));
  case Kind::String:
    return quoted(string());
  case Kind::List: {
    auto write = [](std::string &out, const Value &item) { out += item.repr(); };
    if (!isTuple())
      return joined("[", items(), "]", write);
    return joined("(", items(), items().size() == 1 ? ",)" : ")", write);
  }
  case Kind::Map:
    return joined("{", entries(), "}", [](std::string &out, const Entry &entry) {
      out += entry.first.repr() + ": " + entry.second.repr();
    });
  case Kind::Object:
    return "<object>";
  }
  return {};
}

std::string describeValue(const Value &value) {
  if (value.isList())
    return value.isTuple() ? "a tuple" : "a list";
  if (value.isMap())
    return "a map";
  if (value.kind() == Value::Kind::Object)
    return "a function, loop or namespace";
  if (!value.isString())
    return value.repr();
  const std::string &text = value.string();
  size_t end = std::min<size_t>(text.size(), 40);
  while (end < text.size() && end > 0 && (uint8_t(text[end]) & 0xC0) == 0x80)
    --end;
  return "'" + text.substr(0, end) + (end < text.size() ? "...'" : "'");
}

std::string Value::str() const {
  if (isUndefined())
    return {};
  return isString() ? string() : repr();
}

bool operator==(const Value &left, const Value &right) {
  using Kind = Value::Kind;
  if (left.isNumber() && right.isNumber()) {
    if (left.isInteger() && right.isInteger())
      return left.integer() == right.integer();
    return left.number() == right.number();
  }
  if (left.kind() != right.kind())
    return false;
  switch (left.kind()) {
  case Kind::String:
    return left.string() == right.string();
  case Kind::List:
    return left.isTuple() == right.isTuple() && left.items() == right.items();
  case Kind::Map: {
    if (left.entries().size() != right.entries().size())
      return false;
    for (const Value::Entry &entry : left.entries()) {
      const Value *other = right.find(entry.first);
      if (!other || !(*other == entry.second))
        return false;
    }
    return true;
  }
  case Kind::Object:
    return left.object() == right.object();
  default:
    return true;
  }
}

bool Value::order(const Value &left, const Value &right, int &result) {
  auto three = [](const auto &a, const auto &b) { return a < b ? -1 : b < a ? 1 : 0; };
  if (left.isNumber() && right.isNumber()) {
    result = left.isInteger() && right.isInteger() ? three(left.integer(), right.integer())
                                                   : three(left.number(), right.number());
    return true;
  }
  if (left.isString() && right.isString()) { // UTF-8 orders as its code points do
    int compared = left.string().compare(right.string());
    result = compared < 0 ? -1 : compared > 0;
    return true;
  }
  if (!left.isList() || !right.isList() || left.isTuple() != right.isTuple())
    return false;
  size_t common = std::min(left.items().size(), right.items().size());
  for (size_t i = 0; i < common; ++i)
    if (!(left.items()[i] == right.items()[i]))
      return order(left.items()[i], right.items()[i], result);
  result = three(left.items().size(), right.items().size());
  return true;
}

namespace {

void jsonString(std::string_view text, bool asciiOnly, std::string &out) {
  out += '"';
  for (size_t at = 0; at < text.size();) {
    size_t start = at;
    uint32_t c = nextChar(text, at);
    switch (c) {
    case '"':
      out += "\\\"";
      break;
    case '\\':
      out += "\\\\";
      break;
    case '\n':
      out += "\\n";
      break;
    case '\r':
      out += "\\r";
      break;
    case '\t':
      out += "\\t";
      break;
    case '\f':
      out += "\\f";
      break;
    case '\b':
      out += "\\b";
      break;
    default:
      if (asciiOnly && c > 0xFFFF) {
        appendHex(out, "\\u", 0xD800 + ((c - 0x10000) >> 10), 4);
        appendHex(out, "\\u", 0xDC00 + ((c - 0x10000) & 0x3FF), 4);
      } else if (c < 0x20 || (asciiOnly && c > 0x7E)) {
        appendHex(out, "\\u", c, 4);
      } else {
        out += text.substr(start, at - start);
      }
    }
  }
  out += '"';
}

std::string jsonNumber(double value) {
  if (std::isnan(value))
    return "NaN";
  if (std::isinf(value))
    return value < 0 ? "-Infinity" : "Infinity";
  return floatText(value);
}

bool writeJson(const Value &value, const JsonOptions &options, unsigned level, std::string &out) {
  using Kind = Value::Kind;
  auto newLine = [&](unsigned depth) {
    if (options.indent >= 0)
      out += '\n' + std::string(size_t(options.indent) * depth, ' ');
  };
  switch (value.kind()) {
  case Kind::None:
    out += "null";
    return true;
  case Kind::Boolean:
    out += value.boolean() ? "true" : "false";
    return true;
  case Kind::Integer:
    out += std::to_string(value.integer());
    return true;
  case Kind::Float:
    out += jsonNumber(value.number());
    return true;
  case Kind::String:
    jsonString(value.string(), options.asciiOnly, out);
    return true;
  case Kind::List: {
    out += '[';
    bool first = true;
    for (const Value &item : value.items()) {
      if (!first)
        out += options.itemSeparator;
      first = false;
      newLine(level + 1);
      if (!writeJson(item, options, level + 1, out))
        return false;
    }
    if (!first)
      newLine(level);
    out += ']';
    return true;
  }
  case Kind::Map: {
    std::vector<Value::Entry> entries = value.entries();
    if (options.sortKeys)
      std::sort(entries.begin(), entries.end(), [](const auto &a, const auto &b) {
        int result = 0;
        return Value::order(a.first, b.first, result) && result < 0;
      });
    out += '{';
    bool first = true;
    for (const auto &[key, item] : entries) {
      if (!first)
        out += options.itemSeparator;
      first = false;
      newLine(level + 1);
      std::string name;
      if (key.isString())
        name = key.string();
      else if (key.depth() > 0 || !writeJson(key, options, 0, name))
        return false;
      jsonString(name, options.asciiOnly, out);
      out += options.keySeparator;
      if (!writeJson(item, options, level + 1, out))
        return false;
    }
    if (!first)
      newLine(level);
    out += '}';
    return true;
  }
  default:
    return false;
  }
}

} // namespace

bool toJson(const Value &value, const JsonOptions &options, std::string &out) {
  JsonOptions filled = options;
  if (filled.itemSeparator.empty())
    filled.itemSeparator = options.indent >= 0 ? "," : ", ";
  if (filled.keySeparator.empty())
    filled.keySeparator = ": ";
  return writeJson(value, filled, 0, out);
}

size_t textLength(std::string_view text) {
  size_t count = 0;
  for (char byte : text)
    count += (uint8_t(byte) & 0xC0) != 0x80;
  return count;
}

bool isPythonSpace(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

std::string_view stripText(std::string_view text, std::string_view chars, bool left, bool right) {
  auto goes = [&](uint32_t c) {
    if (chars.empty())
      return isPythonSpace(c);
    for (size_t at = 0; at < chars.size();)
      if (nextChar(chars, at) == c)
        return true;
    return false;
  };
  while (left && !text.empty()) {
    size_t next = 0;
    if (!goes(nextChar(text, next)))
      break;
    text.remove_prefix(next);
  }
  while (right && !text.empty()) {
    size_t last = previousChar(text, text.size()), at = last;
    if (!goes(nextChar(text, at)))
      break;
    text = text.substr(0, last);
  }
  return text;
}

uint32_t upperCase(uint32_t c) {
  if ((c >= 'a' && c <= 'z') || (c >= 0xE0 && c <= 0xFE && c != 0xF7) ||
      (c >= 0x3B1 && c <= 0x3C9 && c != 0x3C2) || (c >= 0x430 && c <= 0x44F))
    return c - 32;
  return c >= 0x450 && c <= 0x45F ? c - 80 : c;
}

uint32_t lowerCase(uint32_t c) {
  if ((c >= 'A' && c <= 'Z') || (c >= 0xC0 && c <= 0xDE && c != 0xD7) ||
      (c >= 0x391 && c <= 0x3A9 && c != 0x3A2) || (c >= 0x410 && c <= 0x42F))
    return c + 32;
  return c >= 0x400 && c <= 0x40F ? c + 80 : c;
}

std::string mapCase(std::string_view text, uint32_t (*map)(uint32_t)) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();)
    appendUtf8(out, map(nextChar(text, at)));
  return out;
}

} // namespace smelt
