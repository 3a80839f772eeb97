// Parses chat templates: the statements and expressions of Jinja that chat templates use.
#include "runtime/tokenizer/template_ast.h"

#include <charconv>
#include <initializer_list>
#include <string_view>

namespace smelt::jinja {

namespace {

class Parser {
public:
  explicit Parser(std::vector<Token> tokens) : tokens(std::move(tokens)) {}

  Result<Block> parse() {
    SMELT_ASSIGN(Block block, parseBlock({}));
    if (current().kind != Token::End)
      return fail("'" + current().text + "' ends no statement");
    return block;
  }

private:
  static constexpr unsigned maxDepth = 100, maxHeight = 300;

  /// Counts nesting while it lives: expressions and statements recurse on the C++ stack.
  struct Nested {
    explicit Nested(unsigned &depth) : depth(++depth) {}
    ~Nested() { --depth; }
    unsigned &depth;
  };

  const Token &current() const { return tokens[at]; }
  const Token &ahead() const { return tokens[at + 1 < tokens.size() ? at + 1 : at]; }
  void next() {
    if (at + 1 < tokens.size())
      ++at;
  }
  bool isName(std::string_view name) const {
    return current().kind == Token::Name && current().text == name;
  }
  bool isOperator(std::string_view text) const {
    return current().kind == Token::Operator && current().text == text;
  }
  bool acceptName(std::string_view name) {
    bool is = isName(name);
    if (is)
      next();
    return is;
  }
  bool acceptOperator(std::string_view text) {
    bool is = isOperator(text);
    if (is)
      next();
    return is;
  }
  std::string shown() const {
    switch (current().kind) {
    case Token::End:
      return "the end of the template";
    case Token::Data:
      return "text";
    case Token::ExprEnd:
      return "'}}'";
    case Token::BlockEnd:
      return "'%}'";
    default:
      return "'" + current().text + "'";
    }
  }
  Status fail(const std::string &what) const {
    return invalidArgument("line " + std::to_string(current().line) +
                           " of the chat template: " + what);
  }
  Status expectOperator(std::string_view text) {
    if (acceptOperator(text))
      return {};
    return fail("found " + shown() + ", expected '" + std::string(text) + "'");
  }
  Status expectBlockEnd() {
    if (current().kind != Token::BlockEnd)
      return fail("found " + shown() + ", expected '%}'");
    next();
    return {};
  }
  Result<std::string> expectName() {
    if (current().kind != Token::Name)
      return fail("found " + shown() + ", expected a name");
    std::string name = current().text;
    next();
    return name;
  }
  ExprPtr make(Expr::Kind kind) const {
    auto expr = std::make_unique<Expr>();
    expr->kind = kind;
    expr->line = current().line;
    return expr;
  }

  /// Notes that `child` (or null) is below `parent`; trees too tall to be walked on the stack are
  /// refused.
  Status grow(Expr &parent, const Expr *child) {
    if (child && parent.height <= child->height)
      parent.height = child->height + 1;
    return parent.height > maxHeight ? fail("an expression is too long or nested too deeply")
                                     : Status();
  }
  Status adopt(Expr &parent, ExprPtr child) {
    SMELT_TRY(grow(parent, child.get()));
    parent.children.push_back(std::move(child));
    return {};
  }

  Result<Block> parseBlock(std::initializer_list<std::string_view> ends);
  Result<Block> parseBody(std::initializer_list<std::string_view> ends);
  Status parseStatement(Block &block);
  Status parseIf(Statement &statement);
  Status parseFor(Statement &statement);
  Status parseSet(Statement &statement);
  Status parseMacro(Statement &statement);
  Status parseCallBlock(Statement &statement);
  Status parseParameters(std::vector<Parameter> &parameters);
  Result<Target> parseTarget(bool withNamespace);
  Result<Target> parseTargetPart(bool withNamespace);

  Result<ExprPtr> parseTuple(bool withCondition = true, bool parenthesized = false);
  Result<ExprPtr> parseExpression() { return parseCondition(); }
  Result<ExprPtr> parseCondition();
  Result<ExprPtr> parseOr();
  Result<ExprPtr> parseAnd();
  Result<ExprPtr> parseNot();
  Result<ExprPtr> parseCompare();
  Result<ExprPtr> parseSum();
  Result<ExprPtr> parseConcat();
  Result<ExprPtr> parseProduct();
  Result<ExprPtr> parsePower();
  Result<ExprPtr> parseUnary(bool withFilter = true);
  Result<ExprPtr> parsePrimary();
  Result<ExprPtr> parseNumber();
  Result<ExprPtr> parseList();
  Result<ExprPtr> parseMap();
  Result<ExprPtr> parsePostfix(ExprPtr expr);
  Result<ExprPtr> parseSubscript(ExprPtr expr);
  Result<ExprPtr> parseFilters(ExprPtr expr);
  Result<ExprPtr> parseFilter(ExprPtr expr);
  Result<ExprPtr> parseTest(ExprPtr expr);
  Result<ExprPtr> parseCall(ExprPtr callee);
  Status parseArguments(Expr &owner);
  Result<ExprPtr> parseBinary(std::initializer_list<std::string_view> operators,
                              Result<ExprPtr> (Parser::*operand)());
  bool tupleEnds() const;

  std::vector<Token> tokens;
  size_t at = 0;
  unsigned depth = 0;
};

/// Statements up to one of `ends` (not taken) or the end of the template.
Result<Block> Parser::parseBlock(std::initializer_list<std::string_view> ends) {
  Nested nested(depth);
  if (depth > maxDepth)
    return fail("statements are nested too deeply");
  Block block;
  while (current().kind != Token::End) {
    auto statement = std::make_unique<Statement>();
    statement->line = current().line;
    if (current().kind == Token::Data) {
      statement->text = current().text;
      next();
      block.push_back(std::move(statement));
    } else if (current().kind == Token::ExprBegin) {
      next();
      statement->kind = Statement::Output;
      SMELT_ASSIGN(statement->expression, parseTuple());
      if (current().kind != Token::ExprEnd)
        return fail("found " + shown() + ", expected '}}'");
      next();
      block.push_back(std::move(statement));
    } else { // BlockBegin
      next();
      for (std::string_view end : ends)
        if (isName(end))
          return block;
      SMELT_TRY(parseStatement(block));
    }
  }
  if (ends.size() > 0)
    return fail("the template ends, expected '" + std::string(*(ends.end() - 1)) + "'");
  return block;
}

/// The rest of a tag, then a block and the name that ends it.
Result<Block> Parser::parseBody(std::initializer_list<std::string_view> ends) {
  SMELT_TRY(expectBlockEnd());
  return parseBlock(ends);
}

Status Parser::parseStatement(Block &block) {
  auto statement = std::make_unique<Statement>();
  statement->line = current().line;
  SMELT_ASSIGN(std::string name, expectName());
  if (name == "if") {
    SMELT_TRY(parseIf(*statement));
  } else if (name == "for") {
    SMELT_TRY(parseFor(*statement));
  } else if (name == "set") {
    SMELT_TRY(parseSet(*statement));
  } else if (name == "macro") {
    SMELT_TRY(parseMacro(*statement));
  } else if (name == "call") {
    SMELT_TRY(parseCallBlock(*statement));
  } else if (name == "filter") {
    statement->kind = Statement::FilterBlock;
    SMELT_ASSIGN(ExprPtr first, parseFilter(nullptr));
    SMELT_ASSIGN(statement->expression, parseFilters(std::move(first)));
    SMELT_ASSIGN(statement->body, parseBody({"endfilter"}));
    next();
  } else if (name == "generation") { // marks the assistant's tokens for training; only its scope
                                     // matters here
    statement->kind = Statement::Scope;
    SMELT_ASSIGN(statement->body, parseBody({"endgeneration"}));
    next();
  } else if (name == "break" || name == "continue") {
    statement->kind = name == "break" ? Statement::Break : Statement::Continue;
  } else {
    --at;
    return fail("unknown statement '" + name + "'");
  }
  block.push_back(std::move(statement));
  return expectBlockEnd();
}

Status Parser::parseIf(Statement &statement) {
  statement.kind = Statement::If;
  while (true) {
    SMELT_ASSIGN(ExprPtr condition, parseTuple(/*withCondition=*/false));
    SMELT_ASSIGN(Block body, parseBody({"elif", "else", "endif"}));
    statement.branches.emplace_back(std::move(condition), std::move(body));
    if (!acceptName("elif"))
      break;
  }
  if (acceptName("else")) {
    SMELT_ASSIGN(statement.orElse, parseBody({"endif"}));
  }
  next();
  return {};
}

Status Parser::parseFor(Statement &statement) {
  statement.kind = Statement::For;
  SMELT_ASSIGN(statement.target, parseTarget(/*withNamespace=*/false));
  if (!acceptName("in"))
    return fail("found " + shown() + ", expected 'in'");
  SMELT_ASSIGN(statement.expression, parseTuple(/*withCondition=*/false));
  if (acceptName("if")) {
    SMELT_ASSIGN(statement.condition, parseExpression());
  }
  if (isName("recursive"))
    return unsupported("line " + std::to_string(current().line) +
                       " of the chat template: recursive loops are not supported");
  SMELT_ASSIGN(statement.body, parseBody({"else", "endfor"}));
  if (acceptName("else")) {
    SMELT_ASSIGN(statement.orElse, parseBody({"endfor"}));
  }
  next();
  return {};
}

Result<Target> Parser::parseTargetPart(bool withNamespace) {
  if (acceptOperator("(")) {
    SMELT_ASSIGN(Target inner, parseTarget(withNamespace));
    SMELT_TRY(expectOperator(")"));
    return inner;
  }
  Target target;
  SMELT_ASSIGN(target.name, expectName());
  if (withNamespace && acceptOperator(".")) {
    SMELT_ASSIGN(target.attribute, expectName());
  }
  return target;
}

Result<Target> Parser::parseTarget(bool withNamespace) {
  Nested nested(depth);
  if (depth > maxDepth)
    return fail("targets are nested too deeply");
  SMELT_ASSIGN(Target first, parseTargetPart(withNamespace));
  if (!isOperator(","))
    return first;
  Target tuple;
  tuple.parts.push_back(std::move(first));
  while (acceptOperator(",")) {
    if (current().kind != Token::Name && !isOperator("("))
      break;
    if (isName("in"))
      break;
    SMELT_ASSIGN(Target part, parseTargetPart(withNamespace));
    tuple.parts.push_back(std::move(part));
  }
  return tuple;
}

Status Parser::parseSet(Statement &statement) {
  SMELT_ASSIGN(statement.target, parseTarget(/*withNamespace=*/true));
  if (acceptOperator("=")) {
    statement.kind = Statement::Set;
    SMELT_ASSIGN(statement.expression, parseTuple());
    return {};
  }
  statement.kind = Statement::SetBlock;
  if (isOperator("|")) {
    SMELT_ASSIGN(statement.expression, parseFilters(nullptr));
  }
  SMELT_ASSIGN(statement.body, parseBody({"endset"}));
  next();
  return {};
}

Status Parser::parseParameters(std::vector<Parameter> &parameters) {
  SMELT_TRY(expectOperator("("));
  while (!isOperator(")")) {
    Parameter parameter;
    SMELT_ASSIGN(parameter.name, expectName());
    if (acceptOperator("=")) {
      SMELT_ASSIGN(parameter.fallback, parseExpression());
    } else if (!parameters.empty() && parameters.back().fallback) {
      return fail("a parameter without a default follows one with a default");
    }
    parameters.push_back(std::move(parameter));
    if (!isOperator(")"))
      SMELT_TRY(expectOperator(","));
  }
  next();
  return {};
}

Status Parser::parseMacro(Statement &statement) {
  statement.kind = Statement::Macro;
  SMELT_ASSIGN(statement.text, expectName());
  SMELT_TRY(parseParameters(statement.parameters));
  SMELT_ASSIGN(statement.body, parseBody({"endmacro"}));
  next();
  return {};
}

Status Parser::parseCallBlock(Statement &statement) {
  statement.kind = Statement::CallBlock;
  if (isOperator("("))
    SMELT_TRY(parseParameters(statement.parameters));
  SMELT_ASSIGN(statement.expression, parseExpression());
  if (statement.expression->kind != Expr::Call)
    return fail("a call block without a call");
  SMELT_ASSIGN(statement.body, parseBody({"endcall"}));
  next();
  return {};
}

bool Parser::tupleEnds() const {
  return current().kind == Token::ExprEnd || current().kind == Token::BlockEnd ||
         current().kind == Token::End || isOperator(")");
}

/// An expression, or several with commas between: a tuple.
Result<ExprPtr> Parser::parseTuple(bool withCondition, bool parenthesized) {
  std::vector<ExprPtr> parts;
  bool isTuple = false;
  while (!tupleEnds()) {
    SMELT_ASSIGN(ExprPtr part, withCondition ? parseExpression() : parseOr());
    parts.push_back(std::move(part));
    if (!acceptOperator(","))
      break;
    isTuple = true;
  }
  if (!isTuple && parts.size() == 1)
    return std::move(parts[0]);
  if (!isTuple && !parenthesized)
    return fail("found " + shown() + ", expected an expression");
  ExprPtr tuple = make(Expr::Tuple);
  for (ExprPtr &part : parts)
    SMELT_TRY(adopt(*tuple, std::move(part)));
  return tuple;
}

Result<ExprPtr> Parser::parseCondition() {
  Nested nested(depth);
  if (depth > maxDepth)
    return fail("expressions are nested too deeply");
  SMELT_ASSIGN(ExprPtr expr, parseOr());
  while (isName("if")) {
    ExprPtr condition = make(Expr::Condition);
    next();
    SMELT_ASSIGN(ExprPtr test, parseOr());
    ExprPtr otherwise;
    if (acceptName("else")) {
      SMELT_ASSIGN(otherwise, parseCondition());
    }
    SMELT_TRY(adopt(*condition, std::move(expr)));
    SMELT_TRY(adopt(*condition, std::move(test)));
    SMELT_TRY(adopt(*condition, std::move(otherwise)));
    expr = std::move(condition);
  }
  return expr;
}

/// A left-associative chain of operators (names or signs).
Result<ExprPtr> Parser::parseBinary(std::initializer_list<std::string_view> operators,
                                    Result<ExprPtr> (Parser::*operand)()) {
  SMELT_ASSIGN(ExprPtr left, (this->*operand)());
  while (true) {
    bool found = false;
    for (std::string_view text : operators) {
      if (!isOperator(text) && !isName(text))
        continue;
      found = true;
      ExprPtr binary = make(Expr::Binary);
      binary->text = text;
      next();
      SMELT_ASSIGN(ExprPtr right, (this->*operand)());
      SMELT_TRY(adopt(*binary, std::move(left)));
      SMELT_TRY(adopt(*binary, std::move(right)));
      left = std::move(binary);
      break;
    }
    if (!found)
      return left;
  }
}

Result<ExprPtr> Parser::parseOr() { return parseBinary({"or"}, &Parser::parseAnd); }
Result<ExprPtr> Parser::parseAnd() { return parseBinary({"and"}, &Parser::parseNot); }
Result<ExprPtr> Parser::parseSum() { return parseBinary({"+", "-"}, &Parser::parseConcat); }
Result<ExprPtr> Parser::parseConcat() { return parseBinary({"~"}, &Parser::parseProduct); }
Result<ExprPtr> Parser::parseProduct() {
  return parseBinary({"*", "/", "//", "%"}, &Parser::parsePower);
}
Result<ExprPtr> Parser::parsePower() {
  SMELT_ASSIGN(ExprPtr left, parseUnary());
  while (isOperator("**")) {
    ExprPtr power = make(Expr::Binary);
    power->text = "**";
    next();
    SMELT_ASSIGN(ExprPtr right, parseUnary());
    SMELT_TRY(adopt(*power, std::move(left)));
    SMELT_TRY(adopt(*power, std::move(right)));
    left = std::move(power);
  }
  return left;
}

Result<ExprPtr> Parser::parseNot() {
  Nested nested(depth);
  if (depth > maxDepth)
    return fail("expressions are nested too deeply");
  if (!isName("not"))
    return parseCompare();
  ExprPtr expr = make(Expr::Not);
  next();
  SMELT_ASSIGN(ExprPtr operand, parseNot());
  SMELT_TRY(adopt(*expr, std::move(operand)));
  return expr;
}

Result<ExprPtr> Parser::parseCompare() {
  SMELT_ASSIGN(ExprPtr first, parseSum());
  ExprPtr compare;
  while (true) {
    std::string text;
    for (std::string_view sign : {"==", "!=", ">=", "<=", ">", "<"})
      if (isOperator(sign))
        text = sign;
    if (isName("in"))
      text = "in";
    else if (isName("not") && ahead().kind == Token::Name && ahead().text == "in")
      text = "not in";
    if (text.empty())
      break;
    if (!compare) {
      compare = make(Expr::Compare);
      SMELT_TRY(adopt(*compare, std::move(first)));
    }
    next();
    if (text == "not in")
      next();
    SMELT_ASSIGN(ExprPtr operand, parseSum());
    compare->operators.push_back(std::move(text));
    SMELT_TRY(adopt(*compare, std::move(operand)));
  }
  if (compare)
    return compare;
  return first;
}

Result<ExprPtr> Parser::parseUnary(bool withFilter) {
  Nested nested(depth);
  if (depth > maxDepth)
    return fail("expressions are nested too deeply");
  ExprPtr expr;
  if (isOperator("-") || isOperator("+")) {
    expr = make(isOperator("-") ? Expr::Negate : Expr::Plus);
    next();
    SMELT_ASSIGN(ExprPtr operand, parseUnary(/*withFilter=*/false));
    SMELT_TRY(adopt(*expr, std::move(operand)));
  } else {
    SMELT_ASSIGN(expr, parsePrimary());
  }
  SMELT_ASSIGN(expr, parsePostfix(std::move(expr)));
  return withFilter ? parseFilters(std::move(expr)) : Result<ExprPtr>(std::move(expr));
}

Result<ExprPtr> Parser::parseNumber() {
  ExprPtr expr = make(Expr::Constant);
  const std::string &text = current().text;
  bool whole = current().kind == Token::Integer;
  int64_t integer = 0;
  double number = 0;
  auto result = whole ? std::from_chars(text.data(), text.data() + text.size(), integer)
                      : std::from_chars(text.data(), text.data() + text.size(), number);
  if (result.ec != std::errc())
    return fail("the number " + text + " is too large");
  expr->value = whole ? Value(integer) : Value(number);
  next();
  return expr;
}

Result<ExprPtr> Parser::parsePrimary() {
  if (current().kind == Token::Integer || current().kind == Token::Float)
    return parseNumber();
  ExprPtr expr = make(Expr::Constant);
  if (current().kind == Token::String) {
    std::string text;
    for (; current().kind == Token::String; next())
      text += current().text;
    expr->value = Value(std::move(text));
    return expr;
  }
  if (current().kind == Token::Name) {
    const std::string &name = current().text;
    if (name == "true" || name == "True" || name == "false" || name == "False") {
      expr->value = Value(name == "true" || name == "True");
    } else if (name == "none" || name == "None") {
      expr->value = Value(nullptr);
    } else {
      expr->kind = Expr::Name;
      expr->text = name;
    }
    next();
    return expr;
  }
  if (acceptOperator("(")) {
    SMELT_ASSIGN(expr, parseTuple(/*withCondition=*/true, /*parenthesized=*/true));
    SMELT_TRY(expectOperator(")"));
    return expr;
  }
  if (isOperator("["))
    return parseList();
  if (isOperator("{"))
    return parseMap();
  return fail("found " + shown() + ", expected an expression");
}

Result<ExprPtr> Parser::parseList() {
  ExprPtr list = make(Expr::List);
  next();
  while (!isOperator("]")) {
    SMELT_ASSIGN(ExprPtr item, parseExpression());
    SMELT_TRY(adopt(*list, std::move(item)));
    if (!isOperator("]"))
      SMELT_TRY(expectOperator(","));
  }
  next();
  return list;
}

Result<ExprPtr> Parser::parseMap() {
  ExprPtr map = make(Expr::Map);
  next();
  while (!isOperator("}")) {
    SMELT_ASSIGN(ExprPtr key, parseExpression());
    SMELT_TRY(expectOperator(":"));
    SMELT_ASSIGN(ExprPtr value, parseExpression());
    SMELT_TRY(adopt(*map, std::move(key)));
    SMELT_TRY(adopt(*map, std::move(value)));
    if (!isOperator("}"))
      SMELT_TRY(expectOperator(","));
  }
  next();
  return map;
}

Result<ExprPtr> Parser::parsePostfix(ExprPtr expr) {
  while (isOperator(".") || isOperator("[") || isOperator("(")) {
    if (isOperator("(")) {
      SMELT_ASSIGN(expr, parseCall(std::move(expr)));
    } else if (isOperator("[")) {
      SMELT_ASSIGN(expr, parseSubscript(std::move(expr)));
    } else {
      ExprPtr attribute = make(Expr::Attribute);
      next();
      if (current().kind == Token::Integer) { // items.0
        attribute->kind = Expr::Subscript;
        SMELT_ASSIGN(ExprPtr index, parseNumber());
        SMELT_TRY(adopt(*attribute, std::move(expr)));
        SMELT_TRY(adopt(*attribute, std::move(index)));
      } else {
        SMELT_ASSIGN(attribute->text, expectName());
        SMELT_TRY(adopt(*attribute, std::move(expr)));
      }
      expr = std::move(attribute);
    }
  }
  return expr;
}

Result<ExprPtr> Parser::parseSubscript(ExprPtr expr) {
  ExprPtr subscript = make(Expr::Subscript);
  SMELT_TRY(adopt(*subscript, std::move(expr)));
  next();
  ExprPtr parts[3];
  unsigned colons = 0;
  while (!isOperator("]")) {
    if (isOperator(":")) {
      if (++colons > 2)
        return fail("a slice with more than three parts");
      next();
      continue;
    }
    if (parts[colons])
      return fail("found " + shown() + ", expected ']'");
    SMELT_ASSIGN(parts[colons], parseExpression());
  }
  next();
  if (colons == 0 && !parts[0])
    return fail("an empty subscript");
  SMELT_TRY(adopt(*subscript, std::move(parts[0])));
  if (colons > 0) {
    subscript->kind = Expr::Slice;
    SMELT_TRY(adopt(*subscript, std::move(parts[1])));
    SMELT_TRY(adopt(*subscript, std::move(parts[2])));
  }
  return subscript;
}

Status Parser::parseArguments(Expr &owner) {
  CallArguments &arguments = owner.arguments;
  SMELT_TRY(expectOperator("("));
  while (!isOperator(")")) {
    if (acceptOperator("*")) {
      SMELT_ASSIGN(arguments.spreadList, parseExpression());
      SMELT_TRY(grow(owner, arguments.spreadList.get()));
    } else if (acceptOperator("**")) {
      SMELT_ASSIGN(arguments.spreadMap, parseExpression());
      SMELT_TRY(grow(owner, arguments.spreadMap.get()));
    } else if (current().kind == Token::Name && ahead().kind == Token::Operator &&
               ahead().text == "=") {
      std::string name = current().text;
      next();
      next();
      SMELT_ASSIGN(ExprPtr value, parseExpression());
      SMELT_TRY(grow(owner, value.get()));
      arguments.named.emplace_back(std::move(name), std::move(value));
    } else {
      if (!arguments.named.empty() || arguments.spreadList || arguments.spreadMap)
        return fail("a positional argument follows a named one");
      SMELT_ASSIGN(ExprPtr value, parseExpression());
      SMELT_TRY(grow(owner, value.get()));
      arguments.positional.push_back(std::move(value));
    }
    if (!isOperator(")"))
      SMELT_TRY(expectOperator(","));
  }
  next();
  return {};
}

Result<ExprPtr> Parser::parseCall(ExprPtr callee) {
  ExprPtr call = make(Expr::Call);
  SMELT_TRY(adopt(*call, std::move(callee)));
  SMELT_TRY(parseArguments(*call));
  return call;
}

/// One filter; the current token is its name.
Result<ExprPtr> Parser::parseFilter(ExprPtr expr) {
  ExprPtr filter = make(Expr::Filter);
  SMELT_ASSIGN(filter->text, expectName());
  SMELT_TRY(adopt(*filter, std::move(expr)));
  if (isOperator("("))
    SMELT_TRY(parseArguments(*filter));
  return filter;
}

/// Any number of filters, tests and calls after an expression (null: the body of a block).
Result<ExprPtr> Parser::parseFilters(ExprPtr expr) {
  while (true) {
    if (acceptOperator("|")) {
      SMELT_ASSIGN(expr, parseFilter(std::move(expr)));
    } else if (expr && acceptName("is")) {
      SMELT_ASSIGN(expr, parseTest(std::move(expr)));
    } else if (expr && isOperator("(")) {
      SMELT_ASSIGN(expr, parseCall(std::move(expr)));
    } else {
      return expr;
    }
  }
}

Result<ExprPtr> Parser::parseTest(ExprPtr expr) {
  ExprPtr test = make(Expr::Test);
  bool negated = acceptName("not");
  SMELT_ASSIGN(test->text, expectName());
  SMELT_TRY(adopt(*test, std::move(expr)));
  bool operand = current().kind == Token::String || current().kind == Token::Integer ||
                 current().kind == Token::Float || isOperator("[") || isOperator("{") ||
                 (current().kind == Token::Name && !isName("else") && !isName("or") &&
                  !isName("and") && !isName("if"));
  if (isName("is"))
    return fail("a test follows a test; use 'and'");
  if (isOperator("(")) {
    SMELT_TRY(parseArguments(*test));
  } else if (operand) {
    SMELT_ASSIGN(ExprPtr argument, parsePrimary());
    SMELT_ASSIGN(argument, parsePostfix(std::move(argument)));
    SMELT_TRY(grow(*test, argument.get()));
    test->arguments.positional.push_back(std::move(argument));
  }
  if (!negated)
    return test;
  ExprPtr inverse = make(Expr::Not);
  SMELT_TRY(adopt(*inverse, std::move(test)));
  return inverse;
}

} // namespace

Result<Block> parseTemplate(std::vector<Token> tokens) { return Parser(std::move(tokens)).parse(); }

} // namespace smelt::jinja
