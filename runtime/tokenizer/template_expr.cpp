// Expressions of chat templates.
#include "runtime/tokenizer/template_eval.h"
#include "runtime/tokenizer/unicode.h"

#include <algorithm>
#include <cmath>

namespace smelt::jinja {

Value Evaluator::evaluate(const Expr &expr) {
  if (!step())
    return {};
  line = expr.line;
  ++depth;
  if (depth > limits.depth)
    fail("expressions or calls are nested too deeply", StatusCode::Exhausted);
  Value result;
  if (!failed())
    switch (expr.kind) {
    case Expr::Constant:
      result = expr.value;
      break;
    case Expr::Name:
      result = lookUp(expr);
      break;
    case Expr::List:
    case Expr::Tuple:
      result = evaluateList(expr);
      break;
    case Expr::Map:
      result = evaluateMap(expr);
      break;
    case Expr::Attribute: {
      Value object = evaluate(*expr.children[0]);
      if (object.isUndefined() && !failed())
        fail("'" + expr.children[0]->text + "' is undefined, so it has no attribute '" + expr.text +
             "'");
      result = attribute(object, expr.text);
      break;
    }
    case Expr::Subscript: {
      Value object = evaluate(*expr.children[0]);
      Value key = evaluate(*expr.children[1]);
      if (object.isUndefined() && !failed())
        fail("'" + expr.children[0]->text + "' is undefined, so it has no item " +
             describeValue(key));
      result = item(object, key);
      break;
    }
    case Expr::Slice:
      result = evaluateSlice(expr);
      break;
    case Expr::Call:
      result = evaluateCall(expr);
      break;
    case Expr::Filter:
      result = evaluateFilter(expr);
      break;
    case Expr::Test: {
      Value input = evaluate(*expr.children[0]);
      Arguments arguments = evaluateArguments(expr.arguments);
      result = Value(!failed() && test(expr.text, input, arguments));
      break;
    }
    case Expr::Not:
      result = Value(!evaluate(*expr.children[0]).truthy());
      break;
    case Expr::Negate:
      result = negate(evaluate(*expr.children[0]));
      break;
    case Expr::Plus:
      result = evaluate(*expr.children[0]);
      if (!result.isNumber())
        result = fail("'+' needs a number, found " + describeValue(result));
      break;
    case Expr::Binary:
      result = evaluateBinary(expr);
      break;
    case Expr::Compare:
      result = evaluateCompare(expr);
      break;
    case Expr::Condition:
      if (evaluate(*expr.children[1]).truthy())
        result = evaluate(*expr.children[0]);
      else if (expr.children[2])
        result = evaluate(*expr.children[2]);
      break;
    }
  --depth;
  return failed() ? Value() : result;
}

Value Evaluator::lookUp(const Expr &expr) {
  for (Scope *s = scope; s; s = s->parent)
    for (auto variable = s->variables.rbegin(); variable != s->variables.rend(); ++variable)
      if (variable->first == expr.text)
        return variable->second;
  if (context.isMap())
    for (const auto &[key, value] : context.entries())
      if (key.isString() && key.string() == expr.text)
        return value;
  if (Builtin builtin = findGlobal(expr.text)) {
    auto function = std::make_shared<Function>();
    function->builtin = builtin;
    return Value(std::shared_ptr<Value::Object>(std::move(function)));
  }
  return {};
}

Value Evaluator::evaluateList(const Expr &expr) {
  std::vector<Value> items;
  for (const ExprPtr &child : expr.children)
    items.push_back(evaluate(*child));
  return list(std::move(items), expr.kind == Expr::Tuple);
}

Value Evaluator::evaluateMap(const Expr &expr) {
  std::vector<Value::Entry> entries;
  for (size_t i = 0; i + 1 < expr.children.size(); i += 2) {
    Value key = evaluate(*expr.children[i]);
    if (key.isMap() || (key.isList() && !key.isTuple()) || key.weight() > 1000000)
      return fail("found " + describeValue(key) +
                  " as the key of a map, expected a text or number");
    entries.emplace_back(std::move(key), evaluate(*expr.children[i + 1]));
  }
  return map(std::move(entries));
}

bool sliceIndices(int64_t length, const Value *startValue, const Value *stopValue,
                  const Value *stepValue, std::vector<size_t> &indices) {
  auto number = [](const Value *value, int64_t &out) {
    if (!value || value->isNone())
      return true;
    if (!value->isInteger())
      return false;
    out = value->integer();
    return true;
  };
  auto absent = [](const Value *value) { return !value || value->isNone(); };
  int64_t step = 1, start = 0, stop = 0;
  if (!number(stepValue, step) || step == 0 || step < -INT32_MAX || step > INT32_MAX)
    return false;
  if (!number(startValue, start) || !number(stopValue, stop))
    return false;
  int64_t lowest = step > 0 ? 0 : -1, highest = step > 0 ? length : length - 1;
  auto clamp = [&](int64_t index) {
    if (index < 0)
      index = index < -length ? lowest : index + length;
    return std::clamp(index, lowest, highest);
  };
  start = absent(startValue) ? (step > 0 ? lowest : highest) : clamp(start);
  stop = absent(stopValue) ? (step > 0 ? highest : lowest) : clamp(stop);
  for (int64_t i = start; step > 0 ? i < stop : i > stop; i += step)
    indices.push_back(size_t(i));
  return true;
}

std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> result;
  for (size_t at = 0; at < text.size();) {
    size_t start = at;
    nextChar(text, at);
    result.push_back(text.substr(start, at - start));
  }
  return result;
}

Value Evaluator::evaluateSlice(const Expr &expr) {
  Value object = evaluate(*expr.children[0]);
  Value parts[3];
  const Value *given[3] = {};
  for (int i = 0; i < 3; ++i)
    if (expr.children[i + 1]) {
      parts[i] = evaluate(*expr.children[i + 1]);
      given[i] = &parts[i];
    }
  if (failed())
    return {};
  std::vector<size_t> indices;
  if (object.isString()) {
    auto all = characters(object.string());
    if (!step(all.size()) ||
        !sliceIndices(int64_t(all.size()), given[0], given[1], given[2], indices))
      return fail("the parts of a slice must be whole numbers");
    std::string result;
    for (size_t i : indices)
      result += all[i];
    return text(std::move(result));
  }
  if (!object.isList())
    return fail("'" + expr.children[0]->text + "' can not be sliced");
  if (!step(object.items().size()) ||
      !sliceIndices(int64_t(object.items().size()), given[0], given[1], given[2], indices))
    return fail("the parts of a slice must be whole numbers");
  std::vector<Value> result;
  for (size_t i : indices)
    result.push_back(object.items()[i]);
  return list(std::move(result), object.isTuple());
}

Arguments Evaluator::evaluateArguments(const CallArguments &source) {
  Arguments arguments;
  for (const ExprPtr &value : source.positional)
    arguments.positional.push_back(evaluate(*value));
  if (source.spreadList)
    for (Value &value : iterate(evaluate(*source.spreadList)))
      arguments.positional.push_back(std::move(value));
  for (const auto &[name, value] : source.named)
    arguments.named.emplace_back(name, evaluate(*value));
  if (source.spreadMap) {
    Value map = evaluate(*source.spreadMap);
    if (!map.isMap()) {
      fail("'**' needs a map");
      return arguments;
    }
    for (const auto &[key, value] : map.entries())
      arguments.named.emplace_back(key.str(), value);
  }
  return arguments;
}

Value Evaluator::evaluateCall(const Expr &expr) {
  const Expr &callee = *expr.children[0];
  Value function = evaluate(callee);
  Arguments arguments = evaluateArguments(expr.arguments);
  if (failed())
    return {};
  return call(function, std::move(arguments), callee.text);
}

Value Evaluator::call(const Value &callee, Arguments arguments, std::string_view name) {
  auto *function = callee.kind() == Value::Kind::Object
                       ? dynamic_cast<Function *>(callee.object().get())
                       : nullptr;
  if (failed())
    return {};
  if (!function)
    return fail(
        "'" + std::string(name) +
        (callee.isUndefined() ? "' is undefined, so it can not be called" : "' can not be called"));
  if (function->builtin)
    return function->builtin(*this, function->self, arguments);
  return callMacro(*function, std::move(arguments));
}

Value Evaluator::evaluateFilter(const Expr &expr) {
  Value input = expr.children[0] ? evaluate(*expr.children[0]) : filterInput;
  Arguments arguments = evaluateArguments(expr.arguments);
  return failed() ? Value() : filter(expr.text, input, arguments);
}

/// A chain of filters without an operand, on `input`.
Value Evaluator::applyFilters(const Expr *chain, Value input) {
  Value outer = std::exchange(filterInput, std::move(input));
  Value result = evaluate(*chain);
  filterInput = std::move(outer);
  return result;
}

Value Evaluator::evaluateBinary(const Expr &expr) {
  Value left = evaluate(*expr.children[0]);
  if (expr.text == "and" || expr.text == "or") {
    if (failed() || left.truthy() == (expr.text == "or"))
      return left;
    return evaluate(*expr.children[1]);
  }
  Value right = evaluate(*expr.children[1]);
  if (failed())
    return {};
  if (expr.text == "~")
    return text(print(left) + print(right));
  for (int i = 0; i < 2; ++i)
    if ((i == 0 ? left : right).isUndefined())
      return fail("'" + expr.children[i]->text + "' is undefined, so '" + expr.text +
                  "' can not be done");
  return arithmetic(expr.text, left, right);
}

Value Evaluator::repeat(const Value &sequence, int64_t times) {
  times = std::max<int64_t>(times, 0);
  size_t size = sequence.isString() ? sequence.string().size() : sequence.items().size();
  if (size != 0 && uint64_t(times) > limits.bytes / size)
    return fail("a repetition is too long", StatusCode::Exhausted);
  if (sequence.isString()) {
    std::string result;
    for (int64_t i = 0; i < times && size != 0; ++i)
      result += sequence.string();
    return text(std::move(result));
  }
  if (uint64_t(times) * size * sizeof(Value) > bytesLeft)
    return fail("a repetition is too long", StatusCode::Exhausted);
  std::vector<Value> result;
  for (int64_t i = 0; i < times && size != 0; ++i)
    result.insert(result.end(), sequence.items().begin(), sequence.items().end());
  return list(std::move(result), sequence.isTuple());
}

Value Evaluator::arithmetic(std::string_view operation, const Value &left, const Value &right) {
  if (left.isInteger() && right.isInteger())
    return integerArithmetic(operation, left.integer(), right.integer());
  if (left.isNumber() && right.isNumber())
    return floatArithmetic(operation, left.number(), right.number());
  if (operation == "+" && left.isString() && right.isString())
    return text(left.string() + right.string());
  if (operation == "+" && left.isList() && right.isList() && left.isTuple() == right.isTuple()) {
    std::vector<Value> both = left.items();
    both.insert(both.end(), right.items().begin(), right.items().end());
    return list(std::move(both), left.isTuple());
  }
  if (operation == "*" && (left.isString() || left.isList()) && right.isInteger())
    return repeat(left, right.integer());
  if (operation == "*" && left.isInteger() && (right.isString() || right.isList()))
    return repeat(right, left.integer());
  return fail("'" + std::string(operation) + "' does not work on " + describeValue(left) + " and " +
              describeValue(right));
}

Value Evaluator::integerArithmetic(std::string_view operation, int64_t left, int64_t right) {
  int64_t result = 0;
  bool overflow = false;
  if (operation == "+") {
    overflow = __builtin_add_overflow(left, right, &result);
  } else if (operation == "-") {
    overflow = __builtin_sub_overflow(left, right, &result);
  } else if (operation == "*") {
    overflow = __builtin_mul_overflow(left, right, &result);
  } else if (operation == "**" && right >= 0) {
    result = 1;
    for (int64_t i = 0; i < right && !overflow && result != 0 && left != 1; ++i) {
      if (left == -1) { // as long as it takes otherwise
        result = right % 2 == 0 ? 1 : -1;
        break;
      }
      overflow = __builtin_mul_overflow(result, left, &result);
    }
  } else if (operation == "/" || operation == "**") {
    return floatArithmetic(operation, double(left), double(right));
  } else if (right == 0) {
    return fail("division by zero");
  } else if (right == -1) {
    overflow = operation == "//" && __builtin_sub_overflow(int64_t(0), left, &result);
  } else { // Python rounds down, and the remainder has the divisor's sign
    int64_t quotient = left / right, rest = left % right;
    bool adjust = rest != 0 && (rest < 0) != (right < 0);
    result = operation == "//" ? quotient - adjust : rest + (adjust ? right : 0);
  }
  return overflow ? fail("a whole number exceeds 64 bits") : Value(result);
}

Value Evaluator::floatArithmetic(std::string_view operation, double left, double right) {
  if (operation == "+")
    return Value(left + right);
  if (operation == "-")
    return Value(left - right);
  if (operation == "*")
    return Value(left * right);
  if (operation == "**")
    return Value(std::pow(left, right));
  if (right == 0)
    return fail("division by zero");
  if (operation == "/")
    return Value(left / right);
  double rest = std::fmod(left, right);
  if (rest != 0 && (rest < 0) != (right < 0))
    rest += right;
  return operation == "%" ? Value(rest) : Value(std::floor((left - rest) / right + 0.5));
}

Value Evaluator::negate(const Value &value) {
  if (failed())
    return {};
  if (value.isInteger())
    return integerArithmetic("-", 0, value.integer());
  if (value.isNumber())
    return Value(-value.number());
  return fail("'-' needs a number, found " + describeValue(value));
}

Value Evaluator::evaluateCompare(const Expr &expr) {
  Value left = evaluate(*expr.children[0]);
  for (size_t i = 0; i < expr.operators.size(); ++i) {
    Value right = evaluate(*expr.children[i + 1]);
    if (failed())
      return {};
    const std::string &operation = expr.operators[i];
    bool holds = operation == "in"       ? contains(right, left)
                 : operation == "not in" ? !contains(right, left)
                                         : compare(operation, left, right);
    if (!holds || failed())
      return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

bool Evaluator::compare(std::string_view operation, const Value &left, const Value &right) {
  if (!step(std::min(left.weight(), right.weight()) / 8))
    return false;
  if (operation == "==")
    return left == right;
  if (operation == "!=")
    return !(left == right);
  int order = 0;
  if (!Value::order(left, right, order)) {
    fail("'" + std::string(operation) + "' can not order " + describeValue(left) + " and " +
         describeValue(right));
    return false;
  }
  return operation == "<"    ? order < 0
         : operation == "<=" ? order <= 0
         : operation == ">"  ? order > 0
                             : order >= 0;
}

bool Evaluator::contains(const Value &container, const Value &needle) {
  if (container.isString()) {
    if (!needle.isString()) {
      fail("'in' needs a text to search a text for, found " + describeValue(needle));
      return false;
    }
    return step(container.string().size() / 16) &&
           container.string().find(needle.string()) != std::string::npos;
  }
  if (container.isMap())
    return step(container.entries().size() + needle.weight() / 8) && container.find(needle);
  std::vector<Value> items = iterate(container);
  return step(container.weight() / 8) &&
         std::find(items.begin(), items.end(), needle) != items.end();
}

std::vector<Value> Evaluator::iterate(const Value &value) {
  std::vector<Value> items;
  if (failed() || value.isUndefined())
    return items;
  if (value.isList()) {
    if (step(value.items().size()))
      items = value.items();
  } else if (value.isMap()) {
    if (step(value.entries().size()))
      for (const auto &[key, entry] : value.entries())
        items.push_back(key);
  } else if (value.isString()) {
    if (step(value.string().size()))
      for (std::string_view character : characters(value.string()))
        items.push_back(text(std::string(character)));
  } else {
    fail(describeValue(value) + " can not be iterated over");
  }
  return items;
}

Value Evaluator::attribute(const Value &object, std::string_view name) {
  if (failed())
    return {};
  if (Builtin builtin = findMethod(object, name)) {
    auto function = std::make_shared<Function>();
    function->builtin = builtin;
    function->self = object;
    return Value(std::shared_ptr<Value::Object>(std::move(function)));
  }
  if (object.isMap()) {
    if (!step(object.entries().size() / 8))
      return {};
    for (const auto &[key, value] : object.entries())
      if (key.isString() && key.string() == name)
        return value;
    return {};
  }
  if (object.kind() != Value::Kind::Object)
    return {};
  if (auto *space = dynamic_cast<Namespace *>(object.object().get())) {
    Value *value = space->find(name);
    return value ? *value : Value();
  }
  auto *loop = dynamic_cast<Loop *>(object.object().get());
  if (!loop)
    return {};
  int64_t index = int64_t(loop->index), length = int64_t(loop->items.size());
  if (name == "index")
    return Value(index + 1);
  if (name == "index0")
    return Value(index);
  if (name == "revindex")
    return Value(length - index);
  if (name == "revindex0")
    return Value(length - index - 1);
  if (name == "first")
    return Value(index == 0);
  if (name == "last")
    return Value(index + 1 == length);
  if (name == "length")
    return Value(length);
  if (name == "depth" || name == "depth0") // of recursion, which chat templates do not use
    return Value(name == "depth" ? 1 : 0);
  if (name == "previtem")
    return index > 0 ? loop->items[size_t(index) - 1] : Value();
  if (name == "nextitem")
    return index + 1 < length ? loop->items[size_t(index) + 1] : Value();
  return {};
}

Value Evaluator::item(const Value &object, const Value &key) {
  if (failed())
    return {};
  if (object.isMap()) {
    if (!step(object.entries().size() / 8))
      return {};
    if (const Value *value = object.find(key))
      return *value;
  } else if ((object.isList() || object.isString()) && key.isInteger()) {
    bool isList = object.isList();
    std::vector<std::string_view> all;
    if (!isList) {
      if (!step(object.string().size()))
        return {};
      all = characters(object.string());
    }
    int64_t length = int64_t(isList ? object.items().size() : all.size());
    int64_t index = key.integer() < 0 ? key.integer() + length : key.integer();
    if (index < 0 || index >= length)
      return {};
    return isList ? object.items()[size_t(index)] : text(std::string(all[size_t(index)]));
  }
  return key.isString() ? attribute(object, key.string()) : Value();
}

Value Evaluator::path(Value object, const Value &attribute, const Value *fallback) {
  std::string_view rest;
  if (attribute.isString())
    rest = attribute.string();
  while (!failed()) {
    size_t dot = rest.find('.');
    std::string_view part = rest.substr(0, dot);
    bool digits = !part.empty() && part.size() < 10 &&
                  part.find_first_not_of("0123456789") == std::string_view::npos;
    Value key = !attribute.isString() ? attribute
                : digits              ? Value(int64_t(std::stoll(std::string(part))))
                                      : Value(part);
    if (object.isUndefined())
      return fail("there is no " + describeValue(key) + " of what is undefined");
    object = item(object, key);
    if (object.isUndefined() && fallback && !fallback->isNone())
      object = *fallback;
    if (dot == std::string_view::npos)
      break;
    rest.remove_prefix(dot + 1);
  }
  return object;
}

} // namespace smelt::jinja
