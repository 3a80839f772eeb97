// The compiler's options: defaults, names, and what contradicts itself.
#include "compiler/driver/options.h"
#include "runtime/devices/cpu.h"

#include <gtest/gtest.h>

using namespace smelt;

namespace {

template <typename... Words> Result<CompileOptions> compileWith(Words... words) {
  cli::Command command{"compile", "MODEL", "", nullptr, compilerOptions()};
  std::vector<const char *> all = {"model.onnx", words...};
  SMELT_ASSIGN(cli::Arguments arguments, cli::parseArguments(command, all));
  return readCompileOptions(arguments);
}

/// The message of the failure; empty: there was none.
template <typename... Words> std::string failureOf(Words... words) {
  return compileWith(words...).status().message();
}

void expectContains(const std::string &text, const std::string &part) {
  EXPECT_NE(text.find(part), std::string::npos) << "'" << text << "' lacks '" << part << "'";
}

TEST(Options, DefaultsNeedNoManual) {
  auto options = compileWith();
  ASSERT_TRUE(options.ok()) << options.status().message();
  EXPECT_EQ(options->output, "model.smelt");
  EXPECT_EQ(options->scheme.decoder, WeightFormat::A4G32);
  EXPECT_EQ(options->scheme.head, WeightFormat::S8C);
  EXPECT_EQ(options->scheme.embedding, WeightFormat::S8C);
  EXPECT_EQ(options->scheme.activation, ActivationFormat::A8G32);
  EXPECT_EQ(options->cache, std::nullopt);
  EXPECT_TRUE(options->lower.compactRotary);
  EXPECT_FALSE(options->algorithm.has_value());
  ASSERT_EQ(options->targets.size(), 3u);
  EXPECT_EQ(options->targets[0]->name, "x86-64-v4-vbmi");
  EXPECT_EQ(options->targets[1]->name, "x86-64-v3");
  EXPECT_EQ(options->targets[2]->name, "aarch64-dotprod");
  EXPECT_EQ(options->samples.samples, 64);
  EXPECT_EQ(options->samples.tokens, 512);
  EXPECT_TRUE(options->given.empty());
}

TEST(Options, FloatWeightsMeanAFloatModel) {
  auto options = compileWith("--weights", "f32");
  ASSERT_TRUE(options.ok()) << options.status().message();
  EXPECT_EQ(options->scheme.decoder, WeightFormat::F32);
  EXPECT_EQ(options->scheme.head, WeightFormat::F32);
  EXPECT_EQ(options->scheme.embedding, WeightFormat::F32);
  EXPECT_EQ(options->scheme.activation, ActivationFormat::F32);
  EXPECT_EQ(options->cache, std::nullopt);
  EXPECT_FALSE(options->lower.compactRotary);
}

TEST(Options, NamesAndTableNames) {
  auto options = compileWith("-w", "s4g32", "--head=int4", "--embedding", "f32", "--activations",
                             "int8-token", "--kv", "int8-int4", "-o", "x.smelt");
  ASSERT_TRUE(options.ok()) << options.status().message();
  EXPECT_EQ(options->scheme.decoder, WeightFormat::S4G32);
  EXPECT_EQ(options->scheme.head, WeightFormat::A4G32);
  EXPECT_EQ(options->scheme.embedding, WeightFormat::F32);
  EXPECT_EQ(options->scheme.activation, ActivationFormat::A8T);
  EXPECT_EQ(options->cache, CacheFormat::Int8Int4);
  EXPECT_EQ(options->output, "x.smelt");
  // Provenance has what decides the bytes, in the table's order.
  ASSERT_EQ(options->given.size(), 5u);
  EXPECT_EQ(options->given[0], (std::pair<std::string, std::string>("weights", "s4g32")));
}

TEST(Options, UnknownNamesListTheKnown) {
  expectContains(failureOf("--weights", "int3"), "unknown weight format 'int3'");
  expectContains(failureOf("--weights", "int3"), "int4, int8");
  expectContains(failureOf("--activations", "half"),
                 "int8-group, int8-group64, int8-token, int16-group, float");
  expectContains(failureOf("--kv", "i8"),
                 "--kv: unknown cache precision 'i8', expected one of f32, f16, int8, int8-int4");
  expectContains(failureOf("--algorithm", "magic"), "rtn");
  expectContains(failureOf("--target", "z80"), "x86-64-v3");
  expectContains(failureOf("--stop-after", "lunch"), "unknown phase 'lunch'");
  expectContains(failureOf("--wieghts", "int4"), "did you mean --weights?");
  expectContains(failureOf("--weights"), "--weights needs a value");
  expectContains(failureOf("--samples", "many"), "not a whole number");
}

TEST(Options, Contradictions) {
  expectContains(failureOf("--data", "a.txt", "--stats", "b.stats"), "contradict");
  expectContains(failureOf("--weights", "f32", "--data", "a.txt"), "need no calibration");
  expectContains(failureOf("--algorithm", "rtn", "--data", "a.txt"), "uses no calibration");
  expectContains(failureOf("--effort", "0", "--data", "a.txt"), "uses no calibration");
  expectContains(failureOf("--effort", "4"), "expected 0, 1, 2 or 3");
  expectContains(failureOf("--data", "a.txt", "--samples", "0"), "at least 1");
  expectContains(failureOf("--output", "/tmp"), "is the folder");
  EXPECT_EQ(failureOf("--algorithm", "search", "--data", "a.txt"), "");
}

TEST(Options, Budgets) {
  struct {
    const char *text;
    double bytes;
  } sizes[] = {{"90MB", 90e6}, {"1.5 GiB", 1.5 * 1073741824}, {"123456", 123456}, {"8KiB", 8192}};
  for (auto [text, bytes] : sizes) {
    auto options = compileWith("--max-size", text);
    ASSERT_TRUE(options.ok()) << options.status().message();
    ASSERT_TRUE(options->budget);
    EXPECT_EQ(options->budget->kind, BudgetKind::MaxBytes);
    EXPECT_DOUBLE_EQ(options->budget->limit, bytes) << text;
    EXPECT_GT(options->candidates.size(), 1u);
  }
  EXPECT_EQ(compileWith("--max-kl", "0.05")->budget->kind, BudgetKind::MaxKl);
  EXPECT_EQ(compileWith("--bits", "4.5")->budget->kind, BudgetKind::MeanBits);
  for (const char *wrong : {"MB", "-3MB", "90XB", "nan", "1e999", ""})
    expectContains(failureOf("--max-size", wrong), "expected a size such as 90MB");
  expectContains(failureOf("--bits", "4", "--max-kl", "0.1"), "there is one budget");
  expectContains(failureOf("--bits", "4", "--weights", "int8"), "leave out --weights");
  expectContains(failureOf("--bits", "4", "--effort", "1"), "needs --effort 2 or 3");
  expectContains(failureOf("--bits", "0"), "greater than 0");
}

TEST(Options, FormatsCompeteOnlyWhereNoneIsNamed) {
  EXPECT_GT(compileWith("--effort", "2")->candidates.size(), 1u);
  EXPECT_TRUE(compileWith("--effort", "1")->candidates.empty());
  EXPECT_TRUE(compileWith("--weights", "a4g32")->candidates.empty());
  EXPECT_TRUE(compileWith("--head", "a6g32")->candidates.empty());
  EXPECT_TRUE(compileWith("--weights", "f32")->candidates.empty());
}

TEST(Options, Folds) {
  auto options = compileWith("--fold", "smooth,awq,smooth");
  ASSERT_TRUE(options.ok()) << options.status().message();
  EXPECT_EQ(options->folds, (std::vector{FoldAlgorithm::Smooth, FoldAlgorithm::Awq}));
  EXPECT_TRUE(compileWith("--fold", "none")->folds.empty());
  EXPECT_TRUE(compileWith()->folds.empty());
  EXPECT_EQ(compileWith("--activations", "int8-token")->folds.size(), 3u);
  EXPECT_TRUE(compileWith("--activations", "int8-token", "--fold", "none")->folds.empty());
  EXPECT_TRUE(compileWith("--activations", "int8-token", "--effort", "0")->folds.empty());
  expectContains(failureOf("--fold", "quarot"), "expected awq, smooth, hadamard, auto, none");
  expectContains(failureOf("--fold", "awq", "--effort", "0"), "chooses by calibration");
  expectContains(failureOf("--fold", "awq", "--weights", "f32"), "float32 weights");
  expectContains(failureOf("--fold", "awq", "--keep-quantization", "--weights", "int4"),
                 "--keep-quantization");
}

TEST(Options, TargetsByName) {
  auto options = compileWith("--target", "aarch64-dotprod,x86-64-v3,aarch64-dotprod");
  ASSERT_TRUE(options.ok()) << options.status().message();
  ASSERT_EQ(options->targets.size(), 2u);
  EXPECT_EQ(options->targets[0]->name, "aarch64-dotprod");
  EXPECT_EQ(options->targets[1]->name, "x86-64-v3");
  expectContains(failureOf("--target", ""), "--target");
  options = compileWith("--target", "vulkan,x86-64-v3");
  ASSERT_TRUE(options.ok());
  ASSERT_EQ(options->targets.size(), 1u);
  ASSERT_EQ(options->gpuTargets.size(), 1u);
  EXPECT_EQ(options->gpuTargets[0]->name, "vulkan");
  options = compileWith("--target", "cuda,vulkan,cuda,x86-64-v3");
  ASSERT_TRUE(options.ok());
  ASSERT_EQ(options->gpuTargets.size(), 2u);
  EXPECT_EQ(options->gpuTargets[0]->name, "cuda");
  options = compileWith("--target", "vulkan");
  ASSERT_TRUE(options.ok()) << options.status().message();
  EXPECT_TRUE(options->targets.empty());
  EXPECT_EQ(options->gpuTargets.size(), 1u);
  auto portable = compileWith("--target", "portable"), cpu = compileWith("--target", "cpu,vulkan");
  ASSERT_TRUE(portable.ok() && cpu.ok());
  EXPECT_EQ(cpu->targets, portable->targets);
  expectContains(failureOf("--target", "vulkan", "--max-kl", "0.01"), "names GPUs only");
  for (const KernelTarget &target : kernelTargets()) {
    auto one = compileWith("--target", std::string(target.name).c_str());
    ASSERT_TRUE(one.ok()) << one.status().message();
    ASSERT_EQ(one->targets.size(), 1u);
    EXPECT_EQ(one->targets[0], &target);
    expectContains(failureOf("--target", "z80"), std::string(target.name));
  }
}

TEST(Options, NativeIsTheBestTargetOfThisCpu) {
  const CpuTarget *best = nullptr;
  for (const CpuTarget &target : cpuTargets())
    if (!best && missingFeatures(target).empty())
      best = &target;
  auto options = compileWith("--target", "native");
  if (!best) {
    expectContains(failureOf("--target", "native"), "no target for this machine");
    return;
  }
  ASSERT_TRUE(options.ok()) << options.status().message();
  ASSERT_EQ(options->targets.size(), 1u);
  EXPECT_EQ(options->targets[0]->name, best->name);
}

TEST(Options, EveryPhaseCanBeNamed) {
  for (const char *name : {"imported", "raised", "fused", "calibrated", "folded", "surveyed",
                           "quantized", "lowered", "generated", "written"}) {
    Result<Phase> phase = findPhase(name);
    ASSERT_TRUE(phase.ok());
    EXPECT_EQ(phaseName(*phase), name);
  }
}

TEST(Options, CalibrateAndEvaluateSayWhatIsMissing) {
  cli::Command calibrate{"calibrate", "MODEL", "", nullptr, compilerOptions()};
  cli::Command eval{"eval", "ARTIFACT", "", nullptr, compilerOptions()};
  std::vector<const char *> words = {"model.onnx"};
  EXPECT_TRUE(readCalibrateOptions(*cli::parseArguments(calibrate, words))->data.empty());
  expectContains(readEvaluateOptions(*cli::parseArguments(eval, words)).status().message(),
                 "--text or --task is missing");
  std::vector<const char *> onGpu = {"model.smelt", "--text", "text", "--device", "vulkan:1"};
  EXPECT_EQ(readEvaluateOptions(*cli::parseArguments(eval, onGpu))->device, "vulkan:1");
  for (const char *shard : {"0/2", "3/2", "1", "1/2x", "-1/2"}) {
    std::vector<const char *> sharded = {"model.onnx", "--shard", shard};
    expectContains(
        readCalibrateOptions(*cli::parseArguments(calibrate, sharded)).status().message(),
        "expected I/N with I from 1 to N");
  }
  std::vector<const char *> second = {"model.onnx", "--shard", "2/3"};
  const CalibrateOptions read = *readCalibrateOptions(*cli::parseArguments(calibrate, second));
  EXPECT_EQ(read.samples.shard, 1u);
  EXPECT_EQ(read.samples.shards, 3u);
}

} // namespace
