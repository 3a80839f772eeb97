// Overflow-safe views into the bytes of a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace smelt {

/// `count` items of T at `offset` of `bytes`; false when they are not inside or not aligned.
template <typename T>
bool viewAt(std::span<const std::byte> bytes, uint64_t offset, uint64_t count,
            std::span<const T> &out) {
  if (offset > bytes.size() || count > (bytes.size() - offset) / sizeof(T) ||
      reinterpret_cast<uintptr_t>(bytes.data() + offset) % alignof(T) != 0)
    return false;
  out = {reinterpret_cast<const T *>(bytes.data() + offset), size_t(count)};
  return true;
}

} // namespace smelt
