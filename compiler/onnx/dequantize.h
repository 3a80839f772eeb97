// Quantized weights of exporters and quantizers, seen as the float weights that they stand for.
#pragma once

#include "compiler/weights/weight_store.h"

#include "mlir/IR/BuiltinOps.h"

namespace smelt {

/// What dequantizeWeights leaves on the module: a dictionary of how many weights were given in each
/// form, "4 bits, groups of 32" -> 14. Absent if there were none.
inline constexpr char quantizedAttribute[] = "onnx.quantized";

/// Rewrites nodes that read quantized initializers to float nodes on rows of the store that decode
/// when they are read (WeightStore::addGiven), so that all that follows sees one form:
///   MatMulNBits, GatherBlockQuantized, DequantizeLinear of an initializer, Gather of an integer
///   table before DequantizeLinear, DynamicQuantizeLinear -> MatMulInteger -> scale, and their
///   fused forms DynamicQuantizeMatMul and MatMulIntegerToFloat.
/// The rounding of activations that the last forms do at run time is dropped: which precision
/// activations have is our choice. Nodes in other forms stay as they are. Fails if scales or zero
/// points do not fit the weight.
Status dequantizeWeights(mlir::ModuleOp module, WeightStore &weights);

} // namespace smelt
