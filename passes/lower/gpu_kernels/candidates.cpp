// The likeliest tokens of rows of logits, for samplers that keep a few of them: all logits from a
// bound on that at least topKAtMost of them reach, in no order.
//
// BlockMaxima: logits [rows][cols] (p0) -> maxima [rows][groups][blockMaximaThreads] (p1), each of
// blockColumns columns; clears the counts of p2. Candidates: logits (p0), maxima (p1) -> int32
// [rows][candidateWords] (p2): how many there are, also where they are more than
// candidatesAtMost, their indices, their logits. As many blocks as the maxima of which reach the
// bound hold a logit that does.
#include "passes/lower/gpu_kernels/candidates.h"

#include "passes/lower/gpu_kernels/builder.h"

#include <limits>

using namespace mlir;
using namespace smelt::format;

namespace smelt {

namespace {

constexpr int64_t loadsTogether = 8;
/// The bound has so many of the upper bits of the logit that it is found by.
constexpr int64_t boundBits = 20;

Value isGreater(GpuBuilder &k, Value a, Value c) {
  return arith::CmpFOp::create(k.b, arith::CmpFPredicate::OGT, a, c);
}
Value reaches(GpuBuilder &k, Value a, Value bound) {
  return arith::CmpFOp::create(k.b, arith::CmpFPredicate::OGE, a, bound);
}

/// The column of item `i` of a block.
Value columnOf(GpuBuilder &k, Value block, Value i) {
  Value part = k.div(block, blockMaximaThreads), lane = k.rem(block, blockMaximaThreads);
  return k.add(k.add(k.mul(part, blockMaximaThreads * blockColumns), lane),
               k.mul(i, blockMaximaThreads));
}

/// Calls `use(column, logit)` for the columns of a block, minus infinity beyond the row.
void forColumns(GpuBuilder &k, Value rowStart, Value block, Value firstItem,
                const std::function<void(Value, Value)> &use) {
  SmallVector<std::pair<Value, Value>> items;
  for (int64_t i = 0; i < loadsTogether; ++i) {
    Value column = columnOf(k, block, k.add(firstItem, i));
    Value held = k.min(column, k.idx(k.spec.cols - 1));
    Value logit = k.number(k.operand(0), k.add(rowStart, held));
    Value none = k.f32Const(-std::numeric_limits<double>::infinity());
    items.push_back({column, k.select(k.less(column, k.idx(k.spec.cols)), logit, none)});
  }
  for (auto [column, logit] : items)
    use(column, logit);
}

/// Integers in the order of floats, and back.
Value ordered(GpuBuilder &k, Value bits) {
  return k.ixor(bits, k.iand(k.shrArith(bits, 31), k.i32Const(0x7fffffff)));
}

/// The largest float of the upper boundBits bits, as integers are ordered, that topKAtMost of all
/// `keys` of the workgroup reach; the lowest finite one where there are not so many.
Value boundOf(GpuBuilder &k, const Values &keys) {
  constexpr int32_t sign = std::numeric_limits<int32_t>::min();
  auto add = [&](Value a, Value c) { return k.iadd(a, c); };
  Values found =
      k.loop(k.idx(0), k.idx(boundBits), 1, {k.i32Const(0), k.i32Const(sign)},
             [&](Value, ValueRange carried) -> Values {
               Value trial = k.ior(carried[0], carried[1]), key = k.ixor(trial, k.i32Const(sign));
               Value count = k.i32Const(0);
               for (Value v : keys)
                 count = k.select(k.is(arith::CmpIPredicate::sge, v, key),
                                  k.iadd(count, k.i32Const(1)), count);
               count = k.reduceOne(count, k.launch.threads, add);
               Value isEnough = k.is(arith::CmpIPredicate::sge, count, k.i32Const(topKAtMost));
               return {k.select(isEnough, trial, carried[0]), k.shrLogic(carried[1], 1)};
             });
  Value key = k.ixor(found[0], k.i32Const(sign)), lowest = k.i32Const(int32_t(0x80800000));
  key = k.select(k.is(arith::CmpIPredicate::slt, key, lowest), lowest, key);
  return k.asFloat(ordered(k, key));
}

} // namespace

void emitGpuBlockMaxima(GpuBuilder &k) {
  Value row = k.rowGroup(), rowStart = k.mul(row, k.spec.cols);
  Value block = k.add(k.mul(k.group(), blockMaximaThreads), k.thread());
  Value most = k.loop(k.idx(0), k.idx(blockColumns), loadsTogether,
                      {k.f32Const(-std::numeric_limits<double>::infinity())},
                      [&](Value first, ValueRange carried) -> Values {
                        Value best = carried[0];
                        forColumns(k, rowStart, block, first, [&](Value, Value logit) {
                          best = k.select(isGreater(k, logit, best), logit, best);
                        });
                        return {best};
                      })[0];
  k.setNumber(k.operand(1), k.add(k.mul(row, candidateBlocks(k.spec.cols)), block), most);
  k.ifThen(k.isEqual(block, k.idx(0)),
           [&] { k.setWord(k.operand(2), k.mul(row, candidateWords), k.i32Const(0)); });
}

void emitGpuCandidates(GpuBuilder &k) {
  const int64_t blocks = candidateBlocks(k.spec.cols);
  Value row = k.rowGroup(), rowStart = k.mul(row, k.spec.cols), out = k.mul(row, candidateWords);
  Value maxima = k.mul(row, blocks);
  auto maximum = [&](Value block) { return k.number(k.operand(1), k.add(maxima, block)); };
  Values keys;
  for (int64_t first = 0; first < blocks; first += k.launch.threads) {
    Value block = k.add(k.thread(), first), held = k.min(block, k.idx(blocks - 1));
    Value key = ordered(k, k.asBits(maximum(held)));
    keys.push_back(k.select(k.less(block, k.idx(blocks)), key,
                            k.i32Const(std::numeric_limits<int32_t>::min())));
  }
  Value bound = boundOf(k, keys);
  k.loop(k.thread(), k.idx(blocks), k.launch.threads, [&](Value block) {
    k.ifThen(reaches(k, maximum(block), bound), [&] {
      k.loop(k.idx(0), k.idx(blockColumns), loadsTogether, [&](Value first) {
        forColumns(k, rowStart, block, first, [&](Value column, Value logit) {
          k.ifThen(reaches(k, logit, bound), [&] {
            Value place = k.toIndex(k.addToWord(k.operand(2), out, k.i32Const(1)));
            k.ifThen(k.less(place, k.idx(candidatesAtMost)), [&] {
              Value at = k.add(k.add(out, place), 1);
              k.setWord(k.operand(2), at, arith::IndexCastOp::create(k.b, k.i32, column));
              k.setNumber(k.operand(2), k.add(at, candidatesAtMost), logit);
            });
          });
        });
      });
    });
  });
}

} // namespace smelt
