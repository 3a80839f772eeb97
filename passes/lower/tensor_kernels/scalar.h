// The elementwise functions: on scalars and on vectors alike.
#pragma once

#include "passes/lower/tensor_kernels/builder.h"

namespace smelt {

/// The value of the kernel's map at these inputs, as computed values.
Value applyMap(TensorKernelBuilder &k, ValueRange inputs);
/// Whether the map is worth computing on vectors: every target has the instructions.
bool mapVectorizes(const TensorSpec &spec);

/// `value` of type `from` as type `to`: float to integer truncates and saturates, NaN gives 0;
/// integer to integer wraps; to Bool: not 0.
Value convert(TensorKernelBuilder &k, Value value, ElementType from, ElementType to);

// Of two computed values of one type; floats: NaN if either is.
Value maximum(TensorKernelBuilder &k, Value a, Value b);
Value minimum(TensorKernelBuilder &k, Value a, Value b);
Value sum(TensorKernelBuilder &k, Value a, Value b);
Value multiply(TensorKernelBuilder &k, Value a, Value b);
/// Integers truncate; by zero gives 0.
Value quotient(TensorKernelBuilder &k, Value a, Value b);

} // namespace smelt
