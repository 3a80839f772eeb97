// Sizes of caches.
#include "runtime/model/cache_layout.h"

#include <gtest/gtest.h>

using namespace smelt;

namespace {

TEST(CacheLayout, BytesAreCheckedAgainstTheAddressSpace) {
  auto bytes = cacheBytes(3, 128, 40);
  ASSERT_TRUE(bytes.ok());
  EXPECT_EQ(*bytes, 3u * 128 * 40);
  EXPECT_EQ(*cacheBytes(1, 1, (uint64_t(1) << 48) - 1), (uint64_t(1) << 48) - 1);
  // Beyond 48 bits, and beyond 64 where the product wraps around to 0.
  for (auto [slots, perPosition] :
       {std::pair<uint32_t, uint64_t>(1, uint64_t(1) << 48), {1u << 16, uint64_t(1) << 48}}) {
    auto failed = cacheBytes(slots, 1, perPosition);
    EXPECT_EQ(failed.status().code(), StatusCode::Exhausted);
    EXPECT_EQ(failed.status().message(), "a cache of " + std::to_string(slots) +
                                             " slots with 1 positions does not fit the address "
                                             "space");
  }
}

} // namespace
