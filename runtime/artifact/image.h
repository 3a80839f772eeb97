// Programs before they are encoded: what the compiler fills in.
#pragma once

#include "runtime/artifact/format.h"

#include <string>
#include <vector>

namespace smelt {

/// The program section before encoding.
struct ProgramImage {
  std::vector<std::string> kernelNames; ///< instructions refer to kernels by index into this
  std::vector<format::Instruction> instructions;
  std::vector<format::CacheLayer> cacheLayers;
};

/// The tensor program section before encoding.
struct TensorProgramImage {
  struct Port {
    std::string name;
    format::TensorPort port; ///< `nameOffset` is filled in by the encoder
  };
  std::vector<std::string> kernelNames; ///< instructions refer to kernels by index into this
  std::vector<format::TensorEntry> tensors;
  /// `nodeName` is an index into `nodeNames`; the encoder makes it an offset.
  std::vector<format::TensorInstruction> instructions;
  std::vector<std::string> nodeNames;
  std::vector<Port> inputs, outputs;
};

} // namespace smelt
