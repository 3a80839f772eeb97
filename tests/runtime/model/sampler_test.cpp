// The sampler: greedy ties, filters, statistics, penalties and bad numbers.
#include "runtime/model/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

using namespace smelt;

namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

Sampler make(const SamplingOptions &options, size_t vocabulary) {
  auto sampler = Sampler::create(options, uint32_t(vocabulary));
  EXPECT_TRUE(sampler.ok()) << sampler.status().message();
  return *std::move(sampler);
}

/// Share of each token among many draws.
std::map<int32_t, double> shares(const SamplingOptions &options, const std::vector<float> &logits,
                                 int draws = 20000) {
  Sampler sampler = make(options, logits.size());
  std::map<int32_t, double> found;
  for (int i = 0; i < draws; ++i)
    found[*sampler.sample(logits, {})] += 1.0 / draws;
  return found;
}

std::vector<float> logitsOf(std::initializer_list<double> probabilities) {
  std::vector<float> logits;
  for (double p : probabilities)
    logits.push_back(float(std::log(p)));
  return logits;
}

/// Five standard deviations of a share of 20,000 draws.
constexpr double tolerance = 0.018;

TEST(Argmax, FirstAmongEqualsAndNanSafe) {
  for (size_t size : {1, 2, 31, 32, 33, 100, 1000})
    for (size_t at = 0; at < size; at += std::max<size_t>(1, size / 7)) {
      std::vector<float> values(size, -1.0f);
      values[at] = 3;
      values[size - 1] = 3;
      if (at > 0)
        values[0] = nan;
      EXPECT_EQ(argmax(values), int64_t(at)) << size;
    }
  EXPECT_EQ(argmax({}), -1);
  EXPECT_EQ(argmax(std::vector<float>{nan, -infinity}), -1);
  EXPECT_EQ(argmax(std::vector<float>{0, infinity, nan}), 1);
}

TEST(Sampler, GreedyTakesTheLowestIdOfEquals) {
  Sampler sampler = make({}, 4);
  EXPECT_EQ(*sampler.sample(std::vector<float>{1, 2, 2, 0}, {}), 1);
}

TEST(Sampler, FollowsTheDistribution) {
  auto found = shares({.temperature = 1}, logitsOf({0.5, 0.3, 0.15, 0.05}));
  EXPECT_NEAR(found[0], 0.5, tolerance);
  EXPECT_NEAR(found[1], 0.3, tolerance);
  EXPECT_NEAR(found[2], 0.15, tolerance);
  EXPECT_NEAR(found[3], 0.05, tolerance);
}

TEST(Sampler, TemperatureSharpens) {
  auto found = shares({.temperature = 0.5}, logitsOf({0.6, 0.4}));
  EXPECT_NEAR(found[0], 0.36 / 0.52, tolerance);
}

TEST(Sampler, TopKKeepsTheLikeliest) {
  auto found = shares({.temperature = 1, .topK = 2}, logitsOf({0.1, 0.4, 0.3, 0.2}));
  EXPECT_EQ(found.size(), 2u);
  EXPECT_NEAR(found[1], 4.0 / 7, tolerance);
  EXPECT_NEAR(found[2], 3.0 / 7, tolerance);
}

TEST(Sampler, TheLikeliestAloneGiveTheSameTokens) {
  std::vector<float> logits(3000);
  for (size_t i = 0; i < logits.size(); ++i)
    logits[i] = float(i * 7919 % 1009) * 0.01f; // with equals
  logits[5] = nan;
  logits[6] = -infinity;
  std::vector<LikelyToken> likely;
  for (size_t i = logits.size(); i-- > 0;) // another order, more than are kept
    if (logits[i] > 9)
      likely.push_back({logits[i], int32_t(i)});
  for (uint32_t topK : {1u, 40u, 64u})
    for (float topP : {1.0f, 0.7f})
      for (float minP : {0.0f, 0.3f}) {
        const SamplingOptions options{
            .temperature = 0.8f, .topK = topK, .topP = topP, .minP = minP, .seed = 7};
        Sampler of = make(options, logits.size()), all = make(options, logits.size());
        ASSERT_TRUE(of.needsFew());
        for (int i = 0; i < 300; ++i)
          ASSERT_EQ(*of.sampleOf(likely), *all.sample(logits, {})) << topK << " " << topP;
      }
  for (const SamplingOptions &other : {SamplingOptions{.temperature = 1},
                                       {.temperature = 1, .topK = 65},
                                       {.topK = 10},
                                       {.temperature = 1, .topK = 10, .repetitionPenalty = 1.1f}})
    EXPECT_FALSE(make(other, logits.size()).needsFew());
  EXPECT_FALSE(make({.temperature = 1, .topK = 10}, 10).needsFew());
}

TEST(Sampler, TopKOfManyIsThatOfASort) {
  // Long enough for blocks, with equal logits, and rows of equal ones longer than a block.
  for (size_t size : {33, 1000, 5000}) {
    std::vector<float> logits(size);
    for (size_t i = 0; i < size; ++i)
      logits[i] = float(i * 7919 % 101) * 0.01f;
    std::fill(logits.begin() + 10, logits.begin() + 20, 2.0f);
    logits[5] = nan;
    logits[6] = -infinity;
    for (uint32_t topK : {1u, 12u, 31u}) {
      std::vector<int32_t> ids;
      for (size_t i = 0; i < size; ++i)
        if (logits[i] > -infinity)
          ids.push_back(int32_t(i));
      std::sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) {
        float x = logits[size_t(a)], y = logits[size_t(b)];
        return x != y ? x > y : a < b;
      });
      ids.resize(topK);
      auto found = shares({.temperature = 4, .topK = topK}, logits, 3000);
      EXPECT_EQ(found.size(), topK);
      for (int32_t id : ids)
        EXPECT_TRUE(found.contains(id)) << size << " " << topK << " " << id;
    }
  }
}

TEST(Sampler, FarBehindTheLikeliestNothingIsDrawn) {
  auto found = shares({.temperature = 0.5f}, {30, 29.9f, 6.5f, -infinity, 5.5f}, 2000);
  EXPECT_EQ(found.size(), 2u);
  EXPECT_TRUE(found.contains(1));
  // At another temperature the same logits are near.
  EXPECT_EQ(shares({.temperature = 50}, {30, 29.9f, 6.5f, -infinity, 5.5f}, 2000).size(), 4u);
  EXPECT_EQ(shares({.temperature = 1e6f}, {infinity, 0, -3e38f}, 2000).size(), 1u);
}

TEST(Sampler, TopPKeepsTheNucleus) {
  auto found = shares({.temperature = 1, .topP = 0.65f}, logitsOf({0.1, 0.4, 0.3, 0.2}));
  EXPECT_EQ(found.size(), 2u);
  EXPECT_NEAR(found[1], 4.0 / 7, tolerance);
  // A nucleus that is longer than the piece that is sorted at once.
  std::vector<float> flat(2000, 0.0f);
  auto wide = shares({.temperature = 1, .topP = 0.5f}, flat, 2000);
  EXPECT_LE(wide.rbegin()->first, 1000);
  EXPECT_GT(wide.size(), 800u);
}

TEST(Sampler, MinPIsRelativeToTheLikeliest) {
  auto found = shares({.temperature = 1, .minP = 0.5f}, logitsOf({0.1, 0.4, 0.3, 0.19}));
  EXPECT_EQ(found.size(), 2u);
  EXPECT_NEAR(found[1], 4.0 / 7, tolerance);
}

TEST(Sampler, FiltersCombine) {
  auto found = shares({.temperature = 1, .topK = 3, .topP = 0.9f, .minP = 0.3f},
                      logitsOf({0.1, 0.4, 0.3, 0.2}));
  EXPECT_EQ(found.size(), 3u);
  EXPECT_FALSE(found.contains(0));
}

TEST(Sampler, RepetitionPenaltyDividesAndMultiplies) {
  Sampler sampler = make({.repetitionPenalty = 2}, 3);
  EXPECT_EQ(*sampler.sample(std::vector<float>{3, 2, 1}, std::vector<int32_t>{0, 0, 0}), 1);
  EXPECT_EQ(*sampler.sample(std::vector<float>{-1, -1.5f, -9}, std::vector<int32_t>{0, 99, -5}), 1);
  EXPECT_EQ(*sampler.sample(std::vector<float>{3, 2, 1}, {}), 0);
}

TEST(Sampler, TheSeedDecides) {
  std::vector<float> logits(100, 0.0f);
  auto draw = [&](uint64_t seed) {
    Sampler sampler = make({.temperature = 1, .seed = seed}, logits.size());
    std::vector<int32_t> drawn;
    for (int i = 0; i < 20; ++i)
      drawn.push_back(*sampler.sample(logits, {}));
    return drawn;
  };
  EXPECT_EQ(draw(7), draw(7));
  EXPECT_NE(draw(7), draw(8));
  EXPECT_NE(draw(0), draw(1));
}

TEST(Sampler, BadNumbersAreNeverChosen) {
  for (const SamplingOptions &options :
       {SamplingOptions{}, SamplingOptions{.temperature = 1},
        SamplingOptions{.temperature = 1e6f, .topK = 3, .topP = 0.5f, .minP = 0.1f},
        SamplingOptions{.temperature = 1e-6f, .topP = 0.1f, .repetitionPenalty = 3},
        SamplingOptions{.temperature = 1e-42f},
        SamplingOptions{.temperature = 1e-42f, .topK = 2}}) {
    Sampler sampler = make(options, 5);
    for (int i = 0; i < 100; ++i) {
      int32_t token = *sampler.sample(std::vector<float>{nan, 1, -infinity, 2, nan}, {});
      EXPECT_TRUE(token == 1 || token == 3);
      EXPECT_EQ(*sampler.sample(std::vector<float>{nan, 1, infinity, 2, nan}, {}), 2);
    }
    EXPECT_EQ(sampler.sample(std::vector<float>{nan, nan, -infinity, nan, nan}, {}).status().code(),
              StatusCode::Internal);
  }
}

/// The filters against their definition on a vocabulary of many blocks, where few tokens are
/// sorted.
TEST(Sampler, ManyTokensFollowTheDefinition) {
  constexpr size_t size = 5000;
  std::vector<float> logits(size);
  uint64_t state = 7;
  for (float &logit : logits) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    logit = 3 * std::log(float(double(state >> 11) * 0x1p-53) + 1e-9f);
  }
  for (const SamplingOptions &options :
       {SamplingOptions{.temperature = 1}, SamplingOptions{.temperature = 0.5f, .minP = 0.05f},
        SamplingOptions{.temperature = 1, .topP = 0.5f},
        SamplingOptions{.temperature = 2, .topP = 0.97f, .minP = 0.01f}}) {
    std::vector<size_t> order(size);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return logits[a] > logits[b]; });
    std::vector<double> weight(size);
    double all = 0, sum = 0, kept = 0;
    for (size_t id : order)
      all += weight[id] = std::exp(double(logits[id] - logits[order[0]]) / options.temperature);
    for (size_t id : order) {
      const bool isOut = options.topP < 1 && sum >= options.topP * all;
      sum += weight[id];
      if (isOut || weight[id] < options.minP)
        weight[id] = 0;
      kept += weight[id];
    }
    // Shares of 16 parts of the vocabulary, each within five standard deviations.
    std::array<double, 16> expected = {}, found = {};
    for (size_t id = 0; id < size; ++id)
      expected[id % 16] += weight[id] / kept;
    constexpr int draws = 1500;
    Sampler sampler = make(options, size);
    for (int i = 0; i < draws; ++i) {
      const int32_t token = *sampler.sample(logits, {});
      ASSERT_GT(weight[size_t(token)], 0) << token;
      found[size_t(token) % 16] += 1.0 / draws;
    }
    for (size_t part = 0; part < 16; ++part)
      EXPECT_NEAR(found[part], expected[part],
                  5 * std::sqrt(expected[part] * (1 - expected[part]) / draws));
  }
}

TEST(Sampler, OptionsOutOfRangeAreNamed) {
  for (const SamplingOptions &options :
       {SamplingOptions{.temperature = -1}, SamplingOptions{.temperature = nan},
        SamplingOptions{.topP = 0}, SamplingOptions{.topP = 1.5f}, SamplingOptions{.minP = -1},
        SamplingOptions{.minP = nan}, SamplingOptions{.repetitionPenalty = 0}}) {
    auto sampler = Sampler::create(options, 10);
    ASSERT_FALSE(sampler.ok());
    EXPECT_EQ(sampler.status().code(), StatusCode::InvalidArgument);
    EXPECT_NE(sampler.status().message().find("expected"), std::string::npos);
  }
}

TEST(Sampler, DefaultsOfTheModel) {
  format::ModelConfig config{};
  SamplingOptions unset = SamplingOptions::defaultsOf(config);
  EXPECT_EQ(unset.temperature, 0);
  EXPECT_EQ(unset.topP, 1);
  EXPECT_EQ(unset.repetitionPenalty, 1);
  config.temperature = 0.7f;
  config.topK = 20;
  EXPECT_EQ(SamplingOptions::defaultsOf(config).topK, 20u);
}

} // namespace
