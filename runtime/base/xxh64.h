// XXH64 (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md), the checksum of artifact
// sections.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace smelt {

/// XXH64 with seed 0 over bytes that arrive in pieces of any size.
class Xxh64 {
public:
  void update(std::span<const std::byte> bytes) {
    const std::byte *at = bytes.data();
    size_t left = bytes.size();
    total += left;
    if (pending + left < stripeBytes) {
      if (left != 0)
        std::memcpy(buffer + pending, at, left);
      pending += left;
      return;
    }
    if (pending != 0) {
      size_t fill = stripeBytes - pending;
      std::memcpy(buffer + pending, at, fill);
      consume(buffer, 1);
      at += fill;
      left -= fill;
    }
    consume(at, left / stripeBytes);
    pending = left % stripeBytes;
    if (pending != 0)
      std::memcpy(buffer, at + left - pending, pending);
  }

  uint64_t digest() const {
    uint64_t hash = prime5;
    if (total >= stripeBytes) {
      hash = std::rotl(lanes[0], 1) + std::rotl(lanes[1], 7) + std::rotl(lanes[2], 12) +
             std::rotl(lanes[3], 18);
      for (uint64_t lane : lanes)
        hash = (hash ^ round(0, lane)) * prime1 + prime4;
    }
    hash += total;
    const std::byte *at = buffer;
    size_t left = pending;
    for (; left >= 8; at += 8, left -= 8)
      hash = std::rotl(hash ^ round(0, load<uint64_t>(at)), 27) * prime1 + prime4;
    if (left >= 4) {
      hash = std::rotl(hash ^ load<uint32_t>(at) * prime1, 23) * prime2 + prime3;
      at += 4;
      left -= 4;
    }
    for (; left != 0; ++at, --left)
      hash = std::rotl(hash ^ uint64_t(*at) * prime5, 11) * prime1;
    hash = (hash ^ hash >> 33) * prime2;
    hash = (hash ^ hash >> 29) * prime3;
    return hash ^ hash >> 32;
  }

private:
  static constexpr size_t stripeBytes = 32;
  static constexpr uint64_t prime1 = 0x9E3779B185EBCA87, prime2 = 0xC2B2AE3D27D4EB4F,
                            prime3 = 0x165667B19E3779F9, prime4 = 0x85EBCA77C2B2AE63,
                            prime5 = 0x27D4EB2F165667C5;

  template <typename T> static T load(const std::byte *at) {
    static_assert(std::endian::native == std::endian::little);
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  static uint64_t round(uint64_t lane, uint64_t input) {
    return std::rotl(lane + input * prime2, 31) * prime1;
  }
  /// The four lanes are independent, so that their multiplications overlap.
  void consume(const std::byte *at, size_t stripes) {
    uint64_t a = lanes[0], b = lanes[1], c = lanes[2], d = lanes[3];
    for (; stripes != 0; --stripes, at += stripeBytes) {
      a = round(a, load<uint64_t>(at));
      b = round(b, load<uint64_t>(at + 8));
      c = round(c, load<uint64_t>(at + 16));
      d = round(d, load<uint64_t>(at + 24));
    }
    lanes[0] = a, lanes[1] = b, lanes[2] = c, lanes[3] = d;
  }

  uint64_t lanes[4] = {prime1 + prime2, prime2, 0, 0 - prime1};
  uint64_t total = 0;
  std::byte buffer[stripeBytes];
  size_t pending = 0;
};

inline uint64_t xxh64(std::span<const std::byte> bytes) {
  Xxh64 hash;
  hash.update(bytes);
  return hash.digest();
}

} // namespace smelt
