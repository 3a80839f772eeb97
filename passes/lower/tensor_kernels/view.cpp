// Kernels of views: Reshape, Squeeze, Unsqueeze, Flatten; their compute kernels copy.
#include "passes/lower/tensor_kernels/emitters.h"

using namespace mlir;

namespace smelt {

namespace {

/// a * b of numbers >= 0, at most 2^62.
Value cappedProduct(TensorKernelBuilder &k, Value a, Value c) {
  Value most = k.idx(int64_t(1) << 62);
  Value divisor = k.max(c, k.idx(1));
  return k.select(k.less(k.div(most, divisor), a), most, k.mul(a, c));
}

} // namespace

// One length may be -1, the rest of the elements; 0 copies the input's length unless ints[0].
// Lengths that are copied are left out of the division for -1, so that it works for empty tensors
// too.
void shapeReshape(TensorKernelBuilder &k) {
  const int in = k.input(0), shape = k.input(1), inRank = k.rank(in);
  const bool allowZero = k.spec.ints[0] != 0;
  Value rank = k.idx(k.rank(0)), zero = k.idx(0), one = k.idx(1);
  Value fits = k.equal(k.dim(shape, 0), rank);
  k.failIf(k.negate(fits), format::FaultShape);
  k.ifThen(fits, [&] {
    auto requested = [&](Value a) {
      Value length = k.indexElement(shape, a);
      if (allowZero)
        return std::pair(length, k.truth(false));
      Value copied = k.equal(length, zero);
      Value own = inRank ? k.dim(in, k.min(a, k.idx(inRank - 1))) : zero;
      Value exists = k.less(a, k.idx(inRank));
      return std::pair(k.select(copied, k.select(exists, own, k.idx(-2)), length), copied);
    };
    // all: product of the known lengths; given, copied: of the given and the copied ones.
    Values first = k.loop(zero, rank, 1, {one, one, one, zero, k.truth(false)},
                          [&](Value a, ValueRange v) -> Values {
                            auto [length, copied] = requested(a);
                            Value hole = k.equal(length, k.idx(-1));
                            Value wrong = k.either(v[4], k.less(length, k.idx(-1)));
                            Value known = k.select(hole, one, k.max(length, zero));
                            Value given = cappedProduct(k, v[1], k.select(copied, one, known));
                            Value rest = cappedProduct(k, v[2], k.select(copied, known, one));
                            return {cappedProduct(k, v[0], known), given, rest,
                                    k.add(v[3], k.select(hole, one, zero)), wrong};
                          });
    Value all = first[0], given = first[1], copied = first[2], holes = first[3], wrong = first[4];
    Value total = k.count(in);
    // Elements per copied one. An empty copied axis takes the other axes' product.
    Values others = k.loop(zero, k.idx(inRank), 1, {one}, [&](Value a, ValueRange v) -> Values {
      Value inside = k.less(a, rank);
      auto isCopied = k.ifElse(
          inside, k.i1, [&]() -> Values { return {requested(a).second}; },
          [&]() -> Values { return {k.truth(false)}; })[0];
      return {k.select(isCopied, v[0], k.mul(v[0], k.dim(in, a)))};
    });
    Value emptyCopied = k.equal(copied, zero);
    Value elements = k.select(emptyCopied, others[0], total);
    Value known = k.select(emptyCopied, given, all);
    Value hole = k.div(elements, k.max(known, one));
    Value oneHole = k.equal(holes, one);
    Value divides = k.both(k.less(zero, known), k.equal(k.mul(hole, known), elements));
    Value right = k.select(oneHole, divides, k.both(k.equal(holes, zero), k.equal(all, total)));
    k.failIf(k.either(wrong, k.negate(right)), format::FaultShape);
    k.loop(zero, rank, 1, [&](Value a) {
      Value length = requested(a).first;
      k.setDim(0, a, k.max(k.select(k.equal(length, k.idx(-1)), hole, length), zero));
    });
  });
}

void shapeSqueeze(TensorKernelBuilder &k) {
  const int in = k.input(0);
  Value wrong = k.truth(false);
  for (int a = 0, out = 0; a < k.rank(in); ++a)
    if (llvm::is_contained(k.spec.ints, a))
      wrong = k.either(wrong, k.notEqual(k.dim(in, a), k.idx(1)));
    else
      k.setDim(0, out++, k.dim(in, a));
  k.failIf(wrong, format::FaultShape);
}

void shapeUnsqueeze(TensorKernelBuilder &k) {
  for (int a = 0, from = 0; a < k.rank(0); ++a)
    k.setDim(0, a, llvm::is_contained(k.spec.ints, a) ? k.idx(1) : k.dim(k.input(0), from++));
}

void shapeFlatten(TensorKernelBuilder &k) {
  Values dims = k.dims(k.input(0));
  const size_t axis = size_t(k.spec.ints[0]);
  k.setDim(0, 0, k.product(ArrayRef(dims).take_front(axis)));
  k.setDim(0, 1, k.product(ArrayRef(dims).drop_front(axis)));
}

void computeView(TensorKernelBuilder &k) {
  auto [begin, end] = k.threadShare(k.count(0));
  copyRun(k, k.input(0), begin, begin, k.sub(end, begin));
}

} // namespace smelt
