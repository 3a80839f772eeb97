// The vocabulary that kernels are written in: short names for the operations that an emitter needs,
// on vectors of 16 lanes.
//
// Lanes never mix except in reduceAdd and reduceMax, whose tree is fixed: that, fma instead of
// separate rounding wherever it is spelled, and no fast-math anywhere make every target compute the
// same bits.
#pragma once

#include "passes/lower/kernels/layout.h"
#include "passes/lower/target.h"
#include "runtime/artifact/format.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

#include <functional>
#include <map>

namespace smelt {

using mlir::Type;
using mlir::Value;
using mlir::ValueRange;
using Values = llvm::SmallVector<Value>;

inline constexpr int64_t lanes = 16;

/// A flat memory of elements of one type; several Buffers may view the same operand.
struct Buffer {
  Value memref;
};

/// What a kernel that is shared by several shapes is told behind the fields of the step.
enum ShapeField : uint32_t {
  FieldOutputs = format::FieldCount, ///< KernelSpec::rows
  FieldInStride,
  FieldOutStride,
  FieldAdds, ///< LinearEpilogue::AddTo instead of Store
  AllFieldCount
};

/// Operations on scalars and vectors, loops and single elements of memory: what CPU and GPU kernels
/// are both written in.
class ValueBuilder {
public:
  explicit ValueBuilder(mlir::ModuleOp module);
  virtual ~ValueBuilder() = default;

  mlir::ImplicitLocOpBuilder b;

  // --- Types
  Type i8, i16, i32, f16, f32, index;
  mlir::VectorType vec(int64_t n, Type t) { return mlir::VectorType::get({n}, t); }

  // --- Index arithmetic (unsigned in effect: never negative)
  Value idx(int64_t value);
  Value add(Value a, Value b);
  Value add(Value a, int64_t b) { return add(a, idx(b)); }
  Value sub(Value a, Value b);
  Value mul(Value a, Value b);
  Value mul(Value a, int64_t b) { return mul(a, idx(b)); }
  Value div(Value a, int64_t b); ///< rounds down
  Value div(Value a, Value b);
  Value rem(Value a, int64_t b);
  Value rem(Value a, Value b);
  Value min(Value a, Value b);
  Value max(Value a, Value b);
  Value ceilDiv(Value a, int64_t b) { return div(add(a, b - 1), b); }
  Value toIndex(Value i32Value);
  Value less(Value a, Value b); ///< signed index a < b
  Value lessEqual(Value a, Value b);

  // --- Control flow
  void loop(Value begin, Value end, int64_t step, const std::function<void(Value)> &body);
  /// A loop with carried values; `body` returns the next ones.
  Values loop(Value begin, Value end, int64_t step, ValueRange init,
              const std::function<Values(Value, ValueRange)> &body);
  void ifThen(Value condition, const std::function<void()> &body);
  Values ifElse(Value condition, mlir::TypeRange types, const std::function<Values()> &thenBody,
                const std::function<Values()> &elseBody);

  // --- Memory; indices in elements
  Value load(Buffer buffer, Value at);
  void store(Buffer buffer, Value at, Value value);

  // --- Scalars and vectors
  Value f32Const(double value);
  Value i32Const(int64_t value);
  Value splat(Value scalar, int64_t n = lanes);
  Value splatF(double value, int64_t n = lanes);  ///< float constant vector
  Value splatI(int64_t value, int64_t n = lanes); ///< int32 constant vector
  /// A float constant: a scalar or all lanes of a vector, whichever `like` is.
  Value constantLike(Value like, double value);
  Value fadd(Value a, Value b);
  Value fsub(Value a, Value b);
  Value fmul(Value a, Value b);
  Value fdiv(Value a, Value b);
  Value fneg(Value a);
  Value fabs(Value a);
  virtual Value fma(Value a, Value b, Value c); ///< a * b + c, rounded once
  Value fmax(Value a, Value b);                 ///< a > b ? a : b
  Value fmin(Value a, Value b);                 ///< a < b ? a : b
  Value fsqrt(Value a);                         ///< correctly rounded
  Value select(Value condition, Value a, Value b);
  Value iadd(Value a, Value b); ///< integer scalars or vectors
  Value isub(Value a, Value b);
  Value imul(Value a, Value b);
  Value iand(Value a, Value b);
  Value ior(Value a, Value b);
  Value ixor(Value a, Value b);
  Value shl(Value a, int64_t bits);
  Value shrArith(Value a, int64_t bits);
  Value shrLogic(Value a, int64_t bits);
  Value toFloat(Value i); ///< int32 -> float
  Value toInt(Value f);   ///< float -> int32, truncating
  Value roundEven(Value f);

  // --- Our polynomials (kernels/math.cpp): the same bits on every target
  Value exp(Value v); ///< <= 2 ulp on [-87, 88]; exactly 1 at 0; 0 below -87 (so at -inf too)
  /// 2^v for v <= 0: <= 2 ulp; exactly 1 at 0; 2^-126 from -126 on (so at -inf too).
  Value exp2OfNegative(Value v);
  /// factor * 2^v for v <= 0, with a relative error of 1.1e-4: for what is rounded to 8 bits then.
  Value coarseExp2OfNegative(Value v, double factor);
  Value coarseLog2(Value v); ///< absolute error 1.5e-5 and 1 ulp; v > 0 must be normal
  Value tanh(Value v);
  Value erf(Value v);
  Value activate(uint32_t activationKind, Value v); ///< smelt::ActivationKind

protected:
  /// `element`, or the vector of it with as many lanes as `like` has.
  static Type typeOf(Value like, Type element);
  /// Constants stand at its start; set it before anything is written.
  mlir::Block *entry = nullptr;

private:
  std::map<int64_t, Value> indices; ///< constants made so far
};

/// Writes one function with the signature of a CPU kernel.
class CodeBuilder : public ValueBuilder {
public:
  CodeBuilder(mlir::ModuleOp module, llvm::StringRef symbol, const KernelTarget &target);
  /// Ends the function (func.return).
  void finish();
  /// Calls a function of this module, made by `body` when it is called first with operands of these
  /// types: for what takes many instructions and occurs often. `body` is given its arguments; it
  /// must not use operands, fields or idx().
  Value callOnce(llvm::StringRef name, ValueRange operands,
                 const std::function<Value(ValueRange)> &body);
  /// Calls the kernel `symbol` with this one's operands and other fields.
  void callWithFields(llvm::StringRef symbol, llvm::ArrayRef<Value> words);

  const KernelTarget &target;

  // --- Operands. `operand(i, type)` is operand i as a flat array of `type`.
  Buffer operand(int i, Type elementType);
  Value field(uint32_t field); ///< of format::StepField or ShapeField, as index
  /// The share [begin, end) of `count` items of this thread; items are dealt evenly and
  /// contiguously.
  std::pair<Value, Value> threadShare(Value count);

  // --- Memory; indices in elements. Vector accesses carry the element's alignment unless `align`
  // (bytes) says more.
  Value loadVector(Buffer buffer, Value at, int64_t n = lanes, int64_t align = 0);
  void storeVector(Buffer buffer, Value at, Value value, int64_t align = 0);
  /// First n lanes only; the rest of the load is `zero`, of the store untouched.
  Value loadPartial(Buffer buffer, Value at, Value n);
  void storePartial(Buffer buffer, Value at, Value value, Value n);
  /// Asks for the cache line of an element that will be read soon; any address is harmless.
  void prefetch(Buffer buffer, Value at);
  /// n elements of private memory on the stack, 64-byte aligned; call it at function level, not in
  /// a loop.
  Buffer scratch(int64_t n, Type elementType);

  // --- Vectors
  Value fma(Value a, Value b, Value c) override;
  Value bitcast(Value vector, mlir::VectorType type);
  Value extend(Value f16Value);                ///< float16 -> float
  Value truncate(Value f32Value);              ///< float -> float16, nearest even
  Value fromBfloat16(Value bits);              ///< the bits of a bfloat16 (i16) -> float
  Value zeroExtend(Value v, Type elementType); ///< integer vector to wider elements
  Value signExtend(Value v, Type elementType);
  Value narrow(Value v, Type elementType); ///< integer vector to smaller elements (drops high bits)
  Value lane(Value vector, int64_t i);     ///< element i
  Value slice(Value vector, int64_t first, int64_t n);
  Value concat(Value a, Value b);
  Value laneIds(); ///< int32 0..15
  /// Sum of the 16 lanes: halves added 8 + 8, 4 + 4, 2 + 2, 1 + 1. Of integers as well.
  Value reduceAdd(Value v) { return reduceAdd(llvm::ArrayRef<Value>(v)).front(); }
  Value reduceMax(Value v) { return reduceMax(llvm::ArrayRef<Value>(v)).front(); }
  /// The same of each vector: they share the steps, so that several cost little more than one.
  Values reduceAdd(llvm::ArrayRef<Value> vectors);
  Values reduceMax(llvm::ArrayRef<Value> vectors);

private:
  Values reduce(llvm::ArrayRef<Value> vectors, const std::function<Value(Value, Value)> &combine);
  // --- What old CPUs lack, of what they have (kernels/substitutes.cpp)
  Value fmaOfParts(Value a, Value b, Value c);
  Value extendBits(Value f16Value);
  Value truncateBits(Value f32Value);
  Value fmaBody(Value a, Value b, Value c);
  Value extendBody(Value f16Value);
  Value truncateBody(Value f32Value);

  mlir::ModuleOp module;
  mlir::func::FuncOp function;
};

/// A kernel of a token program.
class KernelBuilder : public CodeBuilder {
public:
  KernelBuilder(mlir::ModuleOp module, const KernelSpec &spec, const KernelTarget &target);
  const KernelSpec &spec;
  /// Rows of the spec's domain (tokens or logit rows); a constant 1 in one-row kernels.
  Value rowCount();
  // --- What a shared kernel is told, and others know
  Value outputs();
  Value inStride();
  Value outStride();
  /// Calls the kernel of calledForm().
  void callForm(const KernelSpec &called);
  /// How the spec's activations lie for this target.
  ActivationLayout activations() const {
    return activationLayout(spec.activation, spec.cols, spec.one, target.tiles);
  }
};

// The emitters, one file each; each writes the whole body of the kernel.
void emitEmbed(KernelBuilder &k);
void emitNorm(KernelBuilder &k);
void emitQuantize(KernelBuilder &k);
void emitLinear(KernelBuilder &k);
void emitRopeAppend(KernelBuilder &k);
void emitAttentionOne(KernelBuilder &k);
void emitAttentionMerge(KernelBuilder &k);
void emitAttentionMany(KernelBuilder &k);
void emitElementwise(KernelBuilder &k);

} // namespace smelt
