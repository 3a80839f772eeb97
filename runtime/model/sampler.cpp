// The sampler: plain argmax for greedy, else filters over candidates that are sorted only as far as
// needed, in loops over the vocabulary that vectorize.
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

/// Logits whose maximum is taken, or whose weights are summed, together.
constexpr size_t blockLogits = 32;

/// A token whose weight is exp(-48) of the likeliest's is never drawn: a million of them weigh less
/// than the last bit of a sum and of the random number.
constexpr float mostRange = 48;

/// Candidates of a nucleus that are sorted at first; then as many again as there are.
constexpr size_t sortedPiece = 256;

/// exp(x) for -mostRange <= x <= 0, within 1e-7 of itself; the same bits on every machine. 2^n
/// times the Taylor polynomial of exp on half of ln 2 either way (Cody and Waite 1980).
inline float expOf(float x) {
  constexpr float perLn2 = 1.44269504f, high = 0.693359375f, low = -2.12194440e-4f;
  constexpr float rounding = 12582912.0f; // 1.5 * 2^23: the sum's last bit is 1
  const float shifted = x * perLn2 + rounding, n = shifted - rounding;
  const float r = x - n * high - n * low;
  const float y =
      ((((((1.0f / 5040 * r + 1.0f / 720) * r + 1.0f / 120) * r + 1.0f / 24) * r + 1.0f / 6) * r +
        0.5f) *
           r +
       1.0f) *
          r +
      1.0f;
  const int32_t exponent = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(rounding);
  return y * std::bit_cast<float>((exponent + 127) << 23);
}

constexpr float largest = std::numeric_limits<float>::max();

/// Of a token; infinite logits count as the largest finite one.
inline float weigh(float logit, float most, float perTemperature) {
  const float x = ((logit > largest ? largest : logit) - most) * perTemperature;
  // Without branches, so that loops of it vectorize: x is never NaN in expOf.
  const float near = x >= -mostRange ? x : -mostRange;
  const int32_t all = -int32_t(x >= -mostRange);
  return std::bit_cast<float>(std::bit_cast<int32_t>(expOf(near)) & all);
}

/// The item of [begin, end) in whose weight the threshold falls; items that weigh nothing are never
/// chosen, and where roundings carry the threshold too far it is the last that weighs anything.
template <typename WeightOf>
size_t pick(size_t begin, size_t end, double threshold, const WeightOf &weightOf) {
  size_t chosen = begin;
  for (size_t i = begin; i < end; ++i) {
    const double weight = weightOf(i);
    if (weight == 0)
      continue;
    chosen = i;
    threshold -= weight;
    if (threshold < 0)
      break;
  }
  return chosen;
}

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
  sampler.vocabulary = vocabSize;
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
    sampler.blockSums.reserve(vocabSize / blockLogits + 1);
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

/// A factor of differences of logits. Below 1e-30 only equals of the likeliest have any weight, and
/// the factor must stay finite for theirs.
float Sampler::perTemperature() const { return 1 / std::max(options.temperature, 1e-30f); }

/// Tokens that can be drawn, the K likeliest among them.
void Sampler::keepLikeliest(std::span<const float> logits) {
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
  float least = impossible;
  // K blocks hold a logit of at least the K-th largest maximum: what is below is not among the K.
  if (options.topK < blockMaxima.size()) {
    auto last = blockMaxima.begin() + options.topK - 1;
    std::nth_element(blockMaxima.begin(), last, blockMaxima.end(), std::greater<>());
    least = *last;
  }
  most = std::min(most, largest);
  const float factor = perTemperature();
  for (size_t id = 0; id < logits.size(); ++id)
    if (logits[id] >= least && logits[id] > impossible)
      if (float weight = weigh(logits[id], most, factor); weight > 0)
        candidates.push_back({std::min(logits[id], largest), int32_t(id), weight});
}

/// What every way of choosing says of logits without a number.
static Status noToken() {
  return internalError("no token is possible: all logits are NaN or minus infinity");
}

/// One of the topK likeliest candidates, which are put in order: the sums do not depend on the
/// order that they came in.
Result<int32_t> Sampler::drawOfLikeliest() {
  const size_t kept = std::min<size_t>(options.topK, candidates.size());
  std::partial_sort(candidates.begin(), candidates.begin() + std::ptrdiff_t(kept), candidates.end(),
                    likelier);
  candidates.resize(kept);
  double total = 0;
  for (const Candidate &candidate : candidates)
    total += double(candidate.weight);
  return total > 0 ? Result<int32_t>(draw(total)) : noToken();
}

Result<int32_t> Sampler::sampleOf(std::span<const LikelyToken> likely) {
  candidates.clear();
  float most = impossible;
  for (const LikelyToken &token : likely)
    most = token.logit > most ? token.logit : most;
  most = std::min(most, largest);
  for (const LikelyToken &token : likely)
    if (token.logit > impossible)
      if (float weight = weigh(token.logit, most, perTemperature()); weight > 0)
        candidates.push_back({std::min(token.logit, largest), token.id, weight});
  return drawOfLikeliest();
}

/// Sets the weights of all tokens, those below `least` to 0, and their sums by block; returns the
/// sum.
double Sampler::weighAll(std::span<const float> logits, float least) {
  weights.resize(logits.size());
  blockSums.clear();
  int64_t best = argmax(logits);
  if (best < 0)
    return 0;
  const float most = std::min(logits[size_t(best)], largest);
  const float factor = perTemperature();
  for (size_t i = 0; i < logits.size(); ++i)
    weights[i] = weigh(logits[i], most, factor);
  if (least > 0)
    for (float &weight : weights)
      weight = weight < least ? 0 : weight;
  double total = 0;
  for (size_t first = 0; first < weights.size(); first += blockLogits) {
    const size_t count = std::min(blockLogits, weights.size() - first);
    constexpr size_t lanes = 4;
    double sums[lanes] = {};
    for (size_t i = 0; i < count; ++i)
      sums[i % lanes] += double(weights[first + i]);
    blockSums.push_back((sums[0] + sums[1]) + (sums[2] + sums[3]));
    total += blockSums.back();
  }
  return total;
}

/// Tokens that the nucleus may hold. Those that are left out weigh less than (1 - P) of the whole
/// together, so the others reach P without them.
void Sampler::keepNucleus(std::span<const float> logits, double total) {
  candidates.clear();
  const double share = (1 - double(options.topP)) * total / double(logits.size());
  const float least = float(share) * 0.999f; // rounded down
  for (size_t id = 0; id < weights.size(); ++id)
    if (weights[id] >= least && weights[id] > 0)
      candidates.push_back({std::min(logits[id], largest), int32_t(id), weights[id]});
}

/// One of all tokens, by their weights.
int32_t Sampler::drawOfAll(double total) {
  double threshold = uniform() * total;
  size_t block = 0;
  for (; block + 1 < blockSums.size() && threshold >= blockSums[block]; ++block)
    threshold -= blockSums[block];
  // Roundings may carry the threshold past the last token that weighs anything.
  while (blockSums[block] == 0)
    --block;
  const size_t first = block * blockLogits;
  return int32_t(pick(first, std::min(first + blockLogits, weights.size()), threshold,
                      [&](size_t i) { return double(weights[i]); }));
}

/// Top-p and min-p over the candidates; `total` is the weight that top-p is a share of.
int32_t Sampler::draw(double total) {
  size_t kept = candidates.size();
  if (options.topP < 1) {
    // The nucleus is short as a rule: sort piece by piece until it is full.
    const double enough = double(options.topP) * total;
    double sum = 0;
    size_t sorted = 0;
    for (kept = 0; kept < candidates.size() && sum < enough; ++kept) {
      if (kept == sorted) {
        const auto from = candidates.begin() + std::ptrdiff_t(sorted);
        sorted = std::min(std::max(sortedPiece, 2 * sorted), candidates.size());
        const auto to = candidates.begin() + std::ptrdiff_t(sorted);
        if (to != candidates.end())
          std::nth_element(from, to, candidates.end(), likelier);
        std::sort(from, to, likelier);
      }
      sum += double(candidates[kept].weight);
    }
  }
  // min-p: the likeliest has weight 1, so its share is the weight itself.
  total = 0;
  for (size_t i = 0; i < kept; ++i) {
    if (candidates[i].weight < options.minP)
      candidates[i].weight = 0;
    total += double(candidates[i].weight);
  }
  return candidates[pick(0, kept, uniform() * total,
                         [&](size_t i) { return double(candidates[i].weight); })]
      .id;
}

Result<int32_t> Sampler::choose(int64_t likeliest) {
  return likeliest < 0 ? Result<int32_t>(noToken()) : int32_t(likeliest);
}

Result<int32_t> Sampler::sample(std::span<const float> logits, std::span<const int32_t> seen) {
  if (options.repetitionPenalty != 1) {
    penalize(logits, seen);
    logits = penalized;
  }
  if (options.temperature == 0)
    return choose(argmax(logits));
  double total = 0;
  if (options.topK != 0 && options.topK < logits.size()) {
    keepLikeliest(logits);
    return drawOfLikeliest();
  }
  const bool isNucleus = options.topP < 1; // of which min-p takes its part afterwards
  total = weighAll(logits, isNucleus ? 0 : options.minP);
  if (!(total > 0))
    return noToken();
  if (!isNucleus)
    return drawOfAll(total);
  keepNucleus(logits, total);
  return draw(total);
}

} // namespace smelt
