// Properties of every quantization algorithm on every format.
#include "calibration/quantizer.h"
#include "tests/calibration/random_model.h"

#include <cmath>
#include <cstring>
#include <gtest/gtest.h>

namespace smelt {
namespace {

constexpr WeightFormat quantized[] = {
    WeightFormat::S8C,   WeightFormat::S4G32, WeightFormat::A4G32, WeightFormat::A4G16,
    WeightFormat::A4G64, WeightFormat::A5G32, WeightFormat::A6G16, WeightFormat::A6G64,
    WeightFormat::N4G32, WeightFormat::N4G16, WeightFormat::S8G32};
constexpr Algorithm algorithms[] = {Algorithm::Rtn, Algorithm::Mse, Algorithm::Search,
                                    Algorithm::Gptq, Algorithm::Polish};

struct Matrix {
  int64_t rows, cols;
  std::vector<float> values;
  WeightView view() const {
    return {"matrix",
            reinterpret_cast<const std::byte *>(values.data()),
            DataType::F32,
            rows,
            cols,
            cols,
            1};
  }
};

Matrix gaussian(int64_t rows, int64_t cols, uint64_t seed = 1) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  Matrix matrix{rows, cols, {}};
  for (int64_t i = 0; i < rows * cols; ++i)
    matrix.values.push_back(normal(random));
  return matrix;
}

/// Statistics of correlated inputs with a few strong channels, second moments included.
InputStatistics inputStatistics(int64_t cols, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  InputStatistics input;
  input.tokens = uint64_t(4 * cols);
  input.sumSquares.resize(size_t(cols));
  input.sumAbsolute.resize(size_t(cols));
  input.maxAbsolute.resize(size_t(cols));
  std::vector<double> triangle(size_t(triangleSize(cols))), x(static_cast<size_t>(cols)), strength;
  for (int64_t k = 0; k < cols; ++k)
    strength.push_back(std::exp(normal(random)) * (k % 29 == 3 ? 8 : 1));
  for (uint64_t t = 0; t < input.tokens; ++t) {
    double common = 0;
    for (int64_t k = 0; k < cols; ++k) {
      common = 0.8 * common + normal(random);
      x[k] = common * strength[k];
      input.sumSquares[k] += x[k] * x[k];
      input.sumAbsolute[k] += std::fabs(x[k]);
      input.maxAbsolute[k] = std::max(input.maxAbsolute[k], float(std::fabs(x[k])));
    }
    for (int64_t k = 0; k < cols; ++k)
      for (int64_t j = k; j < cols; ++j)
        triangle[triangleRow(k, cols) + j - k] += x[k] * x[j];
  }
  input.secondMoments = std::make_shared<const std::vector<double>>(std::move(triangle));
  return input;
}

InputStatistics evenStatistics(int64_t cols) {
  InputStatistics input;
  input.tokens = 1;
  input.sumSquares.assign(size_t(cols), 1);
  input.sumAbsolute.assign(size_t(cols), 1);
  input.maxAbsolute.assign(size_t(cols), 1);
  return input;
}

struct Outcome {
  QuantizationReport report;
  std::vector<std::byte> bytes;
};

Outcome quantize(const LinearWeights &linear, WeightFormat format, Algorithm algorithm,
                 const InputStatistics *statistics, int threads = 2) {
  Outcome outcome;
  Result<QuantizationReport> report = quantizeLinear(
      linear, format, algorithm, statistics, threads, [&](std::span<const std::byte> b) {
        outcome.bytes.insert(outcome.bytes.end(), b.begin(), b.end());
        return Status();
      });
  EXPECT_TRUE(report.ok()) << report.status().message();
  if (report.ok())
    outcome.report = *report;
  return outcome;
}

LinearWeights linearOf(const Matrix &matrix) { return {"linear", {matrix.view()}, false}; }

std::vector<float> decode(const Outcome &outcome, WeightFormat format, int64_t cols) {
  const int64_t size = tileBytes(format, cols);
  std::vector<float> values(outcome.bytes.size() / size_t(size) * size_t(16 * cols));
  for (size_t tile = 0; tile < outcome.bytes.size() / size_t(size); ++tile)
    unpackTile(format, std::span(outcome.bytes).subspan(tile * size_t(size), size_t(size)), cols,
               std::span(values).subspan(tile * size_t(16 * cols), size_t(16 * cols)));
  return values;
}

double signalToNoise(const Outcome &outcome) {
  return -10 * std::log10(outcome.report.weightError);
}

TEST(Quantizer, SignalToNoiseOfGaussianWeights) {
  // Anchors of research/quantization.md, section 2. Its asymmetric search with least-squares minima
  // reaches 22.94 at 6-bit scales, its table 22.50; ours tries more ranges.
  const Matrix matrix = gaussian(64, 4096);
  const InputStatistics even = evenStatistics(4096);
  auto measure = [&](WeightFormat format, Algorithm algorithm) {
    return signalToNoise(quantize(linearOf(matrix), format, algorithm, &even));
  };
  EXPECT_NEAR(measure(WeightFormat::S4G32, Algorithm::Rtn), 21.31, 0.3);
  EXPECT_NEAR(measure(WeightFormat::S4G32, Algorithm::Search), 21.78, 0.4);
  EXPECT_NEAR(measure(WeightFormat::A4G32, Algorithm::Rtn), 21.85, 0.3);
  EXPECT_NEAR(measure(WeightFormat::A4G32, Algorithm::Search), 23.25, 0.1);
  EXPECT_NEAR(measure(WeightFormat::N4G32, Algorithm::Search), 22.50, 0.2);
  EXPECT_NEAR(measure(WeightFormat::S8G32, Algorithm::Rtn), 45.4, 0.3);
  EXPECT_NEAR(measure(WeightFormat::S8C, Algorithm::Rtn), 41.2, 0.3);
}

TEST(Quantizer, ReportMatchesTheDecodedBytes) {
  const Matrix matrix = gaussian(40, 100); // padded rows and padded columns
  const InputStatistics statistics = inputStatistics(100, 3);
  for (WeightFormat format : quantized)
    for (Algorithm algorithm : algorithms) {
      Outcome outcome = quantize(linearOf(matrix), format, algorithm, &statistics);
      ASSERT_EQ(int64_t(outcome.bytes.size()), packedBytes(format, 40, 100));
      std::vector<float> decoded = decode(outcome, format, 100);
      double error = 0, power = 0, weighted = 0, weightedPower = 0;
      for (size_t i = 0; i < matrix.values.size(); ++i) {
        const double w = matrix.values[i], d = decoded[i] - w,
                     omega = statistics.sumSquares[i % 100];
        error += d * d;
        power += w * w;
        weighted += omega * d * d;
        weightedPower += omega * w * w;
      }
      EXPECT_NEAR(outcome.report.weightError, error / power, 1e-4 * error / power);
      EXPECT_NEAR(outcome.report.weightedError, weighted / weightedPower,
                  1e-3 * weighted / weightedPower);
      EXPECT_EQ(outcome.report.rows, 40);
    }
}

TEST(Quantizer, FloatsPassThrough) {
  const Matrix matrix = gaussian(20, 70);
  Outcome outcome = quantize(linearOf(matrix), WeightFormat::F32, Algorithm::Rtn, nullptr);
  std::vector<float> decoded = decode(outcome, WeightFormat::F32, 70);
  EXPECT_TRUE(std::equal(matrix.values.begin(), matrix.values.end(), decoded.begin()));
  EXPECT_EQ(outcome.report.weightError, 0);
}

TEST(Quantizer, SearchBeatsRoundingOnEveryLinear) {
  for (uint64_t seed = 0; seed < 6; ++seed) {
    const Matrix matrix = gaussian(48, 96, seed);
    const InputStatistics statistics = inputStatistics(96, seed + 10);
    for (WeightFormat format : quantized) {
      const double rtn =
          quantize(linearOf(matrix), format, Algorithm::Rtn, &statistics).report.weightedError;
      const double search =
          quantize(linearOf(matrix), format, Algorithm::Search, &statistics).report.weightedError;
      EXPECT_LT(search, rtn) << formatInfo(format).name << " " << seed;
    }
  }
}

/// Relative d^T H d of decoded weights, from the raw second moments.
double lossOf(const Matrix &matrix, const std::vector<float> &decoded,
              const InputStatistics &statistics) {
  const int64_t cols = matrix.cols;
  double loss = 0;
  for (int64_t row = 0; row < matrix.rows; ++row)
    for (int64_t k = 0; k < cols; ++k)
      for (int64_t j = k; j < cols; ++j) {
        const double a = decoded[row * cols + k] - matrix.values[row * cols + k];
        const double b = decoded[row * cols + j] - matrix.values[row * cols + j];
        loss +=
            (j == k ? 1 : 2) * a * b * (*statistics.secondMoments)[triangleRow(k, cols) + j - k];
      }
  return loss / double(statistics.tokens);
}

TEST(Quantizer, ErrorFeedbackLowersTheLoss) {
  for (uint64_t seed = 0; seed < 3; ++seed) {
    const Matrix matrix = gaussian(32, 96, seed);
    const InputStatistics statistics = inputStatistics(96, seed + 20);
    for (WeightFormat format : quantized) {
      Outcome search = quantize(linearOf(matrix), format, Algorithm::Search, &statistics);
      Outcome gptq = quantize(linearOf(matrix), format, Algorithm::Gptq, &statistics);
      EXPECT_LE(gptq.report.loss, gptq.report.searchLoss);
      const double before = lossOf(matrix, decode(search, format, 96), statistics);
      const double after = lossOf(matrix, decode(gptq, format, 96), statistics);
      EXPECT_LT(after, 0.8 * before) << formatInfo(format).name;
      EXPECT_TRUE(gptq.report.fallback.empty());
    }
  }
}

TEST(Quantizer, ErrorFeedbackWithoutMomentsOrExcitation) {
  const Matrix matrix = gaussian(16, 64);
  InputStatistics statistics = evenStatistics(64);
  auto sink = [](std::span<const std::byte>) { return Status(); };
  Result<QuantizationReport> refused =
      quantizeLinear(linearOf(matrix), WeightFormat::A4G32, Algorithm::Gptq, &statistics, 1, sink);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.status().message().find("second moments"), std::string::npos);

  // No token excited the input: the searched codes stay, and the report says why.
  statistics.sumSquares.assign(64, 0);
  statistics.secondMoments =
      std::make_shared<const std::vector<double>>(size_t(triangleSize(64)), 0.0);
  Outcome kept = quantize(linearOf(matrix), WeightFormat::A4G32, Algorithm::Gptq, &statistics);
  EXPECT_NE(kept.report.fallback.find("no token"), std::string::npos);
  EXPECT_EQ(kept.bytes,
            quantize(linearOf(matrix), WeightFormat::A4G32, Algorithm::Search, &statistics).bytes);
}

TEST(Quantizer, OtherStatisticsGiveOtherBytes) {
  const Matrix matrix = gaussian(16, 64);
  const InputStatistics one = inputStatistics(64, 1), two = inputStatistics(64, 2);
  for (WeightFormat format : quantized)
    for (Algorithm algorithm : {Algorithm::Search, Algorithm::Gptq})
      EXPECT_NE(quantize(linearOf(matrix), format, algorithm, &one).bytes,
                quantize(linearOf(matrix), format, algorithm, &two).bytes);
}

TEST(Quantizer, SameBytesForAnyThreads) {
  const Matrix matrix = gaussian(300, 64);
  const InputStatistics statistics = inputStatistics(64, 1);
  for (WeightFormat format : quantized)
    for (Algorithm algorithm : algorithms)
      EXPECT_EQ(quantize(linearOf(matrix), format, algorithm, &statistics, 1).bytes,
                quantize(linearOf(matrix), format, algorithm, &statistics, 5).bytes);
}

TEST(Quantizer, PartsFollowOneAnotherOrAlternate) {
  const Matrix a = gaussian(20, 64, 1), b = gaussian(20, 64, 2);
  Outcome together =
      quantize({"qk", {a.view(), b.view()}, false}, WeightFormat::F32, Algorithm::Rtn, nullptr);
  std::vector<float> rows = decode(together, WeightFormat::F32, 64);
  ASSERT_EQ(rows.size(), 48u * 64);
  EXPECT_TRUE(std::equal(a.values.begin(), a.values.end(), rows.begin()));
  EXPECT_TRUE(std::equal(b.values.begin(), b.values.end(), rows.begin() + 20 * 64));

  const LinearWeights alternating{"gate up", {a.view(), b.view()}, true};
  ASSERT_EQ(packedRows(alternating), 64);
  Outcome mixed = quantize(alternating, WeightFormat::F32, Algorithm::Rtn, nullptr);
  rows = decode(mixed, WeightFormat::F32, 64);
  ASSERT_EQ(rows.size(), 64u * 64);
  auto expectRow = [&](int64_t packed, const Matrix *matrix, int64_t row) {
    for (int64_t k = 0; k < 64; ++k)
      ASSERT_EQ(rows[packed * 64 + k], matrix ? matrix->values[row * 64 + k] : 0.0f) << packed;
  };
  expectRow(0, &a, 0);
  expectRow(15, &a, 15);
  expectRow(16, &b, 0);
  expectRow(32, &a, 16);
  expectRow(35, &a, 19);
  expectRow(36, nullptr, 0);
  expectRow(48, &b, 16);
  expectRow(63, nullptr, 0);
}

TEST(Quantizer, ZeroConstantTinyAndOneSidedGroups) {
  Matrix matrix{16, 96, std::vector<float>(16 * 96, 0.0f)};
  for (int64_t k = 0; k < 96; ++k) {
    matrix.values[1 * 96 + k] = 0.75f;                        // constant
    matrix.values[2 * 96 + k] = -0.75f;                       // constant below zero
    matrix.values[3 * 96 + k] = 1e-40f;                       // subnormal
    matrix.values[4 * 96 + k] = k < 32 ? 0 : 1e-20f;          // a zero group beside small ones
    matrix.values[5 * 96 + k] = 3.0f + 0.01f * float(k % 32); // far from zero
    matrix.values[6 * 96 + k] = k == 40 ? 1.0f : 0.0f;        // one weight
    matrix.values[7 * 96 + k] = (k % 2 ? 1 : -1) * 1e20f;
  }
  const InputStatistics statistics = inputStatistics(96, 3);
  for (WeightFormat format : {WeightFormat::S8C, WeightFormat::A4G32, WeightFormat::A5G64, WeightFormat::N4G32,
                              WeightFormat::S8G32})
    for (Algorithm algorithm : algorithms) {
      std::vector<float> decoded =
          decode(quantize(linearOf(matrix), format, algorithm, &statistics), format, 96);
      for (size_t i = 0; i < decoded.size(); ++i)
        ASSERT_TRUE(std::isfinite(decoded[i]));
      for (int64_t k = 0; k < 96; ++k) {
        EXPECT_EQ(decoded[k], 0.0f);
        EXPECT_LT(std::fabs(decoded[3 * 96 + k]), 1e-30f);
        // Error feedback may trade single weights for the sum; even levels stay close anyway.
        for (int64_t row : format == WeightFormat::N4G32 && needsSecondMoments(algorithm)
                               ? std::vector<int64_t>{}
                               : std::vector<int64_t>{1, 2, 5, 7})
          EXPECT_NEAR(decoded[row * 96 + k] / matrix.values[row * 96 + k], 1.0, 0.15)
              << formatInfo(format).name << " row " << row;
      }
      EXPECT_NEAR(decoded[6 * 96 + 40], 1.0f, 0.1f);
    }
}

TEST(Quantizer, RefusesWhatItCannotStore) {
  auto sink = [](std::span<const std::byte>) { return Status(); };
  auto messageOf = [&](const LinearWeights &linear, WeightFormat format, Algorithm algorithm,
                       const InputStatistics *statistics) {
    Result<QuantizationReport> report =
        quantizeLinear(linear, format, algorithm, statistics, 1, sink);
    EXPECT_FALSE(report.ok());
    return report.ok() ? "" : report.status().message();
  };
  auto expectWord = [](const std::string &message, const char *word) {
    EXPECT_NE(message.find(word), std::string::npos) << message;
  };
  Matrix matrix = gaussian(16, 64);
  expectWord(messageOf(linearOf(matrix), WeightFormat::A4G32, Algorithm::Search, nullptr),
             "needs statistics");
  const InputStatistics other = evenStatistics(65);
  expectWord(messageOf(linearOf(matrix), WeightFormat::A4G32, Algorithm::Search, &other),
             "65 inputs");
  expectWord(messageOf({"none", {}, false}, WeightFormat::S8C, Algorithm::Rtn, nullptr),
             "no weights");
  const Matrix small = gaussian(3, 64), narrow = gaussian(16, 32);
  expectWord(messageOf({"uneven", {matrix.view(), small.view()}, true}, WeightFormat::S8C,
                       Algorithm::Rtn, nullptr),
             "equal rows");
  expectWord(messageOf({"uneven", {matrix.view(), narrow.view()}, false}, WeightFormat::S8C,
                       Algorithm::Rtn, nullptr),
             "columns");
  matrix.values[5 * 64 + 7] = NAN;
  expectWord(messageOf(linearOf(matrix), WeightFormat::S8C, Algorithm::Rtn, nullptr),
             "row 5, column 7");
  matrix.values[5 * 64 + 7] = 1e9f;
  expectWord(messageOf(linearOf(matrix), WeightFormat::S4G32, Algorithm::Rtn, nullptr),
             "too large");
  Result<QuantizationReport> stopped =
      quantizeLinear(linearOf(small), WeightFormat::S8C, Algorithm::Rtn, nullptr, 1,
                     [](std::span<const std::byte>) { return exhausted("disk full"); });
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.status().code(), StatusCode::Exhausted);
}

TEST(Quantizer, NamesAreFoundAndOthersListed) {
  ASSERT_TRUE(findAlgorithm("gptq").ok());
  EXPECT_TRUE(needsSecondMoments(*findAlgorithm("gptq")));
  EXPECT_FALSE(needsStatistics(*findAlgorithm("rtn")));
  Result<Algorithm> unknown = findAlgorithm("best");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.status().message().find("rtn, mse, search, gptq, polish"), std::string::npos);
}

/// Codes, scales and zero points that a file might give for [rows, cols], in groups of 32 along the
/// columns or, transposed, along the rows.
struct GivenMatrix {
  std::vector<uint8_t> codes;
  std::vector<float> scales;
  std::vector<uint8_t> zeros;
  std::shared_ptr<GivenCodes> layout = std::make_shared<GivenCodes>();

  GivenMatrix(int64_t rows, int64_t cols, int bits, bool isSigned, bool transposed) {
    std::mt19937_64 random(7);
    int64_t fileRows = transposed ? cols : rows, fileCols = transposed ? rows : cols;
    int64_t groups = (cols + 31) / 32;
    for (int64_t i = 0; i < rows * cols * bits / 8 + 1; ++i)
      codes.push_back(uint8_t(random()));
    for (int64_t i = 0; i < rows * groups; ++i)
      scales.push_back(float(random() % 1000) / 777);
    for (int64_t i = 0; i < rows * groups * bits / 8 + 1; ++i)
      zeros.push_back(uint8_t(random()));
    GivenCodes &g = *layout;
    g.rows = fileRows;
    g.cols = g.codeRowStride = fileCols;
    g.codes = reinterpret_cast<const std::byte *>(codes.data());
    g.scales = reinterpret_cast<const std::byte *>(scales.data());
    g.zeros = reinterpret_cast<const std::byte *>(zeros.data());
    g.bits = bits;
    g.isSigned = isSigned;
    (transposed ? g.rowGroup : g.colGroup) = 32;
    g.scaleRowStride = g.zeroRowStride = transposed ? rows : groups;
    g.scaleColStride = g.zeroColStride = 1;
  }
  WeightView view(int64_t rows, int64_t cols) const {
    bool transposed = layout->rowGroup == 32;
    return {"given",
            layout->codes,
            DataType::Given,
            rows,
            cols,
            transposed ? 1 : cols,
            transposed ? layout->cols : 1,
            layout,
            0};
  }
};

TEST(Quantizer, GivenCodesAreCarriedOverToTheBit) {
  constexpr int64_t rows = 37, cols = 96;
  for (int bits : {2, 4, 8})
    for (bool isSigned : {false, true})
      for (bool transposed : {false, true}) {
        GivenMatrix given(rows, cols, bits, isSigned, transposed);
        LinearWeights linear{"linear", {given.view(rows, cols)}, false};
        std::optional<WeightFormat> format = givenFormat(linear);
        ASSERT_TRUE(format);
        EXPECT_EQ(*format, bits == 8 ? WeightFormat::K8G32 : WeightFormat::K4G32);
        std::vector<std::byte> packed;
        auto report = quantizeLinear(linear, *format, Algorithm::Rtn, nullptr, 1,
                                     [&](std::span<const std::byte> bytes) {
                                       packed.insert(packed.end(), bytes.begin(), bytes.end());
                                       return Status();
                                     });
        ASSERT_TRUE(report.ok()) << report.status().message();
        std::vector<float> wanted(rows * cols), found(tileRows * cols);
        readRows(linear.parts[0], 0, rows, wanted.data());
        const int64_t size = tileBytes(*format, cols);
        for (int64_t row = 0; row < rows; ++row) {
          unpackTile(*format,
                     std::span(packed).subspan(size_t(row / tileRows * size), size_t(size)), cols,
                     found);
          for (int64_t k = 0; k < cols; ++k)
            ASSERT_EQ(found[row % tileRows * cols + k], wanted[row * cols + k]);
        }
      }
}

TEST(Quantizer, GivenCodesNeedWholeGroups) {
  GivenMatrix given(16, 96, 4, false, false);
  given.layout->colGroup = 16;
  EXPECT_FALSE(givenFormat({"linear", {given.view(16, 96)}, false}));
  Matrix plain = gaussian(16, 96);
  EXPECT_FALSE(givenFormat({"linear", {plain.view()}, false}));
  auto refused =
      quantizeLinear({"linear", {plain.view()}, false}, WeightFormat::K4G32, Algorithm::Rtn,
                     nullptr, 1, [](std::span<const std::byte>) { return Status(); });
  EXPECT_FALSE(refused.ok());
}

} // namespace
} // namespace smelt
