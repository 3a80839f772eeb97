// The exact integer sum of weight bytes times activation bytes for 16 rows, as each target
// multiplies bytes best.
#pragma once

#include "passes/lower/kernels/weight_block.h"

namespace smelt {

/// One sum over the inputs of a dot group. Activation bytes are in -127..127 (layout.h).
///
/// Bounds: the longest sum is of 32 inputs with weight bytes up to 255 (Offset), twice for INT16:
/// 256 * 255 * 127 * 32 < 2^28, so int32 never overflows. AVX2 multiplies pairs into saturating
/// int16: 2 * 127 * c per quad of four inputs, c the largest code; as many quads are added there as
/// stay below 2^15 (4 bits: 8, 5 bits: 4, 6 bits: 2), and signed bytes (c = 127) are widened after
/// each.
class GroupDot {
public:
  /// The form in which a target wants the bytes of a format.
  static ByteForm form(const KernelBuilder &k, const WeightReader &weights);
  /// The same of values in -128..127.
  static ByteForm signedForm(const KernelBuilder &k);

  /// `start` (int32 of 16 rows, or null for 0) is part of the sum.
  GroupDot(KernelBuilder &k, const WeightReader &weights, Value start);
  /// For bytes in signedForm().
  GroupDot(KernelBuilder &k, Value start);
  /// Adds the bytes [16 rows x 4 inputs] times the four bytes of `x` (int32 scalar).
  void add(Value codes, Value x);
  /// The same of signed `codes` and unsigned bytes of `x`, for the targets that multiply unsigned
  /// bytes by signed ones (signedForm() is Offset): nothing has to be taken off the sum.
  void addUnsigned(Value codes, Value x);
  /// The sum as int32 of 16 rows.
  Value finish();

private:
  KernelBuilder &k;
  bool signedBytes;
  Value start;
  int64_t parts;           ///< vectors that hold 64 bytes
  Values sums;             ///< int32, one for each part
  Values pairs;            ///< Maddubs: int16 sums not yet widened, or null
  int64_t quads = 0, most; ///< Maddubs: quads in `pairs`, and how many fit

  GroupDot(KernelBuilder &k, bool signedBytes, int bits, Value start);
  void addMaddubs(int64_t part, Value codes, Value x);
  void addPairs(int64_t part, Value codes, Value x);
  /// `unsignedCodes`: which of the two factors is unsigned, codes or x.
  void addWords(Value codes, Value x, bool unsignedCodes);
  void widen();
};

/// The same for two activation rows at once, of Smmla128: a product is of 2 rows x 8 inputs of the
/// weights with 8 inputs x 2 rows.
class RowPairDot {
public:
  explicit RowPairDot(KernelBuilder &k);
  /// Adds a run of 8 inputs (WeightReader::run) times those of both rows: `low` and `high` are the
  /// four bytes of inputs 0..3 and 4..7, a vector of two int32.
  void add(const std::pair<Value, Value> &run, Value low, Value high);
  /// The sums of the first row and of the second, as int32 of 16 rows each.
  Values finish();

private:
  KernelBuilder &k;
  Values sums; ///< of weight rows 2i and 2i + 1: both with the first row, both with the second
};

} // namespace smelt
