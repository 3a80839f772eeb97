// Elementwise: add, mul, scale, softcap, activation, gated on float rows.
//
// Operands: p0 float a [.][inStride], p1 float b [.][keyStride] (Add, Mul; Gated: a = gate, b =
// up), p2 float out [.][outStride], p3 int32 LogitRows when gatherRows (rows of a).
#include "passes/lower/kernels/columns.h"
#include "passes/lower/kernels/formulas.h"
#include "passes/lower/kernels/rows.h"

using namespace mlir;

namespace smelt {

void emitElementwise(KernelBuilder &k) {
  // One item is a run of columns of one row, so that few long rows (logits) are shared as well as
  // many short ones.
  constexpr int64_t unit = 256;
  const int64_t cols = k.spec.cols, units = roundUp(cols, unit) / unit;
  Buffer a = k.operand(0, k.f32), other = k.operand(1, k.f32), out = k.operand(2, k.f32);
  auto [begin, end] = k.threadShare(k.mul(k.rowCount(), units));
  k.loop(begin, end, 1, [&](Value item) {
    Value row = k.div(item, units), u = k.rem(item, units);
    Value source = sourceRow(k, 3, row);
    auto chunk = [&](Value column, int64_t n) {
      Value x = loadFirst(k, a, k.add(k.mul(source, k.spec.inStride), column), n);
      Value y = combined(k, k.spec, x, [&] {
        return loadFirst(k, other, k.add(k.mul(row, k.spec.keyStride), column), n);
      });
      storeFirst(k, out, k.add(k.mul(row, k.spec.outStride), column), y, n);
    };
    Value first = k.mul(u, unit), last = k.min(k.add(first, unit), k.idx(cols));
    Value whole = k.mul(k.div(k.sub(last, first), lanes), lanes);
    k.loop(first, k.add(first, whole), lanes, [&](Value column) { chunk(column, lanes); });
    if (cols % lanes)
      k.ifThen(k.lessEqual(k.idx(cols), last),
               [&] { chunk(k.idx(cols / lanes * lanes), cols % lanes); });
  });
}

} // namespace smelt
