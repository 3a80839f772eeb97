// The sampler: plain argmax for greedy, else filters over candidates that are sorted only as far as
// needed.
#include "runtime/model/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>

namespace smelt {

namespace {

constexpr float impossible = -std::numeric_limits<float>::infinity();

/// Larger logit first, lower id among equals: a total order, so that results do not depend on the
/// sort.
constexpr auto likelier = [](const auto &a, const auto &b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
};

/// Logits whose maximum is taken together when the likeliest K are looked for.
constexpr size_t blockLogits = 32;

/// A token whose weight is exp(-48) of the likeliest's is never drawn: a million of them weigh less
/// than the last bit of a sum and of the random number.
constexpr float mostRange = 48;

/// Candidates of a nucleus that are sorted at a time.
constexpr size_t sortedPiece = 256;

/// splitmix64 (Steele, Lea, Flood 2014): spreads a seed over the generator's state.
uint64_t splitMix(uint64_t &state) {
  uint64_t z = state += 0x9e3779b97f4a7c15;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}

} // namespace

int64_t argmax(std::span<const float> values) {
  // Independent lanes, so that the maximum vectorizes without reordering a sum; NaN never compares
  // greater.
  constexpr size_t lanes = 32;
  float best[lanes];
  std::fill(std::begin(best), std::end(best), impossible);
  size_t i = 0;
  for (; i + lanes <= values.size(); i += lanes)
    for (size_t lane = 0; lane < lanes; ++lane)
      best[lane] = values[i + lane] > best[lane] ? values[i + lane] : best[lane];
  for (; i < values.size(); ++i)
    best[0] = values[i] > best[0] ? values[i] : best[0];
  float most = *std::max_element(std::begin(best), std::end(best));
  if (most == impossible)
    return -1;
  return std::find(values.begin(), values.end(), most) - values.begin();
}

SamplingOptions SamplingOptions::defaultsOf(const format::ModelConfig &config) {
  SamplingOptions options;
  options.temperature = config.temperature;
  options.topK = config.topK;
  // Zero stands for "not set" in the artifact.
  options.topP = config.topP > 0 ? config.topP : 1;
  options.repetitionPenalty = config.repetitionPenalty > 0 ? config.repetitionPenalty : 1;
  return options;
}

Result<Sampler> Sampler::create(const SamplingOptions &options, uint32_t vocabSize) {
  auto found = [](const char *name, float value, const char *expected) {
    return invalidArgument(std::string(name) + " is " + std::to_string(value) + ", expected " +
                           expected);
  };
  if (!(options.temperature >= 0 && options.temperature <= 1e6f))
    return found("temperature", options.temperature, "0 (greedy) to 1000000");
  if (!(options.topP > 0 && options.topP <= 1))
    return found("top-p", options.topP, "more than 0, at most 1");
  if (!(options.minP >= 0 && options.minP <= 1))
    return found("min-p", options.minP, "0 to 1");
  if (!(options.repetitionPenalty > 0 && options.repetitionPenalty <= 1e6f))
    return found("repetition penalty", options.repetitionPenalty, "more than 0, 1 for none");
  Sampler sampler;
  sampler.options = options;
  uint64_t seed = options.seed;
  for (uint64_t &word : sampler.state)
    word = splitMix(seed);
  if (options.repetitionPenalty != 1) {
    sampler.penalized.resize(vocabSize);
    sampler.marked.resize(vocabSize);
  }
  if (options.temperature > 0) {
    sampler.blockMaxima.reserve(vocabSize / blockLogits + 1);
    sampler.candidates.reserve(vocabSize);
    sampler.weights.reserve(vocabSize);
  }
  return sampler;
}

/// xoshiro256** (Blackman, Vigna 2018); the upper 53 bits as a number in [0, 1).
double Sampler::uniform() {
  uint64_t result = std::rotl(state[1] * 5, 7) * 9, t = state[1] << 17;
  state[2] ^= state[0];
  state[3] ^= state[1];
  state[1] ^= state[2];
  state[0] ^= state[3];
  state[2] ^= t;
  state[3] = std::rotl(state[3], 45);
  return double(result >> 11) * 0x1p-53;
}

/// Keskar et al. 2019 (CTRL), as transformers does it.
void Sampler::penalize(std::span<const float> logits, std::span<const int32_t> seen) {
  penalized.assign(logits.begin(), logits.end());
  for (int32_t id : seen) {
    if (id < 0 || size_t(id) >= penalized.size() || marked[size_t(id)])
      continue;
    marked[size_t(id)] = 1;
    float &logit = penalized[size_t(id)];
    logit = logit > 0 ? logit / options.repetitionPenalty : logit * options.repetitionPenalty;
  }
  for (int32_t id : seen)
    if (id >= 0 && size_t(id) < marked.size())
      marked[size_t(id)] = 0;
}

/// All tokens that can be drawn, less those that top-k drops. An infinite logit becomes the largest
/// finite one.
void Sampler::collect(std::span<const float> logits) {
  constexpr float largest = std::numeric_limits<float>::max();
  candidates.clear();
  blockMaxima.clear();
  float most = impossible;
  for (size_t first = 0; first < logits.size(); first += blockLogits) {
    float best = impossible;
    for (float logit : logits.subspan(first, std::min(blockLogits, logits.size() - first)))
      best = logit > best ? logit : best;
    blockMaxima.push_back(best);
    most = std::max(most, best);
  }
  float least = std::min(most, largest) - mostRange * options.temperature;
  // K blocks hold a logit of at least the K-th largest maximum: what is below is not among the K.
  if (options.topK != 0 && options.topK < blockMaxima.size()) {
    auto last = blockMaxima.begin() + options.topK - 1;
    std::nth_element(blockMaxima.begin(), last, blockMaxima.end(), std::greater<>());
    least = std::max(least, *last);
  }
  for (size_t id = 0; id < logits.size(); ++id)
    if (logits[id] >= least && logits[id] > impossible)
      candidates.push_back({std::min(logits[id], largest), int32_t(id)});
  if (options.topK != 0 && options.topK < candidates.size()) {
    std::nth_element(candidates.begin(), candidates.begin() + options.topK, candidates.end(),
                     likelier);
    candidates.resize(options.topK);
  }
}

int32_t Sampler::draw() {
  float most = std::min_element(candidates.begin(), candidates.end(), likelier)->logit;
  auto weigh = [&](const Candidate &candidate) {
    return std::exp((double(candidate.logit) - most) / options.temperature);
  };
  weights.clear();
  double total = 0;
  size_t kept = candidates.size();
  if (options.topP < 1) {
    for (const Candidate &candidate : candidates)
      total += weigh(candidate);
    // The nucleus is short as a rule: sort piece by piece until it is full.
    double sum = 0, enough = options.topP * total;
    for (size_t sorted = 0; weights.size() < candidates.size() && sum < enough;) {
      if (weights.size() == sorted) {
        sorted = std::min(sorted + sortedPiece, candidates.size());
        std::partial_sort(candidates.begin() + std::ptrdiff_t(weights.size()),
                          candidates.begin() + std::ptrdiff_t(sorted), candidates.end(), likelier);
      }
      weights.push_back(weigh(candidates[weights.size()]));
      sum += weights.back();
    }
    kept = weights.size();
  } else {
    for (const Candidate &candidate : candidates)
      weights.push_back(weigh(candidate));
  }
  // min-p: the likeliest has weight 1, so its share is the weight itself.
  total = 0;
  for (double &weight : weights) {
    if (weight < options.minP)
      weight = 0;
    total += weight;
  }
  double threshold = uniform() * total;
  size_t chosen = 0;
  for (size_t i = 0; i < kept; ++i) {
    if (weights[i] == 0)
      continue;
    chosen = i;
    threshold -= weights[i];
    if (threshold < 0)
      break;
  }
  return candidates[chosen].id;
}

Result<int32_t> Sampler::sample(std::span<const float> logits, std::span<const int32_t> seen) {
  if (options.repetitionPenalty != 1) {
    penalize(logits, seen);
    logits = penalized;
  }
  if (options.temperature == 0) {
    int64_t best = argmax(logits);
    if (best < 0)
      return internalError("no token is possible: all logits are NaN or minus infinity");
    return int32_t(best);
  }
  collect(logits);
  if (candidates.empty())
    return internalError("no token is possible: all logits are NaN or minus infinity");
  return draw();
}

} // namespace smelt
