// Lowering: the quantized model becomes a program of kernel calls on planned memory, and the list
// of kernels it calls.
#pragma once

#include "passes/lower/kernel_spec.h"
#include "passes/weight_sink.h"
#include "runtime/artifact/format.h"

#include "mlir/IR/BuiltinOps.h"

#include <vector>

namespace smelt {

struct LowerOptions {
  int64_t maxContext =
      8192; ///< positions the artifact supports; bounded by the rotary tables of the graph
  int64_t maxTokens = format::cpuStepTokens; ///< rows of one step; scratch grows with it
  int64_t maxLogitRows = 16;                 ///< rows of logits of one step
  CacheFormat cache = CacheFormat::F16;
  bool compactRotary = true; ///< rotary tables in two small parts, where these prove as good
  /// Kernels of one row do what lies between two barriers of a CPU's threads; else (for GPUs, and
  /// where devices divide the layers between them) every step has a kernel of its own.
  bool joinsSteps = true;
};

/// What the lowering made. The module then holds the same program as `slm.call` operations, for
/// people to read.
struct LoweredProgram {
  format::ModelConfig config{}; ///< sizes and memory formula; generation fields are left zero
  std::vector<format::CacheLayer> layers;
  std::vector<format::Instruction> instructions; ///< kernel fields index `kernels`
  std::vector<format::LayerStart> layerStarts;   ///< per layer
  int64_t wholeTables = 0, compactTables = 0;    ///< rotary tables, as they are stored
  std::vector<KernelSpec> kernels; ///< each distinct kernel once; its symbol is KernelSpec::name()
};

/// Lowers @main of `module` (CONTRACT quantized: every slm.linear and slm.embedding has format and
/// packed_offset). Norm weights, biases and rotary tables go to `stored`.
Result<LoweredProgram> lowerProgram(mlir::ModuleOp module, const WeightResolver &weights,
                                    FloatStore &stored, const LowerOptions &options);

} // namespace smelt
