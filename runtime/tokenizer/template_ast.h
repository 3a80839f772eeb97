// The syntax tree of a chat template and the tokens it is parsed from.
#pragma once

#include "runtime/base/status.h"
#include "runtime/tokenizer/value.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace smelt::jinja {

struct Token {
  enum Kind : uint8_t {
    Data,
    ExprBegin,
    ExprEnd,
    BlockBegin,
    BlockEnd,
    Name,
    String,
    Integer,
    Float,
    Operator,
    End
  };
  Kind kind = End;
  std::string text; ///< of Data and String unescaped; of the others as written
  uint32_t line = 0;
};

/// Cuts a source into tokens with Hugging Face's settings (trim_blocks, lstrip_blocks, no trailing
/// newline kept).
Result<std::vector<Token>> tokenize(std::string_view source);

struct Expr;
struct Statement;
using ExprPtr = std::unique_ptr<Expr>;
using Block = std::vector<std::unique_ptr<Statement>>;

/// The arguments of a call, filter or test.
struct CallArguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr spreadList, spreadMap; ///< *args, **kwargs
};

struct Expr {
  enum Kind : uint8_t {
    Constant,  // value
    Name,      // text
    List,      // children
    Tuple,     // children
    Map,       // children: key, value, key, value, ...
    Attribute, // children[0] . text
    Subscript, // children[0] [children[1]]
    Slice,     // children[0] [children[1] : children[2] : children[3]], absent ones null
    Call,      // children[0] (arguments)
    Filter,    // children[0] | text (arguments); children[0] null: the body of a filter block
    Test,      // children[0] is text (arguments)
    Not,       // not children[0]
    Negate,    // - children[0]
    Plus,      // + children[0]
    Binary,    // children[0] text children[1]; text: + - * / // % ** ~ and or
    Compare,   // children[0] operators[0] children[1] operators[1] ...
    Condition, // children[0] if children[1] else children[2]; the last may be null
  };
  Kind kind = Constant;
  uint32_t line = 0;
  uint32_t height = 1; ///< of the tree below
  Value value;
  std::string text;
  std::vector<ExprPtr> children;
  std::vector<std::string> operators;
  CallArguments arguments;
};

/// The formal parameters of a macro or call block; a default may be null.
struct Parameter {
  std::string name;
  ExprPtr fallback;
};

/// What is assigned to: a name, an attribute of a namespace, or a tuple of such.
struct Target {
  std::string name, attribute; ///< attribute empty: a plain name
  std::vector<Target> parts;   ///< not empty: unpack
};

struct Statement {
  enum Kind : uint8_t {
    Text,        // text
    Output,      // expression
    If,          // branches: (condition, body); orElse
    For,         // target in expression if condition: body; orElse
    Set,         // target = expression
    SetBlock,    // target = body | expression (a filter chain on a null, may be null)
    Macro,       // text(parameters): body
    CallBlock,   // expression is a Call that gets a caller(parameters): body
    FilterBlock, // body | expression (a filter chain on a null)
    Scope,       // body (a generation block)
    Break,
    Continue,
  };
  Kind kind = Text;
  uint32_t line = 0;
  std::string text;
  ExprPtr expression, condition;
  Target target;
  std::vector<std::pair<ExprPtr, Block>> branches;
  std::vector<Parameter> parameters;
  Block body, orElse;
};

/// Parses tokens to statements.
Result<Block> parseTemplate(std::vector<Token> tokens);

} // namespace smelt::jinja
