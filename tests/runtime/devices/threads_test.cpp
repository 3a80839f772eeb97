// The thread team: nobody passes a barrier early, steps see what was written before, idle teams
// take no CPU.
#include "runtime/devices/threads.h"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

#include <sys/resource.h>

using namespace smelt;

namespace {

class Team : public testing::TestWithParam<unsigned> {
protected:
  std::unique_ptr<ThreadTeam> team = *ThreadTeam::create(GetParam());
};

TEST_P(Team, EveryThreadRunsOnce) {
  std::vector<std::atomic<int>> calls(GetParam());
  for (int step = 0; step < 200; ++step)
    team->run(
        [](void *context, unsigned thread) {
          ++(*static_cast<std::vector<std::atomic<int>> *>(context))[thread];
        },
        &calls);
  for (auto &count : calls)
    EXPECT_EQ(count, 200);
}

struct Shared {
  ThreadTeam *team;
  std::vector<int64_t>
      cells; ///< plain memory: a missing happens-before is a data race that TSan sees
  std::atomic<int> wrong{0};
};

TEST_P(Team, BarriersOrderMemory) {
  Shared shared{team.get(), std::vector<int64_t>(GetParam()), {}};
  for (int step = 0; step < 5; ++step)
    team->run(
        [](void *context, unsigned thread) {
          Shared &shared = *static_cast<Shared *>(context);
          for (int64_t round = 1; round <= 40; ++round) {
            shared.cells[thread] = round;
            shared.team->barrier(thread);
            if (std::accumulate(shared.cells.begin(), shared.cells.end(), int64_t(0)) !=
                round * int64_t(shared.cells.size()))
              ++shared.wrong;
            shared.team->barrier(thread);
          }
        },
        &shared);
  EXPECT_EQ(shared.wrong, 0);
}

void addThread(const int64_t *info, void *p0, void *, void *, void *, void *, void *, void *,
               void *) {
  static_cast<int64_t *>(p0)[info[format::FieldThread]] += info[format::FieldThreads];
}
void sumAll(const int64_t *info, void *p0, void *p1, void *, void *, void *, void *, void *,
            void *) {
  if (info[format::FieldThread] == 0)
    for (int64_t i = 0; i < info[format::FieldThreads]; ++i)
      *static_cast<int64_t *>(p1) += static_cast<int64_t *>(p0)[i];
}
void mustNotRun(const int64_t *, void *p0, void *, void *, void *, void *, void *, void *, void *) {
  *static_cast<int64_t *>(p0) = -1000000;
}

TEST_P(Team, WalksTheProgram) {
  using format::Domain;
  using format::OpLabel;
  std::vector<int64_t> cells(GetParam());
  int64_t total = 0;
  std::vector<ResolvedInstruction> program = {
      {addThread, mustNotRun, Domain::Tokens, OpLabel::Linear, true, true, {cells.data()}},
      {nullptr, mustNotRun, Domain::Tokens, OpLabel::Norm, false, true, {cells.data()}},
      {mustNotRun, mustNotRun, Domain::LogitRows, OpLabel::Head, true, true, {cells.data()}},
      {sumAll, mustNotRun, Domain::Tokens, OpLabel::Linear, true, false, {cells.data(), &total}}};
  int64_t info[format::FieldCount] = {};
  info[format::FieldTokens] = 1;
  StepProfile profile;
  team->run(program, info, &profile);
  team->run(program, info);
  int64_t n = GetParam();
  EXPECT_EQ(total, n * n + 2 * n * n);
  EXPECT_EQ(profile.calls[size_t(OpLabel::Linear)], 2u);
  EXPECT_EQ(profile.calls[size_t(OpLabel::Head)], 0u);
  EXPECT_GT(profile.nanoseconds[size_t(OpLabel::Linear)], 0u);
}

TEST(Prefetch, AsksForTheStartOnce) {
  std::vector<std::byte> matrix(1 << 16), other(1024);
  Prefetch ahead;
  EXPECT_FALSE(ahead.step()) << "there is nothing to ask for";
  ahead.aim(matrix);
  int steps = 0;
  while (ahead.step())
    ++steps;
  EXPECT_EQ(steps, 8192 / 128);
  ahead.aim(matrix);
  EXPECT_FALSE(ahead.step()) << "the same barrier's successor goes on where it was";
  ahead.aim(other);
  EXPECT_TRUE(ahead.step());
}

INSTANTIATE_TEST_SUITE_P(Sizes, Team, testing::Values(1, 2, 3, 4, 5, 8));

double processorSeconds() {
  struct rusage usage;
  ::getrusage(RUSAGE_SELF, &usage);
  auto seconds = [](const timeval &t) { return double(t.tv_sec) + double(t.tv_usec) * 1e-6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

TEST(ThreadTeam, AnIdleTeamTakesNoProcessorTime) {
  auto team = *ThreadTeam::create(3);
  team->run([](void *, unsigned) {}, nullptr);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  double before = processorSeconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_LT(processorSeconds() - before, 0.02);
}

TEST(ThreadTeam, AThreadThatIsLateIsAwaitedAsleep) {
  auto team = *ThreadTeam::create(2);
  double before = processorSeconds();
  team->run(
      [](void *, unsigned thread) {
        if (thread == 1)
          std::this_thread::sleep_for(std::chrono::milliseconds(200));
      },
      nullptr);
  EXPECT_LT(processorSeconds() - before, 0.02);
}

TEST(ThreadTeam, RefusesNonsense) {
  EXPECT_EQ(ThreadTeam::create(0).status().code(), StatusCode::InvalidArgument);
  EXPECT_EQ(ThreadTeam::create(5000).status().code(), StatusCode::InvalidArgument);
}

} // namespace
