// The first phases, which every command shares: from an ONNX file to the fused model and its float
// graph.
#pragma once

#include "calibration/graph.h"
#include "compiler/driver/pipeline.h"
#include "compiler/onnx/dequantize.h"
#include "compiler/weights/weight_store.h"
#include "passes/weight_sink.h"

#include <memory>
#include <string>

namespace smelt {

/// A model that can be run in float; weights stay where the files are mapped.
struct SourceModel {
  std::shared_ptr<WeightStore> weights;
  Graph graph;
  WeightResolver resolve; ///< for the operations of the pipeline's module
  uint64_t bytes = 0;     ///< of the ONNX file and all weights
  std::string hash;       ///< of the ONNX file and all weights: 16 hexadecimal digits
};

/// What becomes of a graph that does not raise.
enum class Fallback {
  None,  ///< it is refused
  AsIs,  ///< it runs as it stands; a warning says why
  Always ///< every graph runs as it stands
};

/// Runs the phases imported, raised and fused; rotary tables that the compiler computes have
/// `positions` rows. `source` is complete only if the pipeline has not stopped; a graph that runs as
/// it stands (pipeline.runsTensors) has no float graph.
Status runFrontend(Pipeline &pipeline, const std::string &path, int64_t positions,
                   Fallback fallback, IntegerProducts products, SourceModel &source);

/// Imports a model for running it in float.
Result<SourceModel> loadSourceModel(const std::string &path, int64_t positions);

/// Drops the pages of a view that is mapped; they are read again when needed. Bounds the memory of
/// a pass over all weights.
void releasePages(const WeightStore &weights, const WeightView &view);

} // namespace smelt
