// Choosing the next token from logits.
#pragma once

#include "runtime/artifact/format.h"
#include "runtime/base/status.h"

#include <cstdint>
#include <span>
#include <vector>

namespace smelt {

struct SamplingOptions {
  float temperature = 0; ///< 0: greedy, the likeliest token, the lowest id among equals
  uint32_t topK = 0;     ///< keep the K likeliest; 0: all
  float topP = 1;        ///< keep the likeliest whose probabilities first sum to P; 1: all
  float minP = 0; ///< keep those with at least this share of the likeliest's probability; 0: all
  float repetitionPenalty =
      1; ///< logits of tokens seen before: divided if positive, multiplied if negative; 1: none
  uint64_t seed = 0; ///< the same seed and logits give the same tokens

  /// The model's own generation defaults.
  static SamplingOptions defaultsOf(const format::ModelConfig &config);
};

/// A token that may be chosen.
struct LikelyToken {
  float logit;
  int32_t id;
};

/// Filters apply in the order of Hugging Face transformers: penalty, temperature, top-k, top-p,
/// min-p.
class Sampler {
public:
  /// InvalidArgument names the option that is out of range. Allocates all that sample() needs.
  static Result<Sampler> create(const SamplingOptions &options, uint32_t vocabSize);

  /// Whether the likeliest token is all that matters: then choose() takes it.
  bool isGreedy() const { return options.temperature == 0 && options.repetitionPenalty == 1; }
  /// The likeliest token as argmax() gives it. Internal when there is none.
  static Result<int32_t> choose(int64_t likeliest);

  /// Whether the topKAtMost likeliest tokens are all that matter.
  bool needsFew() const {
    return options.temperature > 0 && options.repetitionPenalty == 1 && options.topK > 0 &&
           options.topK <= format::topKAtMost && options.topK < vocabulary;
  }
  /// Where needsFew(): the token that sample() picks of all logits. `likely`: the topK likeliest
  /// and any others, in any order.
  Result<int32_t> sampleOf(std::span<const LikelyToken> likely);

  /// Picks a token. `logits` [vocabSize]; NaN counts as impossible. `seen`: tokens so far, for the
  /// penalty. Internal when no token is possible.
  Result<int32_t> sample(std::span<const float> logits, std::span<const int32_t> seen);

private:
  struct Candidate {
    float logit;
    int32_t id;
    float weight; ///< exp((logit - the largest) / temperature)
  };
  Sampler() = default;
  void penalize(std::span<const float> logits, std::span<const int32_t> seen);
  void keepLikeliest(std::span<const float> logits);
  Result<int32_t> drawOfLikeliest();
  float perTemperature() const;
  double weighAll(std::span<const float> logits, float least);
  void keepNucleus(std::span<const float> logits, double total);
  int32_t drawOfAll(double total);
  int32_t draw(double total);
  double uniform();

  SamplingOptions options;
  uint32_t vocabulary;
  uint64_t state[4];
  std::vector<float> penalized;
  std::vector<uint8_t> marked; ///< ids that are penalized already, all zero between calls
  std::vector<float> blockMaxima;
  std::vector<Candidate> candidates;
  std::vector<float> weights; ///< of all tokens
  std::vector<double> blockSums;
};

/// Index of the largest value, the first among equals; -1 when all are NaN or minus infinity.
int64_t argmax(std::span<const float> values);

} // namespace smelt
