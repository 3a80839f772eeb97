// The vocabulary of GPU kernels: scalars of one thread, words of memory, exchange within a
// workgroup.
//
// Every operand is an array of int32 words, so that no device needs more than those; floats are
// their bits, halves and bytes are parts of words. Parts are written with atomics, for other
// threads may write the other parts.
#pragma once

#include "passes/lower/gpu_kernels.h"
#include "passes/lower/kernels/builder.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"

namespace smelt {

/// Words of global or workgroup memory, from `first` (null: 0) on.
struct Words {
  Value memref, first;
};

class GpuBuilder : public ValueBuilder {
public:
  GpuBuilder(mlir::ModuleOp module, const KernelSpec &spec, const GpuTarget &target);
  /// Ends the function.
  void finish();

  const KernelSpec &spec;
  const GpuTarget &target;
  const GpuLaunch launch;

  // --- Operands and places in the grid, as index
  Words operand(int i);
  Value field(format::StepField field);
  /// Rows of the spec's domain; a constant 1 in one-row kernels.
  Value rowCount();
  Value thread() { return threadId; }
  Value group() { return groupId[0]; }
  Value rowGroup() { return spec.one ? idx(0) : groupId[1]; }
  Value positionBlock() { return groupId[2]; }
  /// The input row of output row `row`: itself, or LogitRows[row] (operand i) when the kernel
  /// gathers.
  Value sourceRow(int i, Value row) {
    return spec.gatherRows ? toIndex(word(operand(i), row)) : row;
  }
  using ValueBuilder::loop;
  /// The carried values are `init` where the loop has no iteration, too: the conversion to SPIR-V
  /// alone leaves them undefined then.
  Values loop(Value begin, Value end, int64_t step, ValueRange init,
              const std::function<Values(Value, ValueRange)> &body);
  /// Calls `body(item)` for the items that are this thread's: thread, thread + threads, ...
  void forItems(int64_t count, const std::function<void(Value)> &body);

  // --- Memory; indices in the elements that the name says
  Value word(Words words, Value at);   ///< int32
  Value number(Words words, Value at); ///< float
  Value half(Words words, Value at);   ///< float16 -> float
  /// Elements `at`, even, and at + 1.
  std::pair<Value, Value> halves(Words words, Value at);
  Value bfloat16(Words words, Value at);
  Value byte(Words words, Value at); ///< int32 0..255
  /// Elements `at` of their word.
  Value byteOf(Value word, Value at);
  Value halfOf(Value word, Value at);
  void setWord(Words words, Value at, Value value);
  void setNumber(Words words, Value at, Value value);
  /// Where target.isPtx(): `n` (2 or 4) words from `at` on, a multiple of n.
  Values wordsTogether(Words words, Value at, int64_t n);
  void setWordsTogether(Words words, Value at, ValueRange values);
  /// Float (finite, within float16) -> float16, nearest even.
  void setHalf(Words words, Value at, Value value);
  void setByte(Words words, Value at, Value value); ///< the low 8 bits
  /// Adds to a word of global memory; what it was before. Other threads may do the same.
  Value addToWord(Words words, Value at, Value value);
  /// Workgroup memory.
  Words shared(int64_t words);
  /// Workgroup memory written before is read after.
  void barrier();

  // --- Values
  Value fma(Value a, Value b, Value c) override;
  Value roundToHalf(Value number); ///< to what setHalf() writes
  Value asFloat(Value bits);
  Value asBits(Value number);
  Value signedByte(Value word, int64_t i);   ///< byte i of a word as int32 -128..127
  Value unsignedByte(Value word, int64_t i); ///< 0..255
  /// Low bytes of four int32 as a word, the first lowest.
  Value packBytes(ValueRange bytes);
  Value shrLogicBy(Value word, Value bits);
  /// sum + the four products of the bytes of two words, those of `inputs` signed.
  Value addProducts(Value sum, Value codes, bool signedCodes, Value inputs);
  bool permutesBytes() const { return target.isPtx(); }
  /// Where permutesBytes(): of the eight bytes of `low` and `high` those that the four lowest
  /// nibbles of `places` (0..7) name.
  Value permuteBytes(Value low, Value high, Value places);
  /// Where target.isPtx(), by a whole warp: sums + the product of 16 rows of codes with 8 rows of
  /// signed bytes over 32 inputs (four words of codes, two of inputs) or 16 (two and one). Which
  /// thread holds what: linear_tiles.cpp.
  Values addTileProduct(ValueRange sums, ValueRange codes, bool signedCodes, ValueRange inputs);
  Value is(mlir::arith::CmpIPredicate predicate, Value a, Value b);
  Value isEqual(Value a, Value b) { return is(mlir::arith::CmpIPredicate::eq, a, b); }
  Value both(Value a, Value b) { return iand(a, b); }

  using Combine = std::function<Value(Value, Value)>;
  /// Combines each value over `n` neighbouring threads (a power of two; the threads of a workgroup
  /// are a multiple); all of them get the same bits. Every thread of the workgroup must take part.
  Values reduce(Values values, int64_t n, const Combine &combine);
  Value reduceOne(Value value, int64_t n, const Combine &combine) {
    return reduce({value}, n, combine)[0];
  }
  Value reduceSum(Value value) {
    return reduceOne(value, launch.threads, [&](Value a, Value c) { return fadd(a, c); });
  }

  /// What the thread `distance` (a power of two, by xor) away has. As reduce().
  Values exchanged(ValueRange values, int64_t distance);

private:
  mlir::gpu::GPUFuncOp function;
  Value threadId, groupId[3];
  Words operands[format::operandCount]; ///< those used so far
  Words exchange;                       ///< of reduce(); made when first used
  int64_t exchangeWords = 0;

  Type globalWords();
  Value addressOf(Words words, Value at) { return words.first ? add(words.first, at) : at; }
  Value bitOffset(Value at, int64_t perWord);
  void setBits(Words words, Value at, int64_t width, Value bits);
};

// The emitters, one file a family; each writes the whole body of the kernel.
void emitGpuEmbed(GpuBuilder &k);
void emitGpuNorm(GpuBuilder &k);
void emitGpuQuantize(GpuBuilder &k);
void emitGpuLinear(GpuBuilder &k);
void emitGpuRopeAppend(GpuBuilder &k);
void emitGpuAttentionOne(GpuBuilder &k);
void emitGpuAttentionMerge(GpuBuilder &k);
void emitGpuAttentionMany(GpuBuilder &k);
void emitGpuAttentionTiles(GpuBuilder &k);
void emitGpuElementwise(GpuBuilder &k);
void emitGpuArgmaxParts(GpuBuilder &k);
void emitGpuArgmax(GpuBuilder &k);
void emitGpuBlockMaxima(GpuBuilder &k);
void emitGpuCandidates(GpuBuilder &k);

} // namespace smelt
