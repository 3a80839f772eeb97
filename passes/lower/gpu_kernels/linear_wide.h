// Linears of so many token rows that each workgroup can keep its own in its memory.
#pragma once

#include "passes/lower/gpu_kernels/builder.h"

namespace smelt {

void emitWideLinear(GpuBuilder &k);

} // namespace smelt
