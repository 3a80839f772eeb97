// Quantized weights of exporters and quantizers, seen as the float weights that they stand for.
#pragma once

#include "compiler/weights/weight_store.h"

#include "mlir/IR/BuiltinOps.h"

namespace smelt {

/// What dequantizeWeights leaves on the module: a dictionary of how many weights were given in each
/// form, "4 bits, groups of 32" -> 14. Absent if there were none.
inline constexpr char quantizedAttribute[] = "onnx.quantized";

/// What becomes of products of integers, DynamicQuantizeLinear -> MatMulInteger -> scale and its
/// fused forms DynamicQuantizeMatMul and MatMulIntegerToFloat.
enum class IntegerProducts {
  Float, ///< products of float activations: which precision activations have is our choice
  Keep,  ///< they stay as they are, rounding of activations and all
};

/// Rewrites nodes that read quantized initializers to float nodes on rows of the store that decode
/// when they are read (WeightStore::addGiven), so that all that follows sees one form: MatMulNBits,
/// GatherBlockQuantized, DequantizeLinear of an initializer, Gather of an integer table before
/// DequantizeLinear, and products of integers unless they are kept. Nodes in other forms stay as
/// they are. Fails if scales or zero points do not fit the weight.
Status dequantizeWeights(mlir::ModuleOp module, WeightStore &weights, IntegerProducts products);

} // namespace smelt
