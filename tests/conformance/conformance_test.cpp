// Every problem of problems.txt and joined_problems.txt on every target that runs here: close to
// the definition, and the same bits for every target, thread count and number of rows. Targets that
// are not in portable artifacts take turns (takesTurn); those with tiles take every problem that
// has some.
#include "tests/conformance/problem.h"
#include "tests/conformance/target_run.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <gtest/gtest.h>

namespace smelt::conformance {
namespace {

/// Whether there are rows enough, in bytes, for a matrix unit.
bool fillsTiles(const Problem &problem) {
  return problem.rows > manyInterleave / 2 &&
         activationInfo(problem.specs.front().activation).planes > 0;
}

std::vector<std::string> allLines() {
  std::vector<std::string> lines = problemLines(SMELT_CONFORMANCE_PROBLEMS);
  for (std::string &line : problemLines(SMELT_JOINED_PROBLEMS))
    lines.push_back(std::move(line));
  return lines;
}

class Conformance : public testing::TestWithParam<std::string> {
protected:
  void expectSameBits(const std::vector<float> &a, const std::vector<float> &b,
                      const std::string &what) {
    ASSERT_EQ(a.size(), b.size()) << what;
    for (size_t i = 0; i < a.size(); ++i)
      ASSERT_EQ(std::bit_cast<uint32_t>(a[i]), std::bit_cast<uint32_t>(b[i]))
          << what << ": element " << i << ": " << a[i] << " and " << b[i];
  }

  void expectClose(const std::vector<float> &got, const Expected &expected,
                   const std::string &what) {
    ASSERT_EQ(got.size(), expected.value.size()) << what;
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_LE(std::fabs(got[i] - expected.value[i]), expected.tolerance[i])
          << what << ": element " << i << " of " << got.size() << ": got " << got[i]
          << ", expected " << expected.value[i];
  }
};

TEST_P(Conformance, AllTargets) {
  static const std::vector<std::string> lines = allLines();
  const auto number = std::find(lines.begin(), lines.end(), GetParam()) - lines.begin();
  auto problem = makeProblem(GetParam());
  const Expected expected = problem->expected();
  Folder folder;
  std::vector<float> first;
  for (const KernelTarget &target : kernelTargets()) {
    std::string name(target.name);
    const bool takes = takesTurn(target, number) || (target.tiles && fillsTiles(*problem));
    if (whereRuns(target) == Where::Nowhere || !takes)
      continue;
    problem->tiles = target.tiles;
    std::string library = compileToFile(problem->specs, {}, target, folder.path);
    ASSERT_FALSE(library.empty()) << name;

    // All runs in one job: many rows on several thread counts, then rows alone.
    Job job;
    std::vector<int64_t> many, alone;
    for (int64_t threads : {1, 2, 3, 7})
      many.push_back(problem->addMany(job, threads));
    const int64_t rowStep = std::max<int64_t>(1, problem->rows / 6);
    for (int64_t row = 0; row < problem->rows; row += rowStep)
      alone.push_back(problem->addOne(job, row, row % 4 + 1));
    std::string error = runJob(job, target, library, folder.path);
    ASSERT_EQ(error, "") << name;

    std::vector<float> all = problem->result(job, many[0], problem->rows);
    expectClose(all, expected, name);
    for (size_t i = 1; i < many.size(); ++i)
      expectSameBits(all, problem->result(job, many[i], problem->rows),
                     name + ", other thread count");
    const size_t width = all.size() / problem->rows;
    for (size_t i = 0; i < alone.size(); ++i) {
      auto begin = all.begin() + int64_t(i * rowStep * width);
      expectSameBits({begin, begin + int64_t(width)}, problem->result(job, alone[i], 1),
                     name + ", row " + std::to_string(i * rowStep) + " alone");
    }
    if (first.empty())
      first = all;
    else
      expectSameBits(first, all, name + " against the first target");
    if (HasFatalFailure())
      return;
  }
  ASSERT_FALSE(first.empty()) << "no target runs here";
}

INSTANTIATE_TEST_SUITE_P(Problems, Conformance, testing::ValuesIn(allLines()),
                         [](const auto &info) { return testName(info.param); });

} // namespace
} // namespace smelt::conformance
