// Errors as values: Status and Result<T>, used by every layer.
#pragma once

#include <optional>
#include <string>
#include <utility>

namespace smelt {

/// Why something failed, coarse enough for a caller to act on; the message carries the detail.
enum class StatusCode {
  Ok = 0,
  InvalidArgument, ///< the caller asked for something that cannot be
  NotFound,        ///< a file, section or symbol is not there
  Corrupt,         ///< bytes do not mean what they should
  Unsupported,     ///< understood, but not done by this build, CPU or model
  Exhausted,       ///< context, memory or disk is full
  Cancelled,       ///< stopped on request
  Internal,        ///< a defect of smelt
};

/// The outcome of an operation that yields nothing. Messages are lower case, without a final
/// period, and say what was found, what was expected and where.
class [[nodiscard]] Status {
public:
  Status() = default;
  Status(StatusCode code, std::string message) : statusCode(code), text(std::move(message)) {}

  bool ok() const { return statusCode == StatusCode::Ok; }
  StatusCode code() const { return statusCode; }
  const std::string &message() const { return text; }

  /// Puts `context: ` before the message; a success stays a success.
  Status withContext(const std::string &context) && {
    if (!ok())
      text = context + ": " + text;
    return std::move(*this);
  }

private:
  StatusCode statusCode = StatusCode::Ok;
  std::string text;
};

inline Status invalidArgument(std::string m) {
  return {StatusCode::InvalidArgument, std::move(m)};
}
inline Status notFound(std::string m) { return {StatusCode::NotFound, std::move(m)}; }
inline Status corrupt(std::string m) { return {StatusCode::Corrupt, std::move(m)}; }
inline Status unsupported(std::string m) { return {StatusCode::Unsupported, std::move(m)}; }
inline Status exhausted(std::string m) { return {StatusCode::Exhausted, std::move(m)}; }
inline Status cancelled(std::string m) { return {StatusCode::Cancelled, std::move(m)}; }
inline Status internalError(std::string m) { return {StatusCode::Internal, std::move(m)}; }

/// A value or the Status that says why there is none.
template <typename T> class [[nodiscard]] Result {
public:
  Result(T value) : held(std::move(value)) {}
  Result(Status failure) : why(std::move(failure)) {}

  bool ok() const { return held.has_value(); }
  explicit operator bool() const { return ok(); }
  const Status &status() const & { return why; }
  Status &&status() && { return std::move(why); }
  T &operator*() & { return *held; }
  const T &operator*() const & { return *held; }
  T &&operator*() && { return std::move(*held); }
  T *operator->() { return &*held; }
  const T *operator->() const { return &*held; }

private:
  std::optional<T> held;
  Status why;
};

} // namespace smelt

/// Returns the failure of `expr` (a Status) to the caller.
#define SMELT_TRY(expr)                                                                            \
  do {                                                                                             \
    if (::smelt::Status smeltStatus = (expr); !smeltStatus.ok())                                   \
      return smeltStatus;                                                                          \
  } while (false)

#define SMELT_CONCAT_IMPL(a, b) a##b
#define SMELT_CONCAT(a, b) SMELT_CONCAT_IMPL(a, b)
/// Declares `decl` from the value of `expr` (a Result), or returns its failure to the caller.
#define SMELT_ASSIGN(decl, expr) SMELT_ASSIGN_IMPL(SMELT_CONCAT(smeltResult, __LINE__), decl, expr)
#define SMELT_ASSIGN_IMPL(tmp, decl, expr)                                                         \
  auto tmp = (expr);                                                                               \
  if (!tmp.ok())                                                                                   \
    return std::move(tmp).status();                                                                \
  decl = *std::move(tmp)
