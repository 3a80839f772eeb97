// A key or value cache by its definition (runtime/formats/caches.h): bytes made of numbers, and
// numbers read from bytes.
#pragma once

#include "runtime/formats/caches.h"

#include <cstddef>
#include <vector>

namespace smelt::conformance {

/// The shape and precision of the keys, or values, of one layer.
struct CacheShape {
  CacheFormat format = CacheFormat::F16;
  bool holdsKeys = true;
  int64_t slots = 1, kvHeads = 1, capacity = 64, headDim = 64;

  int64_t bytes() const;
  /// Writes the headDim numbers at `x`; quantized as RopeAppend is defined to.
  void put(std::vector<std::byte> &cache, int64_t slot, int64_t head, int64_t position,
           const float *x) const;
  /// A number as kernels take it, and the sum of the magnitudes of what it is a sum of.
  struct Number {
    double value, magnitude;
  };
  Number get(const std::byte *cache, int64_t slot, int64_t head, int64_t position, int64_t d) const;
  /// The scale of a number of 8 bits.
  double scale(const std::byte *cache, int64_t slot, int64_t head, int64_t position,
               int64_t d) const;
  /// How far get() may be from dimension d of `x` after put(x), for finite x within float16.
  double step(const float *x, int64_t d) const;

private:
  int bits() const;
  /// Byte of the code of dimension d, and of the scale (minimum: `which` 1) of group g.
  int64_t codeAt(int64_t slot, int64_t head, int64_t position, int64_t d) const;
  int64_t scaleAt(int64_t slot, int64_t head, int64_t position, int64_t g, int which = 0) const;
  int64_t headBytes() const;
  /// 8 bits: dimensions that share a scale, and the largest magnitude among those of dimension d.
  int64_t scaledDims() const { return holdsKeys ? keyGroup : headDim; }
  float largest(const float *x, int64_t d) const;
  int64_t quads() const { return (headDim + 3) / 4; }
  int64_t groups() const { return (headDim + valueGroup - 1) / valueGroup; }
};

} // namespace smelt::conformance
