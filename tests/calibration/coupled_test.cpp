// Rows corrected for each other's errors: the loss against its plain definition, and its bounds.
#include "calibration/quantizer.h"
#include "tests/calibration/tile_fixture.h"

#include <gtest/gtest.h>

namespace smelt {
namespace {

constexpr int64_t cols = 64;
constexpr WeightFormat formats[] = {WeightFormat::A4G32, WeightFormat::N4G16, WeightFormat::S8C};

/// Parts of a linear with weights of its own.
struct Linear {
  std::vector<std::vector<float>> values;
  LinearWeights weights{"linear", {}, false};

  Linear(std::vector<int64_t> rows, bool interleave, uint64_t seed = 1) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    for (int64_t count : rows) {
      std::vector<float> &part = values.emplace_back(size_t(count * cols));
      for (float &value : part)
        value = normal(random);
      weights.parts.push_back({"part", reinterpret_cast<const std::byte *>(part.data()),
                               DataType::F32, count, cols, cols, 1});
    }
    weights.interleaveTiles = interleave;
  }
  int64_t rows() const {
    int64_t sum = 0;
    for (const WeightView &part : weights.parts)
      sum += part.rows;
    return sum;
  }
};

/// A block per part.
OutputMoments outputsOf(const Linear &linear, bool correlated) {
  OutputMoments outputs;
  int64_t first = 0;
  for (const WeightView &part : linear.weights.parts) {
    const std::vector<double> moments = correlatedMoments(part.rows, uint64_t(part.rows));
    OutputMoments::Block block{first, part.rows, {}};
    for (int64_t i = 0; i < part.rows * part.rows; ++i)
      block.values.push_back(correlated                       ? float(moments[size_t(i)])
                             : i / part.rows == i % part.rows ? 1.0f
                                                              : 0.0f);
    outputs.blocks.push_back(std::move(block));
    first += part.rows;
  }
  return outputs;
}

struct Outcome {
  QuantizationReport report;
  std::vector<std::byte> bytes;
};

Outcome quantize(const Linear &linear, WeightFormat format, Algorithm algorithm,
                 const InputStatistics &input, const OutputMoments *outputs, int threads = 2) {
  Outcome outcome;
  auto sink = [&](std::span<const std::byte> bytes) {
    outcome.bytes.insert(outcome.bytes.end(), bytes.begin(), bytes.end());
    return Status();
  };
  Result<QuantizationReport> report =
      quantizeLinear(linear.weights, format, algorithm, &input, threads, sink, nullptr, outputs);
  EXPECT_TRUE(report.ok()) << report.status().message();
  if (report.ok())
    outcome.report = *report;
  return outcome;
}

/// sum over blocks of tr(G D H D^T), G and H with 0.05 and 0.003 of their mean diagonal added.
double lossOf(const Linear &linear, WeightFormat format, const std::vector<std::byte> &bytes,
              const std::vector<double> &inputs, const OutputMoments &outputs) {
  const int64_t size = tileBytes(format, cols), tiles = int64_t(bytes.size()) / size;
  std::vector<float> decoded(size_t(16 * cols));
  std::vector<double> errors(size_t(linear.rows() * cols));
  for (int64_t tile = 0; tile < tiles; ++tile) {
    unpackTile(format, std::span(bytes).subspan(size_t(tile * size), size_t(size)), cols, decoded);
    for (int64_t lane = 0; lane < 16; ++lane) {
      int64_t part = 0, row = tile * 16 + lane, before = 0;
      if (linear.weights.interleaveTiles) {
        part = tile % 2;
        row = tile / 2 * 16 + lane;
        before = part * linear.weights.parts[0].rows;
      } else {
        while (part < int64_t(linear.values.size()) && row >= linear.weights.parts[part].rows) {
          before += linear.weights.parts[part].rows;
          row -= linear.weights.parts[part++].rows;
        }
      }
      if (part == int64_t(linear.values.size()) || row >= linear.weights.parts[part].rows)
        continue;
      for (int64_t k = 0; k < cols; ++k)
        errors[(before + row) * cols + k] =
            double(decoded[lane * cols + k]) - double(linear.values[part][row * cols + k]);
    }
  }
  double mean = 0, sum = 0;
  for (int64_t k = 0; k < cols; ++k)
    mean += inputs[k * cols + k] / cols;
  std::vector<double> moved(errors.size()); // D H
  for (int64_t n = 0; n < linear.rows(); ++n)
    for (int64_t a = 0; a < cols; ++a)
      for (int64_t b = 0; b < cols; ++b)
        moved[n * cols + a] +=
            errors[n * cols + b] * (inputs[a * cols + b] + (a == b ? 0.003 * mean : 0));
  for (const OutputMoments::Block &block : outputs.blocks) {
    const int64_t n = block.count;
    double meanOut = 0;
    for (int64_t i = 0; i < n; ++i)
      meanOut += double(block.values[i * n + i]) / double(n);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j) {
        double dot = 0;
        for (int64_t k = 0; k < cols; ++k)
          dot += moved[(block.first + i) * cols + k] * errors[(block.first + j) * cols + k];
        sum += dot * (double(block.values[i * n + j]) + (i == j ? 0.05 * meanOut : 0));
      }
  }
  return sum;
}

TEST(Coupled, LowersTheLossThatItReports) {
  const std::vector<double> inputs = correlatedMoments(cols, 4);
  const InputStatistics statistics = statisticsOf(inputs, cols);
  // Whole tiles; parts that share a tile; tiles that alternate, the last of them padded.
  const Linear linears[] = {{{160}, false}, {{120, 72, 72}, false}, {{136, 136}, true}};
  for (const Linear &linear : linears) {
    const OutputMoments outputs = outputsOf(linear, true);
    for (WeightFormat format : formats) {
      const Outcome polished = quantize(linear, format, Algorithm::Polish, statistics, nullptr);
      const Outcome coupled = quantize(linear, format, Algorithm::Coupled, statistics, &outputs);
      const double before = lossOf(linear, format, polished.bytes, inputs, outputs),
                   after = lossOf(linear, format, coupled.bytes, inputs, outputs);
      EXPECT_NEAR(coupled.report.polishedCoupledLoss, before, 1e-3 * before);
      EXPECT_NEAR(coupled.report.coupledLoss, after, 1e-3 * after);
      EXPECT_LT(after, 0.97 * before) << linear.rows() << " " << formatInfo(format).name;
      EXPECT_EQ(coupled.report.loss, polished.report.loss);
      EXPECT_EQ(quantize(linear, format, Algorithm::Coupled, statistics, &outputs, 1).bytes,
                coupled.bytes);
    }
  }
}

TEST(Coupled, IndependentRowsStayAsPolishLeftThem) {
  const InputStatistics statistics = statisticsOf(correlatedMoments(cols, 4), cols);
  const Linear linear({40, 24}, false);
  const OutputMoments outputs = outputsOf(linear, false);
  for (WeightFormat format : formats) {
    const Outcome polished = quantize(linear, format, Algorithm::Polish, statistics, nullptr);
    EXPECT_EQ(quantize(linear, format, Algorithm::Coupled, statistics, &outputs).bytes,
              polished.bytes);
    // Without output moments it is polish.
    EXPECT_EQ(quantize(linear, format, Algorithm::Coupled, statistics, nullptr).bytes,
              polished.bytes);
  }
}

TEST(Coupled, RowsThatNothingDependsOnAreNoTrouble) {
  const InputStatistics statistics = statisticsOf(correlatedMoments(cols, 4), cols);
  const Linear linear({32}, false);
  OutputMoments outputs = outputsOf(linear, true);
  std::fill(outputs.blocks[0].values.begin(), outputs.blocks[0].values.end(), 0.0f);
  EXPECT_EQ(quantize(linear, WeightFormat::A4G32, Algorithm::Coupled, statistics, &outputs).bytes,
            quantize(linear, WeightFormat::A4G32, Algorithm::Polish, statistics, nullptr).bytes);
}

TEST(Coupled, RefusesMomentsThatDoNotFit) {
  const InputStatistics statistics = statisticsOf(correlatedMoments(cols, 4), cols);
  const Linear linear({32}, false), other({40}, false);
  const OutputMoments outputs = outputsOf(other, true);
  auto sink = [](std::span<const std::byte>) { return Status(); };
  Result<QuantizationReport> report =
      quantizeLinear(linear.weights, WeightFormat::A4G32, Algorithm::Coupled, &statistics, 1, sink,
                     nullptr, &outputs);
  ASSERT_FALSE(report.ok());
  EXPECT_NE(report.status().message().find("do not fit its rows"), std::string::npos);
}

} // namespace
} // namespace smelt
