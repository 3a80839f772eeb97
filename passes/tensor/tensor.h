// Graphs that run as they stand: decomposition into primitive ops, and their lowering to a tensor
// program (runtime/artifact/format.h).
#pragma once

#include "runtime/base/status.h"

#include "mlir/Pass/Pass.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace smelt {

/// The stored tensors of a model as these passes see them: bytes as they lie in the file, by the id
/// of onnx.weight.
class TensorWeights {
public:
  virtual ~TensorWeights() = default;
  virtual std::span<const std::byte> bytesOf(int64_t id) const = 0;
  /// All elements of a row of floats of any kind, row-major, as single precision.
  virtual Result<std::vector<float>> floatsOf(int64_t id) const = 0;
  /// A new row of floats, row-major, and its id.
  virtual Result<int64_t> add(std::string name, std::vector<float> values,
                              std::vector<int64_t> shape) = 0;
};

/// Makes every node of `@main` a primitive of passes/tensor/primitives.def on values of known rank
/// and element type: composite ops are taken apart, attributes and inputs of all opsets get one
/// form, constants are folded, products with weights become slm.linear and gathers from tables
/// slm.embedding. Nodes that it does not understand stay, marked with the reason. `weights` may be
/// null: then stored tensors are never read.
std::unique_ptr<mlir::Pass> createTensorizePass(TensorWeights *weights);

/// The contract afterwards: only primitives are left. Fails with the list of all other nodes.
std::unique_ptr<mlir::Pass> createCheckTensorPass();

/// `tensorize` and `check-tensor` for smelt-opt.
void registerTensorPasses();

} // namespace smelt
