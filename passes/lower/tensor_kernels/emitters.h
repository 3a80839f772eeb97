// The emitters of tensor kernels, a shape and a compute function each; each writes the whole body
// of a kernel.
#pragma once

#include "passes/lower/tensor_kernels/builder.h"

namespace smelt {

/// Adds the axes of operand 0 with the strides of `operands`, broadcast to it, to the box.
void addBroadcastAxes(TensorKernelBuilder &k, Box &box, mlir::ArrayRef<int> operands);
/// Whether the operand has exactly one element; a shape fault where not.
Value requireOne(TensorKernelBuilder &k, int operand);

// Shape kernels.
void shapeArg(TensorKernelBuilder &k);
void shapeConcat(TensorKernelBuilder &k);
void shapeConstantOfShape(TensorKernelBuilder &k);
void shapeConv(TensorKernelBuilder &k);
void shapeExpand(TensorKernelBuilder &k);
void shapeFlatten(TensorKernelBuilder &k);
void shapeGather(TensorKernelBuilder &k);
void shapeGatherElements(TensorKernelBuilder &k);
void shapeGatherND(TensorKernelBuilder &k);
void shapeLikeInput(TensorKernelBuilder &k);
void shapeMap(TensorKernelBuilder &k);
void shapeMatMul(TensorKernelBuilder &k);
void shapeNonZero(TensorKernelBuilder &k);
void shapeOneHot(TensorKernelBuilder &k);
void shapePad(TensorKernelBuilder &k);
void shapePool(TensorKernelBuilder &k);
void shapeRange(TensorKernelBuilder &k);
void shapeReduce(TensorKernelBuilder &k);
void shapeReshape(TensorKernelBuilder &k);
void shapeScalar(TensorKernelBuilder &k);
void shapeScatterElements(TensorKernelBuilder &k);
void shapeScatterND(TensorKernelBuilder &k);
void shapeShape(TensorKernelBuilder &k);
void shapeSlice(TensorKernelBuilder &k);
void shapeSqueeze(TensorKernelBuilder &k);
void shapeTile(TensorKernelBuilder &k);
void shapeTopK(TensorKernelBuilder &k);
void shapeTranspose(TensorKernelBuilder &k);
void shapeTrilu(TensorKernelBuilder &k);
void shapeUnsqueeze(TensorKernelBuilder &k);

// Compute kernels.
void computeArg(TensorKernelBuilder &k);
void computeConcat(TensorKernelBuilder &k);
void computeConstantOfShape(TensorKernelBuilder &k);
void computeConv(TensorKernelBuilder &k);
void computeCumSum(TensorKernelBuilder &k);
void computeExpand(TensorKernelBuilder &k);
void computeEyeLike(TensorKernelBuilder &k);
void computeGather(TensorKernelBuilder &k);
void computeGatherElements(TensorKernelBuilder &k);
void computeGatherND(TensorKernelBuilder &k);
void computeMap(TensorKernelBuilder &k);
void computeMatMul(TensorKernelBuilder &k);
void computeNonZero(TensorKernelBuilder &k);
void computeOneHot(TensorKernelBuilder &k);
void computePad(TensorKernelBuilder &k);
void computePool(TensorKernelBuilder &k);
void computeRange(TensorKernelBuilder &k);
void computeReduce(TensorKernelBuilder &k);
void computeScatterElements(TensorKernelBuilder &k);
void computeScatterND(TensorKernelBuilder &k);
void computeShape(TensorKernelBuilder &k);
void computeSize(TensorKernelBuilder &k);
void computeSlice(TensorKernelBuilder &k);
void computeTile(TensorKernelBuilder &k);
void computeTopK(TensorKernelBuilder &k);
void computeTranspose(TensorKernelBuilder &k);
void computeTrilu(TensorKernelBuilder &k);
void computeView(TensorKernelBuilder &k);

} // namespace smelt
