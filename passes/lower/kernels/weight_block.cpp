// Decoding of packed weights in registers, for every format.
#include "passes/lower/kernels/weight_block.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

using namespace mlir;

namespace smelt {

Value intrinsic(CodeBuilder &k, StringRef name, Type result, ValueRange operands) {
  return LLVM::CallIntrinsicOp::create(k.b, result, k.b.getStringAttr(name), operands).getResult(0);
}

Value splatByte(CodeBuilder &k, int64_t value, int64_t n) {
  return arith::ConstantOp::create(
      k.b, DenseElementsAttr::get(k.vec(n, k.i8), k.b.getI8IntegerAttr(int8_t(value))));
}

static Value constantBytes(CodeBuilder &k, ArrayRef<int8_t> values) {
  auto type = k.vec(int64_t(values.size()), k.i8);
  return arith::ConstantOp::create(k.b, DenseElementsAttr::get(type, values));
}

/// The table in memory, one byte after the other: for CPUs that have no byte shuffle.
static Value loadFromTable(CodeBuilder &k, Value places, ArrayRef<int8_t> table) {
  const int64_t n = cast<VectorType>(places.getType()).getNumElements();
  VectorType words = k.vec(n / 8, k.b.getI64Type()), bytes = k.vec(n, k.i8);
  auto body = [&](ValueRange in) -> Value {
    auto number = [&](int64_t i) { return arith::ConstantIndexOp::create(k.b, i); };
    auto memory = [&](int64_t size) {
      return Buffer{memref::AllocaOp::create(k.b, MemRefType::get({size}, k.i8))};
    };
    Value zero = number(0);
    Buffer from = memory(int64_t(table.size())), to = memory(n);
    k.storeVector(from, zero, constantBytes(k, table));
    k.storeVector(to, zero, k.bitcast(in[0], bytes));
    auto loop = scf::ForOp::create(k.b, zero, number(n), number(1));
    OpBuilder::InsertionGuard guard(k.b);
    k.b.setInsertionPointToStart(loop.getBody());
    Value i = loop.getInductionVar();
    Value place = arith::IndexCastUIOp::create(k.b, k.index, k.load(to, i));
    k.store(to, i, k.load(from, place));
    k.b.setInsertionPointAfter(loop);
    return k.bitcast(k.loadVector(to, zero, n), words);
  };
  return k.bitcast(k.callOnce("lookup", k.bitcast(places, words), body), bytes);
}

/// Calls `lookUp` for parts of `width` places and joins what it gives.
static Value lookUpParts(CodeBuilder &k, Value places, int64_t width,
                         const std::function<Value(Value)> &lookUp) {
  const int64_t n = cast<VectorType>(places.getType()).getNumElements();
  Values parts;
  for (int64_t first = 0; first < n; first += width)
    parts.push_back(lookUp(width == n ? places : k.slice(places, first, width)));
  while (parts.size() > 1) {
    Values joined;
    for (size_t i = 0; i < parts.size(); i += 2)
      joined.push_back(k.concat(parts[i], parts[i + 1]));
    parts = joined;
  }
  return parts[0];
}

/// In sixteen values, by the target's byte shuffle.
static Value shuffleTable(CodeBuilder &k, Value places, ArrayRef<int8_t> table) {
  StringRef name(k.target.lookUp);
  int64_t width = k.target.lookUpBytes;
  if (cast<VectorType>(places.getType()).getNumElements() < width) { // the narrowest of x86
    name = "llvm.x86.ssse3.pshuf.b.128";
    width = 16;
  }
  SmallVector<int8_t> repeated; // it works within 16 bytes
  for (int64_t i = 0; i < width; ++i)
    repeated.push_back(table[size_t(i % 16)]);
  Value from = constantBytes(k, repeated);
  return lookUpParts(k, places, width, [&](Value part) {
    return intrinsic(k, name, part.getType(), {from, part});
  });
}

/// In 32 values, by the target's instruction for that; `low` and `fifth` as lookUpTable() has them.
static Value permuteTable(CodeBuilder &k, Value low, Value fifth, ArrayRef<int8_t> table) {
  const int64_t n = cast<VectorType>(low.getType()).getNumElements();
  StringRef name(k.target.lookUpOf32);
  if (k.target.lookUpBytes == 64) { // vpermb looks at six bits: all is there twice
    SmallVector<int8_t> twice(table);
    twice.append(table.begin(), table.end());
    // (mask & low) | (~mask & fifth), which LLVM makes two instructions of.
    VectorType words = k.vec(n / 4, k.i32);
    auto asWords = [&](Value bytes) { return k.bitcast(bytes, words); };
    Value place =
        intrinsic(k, "llvm.x86.avx512.pternlog.d.512", words,
                  {asWords(splatByte(k, 0x0f, n)), asWords(low), asWords(fifth), k.i32Const(0xca)});
    return intrinsic(k, name, low.getType(),
                     {constantBytes(k, twice), k.bitcast(place, k.vec(n, k.i8))});
  }
  Value place = k.ior(k.iand(low, splatByte(k, 0x0f, n)), k.iand(fifth, splatByte(k, 0x10, n)));
  Value first = constantBytes(k, table.take_front(16)),
        second = constantBytes(k, table.drop_front(16));
  return lookUpParts(k, place, k.target.lookUpBytes, [&](Value part) {
    return intrinsic(k, name, part.getType(), {first, second, part});
  });
}

Value lookUpTable(CodeBuilder &k, const FormatInfo &info, Value low, Value fifth, ByteForm form) {
  SmallVector<int8_t> table;
  const int raised = form == ByteForm::Offset ? 128 : form == ByteForm::Raised ? 64 : 0;
  for (int8_t value : tableOf(info.bits))
    table.push_back(int8_t(value + raised));
  const ArrayRef<int8_t> values(table);
  const int64_t n = cast<VectorType>(low.getType()).getNumElements();
  if (fifth && fifthBit(k, n) == 4)
    return permuteTable(k, low, fifth, values);
  Value place = k.iand(low, splatByte(k, 0x0f, n));
  if (k.target.lookUp.empty()) {
    if (fifth) {
      Value words = k.shrLogic(k.bitcast(fifth, k.vec(n / 4, k.i32)), 3);
      place = k.ior(place, k.iand(k.bitcast(words, k.vec(n, k.i8)), splatByte(k, 0x10, n)));
    }
    return loadFromTable(k, place, values);
  }
  Value value = shuffleTable(k, place, values.take_front(16));
  if (!fifth)
    return value;
  // Blends look at bit 7 alone.
  Value isUpper = arith::CmpIOp::create(k.b, arith::CmpIPredicate::slt, fifth, splatByte(k, 0, n));
  return k.select(isUpper, shuffleTable(k, place, values.drop_front(16)), value);
}

WeightReader::WeightReader(KernelBuilder &k, int operand)
    : info(formatInfo(k.spec.format)), signedBytes(info.bits == 8 || info.grid == Grid::Table),
      asymmetric(info.grid == Grid::Asymmetric), given(info.grid == Grid::Given),
      dotInputs(info.group == 16 ? 16 : groupInputs), bytes(k.operand(operand, k.i8)), k(k),
      halfWords(k.operand(operand, k.i16)), halfFloats(k.operand(operand, k.f16)),
      words(k.operand(operand, k.f32)),
      alignment((info.rowHeaderBytes | info.blockHeaderBytes | info.blockBytes) % 64 ? 32 : 64) {}

Value WeightReader::line(Value block, int64_t offset, Value index) {
  Value at = k.add(k.add(block, info.blockHeaderBytes + offset), k.mul(index, 64));
  return k.loadVector(bytes, at, 64, alignment);
}

std::pair<Value, Value> WeightReader::run(Value block, Value run, ByteForm form) {
  if (info.bits == 8) {
    auto quad = [&](int64_t i) {
      Value codes = line(block, 0, k.add(k.mul(run, 2), i));
      return form == ByteForm::Offset ? codes : k.ixor(codes, splatByte(k, 0x80, 64));
    };
    return {quad(0), quad(1)};
  }
  auto asWords = [&](Value v) { return k.bitcast(v, k.vec(lanes, k.i32)); };
  auto masked = [&](Value v, int64_t byte) { return k.iand(v, k.splatI(byte * 0x01010101)); };
  auto asBytes = [&](Value v) { return k.bitcast(v, k.vec(64, k.i8)); };
  Value low = asWords(line(block, info.highBytes, run)), high = k.shrLogic(low, 4);
  if (info.bits == 4 && info.grid == Grid::Table)
    return {lookUpTable(k, info, asBytes(low), {}, form),
            lookUpTable(k, info, asBytes(high), {}, form)};
  Value lowCodes = masked(low, 0x0f), highCodes = masked(high, 0x0f);
  if (info.bits == 4)
    return {asBytes(lowCodes), asBytes(highCodes)};
  // The high bits of the run's two fours stand side by side in each byte, 4 or 2 runs to a line.
  const int64_t count = info.bits - 4, runsPerLine = 4 / count;
  Value bits = asWords(line(block, 0, k.div(run, runsPerLine)));
  Value place = k.mul(k.rem(run, runsPerLine), 2 * count);
  auto amount = [&](Value places) {
    return k.splat(arith::IndexCastOp::create(k.b, k.i32, places));
  };
  if (info.grid == Grid::Table) {
    // One of the two shifts is none; rotations take the units that multiply on Zen 4.
    Value wanted = k.idx(fifthBit(k, 64)), none = k.idx(0);
    auto value = [&](Value four, int64_t bit) {
      Value found = k.add(place, bit);
      Value fifth = arith::ShLIOp::create(k.b, bits, amount(k.max(k.sub(wanted, found), none)));
      fifth = arith::ShRUIOp::create(k.b, fifth, amount(k.max(k.sub(found, wanted), none)));
      return lookUpTable(k, info, asBytes(four), asBytes(fifth), form);
    };
    return {value(low, 0), value(high, 1)};
  }
  bits = arith::ShRUIOp::create(k.b, bits, amount(place));
  const int64_t mask = ((1 << count) - 1) << 4;
  return {asBytes(k.ior(lowCodes, masked(k.shl(bits, 4), mask))),
          asBytes(k.ior(highCodes, masked(k.shl(bits, 4 - count), mask)))};
}

void WeightReader::prefetch(Value block) {
  for (int64_t line = 0; line < info.blockBytes; line += 64)
    k.prefetch(bytes, k.add(block, line));
}

Value WeightReader::floats(Value block, Value input) {
  return k.loadVector(words, k.add(k.div(block, 4), k.mul(input, lanes)), lanes, 64);
}

/// 16 bytes of the header, as they are.
Value WeightReader::headerBytes(Value block, Value offset) {
  return k.loadVector(bytes, k.add(block, offset), lanes, 16);
}

/// The group of a dot product within its block.
Value WeightReader::groupOf(Value dot) {
  return info.group ? k.div(k.mul(dot, dotInputs), info.group) : k.idx(0);
}

Value WeightReader::scale(Value block, Value dot) {
  Value first = k.mul(groupOf(dot), tileRows);
  switch (info.scales) {
  case ScaleStorage::None:
  case ScaleStorage::Row:
    return {};
  case ScaleStorage::Half:
    return k.extend(k.loadVector(halfFloats, k.add(k.div(block, 2), first), lanes, 32));
  case ScaleStorage::Float:
    return k.loadVector(words, k.add(k.div(block, 4), first), lanes, 64);
  case ScaleStorage::Code:
    break;
  }
  Value codes = headerBytes(block, first);
  return k.toFloat(info.grid == Grid::Table ? k.signExtend(codes, k.i32)
                                            : k.zeroExtend(codes, k.i32));
}

Value WeightReader::minimum(Value block, Value dot) {
  Value first = k.mul(k.add(groupOf(dot), groups()), tileRows);
  return k.toFloat(k.zeroExtend(headerBytes(block, first), k.i32));
}

Value WeightReader::zeroPoint(Value block, Value dot) {
  Value first = k.mul(k.add(groupOf(dot), 4 * groups()), tileRows);
  return k.zeroExtend(headerBytes(block, first), k.i32);
}

Value WeightReader::rowScale(Value tile) {
  if (info.scales == ScaleStorage::Row)
    return k.loadVector(words, k.div(tile, 4), lanes, 64);
  return info.scales == ScaleStorage::Code ? rowFactor(tile, 0) : Value();
}

Value WeightReader::rowMinimum(Value tile) { return rowFactor(tile, 1); }

/// The bfloat16 factors of 16 rows as floats.
Value WeightReader::rowFactor(Value tile, int64_t i) {
  return k.fromBfloat16(k.loadVector(halfWords, k.add(k.div(tile, 2), i * lanes), lanes, 32));
}

} // namespace smelt
