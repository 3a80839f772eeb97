// A list of kernel calls on buffers: made by the tests, run here or by a runner for another CPU.
#pragma once

#include "runtime/artifact/format.h"

#include <cstddef>
#include <string>
#include <vector>

namespace smelt::conformance {

/// 64-byte aligned memory with a guard zone behind it that no kernel may touch.
class Memory {
public:
  explicit Memory(size_t bytes);
  std::byte *data() { return reinterpret_cast<std::byte *>(lines.data()); }
  const std::byte *data() const { return reinterpret_cast<const std::byte *>(lines.data()); }
  template <typename T> T *as() { return reinterpret_cast<T *>(lines.data()); }
  template <typename T> const T *as() const { return reinterpret_cast<const T *>(lines.data()); }
  size_t size() const { return bytes; }
  size_t sizeWithGuard() const { return lines.size() * sizeof(Line); }
  bool guardIntact() const;

private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  size_t bytes;
  std::vector<Line> lines;
};

struct OperandRef {
  int32_t buffer = -1; ///< -1: null
  int64_t offset = 0;  ///< bytes
};

struct Call {
  std::string symbol;
  int64_t info[format::FieldCount] = {};
  OperandRef operands[format::operandCount];
};

struct Job {
  std::vector<Memory> buffers;
  std::vector<Call> calls;

  int32_t add(const void *data, size_t bytes);
  template <typename T> int32_t add(const std::vector<T> &values) {
    return add(values.data(), values.size() * sizeof(T));
  }
  /// Adds `call` once for every thread 0 .. threads - 1, in order.
  void addForThreads(Call call, int64_t threads);

  /// Loads the shared object and makes the calls; buffers change. An empty string or what went
  /// wrong.
  std::string run(const std::string &sharedObject);
  void save(const std::string &path) const;
  /// Restores what save() wrote; false if the file is not whole.
  bool restore(const std::string &path);
};

} // namespace smelt::conformance
