// Evaluates the syntax tree of a chat template; shared by the files of the evaluator.
#pragma once

#include "runtime/tokenizer/template_ast.h"

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace smelt::jinja {

/// What one rendering may use. A hostile template fails instead of hanging or filling the memory.
struct Limits {
  uint64_t steps = 5'000'000; ///< statements, expressions and items touched
  uint64_t bytes = 64u << 20; ///< of text and lists made, all together, and of output
  unsigned depth = 1000;      ///< of nested evaluation
};

/// The values of a call's arguments.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  /// The argument at `index` or called `name`; null when it is not given.
  const Value *get(size_t index, std::string_view name) const;
};

/// The attributes of `namespace(...)`, the only thing that a template can change.
struct Namespace : Value::Object {
  std::vector<std::pair<std::string, Value>> attributes;
  Value *find(std::string_view name);
};

/// The `loop` of a for statement.
struct Loop : Value::Object {
  std::vector<Value> items;
  size_t index = 0;
  std::optional<Value> lastChanged;
};

class Evaluator;
using Builtin = Value (*)(Evaluator &, const Value &self, const Arguments &);

/// What can be called: a macro, or a built-in with the value it belongs to.
struct Function : Value::Object {
  const Statement *macro = nullptr; ///< a Macro, or the CallBlock whose body is the caller
  std::vector<std::pair<std::string_view, Value>> closure; ///< local variables where it was defined
  Builtin builtin = nullptr;
  Value self;
};

/// Variables of a block. Assignments go to the innermost scope, look-ups walk outwards.
struct Scope {
  Scope *parent = nullptr;
  std::vector<std::pair<std::string_view, Value>> variables;
};

/// One rendering. The first failure stays: from then on every operation yields undefined and loops
/// end, so callers check failed() only where they would go on working.
class Evaluator {
public:
  Evaluator(const Value &context, const Limits &limits);
  ~Evaluator();

  Result<std::string> run(const Block &block);

  // For built-ins.
  Value fail(std::string message, StatusCode code = StatusCode::InvalidArgument);
  bool failed() const { return !failure.ok(); }
  /// Pays for work; false when the template has used up its steps.
  bool step(uint64_t count = 1);
  /// New text, lists and maps, paid for in bytes and checked for depth.
  Value text(std::string content);
  Value list(std::vector<Value> items, bool tuple = false);
  Value map(std::vector<Value::Entry> entries);
  /// Checks that a call gives no other arguments than `names`, in that order.
  bool accept(const Arguments &arguments, const char *callee,
              std::initializer_list<std::string_view> names);
  /// The items that Python's iter() yields; fails for what has none.
  std::vector<Value> iterate(const Value &value);
  /// The text of a value as `{{ value }}` prints it.
  std::string print(const Value &value);
  Value attribute(const Value &object, std::string_view name);
  Value item(const Value &object, const Value &key);
  /// item() along "a.b.0", as filters' `attribute` arguments do; `fallback` stands for what is
  /// undefined on the way.
  Value path(Value object, const Value &attribute, const Value *fallback = nullptr);
  Value call(const Value &callee, Arguments arguments, std::string_view name);
  Value filter(std::string_view name, const Value &input, const Arguments &arguments);
  bool test(std::string_view name, const Value &input, const Arguments &arguments);
  bool contains(const Value &container, const Value &needle);
  bool compare(std::string_view operation, const Value &left, const Value &right);
  void registerNamespace(const std::shared_ptr<Namespace> &space) { namespaces.push_back(space); }

private:
  enum class Flow { Normal, Break, Continue };
  struct Deeper; // counts the depth of evaluation while it lives

  // Statements (template_eval.cpp).
  Flow execute(const Block &block);
  Flow executeOne(const Statement &statement);
  Flow executeIf(const Statement &statement);
  Flow executeFor(const Statement &statement);
  void executeSet(const Statement &statement);
  void executeCallBlock(const Statement &statement);
  std::string capture(const Block &block);
  void append(std::string_view piece);
  void assign(const Target &target, const Value &value);
  void define(std::string_view name, Value value);
  Value makeMacro(const Statement &statement);
  Value callMacro(const Function &function, Arguments arguments);

  // Expressions (template_expr.cpp).
  Value evaluate(const Expr &expr);
  Value lookUp(const Expr &expr);
  Value evaluateList(const Expr &expr);
  Value evaluateMap(const Expr &expr);
  Value evaluateSlice(const Expr &expr);
  Value evaluateCall(const Expr &expr);
  Value evaluateFilter(const Expr &expr);
  Value evaluateBinary(const Expr &expr);
  Value evaluateCompare(const Expr &expr);
  Value arithmetic(std::string_view operation, const Value &left, const Value &right);
  Value integerArithmetic(std::string_view operation, int64_t left, int64_t right);
  Value floatArithmetic(std::string_view operation, double left, double right);
  Value negate(const Value &value);
  Value repeat(const Value &sequence, int64_t times);
  Arguments evaluateArguments(const CallArguments &arguments);
  Value applyFilters(const Expr *chain, Value input);

  const Value &context;
  Limits limits;
  Status failure;
  uint64_t stepsLeft, bytesLeft;
  unsigned depth = 0;
  uint32_t line = 0;
  Scope root;
  Scope *scope = &root;
  std::string *output = nullptr;
  Value filterInput; ///< what the innermost filter chain without an operand starts from
  std::vector<std::weak_ptr<Namespace>> namespaces;
};

/// The built-in method `name` of a string, list, map or loop, or null.
Builtin findMethod(const Value &object, std::string_view name);
/// The built-in function `name`, or null.
Builtin findGlobal(std::string_view name);

/// Python's s[start:stop:step] on indices: which of `length` items are taken. Absent parts are null
/// or None.
bool sliceIndices(int64_t length, const Value *start, const Value *stop, const Value *step,
                  std::vector<size_t> &indices);
/// The characters of a text, each as a view.
std::vector<std::string_view> characters(std::string_view text);

} // namespace smelt::jinja
