// The kernels of every problem as PTX: they are made and, where there is a ptxas, it takes them
// for one chip after the other without spilling registers. (ptx_table: all chips.)
#include "compiler/codegen/ptx_emitter.h"
#include "tests/conformance/problem.h"
#include "tests/conformance/ptxas.h"
#include "tests/conformance/target_run.h"

#include <algorithm>
#include <fstream>
#include <gtest/gtest.h>

namespace smelt::conformance {
namespace {

void expectAssembles(const KernelSpec &spec, const char *chip) {
  auto emitter = PtxEmitter::create(cudaTarget);
  ASSERT_TRUE(emitter.ok()) << emitter.status().message();
  auto ptx = (*emitter)->emit(spec);
  ASSERT_TRUE(ptx.ok()) << spec.name() << ": " << ptx.status().message();
  EXPECT_NE(ptx->find(".visible .entry " + spec.name() + "("), std::string::npos) << *ptx;
  // As many threads as the launch has.
  const std::string threads = "ntid " + std::to_string(launchOf(spec, cudaTarget).threads);
  EXPECT_NE(ptx->find(threads), std::string::npos) << *ptx;
  EXPECT_EQ(ptx->find(".extern"), std::string::npos) << "something is left to a library";
  EXPECT_EQ(ptx->find(".local"), std::string::npos) << "something lies on a stack";
  EXPECT_EQ(ptx->find(".ftz"), std::string::npos) << "small numbers are taken for zero";
  const bool isTile = spec.kind == KernelKind::Linear
                          ? !spec.one && activationInfo(spec.activation).planes > 0
                          : spec.kind == KernelKind::AttentionMany && spec.headDim <= 128 &&
                                cacheInfo(spec.cache).valueBits == 8;
  EXPECT_EQ(ptx->find("mma.sync") != std::string::npos, isTile) << "the matrix unit";
  if (std::string(SMELT_PTXAS).empty())
    return;
  const Folder folder;
  const std::string file = folder.path + "/kernel.ptx";
  std::ofstream(file) << *ptx;
  auto assembled = assemblePtx(SMELT_PTXAS, file, chip);
  ASSERT_TRUE(assembled.ok()) << spec.name() << ": " << assembled.status().message();
  EXPECT_EQ(assembled->spilledBytes, 0) << spec.name() << ", " << chip;
}

class PtxConformance : public testing::TestWithParam<std::string> {};

TEST_P(PtxConformance, Assembles) {
  static const std::vector<std::string> lines = problemLines(SMELT_CONFORMANCE_PROBLEMS);
  const auto number = std::find(lines.begin(), lines.end(), GetParam()) - lines.begin();
  const auto problem = makeProblem(GetParam());
  for (const KernelSpec &spec : problem->specs) {
    const char *chip = ptxChips[size_t(number) % ptxChips.size()];
    expectAssembles(spec, chip);
    if (auto wide = wideForm(spec, cudaTarget))
      expectAssembles(*wide, chip);
  }
}

TEST(PtxLogitKernels, Assemble) {
  for (const char *chip : ptxChips)
    for (const auto &specs : {argmaxSpecs(49152), candidateSpecs(49152), candidateSpecs(262144)})
      for (const KernelSpec &spec : specs)
        expectAssembles(spec, chip);
}

INSTANTIATE_TEST_SUITE_P(Problems, PtxConformance,
                         testing::ValuesIn(problemLines(SMELT_CONFORMANCE_PROBLEMS)),
                         [](const auto &info) { return testName(info.param); });

} // namespace
} // namespace smelt::conformance
