// `smelt eval`: perplexity of an artifact, and how far its predictions are from the float model's.
#pragma once

#include "compiler/driver/divergence.h"
#include "runtime/base/status.h"

#include <cstdint>
#include <functional>
#include <string>

namespace smelt {

struct EvaluateOptions {
  std::string model;     ///< artifact
  std::string reference; ///< ONNX model or another artifact; empty: perplexity alone
  std::string text;      ///< file
  int64_t context = 512; ///< tokens of a window
  int64_t chunks = 0;    ///< windows at most; 0: all
  int threads = 0;       ///< 0: one per core
  std::string target;    ///< code of artifacts to use; empty: the best for this CPU
  bool quiet = false;    ///< no progress
};

struct Evaluation {
  Summary summary;
  int64_t windows = 0;
  uint64_t bytes = 0; ///< size of the artifact
};

/// Cuts the text into windows of `context` tokens, the first of each replaced by BOS if the model
/// starts prompts with one, and scores the prediction of every token in the second half but the
/// half's first (llama.cpp's convention). One window is in memory at a time. InvalidArgument if the
/// text is shorter than a window.
Result<Evaluation> evaluate(const EvaluateOptions &options);

/// The result for people, or as one JSON object. Without a reference the comparison is left out.
std::string evaluationText(const Evaluation &evaluation, bool hasReference);
std::string evaluationJson(const Evaluation &evaluation, const EvaluateOptions &options);

} // namespace smelt
