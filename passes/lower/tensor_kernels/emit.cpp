// Dispatch from tensor primitives to their emitters.
#include "passes/lower/tensor_kernels/emit.h"

#include "passes/lower/tensor_kernels/emitters.h"

namespace smelt {

namespace {

struct Emitters {
  void (*shape)(TensorKernelBuilder &);
  void (*compute)(TensorKernelBuilder &);
};

Emitters emittersOf(TensorOp op) {
  switch (op) {
  case TensorOp::Reshape:
    return {shapeReshape, computeView};
  case TensorOp::Squeeze:
    return {shapeSqueeze, computeView};
  case TensorOp::Unsqueeze:
    return {shapeUnsqueeze, computeView};
  case TensorOp::Flatten:
    return {shapeFlatten, computeView};
  case TensorOp::Transpose:
    return {shapeTranspose, computeTranspose};
  case TensorOp::Expand:
    return {shapeExpand, computeExpand};
  case TensorOp::Slice:
    return {shapeSlice, computeSlice};
  case TensorOp::Concat:
    return {shapeConcat, computeConcat};
  case TensorOp::Pad:
    return {shapePad, computePad};
  case TensorOp::Tile:
    return {shapeTile, computeTile};
  case TensorOp::Gather:
    return {shapeGather, computeGather};
  case TensorOp::GatherElements:
    return {shapeGatherElements, computeGatherElements};
  case TensorOp::GatherND:
    return {shapeGatherND, computeGatherND};
  case TensorOp::ScatterElements:
    return {shapeScatterElements, computeScatterElements};
  case TensorOp::ScatterND:
    return {shapeScatterND, computeScatterND};
  case TensorOp::Trilu:
    return {shapeTrilu, computeTrilu};
  case TensorOp::ReduceSum:
  case TensorOp::ReduceMean:
  case TensorOp::ReduceMax:
  case TensorOp::ReduceMin:
  case TensorOp::ReduceProd:
    return {shapeReduce, computeReduce};
  case TensorOp::ArgMax:
  case TensorOp::ArgMin:
    return {shapeArg, computeArg};
  case TensorOp::CumSum:
    return {shapeLikeInput, computeCumSum};
  case TensorOp::TopK:
    return {shapeTopK, computeTopK};
  case TensorOp::Range:
    return {shapeRange, computeRange};
  case TensorOp::ConstantOfShape:
    return {shapeConstantOfShape, computeConstantOfShape};
  case TensorOp::Shape:
    return {shapeShape, computeShape};
  case TensorOp::Size:
    return {shapeScalar, computeSize};
  case TensorOp::NonZero:
    return {shapeNonZero, computeNonZero};
  case TensorOp::OneHot:
    return {shapeOneHot, computeOneHot};
  case TensorOp::EyeLike:
    return {shapeLikeInput, computeEyeLike};
  case TensorOp::MatMul:
    return {shapeMatMul, computeMatMul};
  case TensorOp::Conv:
    return {shapeConv, computeConv};
  case TensorOp::AveragePool:
  case TensorOp::MaxPool:
    return {shapePool, computePool};
  default:
    return {shapeMap, computeMap};
  }
}

} // namespace

void emitTensorKernel(mlir::ModuleOp module, const TensorSpec &spec, const KernelTarget &target) {
  TensorKernelBuilder k(module, spec, target);
  Emitters emitters = emittersOf(spec.op);
  (spec.isShape ? emitters.shape : emitters.compute)(k);
  k.finish();
}

} // namespace smelt
