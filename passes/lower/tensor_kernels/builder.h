// What tensor kernels are written in: the kernel vocabulary, the operands of a TensorSpec, and
// boxes of axes to run over.
//
// Operands are counted as in the spec, outputs first. Dimensions come from the frame as `index`
// values; they are never negative, and the count of elements of an operand fits 63 bits.
#pragma once

#include "passes/lower/kernels/builder.h"
#include "passes/lower/tensor_spec.h"

#include <map>

namespace smelt {

using format::ElementType;

class TensorKernelBuilder : public CodeBuilder {
public:
  TensorKernelBuilder(mlir::ModuleOp module, const TensorSpec &spec, const KernelTarget &target);

  const TensorSpec &spec;
  const int outputs;
  Type i1, i64, f64;

  // --- Operands
  int input(int i) const { return outputs + i; }
  bool has(int operand) const {
    return operand < int(spec.ranks.size()) && spec.given[size_t(operand)];
  }
  int rank(int operand) const { return int(spec.ranks[size_t(operand)]); }
  ElementType type(int operand) const { return spec.types[size_t(operand)]; }
  bool isFloat(int operand) const {
    return type(operand) == ElementType::F32 || type(operand) == ElementType::F64;
  }

  // --- The frame
  Value dim(int operand, int axis);
  Values dims(int operand);
  Value dim(int operand, Value axis);
  /// Shape kernels: dimension of an output.
  void setDim(int operand, int axis, Value value) { setDim(operand, idx(axis), value); }
  void setDim(int operand, Value axis, Value value);
  /// Sets the fault where `condition` (i1) holds.
  void failIf(Value condition, format::TensorFault fault);
  /// Product, 1 of none.
  Value product(mlir::ArrayRef<Value> values);
  Value count(int operand) { return product(dims(operand)); }
  /// Row-major strides in elements.
  Values strides(mlir::ArrayRef<Value> dims);

  // --- Elements. They are computed with as f32, f64, i64, i32 (I32, I8, U8) or i1 (Bool).
  Type memoryType(ElementType type);
  Type computeType(ElementType type);
  Buffer data(int operand) { return operandBuffer(operand); }
  Value toCompute(Value memory, ElementType type);  ///< scalar or vector
  Value toMemory(Value computed, ElementType type); ///< the same; drops high bits
  Value element(int operand, Value at);
  void setElement(int operand, Value at, Value value);
  /// An element of integer type as index.
  Value indexElement(int operand, Value at);
  /// The element at at + i * stride for lanes i < n (1 <= n <= 16); the other lanes hold `fill`.
  Value elementLanes(int operand, Value at, Value stride, Value n, Value fill = {});
  /// Stores lanes i < n to at + i.
  void setElementLanes(int operand, Value at, Value n, Value value);

  // --- Polymorphic arithmetic: scalars or vectors of any computed type
  Value number(Type type, double value); ///< of a scalar or vector type
  Value number(Value like, double value) { return number(like.getType(), value); }
  Value integer(Type type, int64_t value);
  Value integer(Value like, int64_t value) { return integer(like.getType(), value); }
  Type like(Value value, Type element); ///< `element` with the lanes of `value`
  Value cmpf(mlir::arith::CmpFPredicate predicate, Value a, Value b);
  Value cmpi(mlir::arith::CmpIPredicate predicate, Value a, Value b);
  Value equal(Value a, Value b) { return cmpi(mlir::arith::CmpIPredicate::eq, a, b); }
  Value notEqual(Value a, Value b) { return cmpi(mlir::arith::CmpIPredicate::ne, a, b); }
  Value both(Value a, Value b) { return iand(a, b); }
  Value either(Value a, Value b) { return ior(a, b); }
  Value truth(bool value) { return integer(i1, value); }
  Value negate(Value condition) { return ixor(condition, integer(condition, 1)); }
  Value fromIndex(Value index, Type integerType);

private:
  Buffer operandBuffer(int operand);
  std::vector<Buffer> buffers;
  std::map<std::pair<int, int>, Value> frameDims;
  std::map<const void *, Buffer> laneScratch;
};

/// Axes with one stride for each of some buffers, in elements. Axes of length 1 are dropped and
/// neighbours that are one axis for all buffers become one, so that what is left depends on the
/// shapes only.
class Box {
public:
  Box(TensorKernelBuilder &k, int buffers) : k(k), buffers(buffers) {}
  /// Outermost first.
  void axis(Value dim, mlir::ArrayRef<Value> strides) {
    axes.push_back(dim);
    axes.append(strides.begin(), strides.end());
  }
  /// Ends the list of axes.
  void close();

  Value outer; ///< product of all axes but the last
  Value inner; ///< length of the last one
  Values innerStrides;
  /// Offsets of row `row` < outer of each buffer.
  Values offsets(Value row);

  /// Shares rows and runs of at most 1024 elements of them out to the threads: elements first ..
  /// last - 1 of the inner axis, of a row at `offsets`.
  void forRuns(const std::function<void(ValueRange offsets, Value first, Value last)> &body);

private:
  TensorKernelBuilder &k;
  int buffers;
  Values axes;
  Buffer table; ///< merged axes, innermost first: length, strides
  Value merged; ///< how many

  Value entry(Value axis, int64_t field);
};

/// Copies a box of (out, in) by all threads: out operand 0, in `operand`, from these offsets on.
void copyBox(TensorKernelBuilder &k, Box &box, int operand, Value outOffset, Value inOffset);
/// Copies `n` elements, contiguous on both sides, by this thread.
void copyRun(TensorKernelBuilder &k, int operand, Value outOffset, Value inOffset, Value n);

} // namespace smelt
