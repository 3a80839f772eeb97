// The definition of the cache's layout and roundings, one number at a time.
#include "tests/conformance/cache_image.h"

#include "runtime/formats/formats.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace smelt::conformance {

namespace {

float halved(float v) { return halfToFloat(floatToHalf(v)); }

void storeHalf(std::byte *to, float v) {
  uint16_t half = floatToHalf(v);
  std::memcpy(to, &half, 2);
}

float loadHalf(const std::byte *from) {
  uint16_t half;
  std::memcpy(&half, from, 2);
  return halfToFloat(half);
}

float inverse(float scale) { return scale > 0 ? 1 / scale : 0; }

} // namespace

int CacheShape::bits() const {
  return holdsKeys ? cacheInfo(format).keyBits : cacheInfo(format).valueBits;
}

int64_t CacheShape::headBytes() const {
  return capacity * (holdsKeys ? keyBytes(format, headDim) : valueBytes(format, headDim));
}

int64_t CacheShape::bytes() const { return slots * kvHeads * headBytes(); }

int64_t CacheShape::codeAt(int64_t slot, int64_t head, int64_t position, int64_t d) const {
  int64_t start = (slot * kvHeads + head) * headBytes();
  if (bits() == 4)
    return start + (position * groups() + d / valueGroup) * 16 + d % 16;
  if (bits() == 8)
    return start + (holdsKeys ? ((position / 16 * quads() + d / 4) * 16 + position % 16) * 4 + d % 4
                              : (position / 4 * headDim + d) * 4 + position % 4);
  int64_t element =
      holdsKeys ? (position / 16 * headDim + d) * 16 + position % 16 : position * headDim + d;
  return start + element * bits() / 8;
}

int64_t CacheShape::scaleAt(int64_t slot, int64_t head, int64_t position, int64_t g,
                            int which) const {
  int64_t codes = bits() == 4 ? 16 * groups() : holdsKeys ? 4 * quads() : headDim;
  int64_t start = (slot * kvHeads + head) * headBytes() + capacity * codes;
  return start + 2 * ((which * groups() + g) * capacity + position);
}

float CacheShape::largest(const float *x, int64_t d) const {
  float most = 0;
  const int64_t first = d / scaledDims() * scaledDims();
  for (int64_t i = first; i < std::min(headDim, first + scaledDims()); ++i)
    most = std::max(most, std::fabs(x[i]));
  return most;
}

void CacheShape::put(std::vector<std::byte> &cache, int64_t slot, int64_t head, int64_t position,
                     const float *x) const {
  auto code = [&](int64_t d) { return &cache[size_t(codeAt(slot, head, position, d))]; };
  if (bits() >= 16) {
    for (int64_t d = 0; d < headDim; ++d)
      if (bits() == 16)
        storeHalf(code(d), x[d]);
      else
        std::memcpy(code(d), x + d, 4);
    return;
  }
  if (bits() == 8) {
    for (int64_t first = 0; first < headDim; first += scaledDims())
      storeHalf(&cache[size_t(scaleAt(slot, head, position, first / scaledDims()))],
                halved(largest(x, first) / 127));
    for (int64_t d = 0; d < headDim; ++d) {
      const float scale = halved(largest(x, d) / 127);
      *code(d) = std::byte(
          uint8_t(128 + std::clamp(std::nearbyint(x[d] * inverse(scale)), -127.0f, 127.0f)));
    }
    return;
  }
  for (int64_t g = 0; g < groups(); ++g) {
    const int64_t first = g * valueGroup, end = std::min(headDim, first + valueGroup);
    const auto [least, most] = std::minmax_element(x + first, x + end);
    const float minimum = halved(*least), scale = halved((*most - *least) / 15);
    storeHalf(&cache[size_t(scaleAt(slot, head, position, g))], scale);
    storeHalf(&cache[size_t(scaleAt(slot, head, position, g, 1))], minimum);
    for (int64_t d = first; d < end; ++d) {
      auto u = uint8_t(std::clamp(std::nearbyint((x[d] - minimum) * inverse(scale)), 0.0f, 15.0f));
      *code(d) |= std::byte(d % valueGroup < 16 ? u : u << 4);
    }
  }
}

CacheShape::Number CacheShape::get(const std::byte *cache, int64_t slot, int64_t head,
                                   int64_t position, int64_t d) const {
  const std::byte *code = cache + codeAt(slot, head, position, d);
  double value;
  if (bits() == 32) {
    float v;
    std::memcpy(&v, code, 4);
    value = v;
  } else if (bits() == 16) {
    value = loadHalf(code);
  } else if (bits() == 8) {
    value = double(int(*code) - 128) * scale(cache, slot, head, position, d);
  } else {
    const int64_t g = d / valueGroup;
    const double minimum = loadHalf(cache + scaleAt(slot, head, position, g, 1));
    const double part = double(d % valueGroup < 16 ? uint8_t(*code) & 15 : uint8_t(*code) >> 4) *
                        loadHalf(cache + scaleAt(slot, head, position, g));
    return {minimum + part, std::fabs(minimum) + part};
  }
  return {value, std::fabs(value)};
}

double CacheShape::scale(const std::byte *cache, int64_t slot, int64_t head, int64_t position,
                         int64_t d) const {
  return loadHalf(cache + scaleAt(slot, head, position, d / scaledDims()));
}

double CacheShape::step(const float *x, int64_t d) const {
  constexpr double half = 0x1p-11, least = 0x1p-24; // roundings of float16, relative and at zero
  if (bits() == 32)
    return 0;
  if (bits() == 16)
    return half * std::fabs(x[d]) + least;
  if (bits() == 8) {
    // Half a step; or the end of the codes, if the scale was rounded down.
    const double most = largest(x, d);
    return std::max(most / 254 * (1 + half), most * half) + 127 * least;
  }
  // Half a step and the rounding of the minimum, which the codes at the ends cannot make good.
  const int64_t first = d / valueGroup * valueGroup, end = std::min(headDim, first + valueGroup);
  const auto [low, high] = std::minmax_element(x + first, x + end);
  const double range = double(*high) - *low;
  return range / 30 * (1 + half) + range * half + std::fabs(*low) * half + 16 * least;
}

} // namespace smelt::conformance
