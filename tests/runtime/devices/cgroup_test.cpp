// Quotas of control groups, from files as Linux shows them.
#include "runtime/devices/cgroup.h"
#include "tests/runtime/support/fake_model.h"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>

namespace smelt {
namespace {

class Cgroup : public testing::Test {
protected:
  test::TemporaryFolder folder;

  void write(const std::string &path, const std::string &text) {
    const std::filesystem::path file = folder.path(path);
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  unsigned processors(const std::string &groups) {
    write("groups", groups);
    return cgroupProcessors(folder.path("groups"), folder.path("mount"));
  }
};

TEST_F(Cgroup, NoQuotaIsNoLimit) {
  EXPECT_EQ(processors("0::/\n"), 0u);
  write("mount/user/cpu.max", "max 100000\n");
  EXPECT_EQ(processors("0::/user\n"), 0u);
  write("mount/cpu/cpu.cfs_quota_us", "-1\n");
  write("mount/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(processors("3:cpu:/\n"), 0u);
}

TEST_F(Cgroup, TheLeastQuotaAroundTheProcessCounts) {
  write("mount/a/cpu.max", "150000 100000\n");
  write("mount/a/b/cpu.max", "800000 100000\n");
  EXPECT_EQ(processors("0::/a/b\n"), 2u); // one and a half
  write("mount/a/b/c/cpu.max", "10000 100000\n");
  EXPECT_EQ(processors("0::/a/b/c\n"), 1u);
  EXPECT_EQ(processors("0::/a/b/c/d\n"), 1u);
}

TEST_F(Cgroup, APathOfTheHostMeansTheMount) {
  write("mount/cpu.max", "300000 100000\n");
  EXPECT_EQ(processors("0::/docker/0123\n"), 3u);
}

TEST_F(Cgroup, VersionOneHasAFolderForEachHierarchy) {
  write("mount/cpu,cpuacct/job/cpu.cfs_quota_us", "400000\n");
  write("mount/cpu,cpuacct/job/cpu.cfs_period_us", "200000\n");
  EXPECT_EQ(processors("9:name=systemd:/job\n4:cpuset:/job\n"), 0u);
  EXPECT_EQ(processors("4:cpuset:/\n2:cpu,cpuacct:/job\n0::/\n"), 2u);
}

} // namespace
} // namespace smelt
