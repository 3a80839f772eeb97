// What ONNX's own library does to a model before it becomes IR: check, inline functions, infer
// shapes.
#pragma once

#include "compiler/onnx/wire.h"
#include "runtime/base/status.h"

#include <onnx/onnx_pb.h>

namespace smelt {

/// A model ready to become IR, and the initializers that stay where they are.
struct PreparedModel {
  onnx::ModelProto proto;
  struct Stored {
    onnx::TensorProto header;
    uint64_t offset;
    uint64_t bytes;
    bool isExternal;
  };
  std::vector<Stored> stored;
};

/// Parses the skeleton, checks it, inlines its functions and infers the shapes it can. Ops that
/// ONNX does not know (exporters put some into its default domain) are left alone.
Result<PreparedModel> prepareModel(ScannedModel scanned);

} // namespace smelt
