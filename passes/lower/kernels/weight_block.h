// Decoding of packed weights (formats.h) in registers: codes as bytes for dot products, scales as
// floats.
#pragma once

#include "passes/lower/kernels/builder.h"

namespace smelt {

/// How decoded bytes stand for weights.
enum class ByteForm : uint8_t {
  Code,   ///< the code itself, 0 .. 2^bits - 1, bits below 8
  Signed, ///< the value before scales, two's complement: 8-bit grids (code - 128) and the table
  Offset, ///< the same plus 128, unsigned
  Raised, ///< the same plus 64, unsigned, of tables whose values are within 7 bits
};

/// Calls an LLVM intrinsic by name.
Value intrinsic(CodeBuilder &k, llvm::StringRef name, Type result, ValueRange operands);
/// A constant vector of `n` equal bytes.
Value splatByte(CodeBuilder &k, int64_t value, int64_t n);
/// Where lookUpTable() wants the fifth bit of each of `n` codes in its byte.
inline int64_t fifthBit(const CodeBuilder &k, int64_t n) {
  return n >= k.target.lookUpBytes && !k.target.lookUpOf32.empty() ? 4 : 7;
}
/// The values of a format's table as bytes for 16 or 64 codes: bytes of `low` hold their low four
/// bits and anything above, of codes of five bits those of `fifth` the fifth as bit fifthBit() and
/// anything beside. `form`: not Code.
Value lookUpTable(CodeBuilder &k, const FormatInfo &info, Value low, Value fifth, ByteForm form);

/// Reads the tiles of one packed linear, operand `operand` of the kernel.
class WeightReader {
public:
  WeightReader(KernelBuilder &k, int operand);

  const FormatInfo &info;
  bool signedBytes; ///< 8-bit grids and the table; otherwise bytes are codes
  bool asymmetric, given;
  int64_t dotInputs; ///< inputs summed before a scale: 16 in groups of 16, else 32

  /// The bytes [16 rows x 4 inputs] of inputs 8 run .. 8 run + 3 and of the next four; `run`
  /// (index) counts in the block at byte `block`. Not for f32.
  std::pair<Value, Value> run(Value block, Value run, ByteForm form);
  const Buffer bytes; ///< all of the operand
  /// Of formats of 8 bits: the byte where the codes of a block begin, 64 for each four inputs, as
  /// run() gives them in the form Offset.
  Value byteLines(Value block) { return k.add(block, info.blockHeaderBytes); }
  /// Asks for the lines of a block that will be read soon.
  void prefetch(Value block);
  /// Column `input` (index) of an f32 block.
  Value floats(Value block, Value input);

  /// Scales of the 16 rows for dot product `dot` (index, of 64 / dotInputs) of a block; none in f32
  /// and s8c.
  Value scale(Value block, Value dot);
  /// Minimums likewise, asymmetric formats.
  Value minimum(Value block, Value dot);
  /// Zero points as int32, formats that the model file gives.
  Value zeroPoint(Value block, Value dot);
  /// Scales of the tile's rows: s8c, or ds; none in the others.
  Value rowScale(Value tile);
  /// dm of asymmetric formats.
  Value rowMinimum(Value tile);

private:
  KernelBuilder &k;
  Buffer halfWords, halfFloats, words;
  int64_t alignment; ///< of lines

  Value line(Value block, int64_t offset, Value index);
  Value headerBytes(Value block, Value offset);
  Value rowFactor(Value tile, int64_t i);
  Value groupOf(Value dot);
  int64_t groups() const { return blockInputs / info.group; }
};

} // namespace smelt
