// Targets, code loading and the default number of threads.
#include "runtime/devices/cpu.h"
#include "support/fake_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <thread>

#include <sched.h>
#include <sys/utsname.h>

using namespace smelt;
using namespace smelt::test;

namespace {

TEST(Cpu, TargetRowsAndNamesAreUnique) {
  std::set<uint32_t> rows;
  std::set<std::string_view> names;
  for (const CpuTarget &target : cpuTargets()) {
    EXPECT_TRUE(rows.insert(target.row).second);
    EXPECT_TRUE(names.insert(target.name).second);
    EXPECT_NE(target.row, 0u);
    EXPECT_EQ(*findCpuTarget(target.name), &target);
  }
  auto unknown = findCpuTarget("x86-64-v9");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.status().message().find("x86-64-v3"), std::string::npos);
}

TEST(Cpu, ForeignArchitecturesAreMissingAsAWhole) {
  utsname machine;
  ASSERT_EQ(::uname(&machine), 0);
  for (const CpuTarget &target : cpuTargets()) {
    std::string_view architecture = target.triple.substr(0, target.triple.find('-'));
    if (architecture != machine.machine)
      EXPECT_EQ(missingFeatures(target), std::vector{std::string(architecture)}) << target.name;
  }
}

#if defined(__x86_64__)
TEST(Cpu, AgreesWithTheCompilersOwnDetection) {
  __builtin_cpu_init();
  bool v2 = __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("sse4.2") &&
            __builtin_cpu_supports("popcnt");
  bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
            __builtin_cpu_supports("bmi2");
  bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512vnni");
  std::vector<std::string> lacks = missingFeatures(**findCpuTarget("x86-64-v4-amx"));
  if (!__builtin_cpu_supports("amx-int8")) // with it, the system has the last word
    EXPECT_NE(std::find(lacks.begin(), lacks.end(), "AMX_INT8"), lacks.end());
  EXPECT_EQ(missingFeatures(**findCpuTarget("x86-64-v2")).empty(), v2);
  EXPECT_EQ(missingFeatures(**findCpuTarget("x86-64-v3")).empty(), v3);
  EXPECT_EQ(missingFeatures(**findCpuTarget("x86-64-v4-vnni")).empty(), v4);
  EXPECT_EQ(missingFeatures(**findCpuTarget("x86-64-v4-vbmi")).empty(),
            v4 && __builtin_cpu_supports("avx512vbmi"));
}
#endif

TEST(Cpu, ChoosesTheBestAndSaysWhyNot) {
  TemporaryFolder folder;
  auto artifact = Artifact::open(writeFake(folder));
  ASSERT_TRUE(artifact.ok());
  auto best = chooseTarget(**artifact);
  ASSERT_TRUE(best.ok()) << best.status().message();
  for (const CpuTarget &target : cpuTargets())
    if (missingFeatures(target).empty()) {
      EXPECT_EQ(*best, &target);
      break;
    }
  for (const CpuTarget &target : cpuTargets()) {
    auto forced = chooseTarget(**artifact, target.name);
    EXPECT_EQ(forced.ok(), missingFeatures(target).empty());
    if (!forced.ok()) {
      EXPECT_EQ(forced.status().code(), StatusCode::Unsupported);
      EXPECT_NE(forced.status().message().find("lacks"), std::string::npos);
    }
  }
  auto none = Artifact::open(writeFake(folder, [](FakeModel &model) { model.targets.clear(); }));
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(chooseTarget(**none).status().code(), StatusCode::Unsupported);
  EXPECT_EQ(chooseTarget(**none, "nonsense").status().code(), StatusCode::InvalidArgument);
}

TEST(Cpu, CodeIsLoadedSideBySide) {
  auto bytes = readFile(FAKE_KERNELS_FILE);
  auto first = LoadedCode::load(bytes), second = LoadedCode::load(bytes);
  ASSERT_TRUE(first.ok()) << first.status().message();
  ASSERT_TRUE(second.ok());
  EXPECT_NE((*first)->kernel("fake_store"), nullptr);
  EXPECT_NE((*first)->kernel("fake_store"), (*second)->kernel("fake_store"));
  EXPECT_EQ((*first)->kernel("no_such_kernel"), nullptr);
}

TEST(Cpu, BytesThatAreNoLibraryAreRefused) {
  std::vector<std::byte> bytes(100, std::byte('x'));
  auto code = LoadedCode::load(bytes);
  ASSERT_FALSE(code.ok());
  EXPECT_EQ(code.status().code(), StatusCode::Unsupported);
}

TEST(Cpu, DefaultThreadsHonourAffinity) {
  EXPECT_GE(defaultThreads(), 1u);
  EXPECT_LE(defaultThreads(), std::max(1u, std::thread::hardware_concurrency()));
  std::thread([] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(::sched_getcpu(), &one);
    ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
    EXPECT_EQ(defaultThreads(), 1u);
  }).join();
}

} // namespace
