// What distinguishes one kernel of a tensor program from another: the vocabulary between tensor
// programs and the kernel generator.
#pragma once

#include "runtime/artifact/format.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace smelt {

enum class TensorOp : uint32_t {
#define TENSOR_OP(enumerator, outputs, least, most) enumerator,
#include "passes/lower/tensor_ops.def"
};

struct TensorOpInfo {
  std::string_view name;
  uint32_t outputs, leastInputs, mostInputs;
  bool isMap; ///< elementwise with broadcasting
};

const TensorOpInfo &tensorOpInfo(TensorOp op);
/// The primitive of this name; ONNX names of ai.onnx where the primitive is an ONNX operator.
std::optional<TensorOp> findTensorOp(std::string_view name);

/// One kernel. All of it is known at compile time; dimensions are not: they are in the frame.
struct TensorSpec {
  TensorOp op = TensorOp::Identity;
  bool isShape = false; ///< the shape kernel, else the compute kernel
  /// Per operand, outputs first, trailing omitted inputs left out. An omitted input has given false
  /// and rank 0; its type is ignored.
  std::vector<format::ElementType> types;
  std::vector<uint32_t> ranks;
  std::vector<bool> given;
  std::vector<int64_t> ints; ///< tensor_ops.def
  double real = 0;

  /// Symbol. Kernels that are the same have the same name: shape kernels leave out what does not
  /// decide the shape.
  std::string name() const;
  /// Empty, or why there is no such kernel: operand count, ranks, types or ints that do not fit the
  /// operation.
  std::string check() const;
};

} // namespace smelt
