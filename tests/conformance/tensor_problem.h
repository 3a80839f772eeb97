// One problem for a tensor primitive: its operands with data, and what should come out by a plain
// reference in extended precision.
//
// A line is `Op operand... key=value...`. An operand is type:dims, e.g. f32:2x3, i64: (rank 0) or
// none, with ={1,2,3} (its elements), ~lo..hi (uniform) or ~special (infinities, NaN, zeros, huge
// and tiny numbers) behind it. Keys: ints (comma list), real, out (element type), rank (of the
// output; usually that of the reference), fault (shape or index), ulps (allowed error; usually 0.5:
// rounded right).
#pragma once

#include "passes/lower/tensor_spec.h"

#include <string>
#include <vector>

namespace smelt::conformance {

/// Holds every element type exactly.
using Wide = long double;

struct TestTensor {
  bool given = true;
  format::ElementType type = format::ElementType::F32;
  std::vector<int64_t> dims;
  std::vector<Wide> values;  ///< row-major
  std::vector<Wide> allowed; ///< outputs of float type: largest error of each element

  int64_t count() const;
  std::vector<std::byte> bytes() const;
  static TestTensor fromBytes(format::ElementType type, const std::vector<int64_t> &dims,
                              const std::byte *data);
};

size_t elementBytes(format::ElementType type);

struct TensorProblem {
  std::string line;
  TensorOp op = TensorOp::Identity;
  std::vector<TestTensor> inputs;
  std::vector<int64_t> ints;
  double real = 0, ulps = 0.5;
  std::vector<TestTensor> outputs; ///< expected; where a fault is, only types and dims matter
  format::TensorFault fault = format::FaultNone;

  TensorSpec spec(bool isShape) const;
};

/// Throws std::invalid_argument for a line it cannot read, or whose fault the reference does not
/// see.
TensorProblem makeTensorProblem(const std::string &line);

/// Fills `outputs` (types are set) of the problem, or throws TensorFault.
void computeReference(TensorProblem &problem);

} // namespace smelt::conformance
