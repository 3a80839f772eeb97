// `smelt compile`: from an ONNX model and sample text to an artifact.
#pragma once

#include "calibration/budget.h"
#include "calibration/fold.h"
#include "compiler/driver/dataset.h"
#include "compiler/driver/pipeline.h"
#include "passes/lower/gpu_target.h"
#include "passes/lower/lower.h"
#include "passes/lower/target.h"
#include "passes/quantize/quantize.h"

#include <optional>
#include <string>
#include <vector>

namespace smelt {

struct CompileOptions {
  std::string model;  ///< ONNX file
  std::string output; ///< artifact
  QuantizeScheme scheme;
  /// Formats that compete for every matrix, chosen by what they cost the model; empty: `scheme` is
  /// for all. Needs calibration text.
  std::vector<WeightFormat> candidates;
  /// What the choice keeps to; MaxBytes counts the whole file. None: the bytes of `scheme`.
  std::optional<BudgetGoal> budget;
  /// 0: no data; 1: weighted search; 2: error feedback and polish; 3: coupled rows, quality before
  /// speed.
  int effort = 2;
  bool keepQuantization = false;      ///< weights that come quantized keep their codes and scales
  std::optional<Algorithm> algorithm; ///< none: as `effort` says
  std::vector<FoldAlgorithm> folds;   ///< that compete wherever a fold is exact
  bool calibrates = false;            ///< on `data`, or the built-in samples if there is none
  std::vector<std::string> data;      ///< calibration files, or
  std::string statistics;             ///< a statistics file
  SampleOptions samples;
  std::string work; ///< folder for what calibration finds, kept; empty: `<output>.work`, removed
  std::vector<const KernelTarget *> targets;
  std::vector<const GpuTarget *> gpuTargets;
  std::string kernelCache; ///< folder of compiled kernels; empty: they are not kept
  LowerOptions lower;
  std::optional<CacheFormat> cache; ///< none: as weights and model want it
  bool asIs = false;                ///< the graph runs as it stands, raised or not
  int threads = 0;
  std::string licence;
  PipelineOptions pipeline;
  /// What the user asked for, by option name, for the artifact's provenance.
  std::vector<std::pair<std::string, std::string>> given;
};

/// Compiles. The artifact appears under its name only when it is whole; every failure and a signal
/// leave nothing behind.
Status compileModel(const CompileOptions &options);

} // namespace smelt
