// Tensors at run time, and the pool that their memory comes from.
#pragma once

#include "runtime/artifact/format.h"
#include "runtime/artifact/tensor_program.h"
#include "runtime/base/status.h"

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>

namespace smelt {

/// A contiguous row-major tensor. Copies share its memory, which goes back to its pool with the
/// last of them; without an owner somebody else keeps the memory.
struct TensorValue {
  format::ElementType type = format::ElementType::F32;
  uint32_t rank = 0;
  std::array<int64_t, format::maxRank> dims{};
  std::byte *data = nullptr; ///< never null in a tensor that holds a value, even an empty one
  std::shared_ptr<std::byte> owner;

  std::span<const int64_t> shape() const { return {dims.data(), rank}; }
  int64_t elements() const;
  /// A tensor over the caller's memory; `shape` has at most maxRank dimensions.
  static TensorValue view(format::ElementType type, std::span<const int64_t> shape,
                          const void *data);
  template <typename T> std::span<const T> as() const {
    return {reinterpret_cast<const T *>(data), size_t(elements())};
  }
  /// "f32[2,7,64]".
  std::string text() const;
};

/// Memory of tensors, 64-byte aligned, kept for the next one of about the same size. For one
/// thread.
class TensorPool {
public:
  /// `limit`: bytes that may be in use at once.
  explicit TensorPool(uint64_t limit);

  /// A tensor with memory that holds anything. Exhausted: dimensions whose product is absurd, or
  /// more than the limit; InvalidArgument: negative dimensions.
  Result<TensorValue> allocate(format::ElementType type, std::span<const int64_t> shape);
  /// To be called now and then: gives memory back that was not used since the call before the last.
  void trim();
  /// The most bytes that were in use at once.
  uint64_t peakBytes() const;

private:
  struct Store;
  std::shared_ptr<Store> store; ///< tensors may outlive the pool
};

} // namespace smelt
