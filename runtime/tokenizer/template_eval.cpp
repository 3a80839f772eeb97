// Statements of chat templates.
#include "runtime/tokenizer/template_eval.h"

#include <algorithm>

namespace smelt::jinja {

const Value *Arguments::get(size_t index, std::string_view name) const {
  if (index < positional.size())
    return &positional[index];
  for (const auto &[key, value] : named)
    if (key == name)
      return &value;
  return nullptr;
}

Value *Namespace::find(std::string_view name) {
  for (auto &[key, value] : attributes)
    if (key == name)
      return &value;
  return nullptr;
}

struct Evaluator::Deeper {
  explicit Deeper(Evaluator &evaluator) : evaluator(evaluator) { ++evaluator.depth; }
  ~Deeper() { --evaluator.depth; }
  Evaluator &evaluator;
};

Evaluator::Evaluator(const Value &context, const Limits &limits)
    : context(context), limits(limits), stepsLeft(limits.steps), bytesLeft(limits.bytes) {}

/// A namespace may hold itself through its own attributes: they are cut before the last reference
/// goes.
Evaluator::~Evaluator() {
  for (const auto &space : namespaces)
    if (auto alive = space.lock())
      alive->attributes.clear();
}

Result<std::string> Evaluator::run(const Block &block) {
  std::string result;
  output = &result;
  execute(block);
  if (failed())
    return failure;
  return result;
}

Value Evaluator::fail(std::string message, StatusCode code) {
  if (!failed())
    failure = Status(code, "line " + std::to_string(line) + " of the chat template: " + message);
  return {};
}

bool Evaluator::step(uint64_t count) {
  if (stepsLeft < count)
    fail("the template takes more than " + std::to_string(limits.steps) + " steps",
         StatusCode::Exhausted);
  else
    stepsLeft -= count;
  return !failed();
}

namespace {
constexpr uint64_t itemBytes = sizeof(Value);
}

Value Evaluator::text(std::string content) {
  if (bytesLeft < content.size() + itemBytes)
    return fail("the template makes more than " + std::to_string(limits.bytes) + " bytes of text",
                StatusCode::Exhausted);
  bytesLeft -= content.size() + itemBytes;
  return Value(std::move(content));
}

Value Evaluator::list(std::vector<Value> items, bool tuple) {
  uint64_t bytes = (items.size() + 1) * itemBytes;
  if (bytesLeft < bytes)
    return fail("the template makes more than " + std::to_string(limits.bytes) + " bytes of lists",
                StatusCode::Exhausted);
  bytesLeft -= bytes;
  Value value = Value::list(std::move(items), tuple);
  return value.depth() > Value::maxDepth ? fail("lists are nested too deeply") : value;
}

Value Evaluator::map(std::vector<Value::Entry> entries) {
  // Finding equal keys takes time by the square.
  uint64_t count = entries.size(), bytes = (2 * count + 1) * itemBytes;
  if (bytesLeft < bytes || !step(count * count / 16))
    return fail("the template makes more than " + std::to_string(limits.bytes) + " bytes of maps",
                StatusCode::Exhausted);
  bytesLeft -= bytes;
  Value value = Value::map(std::move(entries));
  return value.depth() > Value::maxDepth ? fail("maps are nested too deeply") : value;
}

bool Evaluator::accept(const Arguments &arguments, const char *callee,
                       std::initializer_list<std::string_view> names) {
  if (arguments.positional.size() > names.size())
    fail(std::string(callee) + " takes at most " + std::to_string(names.size()) +
         " arguments, found " + std::to_string(arguments.positional.size()));
  for (const auto &[name, value] : arguments.named)
    if (std::find(names.begin(), names.end(), name) == names.end())
      fail(std::string(callee) + " has no argument '" + name + "'");
  return !failed();
}

void Evaluator::append(std::string_view piece) {
  if (bytesLeft < piece.size()) {
    fail("the template makes more than " + std::to_string(limits.bytes) + " bytes of text",
         StatusCode::Exhausted);
    return;
  }
  bytesLeft -= piece.size();
  *output += piece;
}

std::string Evaluator::print(const Value &value) {
  if (value.kind() == Value::Kind::Object) {
    fail("a function, loop or namespace can not be printed");
    return {};
  }
  if (!step(value.weight() /
            8)) // content that appears many times prints much longer than it is stored
    return {};
  return value.str();
}

Evaluator::Flow Evaluator::execute(const Block &block) {
  Deeper deeper(*this);
  if (depth > limits.depth)
    fail("statements or calls are nested too deeply", StatusCode::Exhausted);
  for (const auto &statement : block) {
    if (failed())
      break;
    Flow flow = executeOne(*statement);
    if (flow != Flow::Normal)
      return flow;
  }
  return Flow::Normal;
}

Evaluator::Flow Evaluator::executeOne(const Statement &statement) {
  line = statement.line;
  if (!step())
    return Flow::Normal;
  switch (statement.kind) {
  case Statement::Text:
    append(statement.text);
    return Flow::Normal;
  case Statement::Output:
    append(print(evaluate(*statement.expression)));
    return Flow::Normal;
  case Statement::If:
    return executeIf(statement);
  case Statement::For:
    return executeFor(statement);
  case Statement::Set:
  case Statement::SetBlock:
    executeSet(statement);
    return Flow::Normal;
  case Statement::Macro:
    define(statement.text, makeMacro(statement));
    return Flow::Normal;
  case Statement::CallBlock:
    executeCallBlock(statement);
    return Flow::Normal;
  case Statement::FilterBlock: {
    std::string body = capture(statement.body);
    append(print(applyFilters(statement.expression.get(), text(std::move(body)))));
    return Flow::Normal;
  }
  case Statement::Scope:
    append(capture(statement.body));
    return Flow::Normal;
  case Statement::Break:
    return Flow::Break;
  case Statement::Continue:
    return Flow::Continue;
  }
  return Flow::Normal;
}

Evaluator::Flow Evaluator::executeIf(const Statement &statement) {
  for (const auto &[condition, body] : statement.branches) {
    bool holds = evaluate(*condition).truthy();
    if (failed())
      return Flow::Normal;
    if (holds)
      return execute(body);
  }
  return execute(statement.orElse);
}

Evaluator::Flow Evaluator::executeFor(const Statement &statement) {
  std::vector<Value> items = iterate(evaluate(*statement.expression));
  Scope *outer = scope;
  auto enter = [&](Scope &inner, const Value &value) {
    inner.parent = outer;
    scope = &inner;
    assign(statement.target, value);
  };
  if (statement.condition) { // the loop counts only the items that pass
    std::vector<Value> passing;
    for (const Value &value : items) {
      Scope inner;
      enter(inner, value);
      bool passes = evaluate(*statement.condition).truthy();
      scope = outer;
      if (failed())
        return Flow::Normal;
      if (passes)
        passing.push_back(value);
    }
    items = std::move(passing);
  }
  auto loop = std::make_shared<Loop>();
  loop->items = std::move(items);
  bool ran = false;
  for (; loop->index < loop->items.size() && !failed() && step(); ++loop->index) {
    ran = true;
    Scope inner;
    inner.variables.emplace_back("loop", Value(std::shared_ptr<Value::Object>(loop)));
    enter(inner, loop->items[loop->index]);
    Flow flow = execute(statement.body);
    scope = outer;
    if (flow == Flow::Break)
      break;
  }
  if (!ran && !failed()) {
    Scope inner;
    inner.parent = outer;
    scope = &inner;
    Flow flow = execute(statement.orElse);
    scope = outer;
    return flow;
  }
  return Flow::Normal;
}

/// The output of a block, in a scope of its own.
std::string Evaluator::capture(const Block &block) {
  std::string result;
  std::string *outerOutput = output;
  Scope inner, *outerScope = scope;
  inner.parent = outerScope;
  scope = &inner;
  output = &result;
  execute(block);
  output = outerOutput;
  scope = outerScope;
  return result;
}

void Evaluator::executeSet(const Statement &statement) {
  if (statement.kind == Statement::Set) {
    assign(statement.target, evaluate(*statement.expression));
    return;
  }
  Value value = text(capture(statement.body));
  if (statement.expression)
    value = applyFilters(statement.expression.get(), value);
  assign(statement.target, value);
}

void Evaluator::assign(const Target &target, const Value &value) {
  if (failed())
    return;
  if (!target.parts.empty()) {
    std::vector<Value> items = iterate(value);
    if (!failed() && items.size() != target.parts.size())
      fail("found " + std::to_string(items.size()) + " values to unpack, expected " +
           std::to_string(target.parts.size()));
    for (size_t i = 0; i < target.parts.size() && !failed(); ++i)
      assign(target.parts[i], items[i]);
    return;
  }
  if (!target.attribute.empty()) {
    Expr name;
    name.kind = Expr::Name;
    name.text = target.name;
    Value object = lookUp(name);
    auto *space = object.kind() == Value::Kind::Object
                      ? dynamic_cast<Namespace *>(object.object().get())
                      : nullptr;
    if (!space) {
      fail("'" + target.name + "' is no namespace, so its attribute '" + target.attribute +
           "' can not be set");
      return;
    }
    if (Value *attribute = space->find(target.attribute))
      *attribute = value;
    else
      space->attributes.emplace_back(target.attribute, value);
    return;
  }
  define(target.name, value);
}

/// Sets a variable of the innermost scope. `name` must live as long as the template.
void Evaluator::define(std::string_view name, Value value) {
  for (auto &[known, held] : scope->variables)
    if (known == name) {
      held = std::move(value);
      return;
    }
  scope->variables.emplace_back(name, std::move(value));
}

/// A macro sees the template's own variables as they are when it runs and, when it is defined
/// inside a block, that block's variables as they are now.
Value Evaluator::makeMacro(const Statement &statement) {
  auto function = std::make_shared<Function>();
  function->macro = &statement;
  for (const Scope *s = scope; s != &root; s = s->parent)
    for (const auto &variable : s->variables) {
      auto same = [&](const auto &other) { return other.first == variable.first; };
      if (std::none_of(function->closure.begin(), function->closure.end(), same))
        function->closure.push_back(variable);
    }
  step(function->closure.size());
  return Value(std::shared_ptr<Value::Object>(std::move(function)));
}

Value Evaluator::callMacro(const Function &function, Arguments arguments) {
  const Statement &macro = *function.macro;
  Scope closure, locals, *outerScope = scope;
  closure.parent = &root;
  closure.variables = function.closure;
  locals.parent = &closure;
  scope = &locals;
  std::string name = macro.kind == Statement::Macro ? macro.text : "caller";
  for (auto &[key, value] : arguments.named) {
    bool known = key == "caller" && macro.kind == Statement::Macro;
    for (const Parameter &parameter : macro.parameters)
      known |= parameter.name == key;
    if (!known)
      fail("macro '" + name + "' has no parameter '" + key + "'");
    if (key == "caller")
      locals.variables.emplace_back("caller", value);
  }
  if (arguments.positional.size() > macro.parameters.size())
    fail("macro '" + name + "' takes " + std::to_string(macro.parameters.size()) +
         " arguments, found " + std::to_string(arguments.positional.size()));
  for (size_t i = 0; i < macro.parameters.size() && !failed(); ++i) {
    const Parameter &parameter = macro.parameters[i];
    const Value *given = arguments.get(i, parameter.name);
    Value value = given ? *given : parameter.fallback ? evaluate(*parameter.fallback) : Value();
    locals.variables.emplace_back(parameter.name, std::move(value));
  }
  std::string result;
  std::string *outerOutput = output;
  output = &result;
  if (!failed())
    execute(macro.body);
  output = outerOutput;
  scope = outerScope;
  return text(std::move(result));
}

/// Calls a macro that may write `caller()` for the body of the block.
void Evaluator::executeCallBlock(const Statement &statement) {
  const Expr &call = *statement.expression;
  Value callee = evaluate(*call.children[0]);
  Arguments arguments = evaluateArguments(call.arguments);
  arguments.named.emplace_back("caller", makeMacro(statement));
  append(print(this->call(callee, std::move(arguments), call.children[0]->text)));
}

} // namespace smelt::jinja
