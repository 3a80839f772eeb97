// Layers are divided where one buffer of rows is all that goes on.
#include "passes/lower/plan_cuts.h"

#include <gtest/gtest.h>

using namespace smelt;

namespace {

// Two layers: 0 embed x; 1 norm x -> a; 2 attention a -> o (layer 0); 3 x += o; 4 norm x -> a2;
// 5 x += a2; 6 norm x -> a3; 7 attention a3 -> o2 (layer 1); 8 x += o2.
std::vector<PlannedBuffer> buffersOfTwoLayers() {
  auto buffer = [](int64_t first, int64_t last, int64_t offset, int64_t rowBytes) {
    return PlannedBuffer{rowBytes ? rowBytes * 4 : 100, first, last, offset, rowBytes};
  };
  return {buffer(0, 8, 64, 16), buffer(1, 2, 128, 0), buffer(2, 3, 0, 16),  buffer(4, 5, 128, 0),
          buffer(6, 7, 128, 0), buffer(7, 8, 0, 16),  buffer(-1, -1, 0, 16)};
}

TEST(PlanCuts, TakesTheLastPlaceWithOneBufferOfRows) {
  const int64_t attention[] = {2, 7};
  auto starts = planCuts(attention, buffersOfTwoLayers());
  ASSERT_EQ(starts.size(), 2u);
  EXPECT_EQ(starts[0].instruction, 1u); // after the embedding, before the norm
  EXPECT_EQ(starts[1].instruction, 6u); // not after the attention of layer 0, where it could be too
  for (const format::LayerStart &start : starts) {
    EXPECT_EQ(start.rowBytes, 16u);
    EXPECT_EQ(start.scratch, 64u);
  }
}

TEST(PlanCuts, ASecondBufferThatGoesOnLeavesNoPlace) {
  auto buffers = buffersOfTwoLayers();
  buffers.push_back({64, 0, 8, 256, 16});
  const int64_t attention[] = {2, 7};
  for (const format::LayerStart &start : planCuts(attention, buffers))
    EXPECT_EQ(start.rowBytes, 0u);
}

TEST(PlanCuts, OnlyRowsCanBeTakenOver) {
  auto buffers = buffersOfTwoLayers();
  buffers[0].rowBytes = 0;
  const int64_t attention[] = {2, 7};
  for (const format::LayerStart &start : planCuts(attention, buffers))
    EXPECT_EQ(start.rowBytes, 0u);
}

} // namespace
