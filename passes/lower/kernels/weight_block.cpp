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
    Buffer from = memory(16), to = memory(n);
    k.storeVector(from, zero,
                  arith::ConstantOp::create(
                      k.b, DenseElementsAttr::get(k.vec(16, k.i8), table.take_front(16))));
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

Value lookUpTable(CodeBuilder &k, Value places, ByteForm form) {
  const int64_t n = cast<VectorType>(places.getType()).getNumElements();
  // Byte shuffles work within 16 bytes: the table is repeated for each.
  SmallVector<int8_t> table;
  for (int64_t i = 0; i < n; ++i)
    table.push_back(int8_t(tableValues[size_t(i % 16)] + (form == ByteForm::Offset ? 128 : 0)));
  if (k.target.lookUp.empty())
    return loadFromTable(k, places, table);
  StringRef name(k.target.lookUp);
  int64_t width = k.target.lookUpBytes;
  if (n < width && name.starts_with("llvm.x86")) { // the narrowest has the most CPUs
    name = "llvm.x86.ssse3.pshuf.b.128";
    width = 16;
  }
  auto type = k.vec(width, k.i8);
  Value part = arith::ConstantOp::create(
      k.b, DenseElementsAttr::get(type, ArrayRef<int8_t>(table).take_front(width)));
  Values parts;
  for (int64_t first = 0; first < n; first += width)
    parts.push_back(
        intrinsic(k, name, type, {part, width == n ? places : k.slice(places, first, width)}));
  while (parts.size() > 1) {
    Values joined;
    for (size_t i = 0; i < parts.size(); i += 2)
      joined.push_back(k.concat(parts[i], parts[i + 1]));
    parts = joined;
  }
  return parts[0];
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
  Value nibbles = asWords(line(block, info.highBytes, run));
  Value low = masked(nibbles, 0x0f), high = masked(k.shrLogic(nibbles, 4), 0x0f);
  if (info.highBytes) {
    // The bits of the run's two fours stand side by side in each byte, 4 or 2 runs to a line.
    const int64_t count = info.bits - 4, runsPerLine = 4 / count;
    const int64_t mask = ((1 << count) - 1) << 4;
    Value shift = k.mul(k.rem(run, runsPerLine), 2 * count);
    Value amount = k.splat(arith::IndexCastOp::create(k.b, k.i32, shift));
    Value bits =
        arith::ShRUIOp::create(k.b, asWords(line(block, 0, k.div(run, runsPerLine))), amount);
    low = k.ior(low, masked(k.shl(bits, 4), mask));
    high = k.ior(high, masked(k.shl(bits, 4 - count), mask));
  }
  auto finish = [&](Value v) {
    Value codes = k.bitcast(v, k.vec(64, k.i8));
    return info.grid == Grid::Table ? lookUpTable(k, codes, form) : codes;
  };
  return {finish(low), finish(high)};
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
