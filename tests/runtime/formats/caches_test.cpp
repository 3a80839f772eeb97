// The table of cache precisions: names, and bytes of a position.
#include "runtime/formats/caches.h"

#include <gtest/gtest.h>

namespace smelt {
namespace {

TEST(Caches, EveryRowIsFoundByItsName) {
  for (uint32_t row = 0; row < cacheFormatCount(); ++row) {
    auto found = findCacheFormat(cacheInfo(CacheFormat(row)).name);
    ASSERT_TRUE(found.ok());
    EXPECT_EQ(*found, CacheFormat(row));
  }
  auto unknown = findCacheFormat("int2");
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.status().message(),
            "unknown cache precision 'int2', expected one of f32, f16, int8, int8-int4");
}

TEST(Caches, BytesOfAPosition) {
  EXPECT_EQ(keyBytes(CacheFormat::F32, 64), 256);
  EXPECT_EQ(valueBytes(CacheFormat::F16, 64), 128);
  // Codes and float16 scales: of every 32 dimensions of keys, of a head's values.
  EXPECT_EQ(keyBytes(CacheFormat::Int8, 64), 64 + 2 * 2);
  EXPECT_EQ(keyBytes(CacheFormat::Int8, 80), 80 + 3 * 2);
  EXPECT_EQ(valueBytes(CacheFormat::Int8, 64), 64 + 2);
  EXPECT_EQ(keyBytes(CacheFormat::Int8Int4, 64), 64 + 2 * 2);
  // Nibbles of whole groups of 32, each with a scale and a minimum.
  EXPECT_EQ(valueBytes(CacheFormat::Int8Int4, 64), 32 + 2 * 4);
  EXPECT_EQ(valueBytes(CacheFormat::Int8Int4, 80), 48 + 3 * 4);
  EXPECT_EQ(valueBytes(CacheFormat::Int8Int4, 12), 16 + 4);
}

} // namespace
} // namespace smelt
