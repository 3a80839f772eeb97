// Elementwise kernels with numpy broadcasting.
#include "passes/lower/tensor_kernels/emitters.h"
#include "passes/lower/tensor_kernels/scalar.h"

using namespace mlir;

namespace smelt {

void shapeMap(TensorKernelBuilder &k) {
  Value wrong = k.truth(false);
  for (int a = 0; a < k.rank(0); ++a) {
    Value length = k.idx(1);
    for (int i = k.outputs; k.has(i); ++i) {
      int axis = a - (k.rank(0) - k.rank(i));
      if (axis < 0)
        continue;
      Value next = k.dim(i, axis), one = k.idx(1);
      Value isOne = k.equal(length, one);
      Value fits = k.either(k.either(isOne, k.equal(next, one)), k.equal(length, next));
      wrong = k.either(wrong, k.negate(fits));
      length = k.select(isOne, next, length);
    }
    k.setDim(0, a, length);
  }
  k.failIf(wrong, format::FaultShape);
}

void addBroadcastAxes(TensorKernelBuilder &k, Box &box, ArrayRef<int> operands) {
  SmallVector<Values> dims, strides;
  for (int operand : operands) {
    dims.push_back(k.dims(operand));
    strides.push_back(k.strides(dims.back()));
  }
  for (int a = 0; a < k.rank(0); ++a) {
    Values steps;
    for (size_t i = 0; i < operands.size(); ++i) {
      int axis = a - (k.rank(0) - k.rank(operands[i]));
      // A length of 1 is broadcast; where the output has 1 too the stride does not matter.
      steps.push_back(axis < 0 ? k.idx(0)
                               : k.select(k.equal(dims[i][size_t(axis)], k.idx(1)), k.idx(0),
                                          strides[i][size_t(axis)]));
    }
    box.axis(k.dim(0, a), steps);
  }
}

void computeMap(TensorKernelBuilder &k) {
  const int count = int(k.spec.ranks.size());
  SmallVector<int> operands;
  for (int i = 0; i < count; ++i)
    operands.push_back(i);
  Box box(k, count);
  addBroadcastAxes(k, box, operands);
  if (k.spec.op == TensorOp::Identity)
    return copyBox(k, box, 1, k.idx(0), k.idx(0));
  box.close();
  const bool vectors = mapVectorizes(k.spec);
  box.forRuns([&](ValueRange offsets, Value first, Value last) {
    k.loop(first, last, vectors ? lanes : 1, [&](Value i) {
      Value n = k.min(k.sub(last, i), k.idx(lanes));
      Values inputs;
      for (int operand = 1; operand < count; ++operand) {
        Value stride = box.innerStrides[size_t(operand)];
        Value at = k.add(offsets[size_t(operand)], k.mul(i, stride));
        inputs.push_back(vectors ? k.elementLanes(operand, at, stride, n) : k.element(operand, at));
      }
      Value result = applyMap(k, inputs), at = k.add(offsets[0], i);
      if (vectors)
        k.setElementLanes(0, at, n, result);
      else
        k.setElement(0, at, result);
    });
  });
}

} // namespace smelt
