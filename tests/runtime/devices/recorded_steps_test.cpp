// Steps are found by their dispatches, and the one used longest ago makes room.
#include "runtime/devices/recorded_steps.h"

#include <gtest/gtest.h>

using namespace smelt;

namespace {

std::vector<GpuDispatch> stepOf(uint32_t call) {
  return {{call, {1, 1, 1}, false}, {call, {2, 1, 1}, true}};
}

TEST(RecordedSteps, KeepsThoseUsedLast) {
  RecordedSteps<int> steps;
  for (uint32_t i = 1; i <= steps.most; ++i)
    EXPECT_EQ(steps.add(stepOf(i), int(i)), 0);
  ASSERT_TRUE(steps.find(stepOf(1)));
  EXPECT_EQ(steps.find(stepOf(1))->recording, 1);
  EXPECT_EQ(steps.add(stepOf(9), 9), 2);
  EXPECT_EQ(steps.find(stepOf(2)), nullptr);
  EXPECT_EQ(steps.find(stepOf(9))->recording, 9);
  int dropped = 0;
  steps.clear([&](int) { ++dropped; });
  EXPECT_EQ(dropped, int(steps.most));
  EXPECT_EQ(steps.find(stepOf(9)), nullptr);
}

TEST(RecordedSteps, EveryPartOfADispatchCounts) {
  RecordedSteps<int> steps;
  steps.add(stepOf(1), 1);
  for (auto change : {+[](GpuDispatch &d) { d.call = 2; }, +[](GpuDispatch &d) { d.groups[2] = 2; },
                      +[](GpuDispatch &d) { d.waits = false; }}) {
    auto other = stepOf(1);
    change(other[1]);
    EXPECT_EQ(steps.find(other), nullptr);
  }
  auto shorter = stepOf(1);
  shorter.pop_back();
  EXPECT_EQ(steps.find(shorter), nullptr);
}

} // namespace
