// Methods of texts, lists, maps and loops, and the functions that chat templates call.
#include "runtime/tokenizer/template_eval.h"
#include "runtime/tokenizer/unicode.h"

#include <algorithm>
#include <ctime>

namespace smelt::jinja {

namespace {

struct NamedBuiltin {
  std::string_view name;
  Builtin function;
};

/// The text argument at `index`; fails when it is another type. Absent or None: null.
const std::string *textArgument(Evaluator &e, const Arguments &a, size_t index,
                                std::string_view name) {
  const Value *value = a.get(index, name);
  if (!value || value->isNone())
    return nullptr;
  if (!value->isString()) {
    e.fail("argument '" + std::string(name) + "' must be a text, found " + describeValue(*value));
    return nullptr;
  }
  return &value->string();
}

int64_t integerArgument(Evaluator &e, const Arguments &a, size_t index, std::string_view name,
                        int64_t fallback) {
  const Value *value = a.get(index, name);
  if (!value)
    return fallback;
  if (!value->isInteger()) {
    e.fail("argument '" + std::string(name) + "' must be a whole number, found " +
           describeValue(*value));
    return fallback;
  }
  return value->integer();
}

Value strip(Evaluator &e, const Value &self, const Arguments &a, bool left, bool right) {
  e.accept(a, "strip", {"chars"});
  const std::string *chars = textArgument(e, a, 0, "chars");
  return e.text(std::string(stripText(self.string(), chars ? *chars : "", left, right)));
}
Value stringStrip(Evaluator &e, const Value &self, const Arguments &a) {
  return strip(e, self, a, true, true);
}
Value stringLstrip(Evaluator &e, const Value &self, const Arguments &a) {
  return strip(e, self, a, true, false);
}
Value stringRstrip(Evaluator &e, const Value &self, const Arguments &a) {
  return strip(e, self, a, false, true);
}

/// Python's split() without a separator: words between runs of white space.
std::vector<std::string_view> splitWords(std::string_view text, int64_t most, bool fromRight) {
  std::vector<std::string_view> parts;
  text = stripText(text, {}, !fromRight, fromRight);
  while (!text.empty()) {
    if (most >= 0 && int64_t(parts.size()) == most) {
      parts.push_back(stripText(text, {}, fromRight, !fromRight));
      if (parts.back().empty())
        parts.pop_back();
      break;
    }
    size_t cut = fromRight ? text.size() : 0;
    while (fromRight ? cut > 0 : cut < text.size()) {
      size_t next = fromRight ? previousChar(text, cut) : cut, at = next;
      uint32_t c = nextChar(text, at);
      if (isPythonSpace(c))
        break;
      cut = fromRight ? next : at;
    }
    if (fromRight ? cut < text.size() : cut > 0)
      parts.push_back(fromRight ? text.substr(cut) : text.substr(0, cut));
    text = fromRight ? text.substr(0, cut) : text.substr(cut);
    text = stripText(text, {}, !fromRight, fromRight);
  }
  return parts;
}

Value split(Evaluator &e, const Value &self, const Arguments &a, bool fromRight) {
  if (!e.accept(a, "split", {"sep", "maxsplit"}) || !e.step(self.string().size() / 8))
    return {};
  const std::string *separator = textArgument(e, a, 0, "sep");
  int64_t most = integerArgument(e, a, 1, "maxsplit", -1);
  std::string_view text = self.string();
  std::vector<std::string_view> parts;
  if (separator && separator->empty())
    return e.fail("'split' with an empty separator");
  if (!separator) {
    parts = splitWords(text, most, fromRight);
  } else {
    while (most < 0 || int64_t(parts.size()) < most) {
      size_t found = fromRight ? text.rfind(*separator) : text.find(*separator);
      if (found == text.npos)
        break;
      size_t after = found + separator->size();
      parts.push_back(fromRight ? text.substr(after) : text.substr(0, found));
      text = fromRight ? text.substr(0, found) : text.substr(after);
    }
    parts.push_back(text);
  }
  if (fromRight)
    std::reverse(parts.begin(), parts.end());
  std::vector<Value> items;
  for (std::string_view part : parts)
    items.push_back(e.text(std::string(part)));
  return e.list(std::move(items));
}
Value stringSplit(Evaluator &e, const Value &self, const Arguments &a) {
  return split(e, self, a, false);
}
Value stringRsplit(Evaluator &e, const Value &self, const Arguments &a) {
  return split(e, self, a, true);
}

bool endsLine(uint32_t c) {
  return (c >= '\n' && c <= '\r') || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

Value stringSplitlines(Evaluator &e, const Value &self, const Arguments &a) {
  if (!e.accept(a, "splitlines", {"keepends"}) || !e.step(self.string().size() / 8))
    return {};
  bool keep = a.get(0, "keepends") && a.get(0, "keepends")->truthy();
  std::string_view text = self.string();
  std::vector<Value> lines;
  for (size_t start = 0, at = 0; at < text.size();) {
    size_t before = at;
    uint32_t c = nextChar(text, at);
    if (endsLine(c)) {
      if (c == '\r' && at < text.size() && text[at] == '\n')
        ++at;
      lines.push_back(e.text(std::string(text.substr(start, (keep ? at : before) - start))));
      start = at;
    } else if (at == text.size()) {
      lines.push_back(e.text(std::string(text.substr(start))));
    }
  }
  return e.list(std::move(lines));
}

Value stringReplace(Evaluator &e, const Value &self, const Arguments &a) {
  if (!e.accept(a, "replace", {"old", "new", "count"}))
    return {};
  const std::string *from = textArgument(e, a, 0, "old"), *to = textArgument(e, a, 1, "new");
  int64_t most = integerArgument(e, a, 2, "count", -1);
  if (e.failed() || !from || !to)
    return e.fail("'replace' needs the text to find and the text to put there");
  const std::string &text = self.string();
  if (!e.step(text.size() / 8 + (from->empty() ? text.size() * to->size() / 8 : 0)))
    return {};
  std::string out;
  size_t at = 0;
  int64_t count = 0;
  while (most < 0 || count < most) {
    size_t found = text.find(*from, at);
    if (found == text.npos || (from->empty() && at == text.size()))
      break;
    if (!e.step(to->size() / 16))
      return {};
    out.append(text, at, found - at);
    out += *to;
    at = found + from->size();
    ++count;
    if (from->empty()) { // between all characters
      size_t next = at;
      nextChar(text, next);
      out.append(text, at, next - at);
      at = next;
    }
  }
  if (from->empty() && at == text.size() && (most < 0 || count < most))
    out += *to;
  out.append(text, at);
  return e.text(std::move(out));
}

Value stringUpper(Evaluator &e, const Value &self, const Arguments &a) {
  e.accept(a, "upper", {});
  return e.text(mapCase(self.string(), upperCase));
}
Value stringLower(Evaluator &e, const Value &self, const Arguments &a) {
  e.accept(a, "lower", {});
  return e.text(mapCase(self.string(), lowerCase));
}
Value stringCapitalize(Evaluator &e, const Value &self, const Arguments &a) {
  return e.filter("capitalize", self, a);
}

/// Python's title(): upper case for each letter after what is no letter.
Value stringTitle(Evaluator &e, const Value &self, const Arguments &a) {
  e.accept(a, "title", {});
  std::string out;
  bool start = true;
  for (size_t at = 0; at < self.string().size();) {
    uint32_t c = nextChar(self.string(), at);
    appendUtf8(out, start ? upperCase(c) : lowerCase(c));
    start = upperCase(c) == lowerCase(c);
  }
  return e.text(std::move(out));
}

Value affix(Evaluator &e, const Value &self, const Arguments &a, bool atEnd) {
  if (!e.accept(a, "startswith and endswith", {"prefix"}) || a.positional.empty())
    return e.fail("'startswith' and 'endswith' need a text");
  const Value &wanted = a.positional[0];
  std::vector<Value> options = wanted.isTuple() ? wanted.items() : std::vector<Value>{wanted};
  for (const Value &option : options) {
    if (!option.isString())
      return e.fail("'startswith' and 'endswith' need a text, found " + describeValue(option));
    if (atEnd ? self.string().ends_with(option.string())
              : self.string().starts_with(option.string()))
      return Value(true);
  }
  return Value(false);
}
Value stringStartsWith(Evaluator &e, const Value &self, const Arguments &a) {
  return affix(e, self, a, false);
}
Value stringEndsWith(Evaluator &e, const Value &self, const Arguments &a) {
  return affix(e, self, a, true);
}

Value removeAffix(Evaluator &e, const Value &self, const Arguments &a, bool atEnd) {
  e.accept(a, "removeprefix and removesuffix", {"affix"});
  const std::string *affix = textArgument(e, a, 0, "affix");
  if (!affix)
    return e.fail("'removeprefix' and 'removesuffix' need a text");
  std::string_view text = self.string();
  if (!atEnd && text.starts_with(*affix))
    text.remove_prefix(affix->size());
  else if (atEnd && text.ends_with(*affix))
    text.remove_suffix(affix->size());
  return e.text(std::string(text));
}
Value stringRemovePrefix(Evaluator &e, const Value &self, const Arguments &a) {
  return removeAffix(e, self, a, false);
}
Value stringRemoveSuffix(Evaluator &e, const Value &self, const Arguments &a) {
  return removeAffix(e, self, a, true);
}

/// The index in characters of a text found in another, or -1.
int64_t position(Evaluator &e, const Value &self, const Arguments &a, bool last) {
  e.accept(a, "find", {"sub"});
  const std::string *wanted = textArgument(e, a, 0, "sub");
  if (!wanted || !e.step(self.string().size() / 16)) {
    e.fail("'find' and 'index' need a text");
    return -1;
  }
  size_t found = last ? self.string().rfind(*wanted) : self.string().find(*wanted);
  return found == std::string::npos
             ? -1
             : int64_t(textLength(std::string_view(self.string()).substr(0, found)));
}
Value stringFind(Evaluator &e, const Value &self, const Arguments &a) {
  return Value(position(e, self, a, false));
}
Value stringRfind(Evaluator &e, const Value &self, const Arguments &a) {
  return Value(position(e, self, a, true));
}
Value stringIndex(Evaluator &e, const Value &self, const Arguments &a) {
  int64_t index = position(e, self, a, false);
  return index < 0 ? e.fail("'index' does not find the text") : Value(index);
}

Value stringCount(Evaluator &e, const Value &self, const Arguments &a) {
  e.accept(a, "count", {"sub"});
  const std::string *wanted = textArgument(e, a, 0, "sub");
  if (!wanted || !e.step(self.string().size() / 8))
    return e.fail("'count' needs a text");
  if (wanted->empty())
    return Value(int64_t(textLength(self.string())) + 1);
  int64_t count = 0;
  for (size_t at = 0; (at = self.string().find(*wanted, at)) != std::string::npos;
       at += wanted->size())
    ++count;
  return Value(count);
}

Value stringJoin(Evaluator &e, const Value &self, const Arguments &a) {
  if (!e.accept(a, "join", {"iterable"}) || a.positional.empty())
    return e.fail("'join' needs a list");
  for (const Value &item : e.iterate(a.positional[0]))
    if (!item.isString())
      return e.fail("'join' needs texts, found " + describeValue(item));
  return e.filter("join", a.positional[0], {{self}, {}});
}

Value partition(Evaluator &e, const Value &self, const Arguments &a, bool last) {
  e.accept(a, "partition", {"sep"});
  const std::string *separator = textArgument(e, a, 0, "sep");
  if (!separator || separator->empty() || !e.step(self.string().size() / 16))
    return e.fail("'partition' needs a text that is not empty");
  const std::string &text = self.string();
  size_t found = last ? text.rfind(*separator) : text.find(*separator);
  if (found == text.npos)
    return last ? e.list({Value(""), Value(""), self}, true)
                : e.list({self, Value(""), Value("")}, true);
  return e.list({e.text(text.substr(0, found)), Value(*separator),
                 e.text(text.substr(found + separator->size()))},
                true);
}
Value stringPartition(Evaluator &e, const Value &self, const Arguments &a) {
  return partition(e, self, a, false);
}
Value stringRpartition(Evaluator &e, const Value &self, const Arguments &a) {
  return partition(e, self, a, true);
}

/// isdigit() and its like, of ASCII and the letters whose case is known.
Value allCharacters(Evaluator &e, const Value &self, bool (*holds)(uint32_t)) {
  const std::string &text = self.string();
  if (!e.step(text.size() / 8))
    return {};
  bool all = !text.empty();
  for (size_t at = 0; at < text.size() && all;)
    all = holds(nextChar(text, at));
  return Value(all);
}
bool isDigit(uint32_t c) { return c >= '0' && c <= '9'; }
bool isLetter(uint32_t c) { return upperCase(c) != lowerCase(c); }
Value stringIsDigit(Evaluator &e, const Value &self, const Arguments &) {
  return allCharacters(e, self, isDigit);
}
Value stringIsAlpha(Evaluator &e, const Value &self, const Arguments &) {
  return allCharacters(e, self, isLetter);
}
Value stringIsAlnum(Evaluator &e, const Value &self, const Arguments &) {
  return allCharacters(e, self, [](uint32_t c) { return isDigit(c) || isLetter(c); });
}
Value stringIsSpace(Evaluator &e, const Value &self, const Arguments &) {
  return allCharacters(e, self, isPythonSpace);
}
Value stringIsUpper(Evaluator &e, const Value &self, const Arguments &) {
  return Value(e.test("upper", self, {}));
}
Value stringIsLower(Evaluator &e, const Value &self, const Arguments &) {
  return Value(e.test("lower", self, {}));
}

constexpr NamedBuiltin stringMethods[] = {
    {"strip", stringStrip},
    {"lstrip", stringLstrip},
    {"rstrip", stringRstrip},
    {"split", stringSplit},
    {"rsplit", stringRsplit},
    {"splitlines", stringSplitlines},
    {"replace", stringReplace},
    {"upper", stringUpper},
    {"lower", stringLower},
    {"capitalize", stringCapitalize},
    {"title", stringTitle},
    {"startswith", stringStartsWith},
    {"endswith", stringEndsWith},
    {"removeprefix", stringRemovePrefix},
    {"removesuffix", stringRemoveSuffix},
    {"find", stringFind},
    {"rfind", stringRfind},
    {"index", stringIndex},
    {"count", stringCount},
    {"join", stringJoin},
    {"partition", stringPartition},
    {"rpartition", stringRpartition},
    {"isdigit", stringIsDigit},
    {"isnumeric", stringIsDigit},
    {"isdecimal", stringIsDigit},
    {"isalpha", stringIsAlpha},
    {"isalnum", stringIsAlnum},
    {"isspace", stringIsSpace},
    {"isupper", stringIsUpper},
    {"islower", stringIsLower},
};

/// Hugging Face renders in a sandbox that lets templates change nothing but namespaces.
Value refuseChange(Evaluator &e, const Value &, const Arguments &) {
  return e.fail("lists and maps can not be changed; use a namespace, or '+' for a new list");
}

Value listIndex(Evaluator &e, const Value &self, const Arguments &a) {
  if (!e.accept(a, "index", {"value"}) || a.positional.empty())
    return e.fail("'index' needs a value");
  for (size_t i = 0; i < self.items().size() && !e.failed(); ++i)
    if (e.compare("==", self.items()[i], a.positional[0]))
      return Value(int64_t(i));
  return e.fail("'index' does not find the value");
}
Value listCount(Evaluator &e, const Value &self, const Arguments &a) {
  if (!e.accept(a, "count", {"value"}) || a.positional.empty())
    return e.fail("'count' needs a value");
  int64_t count = 0;
  for (const Value &item : self.items())
    count += !e.failed() && e.compare("==", item, a.positional[0]);
  return Value(count);
}
Value copyValue(Evaluator &e, const Value &self, const Arguments &a) {
  e.accept(a, "copy", {});
  return self;
}

constexpr NamedBuiltin listMethods[] = {
    {"index", listIndex},     {"count", listCount},     {"copy", copyValue},
    {"append", refuseChange}, {"extend", refuseChange}, {"insert", refuseChange},
    {"pop", refuseChange},    {"remove", refuseChange}, {"reverse", refuseChange},
    {"sort", refuseChange},   {"clear", refuseChange},
};

Value mapItems(Evaluator &e, const Value &self, const Arguments &a) {
  e.accept(a, "items", {});
  std::vector<Value> items;
  for (const auto &[key, value] : self.entries())
    items.push_back(e.list({key, value}, /*tuple=*/true));
  return e.list(std::move(items));
}
Value mapKeys(Evaluator &e, const Value &self, const Arguments &a) {
  e.accept(a, "keys", {});
  return e.list(e.iterate(self));
}
Value mapValues(Evaluator &e, const Value &self, const Arguments &a) {
  e.accept(a, "values", {});
  std::vector<Value> values;
  for (const auto &[key, value] : self.entries())
    values.push_back(value);
  return e.list(std::move(values));
}
Value mapGet(Evaluator &e, const Value &self, const Arguments &a) {
  if (!e.accept(a, "get", {"key", "default"}) || a.positional.empty() ||
      !e.step(self.entries().size() / 8))
    return e.fail("'get' needs a key");
  const Value *value = self.find(a.positional[0]);
  const Value *fallback = a.get(1, "default");
  return value ? *value : fallback ? *fallback : Value(nullptr);
}

constexpr NamedBuiltin mapMethods[] = {
    {"items", mapItems},      {"keys", mapKeys},
    {"values", mapValues},    {"get", mapGet},
    {"copy", copyValue},      {"pop", refuseChange},
    {"update", refuseChange}, {"setdefault", refuseChange},
    {"clear", refuseChange},  {"popitem", refuseChange},
};

Value loopCycle(Evaluator &e, const Value &self, const Arguments &a) {
  if (a.positional.empty())
    return e.fail("'cycle' needs values");
  return a.positional[static_cast<Loop &>(*self.object()).index % a.positional.size()];
}
Value loopChanged(Evaluator &e, const Value &self, const Arguments &a) {
  auto &loop = static_cast<Loop &>(*self.object());
  Value now = e.list(a.positional, /*tuple=*/true);
  bool same = loop.lastChanged && e.compare("==", *loop.lastChanged, now);
  loop.lastChanged = now;
  return Value(!same);
}
constexpr NamedBuiltin loopMethods[] = {{"cycle", loopCycle}, {"changed", loopChanged}};

template <size_t count> Builtin findIn(const NamedBuiltin (&table)[count], std::string_view name) {
  for (const NamedBuiltin &entry : table)
    if (entry.name == name)
      return entry.function;
  return nullptr;
}

Value globalNamespace(Evaluator &e, const Value &, const Arguments &a) {
  auto space = std::make_shared<Namespace>();
  for (const Value &map : a.positional) {
    if (!map.isMap())
      return e.fail("'namespace' needs maps or named values");
    for (const auto &[key, value] : map.entries())
      space->attributes.emplace_back(key.str(), value);
  }
  for (const auto &[name, value] : a.named) {
    if (Value *known = space->find(name))
      *known = value;
    else
      space->attributes.emplace_back(name, value);
  }
  e.registerNamespace(space);
  return Value(std::shared_ptr<Value::Object>(std::move(space)));
}

Value globalDict(Evaluator &e, const Value &, const Arguments &a) {
  std::vector<Value::Entry> entries;
  for (const Value &source : a.positional) {
    if (source.isMap()) {
      entries.insert(entries.end(), source.entries().begin(), source.entries().end());
      continue;
    }
    for (const Value &pair : e.iterate(source)) {
      if (!pair.isList() || pair.items().size() != 2)
        return e.fail("'dict' needs maps, pairs or named values");
      entries.emplace_back(pair.items()[0], pair.items()[1]);
    }
  }
  for (const auto &[name, value] : a.named)
    entries.emplace_back(Value(name), value);
  return e.map(std::move(entries));
}

Value globalRange(Evaluator &e, const Value &, const Arguments &a) {
  constexpr int64_t most = 100000; // as in jinja2's sandbox
  if (!e.accept(a, "range", {"start", "stop", "step"}) || a.positional.empty())
    return e.fail("'range' needs one to three whole numbers");
  int64_t first = integerArgument(e, a, 0, "start", 0), start = 0, stop = first;
  if (a.positional.size() > 1) {
    start = first;
    stop = integerArgument(e, a, 1, "stop", 0);
  }
  int64_t step = integerArgument(e, a, 2, "step", 1);
  if (step == 0)
    return e.fail("'range' with step 0");
  std::vector<Value> items;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    items.emplace_back(i);
    if (int64_t(items.size()) > most)
      return e.fail("'range' has more than 100000 numbers", StatusCode::Exhausted);
    if (__builtin_add_overflow(i, step, &i))
      break;
  }
  return e.list(std::move(items));
}

Value globalRaise(Evaluator &e, const Value &, const Arguments &a) {
  return e.fail("the template refuses the conversation: " +
                (a.positional.empty() ? std::string() : e.print(a.positional[0])));
}

Value globalStrftime(Evaluator &e, const Value &, const Arguments &a) {
  const std::string *format = textArgument(e, a, 0, "format");
  if (!format || format->size() > 1000)
    return e.fail("'strftime_now' needs a format of at most 1000 bytes");
  if (format->empty())
    return Value("");
  std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::string text(20000, '\0');
  text.resize(std::strftime(text.data(), text.size(), format->c_str(), &local));
  return e.text(std::move(text));
}

constexpr NamedBuiltin globals[] = {{"namespace", globalNamespace},
                                    {"dict", globalDict},
                                    {"range", globalRange},
                                    {"raise_exception", globalRaise},
                                    {"strftime_now", globalStrftime}};

} // namespace

Builtin findMethod(const Value &object, std::string_view name) {
  if (object.isString())
    return findIn(stringMethods, name);
  if (object.isList())
    return findIn(listMethods, name);
  if (object.isMap())
    return findIn(mapMethods, name);
  if (object.kind() == Value::Kind::Object && dynamic_cast<Loop *>(object.object().get()))
    return findIn(loopMethods, name);
  return nullptr;
}

Builtin findGlobal(std::string_view name) { return findIn(globals, name); }

} // namespace smelt::jinja
