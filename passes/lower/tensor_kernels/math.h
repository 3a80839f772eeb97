// Elementary functions of tensor kernels, all computed in double whatever the element type: float
// results are rounded once (<= 1 ulp), double results are good to some ulps.
#pragma once

#include "passes/lower/tensor_kernels/builder.h"

namespace smelt {

// On f64 scalars or vectors. NaN gives NaN; infinities, overflow and underflow as in C.
Value exp64(TensorKernelBuilder &k, Value x);
Value log64(TensorKernelBuilder &k, Value x);
Value sin64(TensorKernelBuilder &k, Value x); ///< exact reduction up to |x| = 2^30
Value cos64(TensorKernelBuilder &k, Value x);
Value atan64(TensorKernelBuilder &k, Value x);
Value tanh64(TensorKernelBuilder &k, Value x);
Value erf64(TensorKernelBuilder &k, Value x);
Value softplus64(TensorKernelBuilder &k, Value x); ///< log(1 + exp(x))
/// As in C: 1 for y = 0 or x = 1, NaN for negative x and fractional y. Exact for y = 1 and 2.
Value pow64(TensorKernelBuilder &k, Value x, Value y);

} // namespace smelt
