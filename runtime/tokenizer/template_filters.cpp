// Filters and tests of chat templates. Semantics: jinja2 3.1; `tojson` as Hugging Face redefines
// it.
#include "runtime/tokenizer/template_eval.h"
#include "runtime/tokenizer/unicode.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace smelt::jinja {

namespace {

struct NamedFilter {
  std::string_view name;
  Builtin function;
};

const Value &orUndefined(const Value *value) {
  static const Value undefined;
  return value ? *value : undefined;
}

Value filterLength(Evaluator &e, const Value &self, const Arguments &a) {
  e.accept(a, "length", {});
  if (self.isUndefined())
    return Value(0);
  if (self.isString())
    return Value(int64_t(textLength(self.string())));
  if (self.isList())
    return Value(int64_t(self.items().size()));
  if (self.isMap())
    return Value(int64_t(self.entries().size()));
  return e.fail("'length' needs a text, list or map, found " + describeValue(self));
}

Value filterJson(Evaluator &e, const Value &self, const Arguments &a) {
  if (!e.accept(a, "tojson", {"ensure_ascii", "indent", "separators", "sort_keys"}))
    return {};
  JsonOptions options;
  options.asciiOnly = orUndefined(a.get(0, "ensure_ascii")).truthy();
  options.sortKeys = orUndefined(a.get(3, "sort_keys")).truthy();
  const Value &indent = orUndefined(a.get(1, "indent"));
  if (indent.isInteger())
    options.indent = int(std::clamp<int64_t>(indent.integer(), 0, 100));
  const Value &separators = orUndefined(a.get(2, "separators"));
  if (separators.isList() && separators.items().size() == 2 && separators.items()[0].isString() &&
      separators.items()[1].isString()) {
    options.itemSeparator = separators.items()[0].string();
    options.keySeparator = separators.items()[1].string();
  }
  std::string json;
  uint64_t levels = options.indent >= 0 ? 1 + self.depth() * uint64_t(options.indent) / 8 : 1;
  if (!e.step(self.weight() / 8) || !e.step(self.weight() / 8 * levels))
    return {};
  if (!toJson(self, options, json))
    return e.fail("'tojson' can not write " + describeValue(self));
  return e.text(std::move(json));
}

Value filterTrim(Evaluator &e, const Value &self, const Arguments &a) {
  e.accept(a, "trim", {"chars"});
  const Value &chars = orUndefined(a.get(0, "chars"));
  std::string text = e.print(self);
  return e.text(
      std::string(stripText(text, chars.isString() ? chars.string() : std::string(), true, true)));
}

Value filterString(Evaluator &e, const Value &self, const Arguments &a) {
  e.accept(a, "string", {});
  return self.isString() ? self : e.text(e.print(self));
}

Value filterUpper(Evaluator &e, const Value &self, const Arguments &) {
  return e.text(mapCase(e.print(self), upperCase));
}
Value filterLower(Evaluator &e, const Value &self, const Arguments &) {
  return e.text(mapCase(e.print(self), lowerCase));
}

Value filterCapitalize(Evaluator &e, const Value &self, const Arguments &) {
  std::string text = mapCase(e.print(self), lowerCase);
  size_t first = 0;
  if (text.empty())
    return Value(text);
  nextChar(text, first);
  return e.text(mapCase(text.substr(0, first), upperCase) + text.substr(first));
}

/// Upper case after white space, '-' and opening brackets, as jinja2's own word split has it.
Value filterTitle(Evaluator &e, const Value &self, const Arguments &) {
  std::string text = e.print(self), out;
  bool start = true;
  for (size_t at = 0; at < text.size();) {
    uint32_t c = nextChar(text, at);
    appendUtf8(out, start ? upperCase(c) : lowerCase(c));
    start = isPythonSpace(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
  }
  return e.text(std::move(out));
}

Value filterReplace(Evaluator &e, const Value &self, const Arguments &a) {
  if (!e.accept(a, "replace", {"old", "new", "count"}) || !a.get(1, "new"))
    return e.fail("'replace' needs the text to find and the text to put there");
  Arguments forMethod;
  for (const char *name : {"old", "new"})
    forMethod.positional.emplace_back(e.print(*a.get(forMethod.positional.size(), name)));
  if (const Value *count = a.get(2, "count"))
    forMethod.positional.push_back(*count);
  Value text(e.print(self));
  return findMethod(text, "replace")(e, text, forMethod);
}

Value filterIndent(Evaluator &e, const Value &self, const Arguments &a) {
  if (!e.accept(a, "indent", {"width", "first", "blank"}))
    return {};
  const Value &width = orUndefined(a.get(0, "width"));
  std::string indent(4, ' ');
  if (width.isString())
    indent = width.string();
  else if (width.isInteger())
    indent.assign(size_t(std::clamp<int64_t>(width.integer(), 0, 1000)), ' ');
  bool first = orUndefined(a.get(1, "first")).truthy();
  bool blank = orUndefined(a.get(2, "blank")).truthy();
  Value text(e.print(self) + "\n"); // jinja2 adds a line end so that a last empty line counts
  Value lines = findMethod(text, "splitlines")(e, text, {});
  if (e.failed() || !e.step(lines.items().size() * (1 + indent.size() / 16)))
    return {};
  std::string out = first ? indent : "";
  for (size_t i = 0; i < lines.items().size(); ++i) {
    const std::string &line = lines.items()[i].string();
    if (i > 0)
      out += '\n';
    if (i > 0 && (blank || !line.empty()))
      out += indent;
    out += line;
  }
  return e.text(std::move(out));
}

Value filterDefault(Evaluator &e, const Value &self, const Arguments &a) {
  e.accept(a, "default", {"default_value", "boolean"});
  bool emptyToo = orUndefined(a.get(1, "boolean")).truthy();
  if (!self.isUndefined() && !(emptyToo && !self.truthy()))
    return self;
  const Value *fallback = a.get(0, "default_value");
  return fallback ? *fallback : Value("");
}

Value filterJoin(Evaluator &e, const Value &self, const Arguments &a) {
  if (!e.accept(a, "join", {"d", "attribute"}))
    return {};
  std::string between = e.print(orUndefined(a.get(0, "d"))), out;
  const Value *attribute = a.get(1, "attribute");
  bool first = true;
  for (const Value &item : e.iterate(self)) {
    if (e.failed() || !e.step(between.size() / 16))
      return {};
    if (!first)
      out += between;
    first = false;
    out += e.print(attribute ? e.path(item, *attribute) : item);
  }
  return e.text(std::move(out));
}

Value filterList(Evaluator &e, const Value &self, const Arguments &) {
  return e.list(e.iterate(self));
}

Value filterFirst(Evaluator &e, const Value &self, const Arguments &) {
  std::vector<Value> items = e.iterate(self);
  return items.empty() ? Value() : items.front();
}
Value filterLast(Evaluator &e, const Value &self, const Arguments &) {
  std::vector<Value> items = e.iterate(self);
  return items.empty() ? Value() : items.back();
}

Value filterReverse(Evaluator &e, const Value &self, const Arguments &) {
  std::vector<Value> items = e.iterate(self);
  std::reverse(items.begin(), items.end());
  if (!self.isString())
    return e.list(std::move(items));
  std::string out;
  for (const Value &item : items)
    out += item.str();
  return e.text(std::move(out));
}

Value filterItems(Evaluator &e, const Value &self, const Arguments &) {
  if (self.isUndefined())
    return e.list({});
  if (!self.isMap())
    return e.fail("'items' needs a map, found " + describeValue(self));
  return findMethod(self, "items")(e, self, {});
}

Value filterInt(Evaluator &e, const Value &self, const Arguments &a) {
  if (!e.accept(a, "int", {"default", "base"}))
    return {};
  const Value *fallback = a.get(0, "default");
  Value otherwise = fallback ? *fallback : Value(0);
  if (self.isInteger())
    return Value(self.integer());
  double number = 0;
  if (self.isNumber()) {
    number = self.number();
  } else if (self.isString()) {
    std::string_view text = stripText(self.string(), {}, true, true);
    if (text.starts_with('+'))
      text.remove_prefix(1);
    int64_t base =
        a.get(1, "base") && a.get(1, "base")->isInteger() ? a.get(1, "base")->integer() : 10;
    if (base < 2 || base > 36)
      return e.fail("'int' needs a base from 2 to 36");
    int64_t whole = 0;
    auto result = std::from_chars(text.data(), text.data() + text.size(), whole, int(base));
    if (result.ec == std::errc() && result.ptr == text.data() + text.size() && !text.empty())
      return Value(whole);
    auto asFloat = std::from_chars(text.data(), text.data() + text.size(), number);
    if (asFloat.ec != std::errc() || asFloat.ptr != text.data() + text.size())
      return otherwise;
  } else {
    return otherwise;
  }
  return std::abs(number) < 9e18 ? Value(int64_t(number)) : otherwise;
}

Value filterFloat(Evaluator &e, const Value &self, const Arguments &a) {
  e.accept(a, "float", {"default"});
  if (self.isNumber())
    return Value(self.number());
  double number = 0;
  if (self.isString()) {
    std::string_view text = stripText(self.string(), {}, true, true);
    auto result = std::from_chars(text.data(), text.data() + text.size(), number);
    if (result.ec == std::errc() && result.ptr == text.data() + text.size())
      return Value(number);
  }
  const Value *fallback = a.get(0, "default");
  return fallback ? *fallback : Value(0.0);
}

Value filterAbs(Evaluator &e, const Value &self, const Arguments &) {
  if (!self.isNumber())
    return e.fail("'abs' needs a number, found " + describeValue(self));
  if (!self.isInteger())
    return Value(std::abs(self.number()));
  return self.integer() == INT64_MIN ? e.fail("a whole number exceeds 64 bits")
                                     : Value(std::abs(self.integer()));
}

Value filterRound(Evaluator &e, const Value &self, const Arguments &a) {
  if (!e.accept(a, "round", {"precision", "method"}) || !self.isNumber())
    return e.fail("'round' needs a number, found " + describeValue(self));
  const Value &precision = orUndefined(a.get(0, "precision"));
  int digits = precision.isInteger() ? int(std::clamp<int64_t>(precision.integer(), 0, 300)) : 0;
  std::string method = a.get(1, "method") ? a.get(1, "method")->str() : "common";
  if (method != "common") {
    double scale = std::pow(10.0, digits), scaled = self.number() * scale;
    return Value((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
  }
  if (self.isInteger())
    return Value(self.integer());
  char buffer[700]; // a decimal print rounds correctly, half to even, as Python does
  std::snprintf(buffer, sizeof(buffer), "%.*f", digits, self.number());
  return Value(std::strtod(buffer, nullptr));
}

/// What sorting and finding duplicates compares: the value or a part of it, texts in lower case
/// unless case counts.
Value sortKey(Evaluator &e, const Value &item, const Value *attribute, bool caseSensitive) {
  Value key = attribute && !attribute->isNone() ? e.path(item, *attribute) : item;
  return key.isString() && !caseSensitive ? e.text(mapCase(key.string(), lowerCase)) : key;
}

/// Stable merge sort, so that a comparison that fails half-way harms nothing.
void sortByKey(Evaluator &e, std::vector<std::pair<Value, Value>> &items, bool reverse) {
  auto less = [&](const auto &a, const auto &b) {
    return !e.failed() && e.compare(reverse ? ">" : "<", a.first, b.first);
  };
  for (size_t width = 1; width < items.size() && !e.failed(); width *= 2) {
    std::vector<std::pair<Value, Value>> merged;
    for (size_t start = 0; start < items.size(); start += 2 * width) {
      size_t middle = std::min(start + width, items.size());
      size_t end = std::min(start + 2 * width, items.size());
      std::merge(items.begin() + start, items.begin() + middle, items.begin() + middle,
                 items.begin() + end, std::back_inserter(merged), less);
    }
    items = std::move(merged);
  }
}

Value filterSort(Evaluator &e, const Value &self, const Arguments &a) {
  if (!e.accept(a, "sort", {"reverse", "case_sensitive", "attribute"}))
    return {};
  bool caseSensitive = orUndefined(a.get(1, "case_sensitive")).truthy();
  std::vector<std::pair<Value, Value>> keyed;
  for (Value &item : e.iterate(self))
    keyed.emplace_back(sortKey(e, item, a.get(2, "attribute"), caseSensitive), item);
  sortByKey(e, keyed, orUndefined(a.get(0, "reverse")).truthy());
  std::vector<Value> sorted;
  for (auto &[key, item] : keyed)
    sorted.push_back(std::move(item));
  return e.list(std::move(sorted));
}

Value filterDictSort(Evaluator &e, const Value &self, const Arguments &a) {
  if (!e.accept(a, "dictsort", {"case_sensitive", "by", "reverse"}) || !self.isMap())
    return e.fail("'dictsort' needs a map, found " + describeValue(self));
  bool caseSensitive = orUndefined(a.get(0, "case_sensitive")).truthy();
  bool byValue = a.get(1, "by") && a.get(1, "by")->str() == "value";
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto &[key, value] : self.entries())
    keyed.emplace_back(sortKey(e, byValue ? value : key, nullptr, caseSensitive),
                       e.list({key, value}, /*tuple=*/true));
  sortByKey(e, keyed, orUndefined(a.get(2, "reverse")).truthy());
  std::vector<Value> sorted;
  for (auto &[key, item] : keyed)
    sorted.push_back(std::move(item));
  return e.list(std::move(sorted));
}

Value filterUnique(Evaluator &e, const Value &self, const Arguments &a) {
  if (!e.accept(a, "unique", {"case_sensitive", "attribute"}))
    return {};
  bool caseSensitive = orUndefined(a.get(0, "case_sensitive")).truthy();
  std::vector<Value> seen, kept;
  for (const Value &item : e.iterate(self)) {
    Value key = sortKey(e, item, a.get(1, "attribute"), caseSensitive);
    bool known = false;
    for (size_t i = 0; i < seen.size() && !known && !e.failed(); ++i)
      known = e.step() && e.compare("==", seen[i], key);
    if (e.failed())
      return {};
    if (!known) {
      seen.push_back(key);
      kept.push_back(item);
    }
  }
  return e.list(std::move(kept));
}

Value filterMap(Evaluator &e, const Value &self, const Arguments &a) {
  std::vector<Value> result;
  if (a.positional.empty()) {
    const Value *attribute = a.get(0, "attribute"), *fallback = a.get(1, "default");
    if (!attribute || !e.accept({{}, a.named}, "map", {"attribute", "default"}))
      return e.fail("'map' needs the name of a filter or an attribute");
    for (const Value &item : e.iterate(self))
      result.push_back(e.path(item, *attribute, fallback));
    return e.list(std::move(result));
  }
  std::string name = a.positional[0].str();
  Arguments rest = a;
  rest.positional.erase(rest.positional.begin());
  for (const Value &item : e.iterate(self))
    if (!e.failed())
      result.push_back(e.filter(name, item, rest));
  return e.list(std::move(result));
}

/// The four filters that keep items by a test: of the item or of an attribute, that holds or does
/// not.
Value selectItems(Evaluator &e, const Value &self, const Arguments &a, bool byAttribute,
                  bool wanted) {
  Arguments rest = a;
  const Value attribute = byAttribute && !a.positional.empty() ? a.positional[0] : Value();
  if (byAttribute) {
    if (a.positional.empty())
      return e.fail("'selectattr' and 'rejectattr' need the name of an attribute");
    rest.positional.erase(rest.positional.begin());
  }
  std::string name;
  if (!rest.positional.empty()) {
    name = rest.positional[0].str();
    rest.positional.erase(rest.positional.begin());
  }
  std::vector<Value> kept;
  for (const Value &item : e.iterate(self)) {
    Value value = byAttribute ? e.path(item, attribute) : item;
    bool holds = name.empty() ? value.truthy() : e.test(name, value, rest);
    if (e.failed())
      return {};
    if (holds == wanted)
      kept.push_back(item);
  }
  return e.list(std::move(kept));
}
Value filterSelect(Evaluator &e, const Value &self, const Arguments &a) {
  return selectItems(e, self, a, false, true);
}
Value filterReject(Evaluator &e, const Value &self, const Arguments &a) {
  return selectItems(e, self, a, false, false);
}
Value filterSelectAttr(Evaluator &e, const Value &self, const Arguments &a) {
  return selectItems(e, self, a, true, true);
}
Value filterRejectAttr(Evaluator &e, const Value &self, const Arguments &a) {
  return selectItems(e, self, a, true, false);
}

Value filterSum(Evaluator &e, const Value &self, const Arguments &a) {
  if (!e.accept(a, "sum", {"attribute", "start"}))
    return {};
  const Value *attribute = a.get(0, "attribute"), *start = a.get(1, "start");
  Value total = start ? *start : Value(0);
  for (const Value &item : e.iterate(self)) {
    Value value = attribute && !attribute->isNone() ? e.path(item, *attribute) : item;
    if (!value.isNumber() || !total.isNumber())
      return e.fail("'sum' needs numbers, found " + describeValue(value));
    int64_t whole = 0;
    if (!value.isInteger() || !total.isInteger())
      total = Value(total.number() + value.number());
    else if (__builtin_add_overflow(total.integer(), value.integer(), &whole))
      return e.fail("a whole number exceeds 64 bits");
    else
      total = Value(whole);
  }
  return total;
}

Value extreme(Evaluator &e, const Value &self, const Arguments &a, const char *sign) {
  if (!e.accept(a, "min and max", {"case_sensitive", "attribute"}))
    return {};
  bool caseSensitive = orUndefined(a.get(0, "case_sensitive")).truthy();
  Value best, bestKey;
  bool first = true;
  for (const Value &item : e.iterate(self)) {
    Value key = sortKey(e, item, a.get(1, "attribute"), caseSensitive);
    if (first || (!e.failed() && e.compare(sign, key, bestKey)))
      best = item, bestKey = key;
    first = false;
  }
  return best;
}
Value filterMin(Evaluator &e, const Value &self, const Arguments &a) {
  return extreme(e, self, a, "<");
}
Value filterMax(Evaluator &e, const Value &self, const Arguments &a) {
  return extreme(e, self, a, ">");
}

Value filterAttr(Evaluator &e, const Value &self, const Arguments &a) {
  if (!e.accept(a, "attr", {"name"}) || !a.get(0, "name"))
    return e.fail("'attr' needs a name");
  return self.isMap() ? Value() : e.attribute(self, a.get(0, "name")->str());
}

Value filterSafe(Evaluator &, const Value &self, const Arguments &) { return self; }

constexpr NamedFilter filters[] = {
    {"length", filterLength},
    {"count", filterLength},
    {"tojson", filterJson},
    {"trim", filterTrim},
    {"string", filterString},
    {"upper", filterUpper},
    {"lower", filterLower},
    {"capitalize", filterCapitalize},
    {"title", filterTitle},
    {"replace", filterReplace},
    {"indent", filterIndent},
    {"default", filterDefault},
    {"d", filterDefault},
    {"join", filterJoin},
    {"list", filterList},
    {"first", filterFirst},
    {"last", filterLast},
    {"reverse", filterReverse},
    {"items", filterItems},
    {"int", filterInt},
    {"float", filterFloat},
    {"abs", filterAbs},
    {"round", filterRound},
    {"sort", filterSort},
    {"dictsort", filterDictSort},
    {"unique", filterUnique},
    {"map", filterMap},
    {"select", filterSelect},
    {"reject", filterReject},
    {"selectattr", filterSelectAttr},
    {"rejectattr", filterRejectAttr},
    {"sum", filterSum},
    {"min", filterMin},
    {"max", filterMax},
    {"attr", filterAttr},
    {"safe", filterSafe},
};

bool isText(const Value &value, uint32_t (*map)(uint32_t)) {
  std::string text = value.str();
  return text == mapCase(text, map) &&
         mapCase(text, upperCase) != mapCase(text, lowerCase); // at least one letter has a case
}

} // namespace

Value Evaluator::filter(std::string_view name, const Value &input, const Arguments &arguments) {
  Value result;
  ++depth;
  const NamedFilter *found = nullptr;
  for (const NamedFilter &filter : filters)
    if (filter.name == name)
      found = &filter;
  if (!found)
    fail("there is no filter '" + std::string(name) + "'", StatusCode::Unsupported);
  else if (depth > limits.depth)
    fail("filters are nested too deeply", StatusCode::Exhausted);
  else if (!failed() && step())
    result = found->function(*this, input, arguments);
  --depth;
  return failed() ? Value() : result;
}

bool Evaluator::test(std::string_view name, const Value &input, const Arguments &arguments) {
  using Kind = Value::Kind;
  if (!step())
    return false;
  if (name == "defined")
    return !input.isUndefined();
  if (name == "undefined")
    return input.isUndefined();
  if (name == "none")
    return input.isNone();
  if (name == "string")
    return input.isString();
  if (name == "mapping")
    return input.isMap();
  if (name == "iterable")
    return input.isUndefined() || input.isString() || input.isList() || input.isMap();
  if (name == "sequence")
    return input.isUndefined() || input.isString() || input.isList() || input.isMap();
  if (name == "number")
    return input.isNumber();
  if (name == "integer")
    return input.kind() == Kind::Integer;
  if (name == "float")
    return input.kind() == Kind::Float;
  if (name == "boolean")
    return input.kind() == Kind::Boolean;
  if (name == "true" || name == "false")
    return input.kind() == Kind::Boolean && input.boolean() == (name == "true");
  if (name == "callable")
    return input.kind() == Kind::Object && dynamic_cast<Function *>(input.object().get());
  if (name == "upper" || name == "lower")
    return step(input.weight()) && isText(input, name == "upper" ? upperCase : lowerCase);
  const Value *other = arguments.get(0, "other");
  if (name == "odd" || name == "even" || name == "divisibleby") {
    if (!input.isInteger() || (other && (!other->isInteger() || other->integer() == 0))) {
      fail("the test '" + std::string(name) + "' needs whole numbers");
      return false;
    }
    int64_t divisor = other ? other->integer() : 2;
    bool divides = divisor == -1 || input.integer() % divisor == 0;
    return divides != (name == "odd");
  }
  static constexpr std::pair<std::string_view, std::string_view> comparisons[] = {
      {"equalto", "=="},    {"eq", "=="}, {"==", "=="}, {"ne", "!="},
      {"!=", "!="},         {"lt", "<"},  {"<", "<"},   {"lessthan", "<"},
      {"le", "<="},         {"<=", "<="}, {"gt", ">"},  {">", ">"},
      {"greaterthan", ">"}, {"ge", ">="}, {">=", ">="}, {"sameas", "=="}};
  for (const auto &[known, sign] : comparisons)
    if (known == name) {
      if (!other) {
        fail("the test '" + std::string(name) + "' needs a value to compare with");
        return false;
      }
      if (name == "sameas" && input.kind() != other->kind())
        return false;
      return compare(sign, input, *other);
    }
  if (name == "in" && other)
    return contains(*other, input);
  fail("there is no test '" + std::string(name) + "'", StatusCode::Unsupported);
  return false;
}

} // namespace smelt::jinja
