// A walk over the bytes of a ModelProto that takes big initializers out, so that weights never pass
// through protobuf.
#pragma once

#include "runtime/base/status.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace smelt {

/// An initializer left out of the skeleton.
struct ScannedTensor {
  std::string header;      ///< its TensorProto without the data, serialized
  uint64_t dataOffset = 0; ///< in the model file
  uint64_t dataBytes = 0;  ///< little-endian elements; 0 if the data is external
  bool isExternal = false;
};

/// A model file as protobuf may parse it: everything but the initializers that are external or
/// longer than `limit` bytes.
struct ScannedModel {
  std::string skeleton; ///< a serialized ModelProto
  std::vector<ScannedTensor> tensors;
};

/// Field numbers: onnx.proto3 (ModelProto.graph = 7, GraphProto.initializer = 5,
/// TensorProto.float_data = 4, raw_data = 9, data_location = 14). Fails on bytes that are not
/// protobuf.
Result<ScannedModel> scanModel(std::span<const std::byte> bytes, uint64_t limit);

} // namespace smelt
