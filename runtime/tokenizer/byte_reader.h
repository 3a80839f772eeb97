// Reads little-endian numbers and strings from untrusted bytes without ever leaving them.
#pragma once

#include "runtime/base/status.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace smelt {

/// A cursor over bytes. A read past the end yields zeros and sets failed(); the caller checks once
/// per structure.
class ByteReader {
public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes(bytes) {}

  /// An unsigned little-endian number of `width` bytes, 1 to 8.
  uint64_t number(unsigned width) {
    if (remaining() < width) {
      overrun = true;
      position = bytes.size();
      return 0;
    }
    uint64_t value = 0;
    for (unsigned i = 0; i < width; ++i)
      value |= uint64_t(std::to_integer<uint8_t>(bytes[position + i])) << (8 * i);
    position += width;
    return value;
  }
  uint8_t u8() { return uint8_t(number(1)); }
  uint16_t u16() { return uint16_t(number(2)); }
  uint32_t u32() { return uint32_t(number(4)); }

  /// `size` bytes as text that lives in the bytes given.
  std::string_view text(size_t size) {
    if (remaining() < size) {
      overrun = true;
      position = bytes.size();
      return {};
    }
    const char *start = reinterpret_cast<const char *>(bytes.data() + position);
    position += size;
    return {start, size};
  }
  /// A u16 length and that many bytes.
  std::string_view string() { return text(u16()); }

  /// A u32 count of items that take at least `itemBytes` each; fails before memory for a false
  /// count is asked for.
  uint32_t count(size_t itemBytes) {
    uint32_t n = u32();
    if (n > remaining() / itemBytes) {
      overrun = true;
      return 0;
    }
    return n;
  }

  size_t remaining() const { return bytes.size() - position; }
  bool failed() const { return overrun; }
  /// Success when every read so far stayed inside and nothing is left over.
  Status finish(const char *what) const {
    if (overrun)
      return corrupt(std::string(what) + " is cut short");
    if (remaining() != 0)
      return corrupt(std::string(what) + " has " + std::to_string(remaining()) +
                     " bytes after its end");
    return {};
  }

private:
  std::span<const std::byte> bytes;
  size_t position = 0;
  bool overrun = false;
};

} // namespace smelt
