// A small JSON value: enough to show and write metadata and measurements.
#pragma once

#include "runtime/base/status.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace smelt {

/// Null, boolean, integer, real, string, array or object; objects keep the order of their keys.
class Json {
public:
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;

  Json() = default;
  Json(bool value) : held(value) {}
  Json(int value) : held(int64_t(value)) {}
  Json(unsigned value) : held(int64_t(value)) {}
  Json(int64_t value) : held(value) {}
  Json(uint64_t value) : held(int64_t(value)) {}
  Json(double value) : held(value) {}
  Json(const char *value) : held(std::string(value)) {}
  Json(std::string value) : held(std::move(value)) {}
  Json(std::string_view value) : held(std::string(value)) {}
  Json(Array value) : held(std::move(value)) {}
  Json(Object value) : held(std::move(value)) {}

  /// Corrupt with the byte offset of the first error. Nesting is limited to 64 levels.
  static Result<Json> parse(std::string_view text);
  /// Text of the value; `indent` spaces per level, 0: one line. Numbers that JSON lacks become
  /// null.
  std::string dump(int indent = 0) const;

  const Object *object() const { return std::get_if<Object>(&held); }
  const Array *array() const { return std::get_if<Array>(&held); }
  const std::string *string() const { return std::get_if<std::string>(&held); }
  /// The number, or `fallback` for anything else.
  double number(double fallback = 0) const;
  /// The member of that name; null when there is none or this is no object.
  const Json *find(std::string_view key) const;
  /// Adds a member; the value must be an object or null.
  void set(std::string key, Json value);

private:
  void write(std::string &out, int indent, int level) const;
  std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object> held;
};

} // namespace smelt
