// Merging of statistics and their file, sound and damaged.
#include "calibration/statistics.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>

namespace smelt {
namespace {

InputStatistics makeInput(int64_t cols, double seed, bool moments) {
  InputStatistics input;
  input.tokens = uint64_t(seed) + 3;
  for (int64_t k = 0; k < cols; ++k) {
    input.sumSquares.push_back(seed + double(k) / 7);
    input.sumAbsolute.push_back(seed * 2 + double(k));
    input.maxAbsolute.push_back(float(seed) + float(k % 3));
  }
  if (moments) {
    std::vector<double> triangle;
    for (int64_t i = 0; i < triangleSize(cols); ++i)
      triangle.push_back(seed - double(i));
    input.secondMoments = std::make_shared<const std::vector<double>>(std::move(triangle));
    input.momentResidues = std::make_shared<const Residues>(Residues{{1, std::ldexp(seed, -60)}});
  }
  return input;
}

/// Two linears share an input, a third has its own.
Statistics makeStatistics(double seed, bool moments = true) {
  Statistics statistics;
  statistics.modelHash = "0123abcd";
  statistics.inputs["q"] = statistics.inputs["k"] = makeInput(3, seed, moments);
  statistics.inputs["down"] = makeInput(2, seed + 1, moments);
  statistics.inputs["down"].squaresResidues[1] = std::ldexp(-seed, -60);
  statistics.data["data"] = {4, {uint32_t(seed) % 4}};
  return statistics;
}

void expectEqual(const Statistics &a, const Statistics &b) {
  EXPECT_EQ(a.modelHash, b.modelHash);
  ASSERT_EQ(a.data.size(), b.data.size());
  for (const auto &[hash, shards] : a.data) {
    ASSERT_TRUE(b.data.contains(hash));
    EXPECT_EQ(shards.count, b.data.at(hash).count);
    EXPECT_EQ(shards.present, b.data.at(hash).present);
  }
  ASSERT_EQ(a.inputs.size(), b.inputs.size());
  for (const auto &[name, input] : a.inputs) {
    ASSERT_TRUE(b.inputs.contains(name));
    const InputStatistics &other = b.inputs.at(name);
    EXPECT_EQ(input.tokens, other.tokens);
    EXPECT_EQ(input.sumSquares, other.sumSquares);
    EXPECT_EQ(input.sumAbsolute, other.sumAbsolute);
    EXPECT_EQ(input.maxAbsolute, other.maxAbsolute);
    EXPECT_EQ(input.squaresResidues, other.squaresResidues);
    EXPECT_EQ(input.absoluteResidues, other.absoluteResidues);
    ASSERT_EQ(!input.secondMoments, !other.secondMoments);
    if (input.secondMoments) {
      EXPECT_EQ(*input.momentResidues, *other.momentResidues);
      EXPECT_EQ(*input.secondMoments, *other.secondMoments);
    }
  }
}

class StatisticsFile : public ::testing::Test {
protected:
  void SetUp() override {
    folder =
        std::filesystem::temp_directory_path() / ("smelt_statistics_" + std::to_string(getpid()));
    std::filesystem::create_directories(folder);
  }
  void TearDown() override { std::filesystem::remove_all(folder); }

  std::string bytesOf(const std::filesystem::path &path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::filesystem::path put(const std::string &bytes) {
    std::filesystem::path path = folder / "given";
    std::filesystem::remove(path); // truncating a file that was just written makes ext4 flush it
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
    return path;
  }
  std::filesystem::path folder;
};

TEST(Statistics, MergeAddsOnceEvenWhereMomentsAreShared) {
  Statistics into = makeStatistics(10);
  ASSERT_TRUE(mergeStatistics(into, makeStatistics(21)).ok());
  const InputStatistics &q = into.inputs.at("q");
  EXPECT_EQ(q.tokens, 13u + 24u);
  EXPECT_EQ(q.sumSquares[2], (10 + 2.0 / 7) + (21 + 2.0 / 7));
  EXPECT_EQ(q.sumAbsolute[2], 22 + 44);
  EXPECT_EQ(q.maxAbsolute[1], 22);
  EXPECT_EQ((*q.secondMoments)[3], 7 + 18);
  EXPECT_EQ(q.secondMoments, into.inputs.at("k").secondMoments);
  EXPECT_EQ((*into.inputs.at("down").secondMoments)[0], 11 + 22);
}

TEST(Statistics, MergeRefusesWhatDoesNotBelongTogether) {
  auto expectRefused = [](auto change) {
    Statistics into = makeStatistics(1), from = makeStatistics(2);
    change(from);
    EXPECT_FALSE(mergeStatistics(into, from).ok());
    expectEqual(into, makeStatistics(1));
  };
  expectRefused([](Statistics &s) { s.modelHash = "other"; });
  expectRefused([](Statistics &s) { s.inputs.erase("k"); });
  expectRefused([](Statistics &s) {
    s.inputs["v"] = s.inputs["k"];
    s.inputs.erase("k");
  });
  expectRefused([](Statistics &s) { s.inputs["k"] = makeInput(6, 2, true); });
  expectRefused([](Statistics &s) { s.inputs["k"].secondMoments = nullptr; });
  expectRefused([](Statistics &s) { s.data["data"].present.insert(1); }); // twice
  expectRefused([](Statistics &s) { s.data["data"].count = 5; });
}

TEST(Statistics, AllShardsAreTheWholeOfTheirData) {
  Statistics into = makeStatistics(1);
  EXPECT_EQ(missingShards(into), "shards 1 3 4 of 4");
  for (double seed : {3, 4}) {
    ASSERT_TRUE(mergeStatistics(into, makeStatistics(seed)).ok());
  }
  EXPECT_EQ(missingShards(into), "shards 3 of 4");
  Statistics other = makeStatistics(2);
  other.data = {{"other", {1, {0}}}};
  ASSERT_TRUE(mergeStatistics(into, other).ok());
  ASSERT_TRUE(mergeStatistics(into, makeStatistics(2)).ok());
  EXPECT_EQ(missingShards(into), "");
  EXPECT_EQ(into.data.size(), 2u);
  EXPECT_EQ(into.data.at("data").count, 1u);
}

TEST(ExactSum, WhatADoubleCannotHoldIsKept) {
  std::vector<double> sums = {0};
  Residues lost;
  // 2^50 + 3 * 2^-40 has 91 bits.
  for (float term : {std::ldexp(1.0f, 50), std::ldexp(1.0f, -40), std::ldexp(1.0f, -39)})
    if (double rest = addExactly(sums[0], roundTerm(term)); rest != 0)
      lost[0] += rest;
  settle(sums, lost);
  EXPECT_EQ(sums[0], std::ldexp(1.0, 50));
  EXPECT_EQ(lost.at(0), std::ldexp(3.0, -40));
  addSums(sums, lost, {-std::ldexp(1.0, 50)}, {});
  EXPECT_EQ(sums[0], std::ldexp(3.0, -40));
  EXPECT_TRUE(lost.empty());
}

TEST(ExactSum, TermsAreMultiplesOfTheQuantum) {
  for (float term : {1.2345e-9f, -3.21e-5f, 0.1f, 2047.9f, -2048.1f, 3e7f}) {
    const double rounded = roundTerm(term);
    EXPECT_EQ(rounded, std::ldexp(std::nearbyint(std::ldexp(double(term), 40)), -40)) << term;
  }
}

TEST_F(StatisticsFile, RoundTrip) {
  for (bool moments : {false, true}) {
    const std::filesystem::path path = folder / "statistics";
    const Statistics written = makeStatistics(4, moments);
    ASSERT_TRUE(writeStatistics(written, path).ok());
    Result<Statistics> read = readStatistics(path);
    ASSERT_TRUE(read.ok()) << read.status().message();
    expectEqual(written, *read);
    EXPECT_EQ(read->inputs.at("q").secondMoments, read->inputs.at("k").secondMoments);
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 1) << "a file was left";
}

TEST_F(StatisticsFile, EveryFlippedByteAndEveryLengthIsRefused) {
  ASSERT_TRUE(writeStatistics(makeStatistics(4), folder / "statistics").ok());
  const std::string good = bytesOf(folder / "statistics");
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = char(bad[i] ^ 0x10);
    Result<Statistics> read = readStatistics(put(bad));
    ASSERT_FALSE(read.ok()) << i;
    ASSERT_NE(read.status().message().find("statistics file"), std::string::npos);
  }
  for (size_t size = 0; size < good.size(); ++size)
    ASSERT_FALSE(readStatistics(put(good.substr(0, size))).ok()) << size;
  EXPECT_FALSE(readStatistics(put(good + "x")).ok());
}

/// The file's own checksum, so that a hostile file can be made to pass it.
void sign(std::string &bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  const size_t size = bytes.size() - 8;
  for (size_t i = 0; i < size; i += 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i, std::min<size_t>(8, size - i));
    hash = (hash ^ word) * 0x100000001b3;
    hash ^= hash >> 32;
  }
  std::memcpy(bytes.data() + size, &hash, 8);
}

TEST_F(StatisticsFile, SignedButHostileFilesAreRefused) {
  ASSERT_TRUE(writeStatistics(makeStatistics(4), folder / "statistics").ok());
  const std::string good = bytesOf(folder / "statistics");
  std::string same = good;
  sign(same);
  ASSERT_EQ(same, good);
  // Every 4-byte field in turn becomes huge: none may crash, be believed or ask for memory that the
  // file does not back.
  int refused = 0;
  for (size_t i = 8; i + 12 <= good.size(); ++i) {
    std::string bad = good;
    const uint32_t huge = 0xfffffff0;
    std::memcpy(bad.data() + i, &huge, 4);
    sign(bad);
    refused += readStatistics(put(bad)).ok() ? 0 : 1;
  }
  EXPECT_GT(refused, 30);
  std::string future = good;
  future[8] = 3;
  sign(future);
  Result<Statistics> read = readStatistics(put(future));
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.status().code(), StatusCode::Unsupported);
}

TEST_F(StatisticsFile, MissingOrUnwritable) {
  EXPECT_EQ(readStatistics(folder / "none").status().code(), StatusCode::NotFound);
  EXPECT_FALSE(readStatistics(folder).ok());
  EXPECT_FALSE(writeStatistics(makeStatistics(1), folder / "no" / "such" / "folder").ok());
}

} // namespace
} // namespace smelt
