// Operands, frame, elements and boxes of tensor kernels.
#include "passes/lower/tensor_kernels/builder.h"

using namespace mlir;

namespace smelt {

TensorKernelBuilder::TensorKernelBuilder(ModuleOp module, const TensorSpec &spec,
                                         const KernelTarget &target)
    : CodeBuilder(module, spec.name(), target), spec(spec),
      outputs(int(tensorOpInfo(spec.op).outputs)), i1(b.getI1Type()), i64(b.getI64Type()),
      f64(b.getF64Type()), buffers(spec.ranks.size() + 1) {}

//===--- Frame --------------------------------------------------------------------------------===//

namespace {

Buffer frame(CodeBuilder &k) { return k.operand(0, k.b.getI64Type()); }

} // namespace

Value TensorKernelBuilder::dim(int operand, int axis) {
  Value &value = frameDims[{operand, axis}];
  if (!value) {
    OpBuilder::InsertionGuard guard(b);
    Buffer memory = frame(*this);
    b.setInsertionPointAfter(memory.memref.getDefiningOp());
    // A constant of its own: those made before stand behind this place.
    Value at = arith::ConstantIndexOp::create(b, 1 + int64_t(format::maxRank) * operand + axis);
    value = toIndex(load(memory, at));
  }
  return value;
}

Values TensorKernelBuilder::dims(int operand) {
  Values result;
  for (int a = 0; a < rank(operand); ++a)
    result.push_back(dim(operand, a));
  return result;
}

Value TensorKernelBuilder::dim(int operand, Value axis) {
  return toIndex(load(frame(*this), add(axis, 1 + int64_t(format::maxRank) * operand)));
}

void TensorKernelBuilder::setDim(int operand, Value axis, Value value) {
  store(frame(*this), add(axis, 1 + int64_t(format::maxRank) * operand), fromIndex(value, i64));
}

void TensorKernelBuilder::failIf(Value condition, format::TensorFault fault) {
  ifThen(condition, [&] { store(frame(*this), idx(0), integer(i64, fault)); });
}

Value TensorKernelBuilder::product(ArrayRef<Value> values) {
  Value result = idx(1);
  for (Value value : values)
    result = mul(result, value);
  return result;
}

Values TensorKernelBuilder::strides(ArrayRef<Value> dims) {
  Values result(dims.size());
  Value stride = idx(1);
  for (size_t a = dims.size(); a-- > 0;) {
    result[a] = stride;
    stride = mul(stride, dims[a]);
  }
  return result;
}

//===--- Elements -----------------------------------------------------------------------------===//

Type TensorKernelBuilder::memoryType(ElementType type) {
  switch (type) {
  case ElementType::F32:
    return f32;
  case ElementType::F64:
    return f64;
  case ElementType::I64:
    return i64;
  case ElementType::I32:
    return i32;
  case ElementType::I8:
  case ElementType::U8:
  case ElementType::Bool:
    return i8;
  }
  llvm_unreachable("the enumerators are all above");
}

Type TensorKernelBuilder::computeType(ElementType type) {
  if (type == ElementType::Bool)
    return i1;
  Type memory = memoryType(type);
  return memory == i8 ? i32 : memory;
}

Buffer TensorKernelBuilder::operandBuffer(int operand) {
  Buffer &buffer = buffers[size_t(operand)];
  if (!buffer.memref)
    buffer = this->operand(1 + operand, memoryType(type(operand)));
  return buffer;
}

Value TensorKernelBuilder::toCompute(Value memory, ElementType type) {
  if (type == ElementType::Bool)
    return notEqual(memory, integer(memory, 0));
  if (type == ElementType::I8)
    return signExtend(memory, i32);
  if (type == ElementType::U8)
    return zeroExtend(memory, i32);
  return memory;
}

Value TensorKernelBuilder::toMemory(Value computed, ElementType type) {
  if (type == ElementType::Bool)
    return zeroExtend(computed, i8);
  if (type == ElementType::I8 || type == ElementType::U8)
    return narrow(computed, i8);
  return computed;
}

Value TensorKernelBuilder::element(int operand, Value at) {
  return toCompute(load(data(operand), at), type(operand));
}

void TensorKernelBuilder::setElement(int operand, Value at, Value value) {
  store(data(operand), at, toMemory(value, type(operand)));
}

Value TensorKernelBuilder::indexElement(int operand, Value at) {
  return toIndex(toCompute(load(data(operand), at), type(operand)));
}

Value TensorKernelBuilder::elementLanes(int operand, Value at, Value stride, Value n, Value fill) {
  Type memory = memoryType(type(operand));
  Buffer source = data(operand);
  Buffer &temporary = laneScratch[memory.getAsOpaquePointer()];
  if (!temporary.memref)
    temporary = scratch(lanes, memory);
  Value whole = both(equal(stride, idx(1)), equal(n, idx(lanes)));
  Type vector = vec(lanes, memory);
  auto collect = [&]() -> Values {
    if (fill)
      storeVector(temporary, idx(0), splat(toMemory(fill, type(operand))));
    loop(idx(0), n, 1,
         [&](Value i) { store(temporary, i, load(source, add(at, mul(i, stride)))); });
    return {loadVector(temporary, idx(0))};
  };
  auto other = [&]() -> Values {
    if (fill) // lanes beyond n matter
      return collect();
    return ifElse(
        equal(stride, idx(0)), vector, [&]() -> Values { return {splat(load(source, at))}; },
        collect);
  };
  Value loaded =
      ifElse(whole, vector, [&]() -> Values { return {loadVector(source, at)}; }, other)[0];
  return toCompute(loaded, type(operand));
}

void TensorKernelBuilder::setElementLanes(int operand, Value at, Value n, Value value) {
  Type memory = memoryType(type(operand));
  Buffer target = data(operand);
  Value vector = toMemory(value, type(operand));
  Buffer &temporary = laneScratch[memory.getAsOpaquePointer()];
  if (!temporary.memref)
    temporary = scratch(lanes, memory);
  ifElse(
      equal(n, idx(lanes)), {},
      [&]() -> Values {
        storeVector(target, at, vector);
        return {};
      },
      [&]() -> Values {
        storeVector(temporary, idx(0), vector);
        loop(idx(0), n, 1, [&](Value i) { store(target, add(at, i), load(temporary, i)); });
        return {};
      });
}

//===--- Arithmetic ---------------------------------------------------------------------------===//

Type TensorKernelBuilder::like(Value value, Type element) {
  if (auto vector = dyn_cast<VectorType>(value.getType()))
    return vector.clone(element);
  return element;
}

Value TensorKernelBuilder::number(Type type, double value) {
  Type element = getElementTypeOrSelf(type);
  if (!isa<FloatType>(element))
    return integer(type, int64_t(value));
  // Constants of narrower types are rounded here, once.
  TypedAttr attribute = element == f32 ? b.getF32FloatAttr(float(value)) : b.getF64FloatAttr(value);
  if (auto vector = dyn_cast<VectorType>(type))
    return arith::ConstantOp::create(b, DenseElementsAttr::get(vector, Attribute(attribute)));
  return arith::ConstantOp::create(b, attribute);
}

Value TensorKernelBuilder::integer(Type type, int64_t value) {
  Type element = getElementTypeOrSelf(type);
  APInt bits(element.isIndex() ? 64 : element.getIntOrFloatBitWidth(), uint64_t(value), true, true);
  auto attribute = b.getIntegerAttr(element, bits);
  if (auto vector = dyn_cast<VectorType>(type))
    return arith::ConstantOp::create(b, DenseElementsAttr::get(vector, Attribute(attribute)));
  return arith::ConstantOp::create(b, attribute);
}

Value TensorKernelBuilder::cmpf(arith::CmpFPredicate predicate, Value a, Value c) {
  return arith::CmpFOp::create(b, predicate, a, c);
}
Value TensorKernelBuilder::cmpi(arith::CmpIPredicate predicate, Value a, Value c) {
  return arith::CmpIOp::create(b, predicate, a, c);
}
Value TensorKernelBuilder::fromIndex(Value value, Type integerType) {
  return arith::IndexCastOp::create(b, integerType, value);
}

//===--- Boxes --------------------------------------------------------------------------------===//

Value Box::entry(Value axis, int64_t field) {
  return k.load(table, k.add(k.mul(axis, 1 + buffers), field));
}

void Box::close() {
  const int64_t fields = 1 + buffers, count = int64_t(axes.size()) / fields;
  table = k.scratch(std::max<int64_t>(count, 1) * fields, k.index);
  for (int64_t a = 0; a < count; ++a)
    for (int64_t f = 0; f < fields; ++f)
      k.store(table, k.idx((count - 1 - a) * fields + f), axes[size_t(a * fields + f)]);

  // In place: the axes that are left never outnumber those that were read.
  auto merge = [&](Value a, ValueRange carried) -> Values {
    Value left = carried[0], top = k.max(k.sub(left, k.idx(1)), k.idx(0));
    Value length = entry(a, 0), topLength = entry(top, 0);
    Value same = k.less(k.idx(0), left);
    for (int64_t f = 1; f < fields; ++f)
      same = k.both(same, k.equal(entry(a, f), k.mul(entry(top, f), topLength)));
    Value kept = k.notEqual(length, k.idx(1));
    k.ifThen(kept, [&] {
      Value at = k.mul(k.select(same, top, left), fields);
      Value newLength = k.select(same, k.mul(topLength, length), length);
      Values strides;
      for (int64_t f = 1; f < fields; ++f)
        strides.push_back(k.select(same, entry(top, f), entry(a, f)));
      k.store(table, at, newLength);
      for (int64_t f = 1; f < fields; ++f)
        k.store(table, k.add(at, f), strides[size_t(f - 1)]);
    });
    return {k.select(k.both(kept, k.negate(same)), k.add(left, 1), left)};
  };
  Value left = k.idx(0);
  if (count > 0)
    left = k.loop(k.idx(0), k.idx(count), 1, {left}, merge)[0];
  k.ifThen(k.equal(left, k.idx(0)), [&] {
    k.store(table, k.idx(0), k.idx(1));
    for (int64_t f = 1; f < fields; ++f)
      k.store(table, k.idx(f), k.idx(0));
  });
  merged = k.max(left, k.idx(1));

  inner = entry(k.idx(0), 0);
  for (int64_t f = 1; f < fields; ++f)
    innerStrides.push_back(entry(k.idx(0), f));
  outer = k.loop(k.idx(1), merged, 1, {k.idx(1)},
                 [&](Value a, ValueRange p) -> Values { return {k.mul(p[0], entry(a, 0))}; })[0];
}

Values Box::offsets(Value row) {
  Values init{row};
  init.append(size_t(buffers), k.idx(0));
  Values result = k.loop(k.idx(1), merged, 1, init, [&](Value a, ValueRange carried) -> Values {
    Value length = entry(a, 0), rest = k.div(carried[0], length);
    Value coordinate = k.sub(carried[0], k.mul(rest, length));
    Values next{rest};
    for (int i = 0; i < buffers; ++i)
      next.push_back(k.add(carried[size_t(1 + i)], k.mul(coordinate, entry(a, 1 + i))));
    return next;
  });
  result.erase(result.begin());
  return result;
}

void Box::forRuns(const std::function<void(ValueRange, Value, Value)> &body) {
  constexpr int64_t run = 1024;
  Value runs = k.ceilDiv(inner, run);
  auto [begin, end] = k.threadShare(k.mul(outer, runs));
  k.loop(begin, end, 1, [&](Value item) {
    Value row = k.div(item, runs), first = k.mul(k.sub(item, k.mul(row, runs)), run);
    body(offsets(row), first, k.min(k.add(first, run), inner));
  });
}

//===--- Copies -------------------------------------------------------------------------------===//

void copyRun(TensorKernelBuilder &k, int operand, Value outOffset, Value inOffset, Value n) {
  Buffer out = k.data(0), in = k.data(operand);
  Value whole = k.mul(k.div(n, lanes), lanes);
  k.loop(k.idx(0), whole, lanes, [&](Value i) {
    k.storeVector(out, k.add(outOffset, i), k.loadVector(in, k.add(inOffset, i)));
  });
  k.loop(whole, n, 1,
         [&](Value i) { k.store(out, k.add(outOffset, i), k.load(in, k.add(inOffset, i))); });
}

void copyBox(TensorKernelBuilder &k, Box &box, int operand, Value outOffset, Value inOffset) {
  box.close();
  box.forRuns([&](ValueRange offsets, Value first, Value last) {
    Value outStride = box.innerStrides[0], inStride = box.innerStrides[1];
    Value to = k.add(outOffset, k.add(offsets[0], k.mul(first, outStride)));
    Value from = k.add(inOffset, k.add(offsets[1], k.mul(first, inStride)));
    Value n = k.sub(last, first);
    k.ifElse(
        k.both(k.equal(outStride, k.idx(1)), k.equal(inStride, k.idx(1))), {},
        [&]() -> Values {
          copyRun(k, operand, to, from, n);
          return {};
        },
        [&]() -> Values {
          k.loop(k.idx(0), n, 1, [&](Value i) {
            k.store(k.data(0), k.add(to, k.mul(i, outStride)),
                    k.load(k.data(operand), k.add(from, k.mul(i, inStride))));
          });
          return {};
        });
  });
}

} // namespace smelt
