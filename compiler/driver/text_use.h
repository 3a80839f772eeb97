// What an encoder's outputs mean for users of text: labels, pooling, how much text it reads.
#pragma once

#include "calibration/graph.h"
#include "passes/lower/lower.h"
#include "runtime/artifact/format.h"
#include "runtime/artifact/writer.h"
#include "runtime/base/status.h"

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace smelt {

/// Found in the files beside a model; what they do not say is empty.
struct TextUse {
  std::vector<std::string> labels;        ///< by class (config.json, id2label)
  std::string activation;                 ///< softmax, sigmoid or none: scores to probabilities
  std::optional<format::Pooling> pooling; ///< 1_Pooling/config.json
  std::optional<bool> normalize;          ///< modules.json: whether Normalize follows
  int64_t maxTokens = 0;                  ///< sentence_bert_config.json; 0: not said
};

/// Reads config.json, modules.json, sentence_bert_config.json and the pooling module's config.json
/// of `folder`, or of the folder above where an exporter put the graph into a folder "onnx".
Result<TextUse> readTextUse(const std::filesystem::path &folder);

/// Puts pooling into the config where the graph itself leaves it open: rows of hidden states become
/// a text's embedding as `use` says, without a word by the mean of length 1.
void completeConfig(format::ModelConfig &config, const TextUse &use);

/// Sets what a graph that runs as it stands gives a text, of several outputs what speaks for the
/// whole text first; its columns, -1 where only a run tells.
int64_t describeOutputs(format::ModelConfig &config, const TensorProgramImage &image);

/// Whether the graph reads texts in both directions.
bool isEncoder(const Graph &graph);

/// Sizes for an encoder: a whole text is one step, and every row may be asked for. Others stay as
/// they are.
LowerOptions encoderSizes(LowerOptions options, const Graph &graph, int64_t positionLimit);

} // namespace smelt
