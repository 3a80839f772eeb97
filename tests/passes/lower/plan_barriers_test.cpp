// Where threads wait for each other.
#include "passes/lower/plan_barriers.h"

#include <gtest/gtest.h>

namespace smelt {
namespace {

TouchedRange reads(int64_t begin, int64_t end, int64_t space = 0) {
  return {space, begin, end, false};
}
TouchedRange writes(int64_t begin, int64_t end, int64_t space = 0) {
  return {space, begin, end, true};
}

std::vector<bool> barriersOf(std::vector<std::vector<TouchedRange>> instructions) {
  planBarriers(instructions);
  std::vector<bool> barriers;
  for (const auto &operands : instructions) {
    bool ready = true;
    for (const TouchedRange &operand : operands)
      ready &= operand.ready;
    barriers.push_back(!ready);
  }
  return barriers;
}

using Barriers = std::vector<bool>;

TEST(PlanBarriers, ReadersOfOneValueDoNotWaitForEachOther) {
  EXPECT_EQ(barriersOf({{writes(0, 64)},
                        {reads(0, 64), writes(64, 128)},
                        {reads(0, 64), writes(128, 192)},
                        {reads(64, 192), writes(192, 256)}}),
            (Barriers{false, true, false, true}));
}

TEST(PlanBarriers, WhatWasReadIsNotOverwrittenEarly) {
  EXPECT_EQ(barriersOf({{reads(0, 64)}, {writes(60, 70)}, {writes(0, 64)}, {writes(64, 70)}}),
            (Barriers{false, true, true, false}));
}

TEST(PlanBarriers, ABarrierEndsAllThatWasBeforeIt) {
  // The last one reads what the first wrote; the barrier between them was another's.
  EXPECT_EQ(barriersOf({{writes(0, 64)}, {writes(64, 128)}, {reads(64, 128)}, {reads(0, 64)}}),
            (Barriers{false, false, true, false}));
}

TEST(PlanBarriers, SpacesAndEmptyRangesDoNotMeet) {
  EXPECT_EQ(barriersOf({{writes(0, 64, 1)}, {writes(0, 64, 2)}, {reads(0, 0, 1)}}),
            (Barriers{false, false, false}));
}

TEST(PlanBarriers, CopiesOfThreadsMeetOnlyOtherMemory) {
  TouchedRange written = writes(0, 64), read = reads(0, 64);
  written.own = read.own = 3;
  EXPECT_EQ(barriersOf({{written}, {read}, {written}}), (Barriers{false, false, false}));
  EXPECT_EQ(barriersOf({{written}, {reads(32, 40)}}), (Barriers{false, true}));
  read.own = 4;
  EXPECT_EQ(barriersOf({{written}, {read}}), (Barriers{false, true}));
}

TEST(PlanBarriers, OnlyTheOperandThatWaitsIsNotReady) {
  std::vector<std::vector<TouchedRange>> instructions{{writes(0, 64)},
                                                      {reads(0, 64), reads(64, 128)}};
  planBarriers(instructions);
  EXPECT_FALSE(instructions[1][0].ready);
  EXPECT_TRUE(instructions[1][1].ready);
}

} // namespace
} // namespace smelt
