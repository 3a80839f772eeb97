// A recursive-descent parser of regular expressions and their code generator.
#include "compiler/tokenizer/pattern_compiler.h"

#include "runtime/tokenizer/unicode.h"

#include <algorithm>
#include <memory>
#include <string>

namespace smelt {

uint32_t CodeSetPool::indexOf(const CodeSet &set) {
  auto found = std::find(all.begin(), all.end(), set);
  if (found == all.end())
    found = all.insert(all.end(), set);
  return uint32_t(found - all.begin());
}

namespace {

struct Node;
using NodePtr = std::unique_ptr<Node>;

/// A node of the syntax tree.
struct Node {
  enum Kind { Set, Sequence, Choice, Repeat, Ahead, Behind, Atomic, Assert } kind;
  CodeSet set;                   // Set, Behind, Assert of a boundary
  std::vector<NodePtr> children; // of Sequence and Choice; one of Repeat, Ahead, Atomic
  uint32_t least = 0, most = 0;  // Repeat; most = blobNone: unlimited
  LoopKind loop = loopGreedy;    // Repeat
  bool negative = false;         // Ahead, Behind, Assert of a boundary
  PatternOp assertion{};         // Assert
};

NodePtr makeNode(Node::Kind kind) {
  auto node = std::make_unique<Node>();
  node->kind = kind;
  return node;
}
NodePtr makeSet(CodeSet set) {
  NodePtr node = makeNode(Node::Set);
  node->set = std::move(set);
  return node;
}

/// Whether a node can match without taking a character.
bool canBeEmpty(const Node &node) {
  auto childIsEmpty = [](const NodePtr &child) { return canBeEmpty(*child); };
  switch (node.kind) {
  case Node::Set:
    return false;
  case Node::Sequence:
    return std::all_of(node.children.begin(), node.children.end(), childIsEmpty);
  case Node::Choice:
    return std::any_of(node.children.begin(), node.children.end(), childIsEmpty);
  case Node::Repeat:
    return node.least == 0 || canBeEmpty(*node.children[0]);
  case Node::Atomic:
    return canBeEmpty(*node.children[0]);
  case Node::Ahead:
  case Node::Behind:
  case Node::Assert:
    return true;
  }
  return true;
}

/// Parses Oniguruma's Ruby syntax, as far as tokenizers use it.
class Parser {
public:
  explicit Parser(std::string_view source) : source(source) {}

  Result<NodePtr> parse() {
    SMELT_ASSIGN(NodePtr root, parseChoice());
    if (!atEnd())
      return fail("a ')' without its '('");
    return root;
  }

private:
  static constexpr unsigned maxDepth = 50;

  bool atEnd() const { return at >= source.size(); }
  bool peekIs(char c) const { return !atEnd() && source[at] == c; }
  bool accept(std::string_view text) {
    if (!source.substr(at).starts_with(text))
      return false;
    at += text.size();
    return true;
  }
  Status fail(const std::string &what) const {
    return unsupported("regular expression '" + std::string(source) + "' has " + what +
                       " at byte " + std::to_string(at));
  }

  Result<NodePtr> parseChoice();
  Result<NodePtr> parseSequence();
  Result<NodePtr> parseRepeat();
  Result<NodePtr> parseAtom();
  Result<NodePtr> parseGroup();
  Result<NodePtr> parseAssertion(char letter);
  Result<CodeSet> parseClass();
  Result<CodeSet> parseClassItem(uint32_t &single);
  Result<CodeSet> parseEscape(uint32_t &single);
  Result<CodeSet> parseProperty(bool negated);
  Result<uint32_t> parseHex(unsigned most);
  Status parseBounds(Node &repeat, bool &isBounds);
  CodeSet literal(uint32_t c) const;

  std::string_view source;
  size_t at = 0;
  bool ignoreCase = false;
  bool dotAll = false;
  unsigned depth = 0;
};

constexpr uint32_t notSingle = blobNone;

/// One character, in both cases when case does not count.
CodeSet Parser::literal(uint32_t c) const {
  if (!ignoreCase)
    return CodeSet(c);
  if (c >= 'A' && c <= 'Z')
    c += 32;
  return c >= 'a' && c <= 'z' ? caseFoldedLetter(char(c)) : CodeSet(c);
}

Result<NodePtr> Parser::parseChoice() {
  if (++depth > maxDepth)
    return fail("groups nested too deeply");
  bool outerIgnoreCase = ignoreCase, outerDotAll = dotAll;
  NodePtr choice = makeNode(Node::Choice);
  do {
    SMELT_ASSIGN(NodePtr branch, parseSequence());
    choice->children.push_back(std::move(branch));
  } while (accept("|"));
  ignoreCase = outerIgnoreCase, dotAll = outerDotAll;
  --depth;
  if (choice->children.size() == 1)
    return std::move(choice->children[0]);
  return choice;
}

Result<NodePtr> Parser::parseSequence() {
  NodePtr sequence = makeNode(Node::Sequence);
  while (!atEnd() && !peekIs('|') && !peekIs(')')) {
    SMELT_ASSIGN(NodePtr item, parseRepeat());
    sequence->children.push_back(std::move(item));
  }
  return sequence;
}

/// Reads "{n}", "{n,}", "{,m}" or "{n,m}"; anything else after a brace is literal text.
Status Parser::parseBounds(Node &repeat, bool &isBounds) {
  size_t start = at++;
  auto number = [&](uint32_t &value) {
    size_t first = at;
    value = 0;
    while (!atEnd() && source[at] >= '0' && source[at] <= '9' && at - first < 6)
      value = value * 10 + uint32_t(source[at++] - '0');
    return at > first;
  };
  bool low = number(repeat.least), comma = accept(","), high = false;
  repeat.most = repeat.least;
  if (comma) {
    high = number(repeat.most);
    if (!high)
      repeat.most = blobNone;
  }
  isBounds = (low || high) && accept("}");
  if (!isBounds) {
    at = start;
    return {};
  }
  if (repeat.most != blobNone && (repeat.least > repeat.most || repeat.most > 1000))
    return fail("a repeat count that is too large or reversed");
  if (repeat.least > 1000)
    return fail("a repeat count that is too large");
  return {};
}

Result<NodePtr> Parser::parseRepeat() {
  SMELT_ASSIGN(NodePtr atom, parseAtom());
  while (!atEnd()) {
    NodePtr repeat = makeNode(Node::Repeat);
    repeat->most = blobNone;
    bool braces = peekIs('{');
    if (braces) {
      bool isBounds = false;
      SMELT_TRY(parseBounds(*repeat, isBounds));
      if (!isBounds)
        break;
      if (peekIs('?'))
        return fail("a lazy counted repeat");
    } else if (accept("+")) {
      repeat->least = 1;
    } else if (accept("?")) {
      repeat->most = 1;
    } else if (!accept("*")) {
      break;
    }
    // After a counted repeat Ruby's '+' is another repeat, not a possessive mark; the loop takes
    // care of it.
    if (!braces && accept("?"))
      repeat->loop = loopLazy;
    else if (!braces && accept("+"))
      repeat->loop = loopPossessive;
    if (canBeEmpty(*atom) && repeat->most == blobNone)
      return fail("an unlimited repeat of what may be empty");
    repeat->children.push_back(std::move(atom));
    atom = std::move(repeat);
  }
  return atom;
}

Result<NodePtr> Parser::parseAssertion(char letter) {
  NodePtr node = makeNode(Node::Assert);
  switch (letter) {
  case 'A':
    node->assertion = PatternOp::TextStart;
    return node;
  case 'z':
    node->assertion = PatternOp::TextEnd;
    return node;
  default: // b, B
    node->assertion = PatternOp::Boundary;
    node->set = *namedCodeSet("RegexWord");
    node->negative = letter == 'B';
    return node;
  }
}

Result<NodePtr> Parser::parseAtom() {
  char c = source[at];
  if (c == '(')
    return parseGroup();
  if (c == '[') {
    SMELT_ASSIGN(CodeSet set, parseClass());
    return makeSet(std::move(set));
  }
  if (c == '.') {
    ++at;
    return makeSet(dotAll ? CodeSet(0, 0x10FFFF) : CodeSet('\n').complement());
  }
  if (c == '^' || c == '$') {
    ++at;
    NodePtr node = makeNode(Node::Assert);
    node->assertion = c == '^' ? PatternOp::LineStart : PatternOp::LineEnd;
    return node;
  }
  if (c == '*' || c == '+' || c == '?')
    return fail("a repeat of nothing");
  if (c == '\\') {
    char letter = at + 1 < source.size() ? source[at + 1] : '\0';
    if (letter == 'A' || letter == 'z' || letter == 'b' || letter == 'B') {
      at += 2;
      return parseAssertion(letter);
    }
    uint32_t single = notSingle;
    SMELT_ASSIGN(CodeSet set, parseEscape(single));
    return makeSet(single == notSingle ? std::move(set) : literal(single));
  }
  return makeSet(literal(nextChar(source, at)));
}

Result<NodePtr> Parser::parseGroup() {
  ++at;
  bool outerIgnoreCase = ignoreCase, outerDotAll = dotAll;
  NodePtr node;
  if (accept("?=") || accept("?!")) {
    node = makeNode(Node::Ahead);
    node->negative = source[at - 1] == '!';
  } else if (accept("?<=") || accept("?<!")) {
    node = makeNode(Node::Behind);
    node->negative = source[at - 1] == '!';
  } else if (accept("?>")) {
    node = makeNode(Node::Atomic);
  } else if (accept("?:")) {
  } else if (accept("?")) {
    bool on = true;
    for (; !atEnd() && source[at] != ':' && source[at] != ')'; ++at) {
      if (source[at] == '-')
        on = false;
      else if (source[at] == 'i')
        ignoreCase = on;
      else if (source[at] == 'm')
        dotAll = on;
      else
        return fail("an unsupported group");
    }
    if (accept(")")) { // holds until the group around it ends; Ruby gives it the alternatives that
                       // follow, too
      SMELT_ASSIGN(NodePtr rest, parseChoice());
      ignoreCase = outerIgnoreCase, dotAll = outerDotAll;
      return rest;
    }
    if (!accept(":"))
      return fail("an unsupported group");
  }
  SMELT_ASSIGN(NodePtr inner, parseChoice());
  ignoreCase = outerIgnoreCase, dotAll = outerDotAll;
  if (!accept(")"))
    return fail("a '(' without its ')'");
  if (!node)
    return inner;
  if (node->kind == Node::Behind) {
    Node *only = inner.get();
    if (only->kind == Node::Sequence && only->children.size() == 1)
      only = only->children[0].get();
    if (only->kind != Node::Set)
      return fail("a look-behind of more than one character");
    node->set = only->set;
    return node;
  }
  node->children.push_back(std::move(inner));
  return node;
}

Result<uint32_t> Parser::parseHex(unsigned most) {
  uint32_t value = 0;
  unsigned digits = 0;
  for (; digits < most && !atEnd(); ++digits, ++at) {
    char c = source[at];
    int digit = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
    if (digit < 0)
      break;
    value = value * 16 + uint32_t(digit);
  }
  if (digits == 0 || value > 0x10FFFF)
    return fail("a hexadecimal escape that is no character");
  return value;
}

Result<CodeSet> Parser::parseProperty(bool negated) {
  if (!accept("{"))
    return fail("a property without its name in braces");
  if (accept("^"))
    negated = !negated;
  size_t end = source.find('}', at);
  if (end == std::string_view::npos)
    return fail("a property without its closing brace");
  std::string name(source.substr(at, end - at));
  if (name.starts_with("Script="))
    name.erase(0, 7);
  if (name.starts_with("Fold_") || name.starts_with("Re") || name.starts_with("Ru"))
    return fail("the unknown property '" + name + "'"); // names of our own sets
  if (name == "Letter")
    name = "L";
  else if (name == "Number")
    name = "N";
  else if (name == "Punctuation" || name == "Punct")
    name = "P";
  auto set = namedCodeSet(name);
  if (!set)
    return fail("the unknown property '" + name + "'");
  at = end + 1;
  return negated ? set->complement() : *set;
}

/// Reads an escape. One that names a single character puts it into `single`.
Result<CodeSet> Parser::parseEscape(uint32_t &single) {
  ++at;
  if (atEnd())
    return fail("a backslash at its end");
  auto one = [&](uint32_t c) {
    single = c;
    return CodeSet(c);
  };
  auto named = [](const char *name, bool negated) {
    CodeSet set = *namedCodeSet(name);
    return negated ? set.complement() : set;
  };
  char c = source[at];
  if (uint8_t(c) >= 0x80)
    return one(nextChar(source, at));
  ++at;
  switch (c) {
  case 's':
  case 'S':
    return named("RegexSpace", c == 'S');
  case 'w':
  case 'W':
    return named("RegexWord", c == 'W');
  case 'd':
  case 'D':
    return named("Nd", c == 'D');
  case 'h':
  case 'H': {
    CodeSet hex('0', '9');
    hex.add('a', 'f');
    hex.add('A', 'F');
    return c == 'H' ? hex.complement() : hex;
  }
  case 'p':
  case 'P':
    return parseProperty(c == 'P');
  case 'n':
    return one('\n');
  case 'r':
    return one('\r');
  case 't':
    return one('\t');
  case 'f':
    return one('\f');
  case 'v':
    return one('\v');
  case 'a':
    return one('\a');
  case 'e':
    return one(0x1B);
  case 'x':
    if (accept("{")) {
      SMELT_ASSIGN(uint32_t value, parseHex(8));
      if (!accept("}"))
        return fail("a hexadecimal escape without its closing brace");
      return one(value);
    } else {
      SMELT_ASSIGN(uint32_t value, parseHex(2));
      if (value >= 0x80)
        return fail("a hexadecimal escape of a byte that is not ASCII");
      return one(value);
    }
  case 'u': {
    SMELT_ASSIGN(uint32_t value, parseHex(4));
    return one(value);
  }
  default:
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
      --at;
      return fail(std::string("the unsupported escape '\\") + c + "'");
    }
    return one(uint32_t(c));
  }
}

/// One item of a class: a nested class, an escape, a POSIX bracket or a character.
Result<CodeSet> Parser::parseClassItem(uint32_t &single) {
  static constexpr std::pair<const char *, const char *> posix[] = {
      {"[:digit:]", "Nd"}, {"[:space:]", "RegexSpace"}, {"[:word:]", "RegexWord"}};
  if (peekIs('[')) {
    for (const auto &[text, name] : posix)
      if (accept(text))
        return *namedCodeSet(name);
    if (source.substr(at).starts_with("[:"))
      return fail("an unsupported POSIX bracket");
    return parseClass();
  }
  if (peekIs('\\'))
    return parseEscape(single);
  single = nextChar(source, at);
  return CodeSet(single);
}

Result<CodeSet> Parser::parseClass() {
  if (++depth > maxDepth)
    return fail("classes nested too deeply");
  ++at;
  bool negated = accept("^");
  CodeSet set;
  std::optional<CodeSet> intersection;
  for (bool first = true;; first = false) {
    if (atEnd())
      return fail("a '[' without its ']'");
    if (peekIs(']') && !first)
      break;
    if (accept("&&")) {
      intersection = intersection ? intersection->intersect(set) : set;
      set = CodeSet();
      continue;
    }
    uint32_t low = notSingle, high = notSingle;
    SMELT_ASSIGN(CodeSet item, parseClassItem(low));
    bool range = low != notSingle && peekIs('-') && at + 1 < source.size() && source[at + 1] != ']';
    if (range) {
      ++at;
      SMELT_ASSIGN(CodeSet end, parseClassItem(high));
      if (high == notSingle || high < low)
        return fail("a range of characters without a proper end");
      item = CodeSet(low, high);
    }
    set.add(item);
    if (ignoreCase && low != notSingle) {
      for (uint32_t c = low; c <= (range ? high : low) && c < 0x80; ++c)
        set.add(literal(c));
    }
  }
  ++at;
  --depth;
  if (intersection)
    set = intersection->intersect(set);
  return negated ? set.complement() : set;
}

/// Writes the instructions of a tree.
class Generator {
public:
  static constexpr size_t maxInstructions = 20000;

  Generator(CodeSetPool &pool, PatternProgram &program) : pool(pool), program(program) {}

  void generate(const Node &node) {
    if (program.size() >
        maxInstructions) // counted repeats inside each other multiply; the caller refuses
      return;
    switch (node.kind) {
    case Node::Set:
      emit(PatternOp::Set, pool.indexOf(node.set));
      break;
    case Node::Sequence:
      for (const NodePtr &child : node.children)
        generate(*child);
      break;
    case Node::Choice:
      generateChoice(node);
      break;
    case Node::Repeat:
      generateRepeat(node);
      break;
    case Node::Ahead:
    case Node::Atomic: {
      size_t start = emit(node.kind == Node::Ahead ? PatternOp::Ahead : PatternOp::Atomic);
      program[start].flag = node.negative;
      generate(*node.children[0]);
      emit(PatternOp::Match);
      program[start].a = here();
      break;
    }
    case Node::Behind:
      program[emit(PatternOp::Behind, pool.indexOf(node.set))].flag = node.negative;
      break;
    case Node::Assert: {
      bool boundary = node.assertion == PatternOp::Boundary;
      size_t start = emit(node.assertion, boundary ? pool.indexOf(node.set) : 0);
      program[start].flag = node.negative;
      break;
    }
    }
  }
  size_t emit(PatternOp op, uint32_t a = 0, uint32_t b = 0, uint32_t c = 0) {
    program.push_back({op, 0, a, b, c});
    return program.size() - 1;
  }

private:
  uint32_t here() const { return uint32_t(program.size()); }

  void generateChoice(const Node &node) {
    std::vector<size_t> exits;
    for (size_t i = 0; i + 1 < node.children.size(); ++i) {
      size_t fork = emit(PatternOp::Fork);
      program[fork].a = here();
      generate(*node.children[i]);
      exits.push_back(emit(PatternOp::Jump));
      program[fork].b = here();
    }
    generate(*node.children.back());
    for (size_t exit : exits)
      program[exit].a = here();
  }

  void generateRepeat(const Node &node) {
    const Node *body = node.children[0].get();
    while (body->kind == Node::Sequence && body->children.size() == 1)
      body = body->children[0].get();
    if (body->kind == Node::Set) {
      program[emit(PatternOp::Loop, pool.indexOf(body->set), node.least, node.most)].flag =
          node.loop;
      return;
    }
    size_t atomic = node.loop == loopPossessive ? emit(PatternOp::Atomic) : 0;
    for (uint32_t i = 0; i < node.least; ++i)
      generate(*body);
    auto fork = [&](size_t at, uint32_t enter, uint32_t leave) {
      program[at].a = node.loop == loopLazy ? leave : enter;
      program[at].b = node.loop == loopLazy ? enter : leave;
    };
    if (node.most == blobNone) {
      size_t head = emit(PatternOp::Fork);
      generate(*body);
      emit(PatternOp::Jump, uint32_t(head));
      fork(head, uint32_t(head) + 1, here());
    } else {
      std::vector<size_t> heads;
      for (uint32_t i = node.least; i < node.most; ++i) {
        heads.push_back(emit(PatternOp::Fork));
        generate(*body);
      }
      for (size_t head : heads)
        fork(head, uint32_t(head) + 1, here());
    }
    if (node.loop == loopPossessive) {
      emit(PatternOp::Match);
      program[atomic].a = here();
    }
  }

  CodeSetPool &pool;
  PatternProgram &program;
};

} // namespace

Result<PatternProgram> compilePattern(std::string_view source, CodeSetPool &pool) {
  if (!isValidUtf8(source))
    return corrupt("a regular expression is not UTF-8");
  SMELT_ASSIGN(NodePtr root, Parser(source).parse());
  PatternProgram program;
  Generator generator(pool, program);
  generator.generate(*root);
  generator.emit(PatternOp::Match);
  if (program.size() > Generator::maxInstructions)
    return unsupported("regular expression '" + std::string(source) + "' compiles to more than " +
                       std::to_string(Generator::maxInstructions) + " instructions");
  return program;
}

Result<PatternProgram> compileLiteral(std::string_view text, CodeSetPool &pool) {
  if (text.empty() || !isValidUtf8(text))
    return corrupt("a literal pattern is empty or not UTF-8");
  PatternProgram program;
  Generator generator(pool, program);
  for (size_t at = 0; at < text.size();)
    generator.emit(PatternOp::Set, pool.indexOf(CodeSet(nextChar(text, at))));
  generator.emit(PatternOp::Match);
  return program;
}

PatternProgram compileSet(const CodeSet &set, CodeSetPool &pool) {
  return {{PatternOp::Set, 0, pool.indexOf(set), 0, 0}, {}};
}

} // namespace smelt
