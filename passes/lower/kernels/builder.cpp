// The kernel vocabulary in terms of upstream dialects.
#include "passes/lower/kernels/builder.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

using namespace mlir;

namespace smelt {

namespace {

/// Operands are memrefs of static shape only because the bare-pointer calling convention wants one;
/// no kernel relies on it.
constexpr int64_t nominalBytes = int64_t(1) << 40;

} // namespace

ValueBuilder::ValueBuilder(ModuleOp module) : b(module.getLoc(), module.getContext()) {
  i8 = b.getI8Type();
  i16 = b.getI16Type();
  i32 = b.getI32Type();
  f16 = b.getF16Type();
  f32 = b.getF32Type();
  index = b.getIndexType();
}

CodeBuilder::CodeBuilder(ModuleOp module, StringRef symbol, const KernelTarget &target)
    : ValueBuilder(module), target(target), module(module) {
  b.setInsertionPointToEnd(module.getBody());
  SmallVector<Type> inputs{MemRefType::get({AllFieldCount}, b.getI64Type())};
  inputs.append(format::operandCount, MemRefType::get({nominalBytes}, i8));
  function = func::FuncOp::create(b, symbol, b.getFunctionType(inputs, {}));
  for (unsigned i = 0; i < inputs.size(); ++i)
    function.setArgAttr(i, LLVM::LLVMDialect::getNoAliasAttrName(), b.getUnitAttr());
  entry = function.addEntryBlock();
  b.setInsertionPointToStart(entry);
}

void CodeBuilder::finish() { func::ReturnOp::create(b); }

Value CodeBuilder::callOnce(StringRef name, ValueRange operands,
                            const std::function<Value(ValueRange)> &body) {
  std::string symbol;
  llvm::raw_string_ostream text(symbol);
  text << "smelt_" << name;
  for (Type type : operands.getTypes())
    text << "_" << type;
  auto callee = module.lookupSymbol<func::FuncOp>(symbol);
  if (!callee) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToEnd(module.getBody());
    callee = func::FuncOp::create(b, symbol, b.getFunctionType(operands.getTypes(), {}));
    b.setInsertionPointToStart(callee.addEntryBlock());
    Value result = body(callee.getArguments());
    func::ReturnOp::create(b, result);
    callee.setType(b.getFunctionType(operands.getTypes(), result.getType()));
    callee->setAttr("llvm.linkage",
                    LLVM::LinkageAttr::get(b.getContext(), LLVM::Linkage::Internal));
    callee->setAttr("passthrough", b.getStrArrayAttr({"noinline"}));
  }
  return func::CallOp::create(b, callee, operands).getResult(0);
}

void CodeBuilder::callWithFields(StringRef symbol, ArrayRef<Value> words) {
  Buffer info = scratch(AllFieldCount, b.getI64Type());
  for (auto [i, word] : llvm::enumerate(words))
    store(info, idx(int64_t(i)), word);
  Values operands{info.memref};
  operands.append(function.getArguments().begin() + 1, function.getArguments().end());
  func::FuncOp other;
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToEnd(module.getBody());
    other = func::FuncOp::create(b, symbol, function.getFunctionType());
    other.setPrivate();
  }
  func::CallOp::create(b, other, operands);
}

//===--- Operands -----------------------------------------------------------------------------===//

Buffer CodeBuilder::operand(int i, Type elementType) {
  Value bytes = function.getArgument(1 + i);
  if (elementType == i8)
    return {bytes};
  int64_t size = elementType.getIntOrFloatBitWidth() / 8;
  auto type = MemRefType::get({nominalBytes / size}, elementType);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(entry);
  // A zero of its own: constants made before stand behind this place.
  Value zero = arith::ConstantIndexOp::create(b, 0);
  return {memref::ViewOp::create(b, type, bytes, zero, ValueRange{})};
}

Value CodeBuilder::field(uint32_t field) {
  Value value = memref::LoadOp::create(b, function.getArgument(0), ValueRange{idx(field)});
  return arith::IndexCastOp::create(b, index, value);
}

KernelBuilder::KernelBuilder(ModuleOp module, const KernelSpec &spec, const KernelTarget &target)
    : CodeBuilder(module, spec.name(), target), spec(spec) {}

void KernelBuilder::callForm(const KernelSpec &called) {
  Values words;
  auto word = [&](Value index) {
    words.push_back(arith::IndexCastOp::create(b, b.getI64Type(), index));
  };
  for (uint32_t i = 0; i < format::FieldCount; ++i)
    word(field(spec.logitRows && i == format::FieldTokens ? uint32_t(format::FieldLogitRows) : i));
  if (called.shared)
    for (int64_t value : {spec.rows, spec.inStride, spec.outStride,
                          int64_t(spec.epilogue == LinearEpilogue::AddTo)})
      word(idx(value));
  callWithFields(called.name(), words);
}

Value KernelBuilder::outputs() { return spec.shared ? field(FieldOutputs) : idx(spec.rows); }
Value KernelBuilder::inStride() { return spec.shared ? field(FieldInStride) : idx(spec.inStride); }
Value KernelBuilder::outStride() {
  return spec.shared ? field(FieldOutStride) : idx(spec.outStride);
}

Value KernelBuilder::rowCount() {
  if (spec.one)
    return idx(1);
  return field(format::FieldTokens);
}

//===--- Index arithmetic ---------------------------------------------------------------------===//

Value ValueBuilder::idx(int64_t value) {
  Value &constant = indices[value];
  if (!constant) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(entry);
    constant = arith::ConstantIndexOp::create(b, value);
  }
  return constant;
}
Value ValueBuilder::add(Value a, Value c) { return arith::AddIOp::create(b, a, c); }
Value ValueBuilder::sub(Value a, Value c) { return arith::SubIOp::create(b, a, c); }
Value ValueBuilder::mul(Value a, Value c) { return arith::MulIOp::create(b, a, c); }
Value ValueBuilder::div(Value a, int64_t c) { return arith::DivUIOp::create(b, a, idx(c)); }
Value ValueBuilder::div(Value a, Value c) { return arith::DivUIOp::create(b, a, c); }
Value ValueBuilder::rem(Value a, int64_t c) { return arith::RemUIOp::create(b, a, idx(c)); }
Value ValueBuilder::rem(Value a, Value c) { return arith::RemUIOp::create(b, a, c); }
Value ValueBuilder::min(Value a, Value c) { return arith::MinSIOp::create(b, a, c); }
Value ValueBuilder::max(Value a, Value c) { return arith::MaxSIOp::create(b, a, c); }
Value ValueBuilder::toIndex(Value v) { return arith::IndexCastOp::create(b, index, v); }
Value ValueBuilder::less(Value a, Value c) {
  return arith::CmpIOp::create(b, arith::CmpIPredicate::slt, a, c);
}
Value ValueBuilder::lessEqual(Value a, Value c) {
  return arith::CmpIOp::create(b, arith::CmpIPredicate::sle, a, c);
}

std::pair<Value, Value> CodeBuilder::threadShare(Value count) {
  Value thread = field(format::FieldThread), threads = field(format::FieldThreads);
  Value begin = div(mul(count, thread), threads);
  Value end = div(mul(count, add(thread, 1)), threads);
  return {begin, end};
}

//===--- Control flow -------------------------------------------------------------------------===//

void ValueBuilder::loop(Value begin, Value end, int64_t step,
                        const std::function<void(Value)> &body) {
  auto op = scf::ForOp::create(b, begin, end, idx(step));
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(op.getBody());
  body(op.getInductionVar());
}

Values ValueBuilder::loop(Value begin, Value end, int64_t step, ValueRange init,
                          const std::function<Values(Value, ValueRange)> &body) {
  auto op = scf::ForOp::create(b, begin, end, idx(step), init);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(op.getBody());
  scf::YieldOp::create(b, body(op.getInductionVar(), op.getRegionIterArgs()));
  return Values(op.getResults());
}

void ValueBuilder::ifThen(Value condition, const std::function<void()> &body) {
  auto op = scf::IfOp::create(b, condition, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(op.thenBlock());
  body();
}

Values ValueBuilder::ifElse(Value condition, TypeRange types,
                            const std::function<Values()> &thenBody,
                            const std::function<Values()> &elseBody) {
  auto op = scf::IfOp::create(b, types, condition, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  auto fill = [&](Block *block, const std::function<Values()> &body) {
    b.setInsertionPointToEnd(block);
    Values results = body();
    if (!types.empty())
      scf::YieldOp::create(b, results);
    else if (block->empty() || !block->back().hasTrait<OpTrait::IsTerminator>())
      scf::YieldOp::create(b);
  };
  if (types.empty()) { // the builder has made the terminators already
    op.thenBlock()->back().erase();
    op.elseBlock()->back().erase();
  }
  fill(op.thenBlock(), thenBody);
  fill(op.elseBlock(), elseBody);
  return Values(op.getResults());
}

//===--- Memory -------------------------------------------------------------------------------===//

Value ValueBuilder::load(Buffer buffer, Value at) {
  return memref::LoadOp::create(b, buffer.memref, ValueRange{at});
}

void ValueBuilder::store(Buffer buffer, Value at, Value value) {
  memref::StoreOp::create(b, value, buffer.memref, ValueRange{at});
}

Value CodeBuilder::loadVector(Buffer buffer, Value at, int64_t n, int64_t align) {
  Type element = cast<MemRefType>(buffer.memref.getType()).getElementType();
  auto op = vector::LoadOp::create(b, vec(n, element), buffer.memref, ValueRange{at});
  if (align)
    op.setAlignment(align);
  return op;
}

void CodeBuilder::storeVector(Buffer buffer, Value at, Value value, int64_t align) {
  auto op = vector::StoreOp::create(b, value, buffer.memref, ValueRange{at});
  if (align)
    op.setAlignment(align);
}

Value CodeBuilder::loadPartial(Buffer buffer, Value at, Value n) {
  Type element = cast<MemRefType>(buffer.memref.getType()).getElementType();
  auto type = vec(lanes, element);
  Value mask = vector::CreateMaskOp::create(b, vec(lanes, b.getI1Type()), ValueRange{n});
  Value zero = arith::ConstantOp::create(b, type, b.getZeroAttr(type));
  return vector::MaskedLoadOp::create(b, type, buffer.memref, ValueRange{at}, mask, zero);
}

void CodeBuilder::storePartial(Buffer buffer, Value at, Value value, Value n) {
  Value mask = vector::CreateMaskOp::create(b, vec(lanes, b.getI1Type()), ValueRange{n});
  vector::MaskedStoreOp::create(b, buffer.memref, ValueRange{at}, mask, value);
}

void CodeBuilder::prefetch(Buffer buffer, Value at) {
  constexpr uint32_t keepInAllLevels = 3;
  memref::PrefetchOp::create(b, buffer.memref, ValueRange{at}, false, keepInAllLevels, true);
}

Buffer CodeBuilder::scratch(int64_t n, Type elementType) {
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(entry);
  return {memref::AllocaOp::create(b, MemRefType::get({n}, elementType), b.getI64IntegerAttr(64))};
}

//===--- Scalars and vectors ------------------------------------------------------------------===//

Value ValueBuilder::f32Const(double value) {
  return arith::ConstantOp::create(b, b.getF32FloatAttr(float(value)));
}
Value ValueBuilder::i32Const(int64_t value) {
  return arith::ConstantOp::create(b, b.getI32IntegerAttr(int32_t(value)));
}
Value ValueBuilder::splat(Value scalar, int64_t n) {
  return vector::BroadcastOp::create(b, vec(n, scalar.getType()), scalar);
}
Value ValueBuilder::splatF(double value, int64_t n) {
  auto type = vec(n, f32);
  return arith::ConstantOp::create(b, DenseElementsAttr::get(type, float(value)));
}
Value ValueBuilder::splatI(int64_t value, int64_t n) {
  auto type = vec(n, i32);
  return arith::ConstantOp::create(b, DenseElementsAttr::get(type, int32_t(value)));
}
Value ValueBuilder::constantLike(Value like, double value) {
  if (auto type = dyn_cast<VectorType>(like.getType()))
    return splatF(value, type.getNumElements());
  return f32Const(value);
}
Value CodeBuilder::bitcast(Value vector, VectorType type) {
  return vector::BitCastOp::create(b, type, vector);
}
Value ValueBuilder::fadd(Value a, Value c) { return arith::AddFOp::create(b, a, c); }
Value ValueBuilder::fsub(Value a, Value c) { return arith::SubFOp::create(b, a, c); }
Value ValueBuilder::fmul(Value a, Value c) { return arith::MulFOp::create(b, a, c); }
Value ValueBuilder::fdiv(Value a, Value c) { return arith::DivFOp::create(b, a, c); }
Value ValueBuilder::fneg(Value a) { return arith::NegFOp::create(b, a); }
Value ValueBuilder::fabs(Value a) { return math::AbsFOp::create(b, a); }
Value ValueBuilder::fma(Value a, Value c, Value d) { return math::FmaOp::create(b, a, c, d); }
Value CodeBuilder::fma(Value a, Value c, Value d) {
  return target.hasFma ? ValueBuilder::fma(a, c, d) : fmaOfParts(a, c, d);
}
Value ValueBuilder::fmax(Value a, Value c) {
  return select(arith::CmpFOp::create(b, arith::CmpFPredicate::OGT, a, c), a, c);
}
Value ValueBuilder::fmin(Value a, Value c) {
  return select(arith::CmpFOp::create(b, arith::CmpFPredicate::OLT, a, c), a, c);
}
Value ValueBuilder::fsqrt(Value a) { return math::SqrtOp::create(b, a); }
Value ValueBuilder::select(Value condition, Value a, Value c) {
  return arith::SelectOp::create(b, condition, a, c);
}
Value ValueBuilder::iadd(Value a, Value c) { return arith::AddIOp::create(b, a, c); }
Value ValueBuilder::isub(Value a, Value c) { return arith::SubIOp::create(b, a, c); }
Value ValueBuilder::imul(Value a, Value c) { return arith::MulIOp::create(b, a, c); }
Value ValueBuilder::iand(Value a, Value c) { return arith::AndIOp::create(b, a, c); }
Value ValueBuilder::ior(Value a, Value c) { return arith::OrIOp::create(b, a, c); }
Value ValueBuilder::ixor(Value a, Value c) { return arith::XOrIOp::create(b, a, c); }

/// An integer constant of the (scalar or vector) type of `like`.
static Value integerLike(ImplicitLocOpBuilder &b, Value like, int64_t value) {
  Type type = like.getType();
  if (auto vector = dyn_cast<VectorType>(type))
    return arith::ConstantOp::create(
        b, DenseElementsAttr::get(vector, b.getIntegerAttr(vector.getElementType(), value)));
  return arith::ConstantOp::create(b, b.getIntegerAttr(type, value));
}
Value ValueBuilder::shl(Value a, int64_t bits) {
  return arith::ShLIOp::create(b, a, integerLike(b, a, bits));
}
Value ValueBuilder::shrArith(Value a, int64_t bits) {
  return arith::ShRSIOp::create(b, a, integerLike(b, a, bits));
}
Value ValueBuilder::shrLogic(Value a, int64_t bits) {
  return arith::ShRUIOp::create(b, a, integerLike(b, a, bits));
}

Type ValueBuilder::typeOf(Value like, Type element) {
  if (auto vector = dyn_cast<VectorType>(like.getType()))
    return vector.clone(element);
  return element;
}
Value ValueBuilder::toFloat(Value v) { return arith::SIToFPOp::create(b, typeOf(v, f32), v); }
Value ValueBuilder::toInt(Value v) { return arith::FPToSIOp::create(b, typeOf(v, i32), v); }
Value ValueBuilder::roundEven(Value v) { return math::RoundEvenOp::create(b, v); }
Value CodeBuilder::extend(Value v) {
  return target.hasHalf ? arith::ExtFOp::create(b, typeOf(v, f32), v) : extendBits(v);
}
Value CodeBuilder::truncate(Value v) {
  return target.hasHalf ? arith::TruncFOp::create(b, typeOf(v, f16), v) : truncateBits(v);
}
Value CodeBuilder::zeroExtend(Value v, Type t) {
  return arith::ExtUIOp::create(b, typeOf(v, t), v);
}
Value CodeBuilder::signExtend(Value v, Type t) {
  return arith::ExtSIOp::create(b, typeOf(v, t), v);
}
Value CodeBuilder::fromBfloat16(Value bits) {
  Value word = shl(zeroExtend(bits, i32), 16);
  return arith::BitcastOp::create(b, typeOf(word, f32), word);
}
Value CodeBuilder::narrow(Value v, Type t) { return arith::TruncIOp::create(b, typeOf(v, t), v); }
Value CodeBuilder::lane(Value vector, int64_t i) {
  return vector::ExtractOp::create(b, vector, ArrayRef<int64_t>{i});
}
Value CodeBuilder::slice(Value vector, int64_t first, int64_t n) {
  SmallVector<int64_t> mask;
  for (int64_t i = 0; i < n; ++i)
    mask.push_back(first + i);
  return vector::ShuffleOp::create(b, vector, vector, mask);
}
Value CodeBuilder::concat(Value a, Value c) {
  int64_t n = cast<VectorType>(a.getType()).getNumElements() +
              cast<VectorType>(c.getType()).getNumElements();
  SmallVector<int64_t> mask;
  for (int64_t i = 0; i < n; ++i)
    mask.push_back(i);
  return vector::ShuffleOp::create(b, a, c, mask);
}
Value CodeBuilder::laneIds() {
  SmallVector<int32_t> ids;
  for (int32_t i = 0; i < lanes; ++i)
    ids.push_back(i);
  return arith::ConstantOp::create(b, DenseElementsAttr::get(vec(lanes, i32), ArrayRef(ids)));
}
// A vector holds parts of `length` lanes, one of each input that it stands for: each step combines
// the halves of all parts, of two vectors at a time as long as there are two.
Values CodeBuilder::reduce(ArrayRef<Value> vectors,
                           const std::function<Value(Value, Value)> &combine) {
  Values state(vectors);
  int64_t parts = 1; // of a vector
  for (int64_t length = lanes; length > 1; length /= 2) {
    const bool inPairs = state.size() > 1;
    if (inPairs && state.size() % 2)
      state.push_back(state.back());
    Values next;
    for (size_t i = 0; i < state.size(); i += inPairs ? 2 : 1) {
      Value second = state[inPairs ? i + 1 : i];
      SmallVector<int64_t> low, high;
      for (int64_t part = 0; part < (inPairs ? 2 : 1) * parts; ++part)
        for (int64_t lane = 0; lane < length / 2; ++lane) {
          low.push_back(part * length + lane);
          high.push_back(part * length + length / 2 + lane);
        }
      auto shuffled = [&](ArrayRef<int64_t> mask) -> Value {
        return vector::ShuffleOp::create(b, state[i], second, mask);
      };
      Value lower = shuffled(low);
      next.push_back(combine(lower, shuffled(high)));
    }
    parts *= inPairs ? 2 : 1;
    state = std::move(next);
  }
  Values result;
  for (size_t i = 0; i < vectors.size(); ++i)
    result.push_back(lane(state[i / size_t(parts)], int64_t(i) % parts));
  return result;
}
Values CodeBuilder::reduceAdd(ArrayRef<Value> vectors) {
  const bool isFloat = isa<FloatType>(cast<VectorType>(vectors.front().getType()).getElementType());
  return reduce(vectors, [&](Value a, Value c) { return isFloat ? fadd(a, c) : iadd(a, c); });
}
Values CodeBuilder::reduceMax(ArrayRef<Value> vectors) {
  return reduce(vectors, [&](Value a, Value c) { return fmax(a, c); });
}

} // namespace smelt
