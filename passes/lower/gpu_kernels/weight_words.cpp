// Decoding of packed weights on a GPU, for every format.
#include "passes/lower/gpu_kernels/weight_words.h"

using namespace mlir;

namespace smelt {

/// The words of a table, four values each.
static Values tableWords(GpuBuilder &k, std::span<const int8_t> values) {
  Values words;
  for (size_t first = 0; first < values.size(); first += 4) {
    uint32_t word = 0;
    for (size_t i = 0; i < 4; ++i)
      word |= uint32_t(uint8_t(values[first + i])) << (8 * i);
    words.push_back(k.i32Const(int32_t(word)));
  }
  return words;
}

WeightWords::WeightWords(GpuBuilder &k, Words weights, Value row, WordTape *tape)
    : info(formatInfo(k.spec.format)), signedBytes(info.bits == 8 || info.grid == Grid::Table),
      asymmetric(info.grid == Grid::Asymmetric), given(info.grid == Grid::Given),
      dotInputs(info.group == 16 ? 16 : groupInputs), k(k), words(weights), row(row), tape(tape) {
  if (info.grid == Grid::Table)
    table = tableWords(k, tableOf(info.bits));
}

void WeightWords::holdTable(Value zero) {
  for (size_t i = 0; i < table.size(); i += 2) // the other of each pair is part of the instruction
    table[i] = k.ixor(table[i], zero);
}

Value WeightWords::word(Value at) {
  auto load = [&] { return k.word(words, at); };
  return tape ? tape->word(load) : load();
}

/// The row's word of a line of 16 words, counted after the block's header.
Value WeightWords::line(Value block, int64_t firstLine, Value index) {
  const int64_t first = info.blockHeaderBytes / 4 + firstLine * tileRows;
  return word(k.add(k.add(block, k.add(row, first)), k.mul(index, tileRows)));
}

/// The word of `words`, the table's from `first` on, that holds the value of `code`.
Value WeightWords::wordOf(Value code, ArrayRef<Value> words, int64_t first) {
  if (words.size() == 1)
    return words[0];
  const int64_t half = int64_t(words.size()) / 2;
  Value isLower = k.is(arith::CmpIPredicate::slt, code, k.i32Const((first + half) * 4));
  return k.select(isLower, wordOf(code, words.take_front(half), first),
                  wordOf(code, words.drop_front(half), first + half));
}

/// The bytes of the table for four codes: of the words that hold them, the byte of bits 0 and 1.
Value WeightWords::lookUp(Value codes) {
  Values bytes;
  for (int64_t i = 0; i < 4; ++i) {
    Value code = k.unsignedByte(codes, i), word = wordOf(code, table, 0);
    bytes.push_back(k.shrLogicBy(word, k.shl(k.iand(code, k.i32Const(3)), 3)));
  }
  return k.packBytes(bytes);
}

/// The same of eight nibbles in the sixteen values of four words, by byte permutations: bits 0..2
/// of a code choose in the lower and in the upper half of them, bit 3 between the two; then low
/// nibbles part from high ones.
std::pair<Value, Value> WeightWords::permuted(Value nibbles, ArrayRef<Value> words) {
  Value within = k.iand(nibbles, k.i32Const(0x77777777));
  Value half =
      k.ior(k.iand(k.shrLogic(nibbles, 1), k.i32Const(0x44444444)), k.i32Const(0x32103210));
  auto four = [&](int64_t first) {
    auto from = [&](Value places) { return first ? k.shrLogic(places, 4 * first) : places; };
    Value lower = k.permuteBytes(words[0], words[1], from(within));
    Value upper = k.permuteBytes(words[2], words[3], from(within));
    return k.permuteBytes(lower, upper, from(half));
  };
  Value first = four(0), second = four(4);
  return {k.permuteBytes(first, second, k.i32Const(0x6420)),
          k.permuteBytes(first, second, k.i32Const(0x7531))};
}

std::pair<Value, Value> WeightWords::run(Value block, Value run) {
  if (info.bits == 8) {
    auto quad = [&](int64_t i) {
      Value codes = line(block, 0, k.add(k.mul(run, 2), i));
      return k.ixor(codes, k.i32Const(int32_t(0x80808080)));
    };
    return {quad(0), quad(1)};
  }
  auto masked = [&](Value v, int64_t byte) { return k.iand(v, k.i32Const(byte * 0x01010101)); };
  Value nibbles = line(block, info.highBytes / 64, run);
  const int64_t count = info.bits - 4; // of high bits
  Value bits;
  if (count) {
    // Those of the run's two fours stand side by side in each byte, 4 or 2 runs to a line.
    const int64_t runsPerLine = 4 / count;
    Value shift = arith::IndexCastOp::create(k.b, k.i32, k.mul(k.rem(run, runsPerLine), 2 * count));
    bits = k.shrLogicBy(line(block, 0, k.div(run, runsPerLine)), shift);
  }
  if (info.grid == Grid::Table && k.permutesBytes()) {
    auto [low, high] = permuted(nibbles, ArrayRef<Value>(table).take_front(4));
    if (!bits)
      return {low, high};
    auto [lowUpper, highUpper] = permuted(nibbles, ArrayRef<Value>(table).drop_front(4));
    auto choose = [&](Value lower, Value upper, Value fifth) {
      Value whole = k.isub(k.shl(fifth, 8), fifth); // 255 in the bytes that have one
      return k.ixor(lower, k.iand(k.ixor(lower, upper), whole));
    };
    return {choose(low, lowUpper, masked(bits, 1)),
            choose(high, highUpper, masked(k.shrLogic(bits, 1), 1))};
  }
  Value low = masked(nibbles, 0x0f), high = masked(k.shrLogic(nibbles, 4), 0x0f);
  if (bits) {
    const int64_t mask = ((1 << count) - 1) << 4;
    low = k.ior(low, masked(k.shl(bits, 4), mask));
    high = k.ior(high, masked(k.shl(bits, 4 - count), mask));
  }
  if (info.grid == Grid::Table)
    return {lookUp(low), lookUp(high)};
  return {low, high};
}

Value WeightWords::codeValue(Value codes, int64_t i, Value zero) {
  Value code = signedBytes ? k.signedByte(codes, i) : k.unsignedByte(codes, i);
  if (zero)
    code = k.isub(code, zero);
  else if (info.grid == Grid::Symmetric && !signedBytes)
    code = k.isub(code, k.i32Const(1 << (info.bits - 1)));
  return k.toFloat(code);
}

/// The group of a dot product within its block.
Value WeightWords::groupOf(Value dot) {
  return info.group ? k.div(k.mul(dot, dotInputs), info.group) : k.idx(0);
}

/// The row's byte of a group in an array [groups][16] at byte `offset` of the block.
Value WeightWords::headerByte(Value block, int64_t offset, Value group) {
  Value at = k.add(k.add(k.mul(group, tileRows), row), offset);
  return k.byteOf(word(k.add(block, k.div(at, 4))), at);
}

Value WeightWords::scale(Value block, Value dot) {
  Value group = groupOf(dot);
  Value item = k.add(k.mul(group, tileRows), row);
  switch (info.scales) {
  case ScaleStorage::None:
  case ScaleStorage::Row:
    return {};
  case ScaleStorage::Half:
    return k.halfOf(word(k.add(block, k.div(item, 2))), item);
  case ScaleStorage::Float:
    return k.asFloat(word(k.add(block, item)));
  case ScaleStorage::Code:
    break;
  }
  Value code = headerByte(block, 0, group);
  return k.toFloat(info.grid == Grid::Table ? k.signedByte(code, 0) : code);
}

Value WeightWords::minimum(Value block, Value dot) {
  return k.toFloat(headerByte(block, groups() * tileRows, groupOf(dot)));
}

Value WeightWords::zeroPoint(Value block, Value dot) {
  Value zero = headerByte(block, 4 * groups() * tileRows, groupOf(dot));
  return signedBytes ? k.isub(zero, k.i32Const(128)) : zero;
}

Value WeightWords::rowScale(Value tile) {
  if (info.scales == ScaleStorage::Row)
    return k.number(words, k.add(tile, row));
  return info.scales == ScaleStorage::Code ? rowFactor(tile, 0) : Value();
}

/// A bfloat16 factor of the row.
Value WeightWords::rowFactor(Value tile, int64_t i) {
  return k.bfloat16(words, k.add(k.add(k.mul(tile, 2), row), i * tileRows));
}

} // namespace smelt
