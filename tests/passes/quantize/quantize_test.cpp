// The quantize phase: which linear gets which format, what the contract refuses, and what bytes
// packing writes.
#include "passes/quantize/quantize.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>

using namespace mlir;
using namespace smelt;

namespace {

/// A decoder in miniature: embedding tied to the head, a QKV-like linear of two parts (24 and 16
/// rows: the first is no multiple of a tile), a gated linear of 24 rows.
constexpr const char *model = R"mlir(
func.func @main(%ids: tensor<?xi32>) -> tensor<?x48xf32> {
  %table = slm.weight "table" {id = 0 : i64, row_stride = 40 : i64} : tensor<48x40xf32>
  %q = slm.weight "q" {id = 1 : i64, row_stride = 40 : i64} : tensor<24x40xf32>
  %k = slm.weight "k" {id = 2 : i64, row_stride = 40 : i64} : tensor<16x40xf32>
  %gate = slm.weight "gate" {id = 3 : i64, row_stride = 40 : i64} : tensor<24x40xf32>
  %up = slm.weight "up" {id = 4 : i64, row_stride = 40 : i64} : tensor<24x40xf32>
  %down = slm.weight "down" {id = 5 : i64, row_stride = 24 : i64} : tensor<40x24xf32>
  %head = slm.weight "head" {id = HEAD_ID : i64, row_stride = 40 : i64} : tensor<48x40xf32>
  %x = slm.embedding %ids, %table {name = "embed"} : tensor<?xi32>, tensor<48x40xf32> -> tensor<?x40xf32>
  %a = slm.linear %x, [%q, %k] {name = "qk"} : tensor<?x40xf32>, [tensor<24x40xf32>, tensor<16x40xf32>] -> tensor<?x40xf32>
  %g = slm.linear %a, [%gate, %up] {name = "gate_up", gated = 3 : i32} : tensor<?x40xf32>, [tensor<24x40xf32>, tensor<24x40xf32>] -> tensor<?x24xf32>
  %d = slm.linear %g, [%down] {name = "down"} : tensor<?x24xf32>, [tensor<40x24xf32>] -> tensor<?x40xf32>
  %s = slm.select_rows %d : tensor<?x40xf32>
  %l = slm.linear %s, [%head] {name = "head"} : tensor<?x40xf32>, [tensor<48x40xf32>] -> tensor<?x48xf32>
  %c = slm.softcap %l {cap = 30.0 : f64} : tensor<?x48xf32>
  return %c : tensor<?x48xf32>
}
)mlir";

/// Keeps the section in memory.
class MemorySink : public WeightSink {
public:
  Result<int64_t> begin() override {
    bytes.resize(size_t(roundUp(int64_t(bytes.size()), 64)));
    return int64_t(bytes.size());
  }
  Status write(std::span<const std::byte> data) override {
    bytes.insert(bytes.end(), data.begin(), data.end());
    return {};
  }
  std::vector<std::byte> bytes;
};

class QuantizeTest : public testing::Test {
protected:
  QuantizeTest() {
    context.loadDialect<func::FuncDialect, slm::SLMDialect>();
    context.disableMultithreading();
  }

  OwningOpRef<ModuleOp> parse(bool tied = true) {
    std::string text = model;
    text.replace(text.find("HEAD_ID"), 7, tied ? "0" : "6");
    return parseSourceString<ModuleOp>(text, &context);
  }

  /// What the pass reports; empty: it succeeded.
  std::string run(ModuleOp module, std::unique_ptr<Pass> pass) {
    std::string text;
    ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
      text += diagnostic.str() + "\n";
      return success();
    });
    PassManager manager(&context);
    manager.addPass(std::move(pass));
    return succeeded(manager.run(module)) ? "" : text.empty() ? "failed silently" : text;
  }

  static slm::LinearOp linear(ModuleOp module, StringRef name) {
    slm::LinearOp found;
    module.walk([&](slm::LinearOp op) {
      if (op.getName() == name)
        found = op;
    });
    return found;
  }
  static slm::EmbeddingOp embedding(ModuleOp module) {
    slm::EmbeddingOp found;
    module.walk([&](slm::EmbeddingOp op) { found = op; });
    return found;
  }

  /// Weights of the initializer, made up once.
  Result<WeightView> resolve(Value value) {
    auto op = value.getDefiningOp<slm::WeightOp>();
    auto &data = store[int64_t(op.getId())];
    if (data.empty()) {
      std::mt19937 random(uint32_t(op.getId()) + 1);
      std::normal_distribution<float> normal;
      data.resize(size_t(slm::rowsOf(value) * slm::widthOf(value)));
      for (float &w : data)
        w = normal(random);
    }
    WeightView view;
    view.name = op.getName().str();
    view.data = reinterpret_cast<const std::byte *>(data.data());
    view.rows = slm::rowsOf(value);
    view.cols = slm::widthOf(value);
    view.rowStride = int64_t(op.getRowStride());
    return view;
  }

  Result<std::vector<PackedMatrix>> pack(ModuleOp module, MemorySink &sink,
                                         const PackOptions &options = {}) {
    return packWeights(module, [this](Value value) { return resolve(value); }, sink, options);
  }

  /// Statistics of all linears; column k of every input has the mean square energy(k).
  static Statistics makeStatistics(double (*energy)(size_t)) {
    Statistics statistics;
    for (auto [name, cols] : {std::pair("qk", 40), {"gate_up", 40}, {"down", 24}, {"head", 40}}) {
      InputStatistics &input = statistics.inputs[name];
      input.tokens = 1;
      for (size_t k = 0; k < size_t(cols); ++k) {
        input.sumSquares.push_back(energy(k));
        input.sumAbsolute.push_back(std::sqrt(energy(k)));
        input.maxAbsolute.push_back(float(std::sqrt(energy(k))));
      }
    }
    return statistics;
  }

  MLIRContext context;
  std::map<int64_t, std::vector<float>> store;
};

QuantizeScheme mixedScheme() {
  return {WeightFormat::A4G32, WeightFormat::S8C, WeightFormat::S4G32, ActivationFormat::A8T};
}

TEST_F(QuantizeTest, AssignsByRole) {
  auto module = parse(/*tied=*/false);
  ASSERT_EQ(run(*module, createAssignSchemePass(mixedScheme())), "");
  for (StringRef name : {"qk", "gate_up", "down"}) {
    EXPECT_EQ(linear(*module, name).getFormat(), "a4g32");
    EXPECT_EQ(linear(*module, name).getActivation(), "a8t");
  }
  EXPECT_EQ(linear(*module, "head").getFormat(), "s8c");
  EXPECT_EQ(embedding(*module).getFormat(), "s4g32");
}

TEST_F(QuantizeTest, TiedEmbeddingTakesTheHeadsFormat) {
  auto module = parse(/*tied=*/true);
  ASSERT_EQ(run(*module, createAssignSchemePass(mixedScheme())), "");
  EXPECT_EQ(embedding(*module).getFormat(), "s8c");
}

TEST_F(QuantizeTest, ExactWeightsKeepExactInputs) {
  auto module = parse();
  QuantizeScheme scheme = mixedScheme();
  scheme.decoder = WeightFormat::F32;
  ASSERT_EQ(run(*module, createAssignSchemePass(scheme)), "");
  EXPECT_EQ(linear(*module, "down").getActivation(), "f32");
  EXPECT_EQ(linear(*module, "head").getActivation(), "a8t");
}

TEST_F(QuantizeTest, ContractNamesWhatIsMissing) {
  auto module = parse();
  EXPECT_NE(run(*module, createCheckQuantizedPass()).find("has no weight format"),
            std::string::npos);
  ASSERT_EQ(run(*module, createAssignSchemePass({})), "");
  EXPECT_NE(run(*module, createCheckQuantizedPass()).find("has no packed weights"),
            std::string::npos);
  MemorySink sink;
  ASSERT_TRUE(pack(*module, sink).ok());
  EXPECT_EQ(run(*module, createCheckQuantizedPass()), "");

  linear(*module, "qk").setPackedOffset(7);
  EXPECT_NE(run(*module, createCheckQuantizedPass()).find("no multiple of 64"), std::string::npos);
  linear(*module, "qk").setPackedOffset(64);
  linear(*module, "qk").setFormat("q9");
  EXPECT_NE(run(*module, createCheckQuantizedPass()).find("unknown weight format 'q9'"),
            std::string::npos);
  linear(*module, "qk").setFormat("f32");
  EXPECT_NE(run(*module, createCheckQuantizedPass()).find("although its weights are float32"),
            std::string::npos);
}

TEST_F(QuantizeTest, PackedBytesDecodeToTheWeights) {
  auto module = parse();
  QuantizeScheme exact{WeightFormat::F32, WeightFormat::F32, WeightFormat::F32,
                       ActivationFormat::F32};
  ASSERT_EQ(run(*module, createAssignSchemePass(exact)), "");
  MemorySink sink;
  ASSERT_TRUE(pack(*module, sink).ok());

  auto row = [&](StringRef name, int64_t packedRow) {
    slm::LinearOp op = linear(*module, name);
    int64_t cols = slm::widthOf(op.getInput()), bytes = tileBytes(WeightFormat::F32, cols);
    std::vector<float> tile(size_t(tileRows * cols));
    unpackTile(WeightFormat::F32,
               std::span(sink.bytes)
                   .subspan(size_t(int64_t(*op.getPackedOffset()) + packedRow / tileRows * bytes),
                            size_t(bytes)),
               cols, tile);
    auto begin = tile.begin() + packedRow % tileRows * cols;
    return std::vector<float>(begin, begin + cols);
  };
  auto weight = [&](int64_t id, int64_t r, int64_t cols) {
    auto begin = store[id].begin() + r * cols;
    return std::vector<float>(begin, begin + cols);
  };
  // Concatenated row by row: part 1 begins in the middle of a tile.
  for (int64_t r = 0; r < 24; ++r)
    EXPECT_EQ(row("qk", r), weight(1, r, 40));
  for (int64_t r = 0; r < 16; ++r)
    EXPECT_EQ(row("qk", 24 + r), weight(2, r, 40));
  // Gate and up alternate by tile, each padded to whole tiles.
  for (int64_t r = 0; r < 24; ++r) {
    EXPECT_EQ(row("gate_up", r / 16 * 32 + r % 16), weight(3, r, 40));
    EXPECT_EQ(row("gate_up", r / 16 * 32 + 16 + r % 16), weight(4, r, 40));
  }
}

TEST_F(QuantizeTest, TiedTableIsPackedOnce) {
  auto tied = parse(true), apart = parse(false);
  MemorySink once, twice;
  for (auto *module : {&tied, &apart})
    ASSERT_EQ(run(**module, createAssignSchemePass({})), "");
  auto shared = pack(*tied, once), own = pack(*apart, twice);
  ASSERT_TRUE(shared.ok() && own.ok());
  EXPECT_EQ(embedding(*tied).getPackedOffset(), linear(*tied, "head").getPackedOffset());
  EXPECT_TRUE(shared->back().shared);
  EXPECT_EQ(shared->size(), 4u);
  ASSERT_EQ(own->size(), 5u);
  EXPECT_EQ(own->back().role, "embedding");
  EXPECT_FALSE((*own)[3].shared);
  EXPECT_GT(twice.bytes.size(), once.bytes.size());
}

TEST_F(QuantizeTest, ReportSaysWhatWasPacked) {
  auto module = parse();
  ASSERT_EQ(run(*module, createAssignSchemePass({})), "");
  MemorySink sink;
  auto packed = pack(*module, sink);
  ASSERT_TRUE(packed.ok()) << packed.status().message();
  const PackedMatrix &gated = (*packed)[1];
  EXPECT_EQ(gated.name, "gate_up");
  EXPECT_EQ(gated.role, "decoder");
  EXPECT_EQ(gated.rows, 48);
  EXPECT_EQ(gated.cols, 40);
  EXPECT_EQ(gated.bytes, packedBytes(WeightFormat::A4G32, 64, 40));
  EXPECT_EQ(packed->back().role, "head");
  // Five bits of noise at most for four-bit codes of normal weights.
  EXPECT_GT(gated.error.weightError, 1e-4);
  EXPECT_LT(gated.error.weightError, 2e-2);
}

TEST_F(QuantizeTest, BytesDependOnStatisticsAndNotOnThreads) {
  Statistics even = makeStatistics([](size_t) { return 1.0; });
  Statistics skewed = makeStatistics([](size_t k) { return k % 8 == 0 ? 1000.0 : 1.0; });
  auto bytesWith = [&](const Statistics &statistics, int threads) {
    auto module = parse();
    EXPECT_EQ(run(*module, createAssignSchemePass({})), "");
    MemorySink sink;
    PackOptions options;
    options.algorithm = Algorithm::Search;
    options.statistics = lookUpIn(statistics);
    options.threads = threads;
    EXPECT_TRUE(pack(*module, sink, options).ok());
    return sink.bytes;
  };
  EXPECT_EQ(bytesWith(even, 1), bytesWith(even, 2));
  EXPECT_NE(bytesWith(even, 1), bytesWith(skewed, 1));
}

TEST_F(QuantizeTest, RefusesStatisticsOfAnotherModel) {
  auto module = parse();
  ASSERT_EQ(run(*module, createAssignSchemePass({})), "");
  MemorySink sink;
  PackOptions options;
  options.algorithm = Algorithm::Search;
  auto none = pack(*module, sink, options);
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.status().message().find("linear 'qk': none were given"), std::string::npos);

  Statistics other = makeStatistics([](size_t) { return 1.0; });
  other.inputs.erase("down");
  options.statistics = lookUpIn(other);
  auto missing = pack(*module, sink, options);
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.status().message().find("linear 'down': it is not among them"),
            std::string::npos);

  other = makeStatistics([](size_t) { return 1.0; });
  other.inputs["gate_up"] = other.inputs["down"];
  auto narrow = pack(*module, sink, options);
  ASSERT_FALSE(narrow.ok());
  EXPECT_NE(narrow.status().message().find("found 24 columns, expected 40"), std::string::npos);
}

/// Keeps everything in memory and counts.
struct MemoryKeeper : PackedKeeper {
  std::map<std::pair<std::string, WeightFormat>, Kept> matrices;
  int found = 0, kept = 0;

  std::optional<Kept> find(const std::string &name, WeightFormat format) override {
    auto place = matrices.find({name, format});
    if (place == matrices.end())
      return std::nullopt;
    ++found;
    return place->second;
  }
  Status keep(const std::string &name, WeightFormat format, const Kept &matrix) override {
    ++kept;
    matrices[{name, format}] = matrix;
    return {};
  }
};

TEST_F(QuantizeTest, KeptMatricesAreNotPackedAgain) {
  for (bool tied : {true, false}) {
    MemoryKeeper keeper;
    PackOptions options;
    options.keeper = &keeper;
    MemorySink first, second, third;
    QuantizeScheme scheme;
    scheme.head = scheme.embedding = WeightFormat::S8C;
    auto module = parse(tied), again = parse(tied), other = parse(tied);
    ASSERT_EQ(run(*module, createAssignSchemePass(scheme)), "");
    ASSERT_EQ(run(*again, createAssignSchemePass(scheme)), "");
    scheme.matrices["down"] = {WeightFormat::A5G32, ActivationFormat::A8G32};
    ASSERT_EQ(run(*other, createAssignSchemePass(scheme)), "");

    auto packed = pack(*module, first, options);
    ASSERT_TRUE(packed.ok());
    const int all = tied ? 4 : 5;
    EXPECT_EQ(keeper.kept, all);
    EXPECT_EQ(keeper.found, 0);
    keeper.matrices.at({"down", WeightFormat::A4G32}).report.weightError = 7;
    auto reused = pack(*again, second, options);
    ASSERT_TRUE(reused.ok());
    EXPECT_EQ(keeper.kept, all);
    EXPECT_EQ(keeper.found, all);
    EXPECT_EQ(first.bytes, second.bytes);
    EXPECT_EQ(linear(*module, "down").getPackedOffset(), linear(*again, "down").getPackedOffset());
    EXPECT_EQ(embedding(*module).getPackedOffset(), embedding(*again).getPackedOffset());
    for (size_t i = 0; i < packed->size(); ++i)
      EXPECT_EQ((*reused)[i].error.weightError,
                (*packed)[i].name == "down" ? 7 : (*packed)[i].error.weightError);
    // Another format is another matrix; bytes of the wrong size are not used.
    keeper.matrices.at({"qk", WeightFormat::A4G32}).bytes.pop_back();
    ASSERT_TRUE(pack(*other, third, options).ok());
    EXPECT_EQ(keeper.kept, all + 2);
  }
}

TEST_F(QuantizeTest, ProgressCoversAllAndCanStop) {
  auto module = parse();
  ASSERT_EQ(run(*module, createAssignSchemePass({})), "");
  MemorySink sink;
  PackOptions options;
  double last = 0;
  int released = 0;
  options.progress = [&](double share) {
    EXPECT_GE(share, last);
    last = share;
    return true;
  };
  options.release = [&](const WeightView &) { ++released; };
  ASSERT_TRUE(pack(*module, sink, options).ok());
  EXPECT_DOUBLE_EQ(last, 1);
  EXPECT_EQ(released, 6);
  options.progress = [](double) { return false; };
  auto stopped = pack(*module, sink, options);
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.status().code(), StatusCode::Cancelled);
}

} // namespace
