// The likeliest token of rows of logits, in two steps: every workgroup finds that of a part of a
// row, then one a row that of its parts.
//
// ArgmaxParts: logits [rows][cols] (p0) -> parts [rows][2][groups] (p1): the largest logit, where
// it is. Argmax: parts (p0) -> int32 [rows] (p1): the index of the largest logit, the first among
// equals; -1 where all are NaN or minus infinity.
#include "passes/lower/gpu_kernels/argmax.h"

#include "passes/lower/gpu_kernels/builder.h"

#include <limits>

using namespace mlir;

namespace smelt {

namespace {

constexpr int64_t noIndex = std::numeric_limits<int32_t>::max();

struct Best {
  Value logit, index;
};

Best noBest(GpuBuilder &k) {
  return {k.f32Const(-std::numeric_limits<double>::infinity()), k.i32Const(noIndex)};
}

/// The better one of two of which `later` has the larger index: NaN is never larger.
Best better(GpuBuilder &k, const Best &best, const Best &later) {
  Value isLarger =
      arith::CmpFOp::create(k.b, arith::CmpFPredicate::OGT, later.logit, best.logit).getResult();
  return {k.select(isLarger, later.logit, best.logit), k.select(isLarger, later.index, best.index)};
}

/// Of all threads of the workgroup.
Best bestOfAll(GpuBuilder &k, const Best &best) {
  auto lower = [&](Value a, Value c) {
    return k.select(k.is(arith::CmpIPredicate::slt, a, c), a, c);
  };
  Value most =
      k.reduceOne(best.logit, k.launch.threads, [&](Value a, Value c) { return k.fmax(a, c); });
  Value isMost = arith::CmpFOp::create(k.b, arith::CmpFPredicate::OEQ, best.logit, most);
  return {most,
          k.reduceOne(k.select(isMost, best.index, k.i32Const(noIndex)), k.launch.threads, lower)};
}

/// Of `at(i)`, i = begin + thread, begin + thread + threads, ... below `end`.
Best bestOfItems(GpuBuilder &k, Value begin, Value end, const std::function<Best(Value)> &at) {
  const Best none = noBest(k);
  Values found = k.loop(k.add(begin, k.thread()), end, k.launch.threads, {none.logit, none.index},
                        [&](Value i, ValueRange carried) {
                          const Best best = better(k, {carried[0], carried[1]}, at(i));
                          return Values{best.logit, best.index};
                        });
  return bestOfAll(k, {found[0], found[1]});
}

Value toWord(GpuBuilder &k, Value index) { return arith::IndexCastOp::create(k.b, k.i32, index); }

} // namespace

void emitGpuArgmaxParts(GpuBuilder &k) {
  Value row = k.rowGroup(), begin = k.mul(k.group(), argmaxPart);
  Value end = k.min(k.add(begin, argmaxPart), k.idx(k.spec.cols));
  Value rowStart = k.mul(row, k.spec.cols);
  const Best best = bestOfItems(k, begin, end, [&](Value column) {
    return Best{k.number(k.operand(0), k.add(rowStart, column)), toWord(k, column)};
  });
  k.ifThen(k.less(k.thread(), k.idx(1)), [&] {
    Value at = k.add(k.mul(row, 2 * k.launch.groups), k.group());
    k.setNumber(k.operand(1), at, best.logit);
    k.setWord(k.operand(1), k.add(at, k.launch.groups), best.index);
  });
}

void emitGpuArgmax(GpuBuilder &k) {
  const int64_t parts = argmaxParts(k.spec.cols);
  Value row = k.rowGroup(), rowStart = k.mul(row, 2 * parts);
  const Best best = bestOfItems(k, k.idx(0), k.idx(parts), [&](Value part) {
    Value at = k.add(rowStart, part);
    return Best{k.number(k.operand(0), at), k.word(k.operand(0), k.add(at, parts))};
  });
  k.ifThen(k.less(k.thread(), k.idx(1)), [&] {
    Value isNone = k.isEqual(best.index, k.i32Const(noIndex));
    k.setWord(k.operand(1), row, k.select(isNone, k.i32Const(-1), best.index));
  });
}

} // namespace smelt
