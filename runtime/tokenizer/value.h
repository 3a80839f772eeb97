// The values of chat templates: what Python's None, bool, int, float, str, list, tuple and dict are
// to Jinja.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace smelt {

/// An immutable value. Copies share their content.
class Value {
public:
  enum class Kind : uint8_t { Undefined, None, Boolean, Integer, Float, String, List, Map, Object };

  /// What only the evaluator makes and knows: namespaces, functions, loops.
  struct Object {
    virtual ~Object() = default;
  };
  using Entry = std::pair<Value, Value>; ///< key, value

  /// Deeper nesting can not be built (see depth()): it would overflow the stack of what walks a
  /// value.
  static constexpr uint32_t maxDepth = 200;

  Value() = default; ///< undefined
  Value(std::nullptr_t) : held(None{}) {}
  Value(bool value) : held(value) {}
  Value(int value) : held(int64_t(value)) {}
  Value(int64_t value) : held(value) {}
  Value(double value) : held(value) {}
  Value(const char *text) : Value(std::string(text)) {}
  Value(std::string text) : held(std::make_shared<const std::string>(std::move(text))) {}
  Value(std::string_view text) : Value(std::string(text)) {}
  Value(std::shared_ptr<Object> object) : held(std::move(object)) {}
  /// A list, or a tuple, which only prints differently.
  static Value list(std::vector<Value> items, bool tuple = false);
  /// A dictionary in the order given; a repeated key keeps its first place and its last value.
  static Value map(std::vector<Entry> entries);

  Kind kind() const { return Kind(held.index()); }
  bool isUndefined() const { return kind() == Kind::Undefined; }
  bool isNone() const { return kind() == Kind::None; }
  bool isString() const { return kind() == Kind::String; }
  bool isList() const { return kind() == Kind::List; }
  bool isMap() const { return kind() == Kind::Map; }
  bool isNumber() const { return kind() >= Kind::Boolean && kind() <= Kind::Float; }
  /// Boolean counts as an integer, as in Python.
  bool isInteger() const { return kind() == Kind::Boolean || kind() == Kind::Integer; }

  bool boolean() const { return std::get<bool>(held); }
  int64_t integer() const; ///< of Boolean and Integer
  double number() const;   ///< of Boolean, Integer and Float
  const std::string &string() const { return *std::get<5>(held); }
  const std::vector<Value> &items() const { return std::get<6>(held)->items; }
  bool isTuple() const { return isList() && std::get<6>(held)->tuple; }
  const std::vector<Entry> &entries() const { return std::get<7>(held)->entries; }
  const std::shared_ptr<Object> &object() const { return std::get<8>(held); }
  /// The value of a key of a map, or null.
  const Value *find(const Value &key) const;
  /// How deeply lists and maps nest: 0 for everything else.
  uint32_t depth() const;
  /// An upper bound, but for a constant factor, of the work to print or compare the value: content
  /// that is shared counts as often as it appears. At most 2^62.
  uint64_t weight() const;

  /// Python's bool(value).
  bool truthy() const;
  /// Python's str(value) and repr(value). Undefined prints as nothing.
  std::string str() const;
  std::string repr() const;

  /// Python's ==.
  friend bool operator==(const Value &left, const Value &right);
  /// Python's ordering; false when the two can not be ordered.
  static bool order(const Value &left, const Value &right, int &result);

private:
  struct None {};
  struct ListData {
    std::vector<Value> items;
    bool tuple;
    uint32_t depth;
    uint64_t weight;
  };
  struct MapData {
    std::vector<Entry> entries;
    uint32_t depth;
    uint64_t weight;
  };
  std::variant<std::monostate, None, bool, int64_t, double, std::shared_ptr<const std::string>,
               std::shared_ptr<const ListData>, std::shared_ptr<const MapData>,
               std::shared_ptr<Object>>
      held;
};

/// A few words for error messages: what a value is, and the start of a text.
std::string describeValue(const Value &value);

/// Python's repr of a float: the shortest text that reads back the same.
std::string floatText(double value);

struct JsonOptions {
  int indent = -1; ///< spaces per level; negative: one line
  bool asciiOnly = false, sortKeys = false;
  std::string itemSeparator, keySeparator; ///< empty: Python's defaults for the indent
};
/// Python's json.dumps; false when the value holds what JSON can not say.
bool toJson(const Value &value, const JsonOptions &options, std::string &out);

/// Code points of valid UTF-8: how many, and the byte where the n-th starts.
size_t textLength(std::string_view text);
/// Whether Python's str.isspace() holds for one character.
bool isPythonSpace(uint32_t c);
/// Python's str.strip(): `chars` empty means white space.
std::string_view stripText(std::string_view text, std::string_view chars, bool left, bool right);
/// Case mappings of ASCII, Latin-1, Greek and Cyrillic letters, one to one.
uint32_t upperCase(uint32_t c);
uint32_t lowerCase(uint32_t c);
std::string mapCase(std::string_view text, uint32_t (*map)(uint32_t));

} // namespace smelt
