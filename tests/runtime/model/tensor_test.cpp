// Tensors and their pool: shapes, limits, reuse.
#include "runtime/model/tensor.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

using namespace smelt;
using namespace smelt::format;

namespace {

constexpr int64_t huge = std::numeric_limits<int64_t>::max();

TEST(TensorValue, TextAndElements) {
  int64_t shape[] = {2, 3};
  EXPECT_EQ(TensorValue::view(ElementType::I64, shape, nullptr).text(), "i64[2,3]");
  EXPECT_EQ(TensorValue::view(ElementType::Bool, {}, nullptr).text(), "bool[]");
  EXPECT_EQ(TensorValue::view(ElementType::Bool, {}, nullptr).elements(), 1);
  int64_t empty[] = {huge, huge, 0};
  EXPECT_EQ(TensorValue::view(ElementType::F32, empty, nullptr).elements(), 0);
  EXPECT_NE(TensorValue::view(ElementType::F32, empty, nullptr).data, nullptr);
}

TEST(TensorBytes, Overflows) {
  uint64_t bytes = 0;
  EXPECT_TRUE(tensorBytes(std::vector<int64_t>{3, 5}, 4, bytes));
  EXPECT_EQ(bytes, 60u);
  EXPECT_TRUE(tensorBytes(std::vector<int64_t>{huge, 0, huge}, 8, bytes));
  EXPECT_EQ(bytes, 0u);
  EXPECT_FALSE(tensorBytes(std::vector<int64_t>{huge, 2}, 8, bytes));
  EXPECT_FALSE(tensorBytes(std::vector<int64_t>{huge}, 8, bytes));
  EXPECT_FALSE(tensorBytes(std::vector<int64_t>{0, -1}, 8, bytes));
}

TEST(TensorPool, LimitsAreExhausted) {
  TensorPool pool(1 << 20);
  auto code = [&](std::vector<int64_t> shape) {
    return pool.allocate(ElementType::F32, shape).status().code();
  };
  EXPECT_EQ(code({1 << 18, 2}), StatusCode::Exhausted);
  EXPECT_EQ(code({huge, huge}), StatusCode::Exhausted);
  EXPECT_EQ(code({-1}), StatusCode::InvalidArgument);
  int64_t half[] = {1 << 17}, whole[] = {1 << 18};
  auto first = pool.allocate(ElementType::F32, half),
       second = pool.allocate(ElementType::F32, half);
  ASSERT_TRUE(first.ok() && second.ok());
  Status third = pool.allocate(ElementType::U8, half).status();
  EXPECT_EQ(third.code(), StatusCode::Exhausted);
  EXPECT_NE(third.message().find("u8[131072]"), std::string::npos) << third.message();
  // What was given back does not stand in the way of something larger.
  *first = {};
  *second = {};
  EXPECT_TRUE(pool.allocate(ElementType::F32, whole).ok());
  EXPECT_EQ(pool.peakBytes(), 1u << 20);
}

TEST(TensorPool, MemoryIsUsedAgain) {
  TensorPool pool(1 << 20);
  int64_t shape[] = {1000}, less[] = {900}, few[] = {10};
  auto first = pool.allocate(ElementType::F32, shape);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first->data) % 64, 0u);
  std::byte *memory = first->data;
  TensorValue copy = *first;
  *first = {};
  EXPECT_NE(pool.allocate(ElementType::F32, shape)->data, memory) << "a copy still has it";
  pool.trim();
  pool.trim();
  copy = {};
  EXPECT_NE(pool.allocate(ElementType::F32, few)->data, memory) << "too large for so little";
  EXPECT_EQ(pool.allocate(ElementType::F32, less)->data, memory);
}

TEST(TensorPool, TensorsMayOutliveIt) {
  TensorValue tensor;
  {
    TensorPool pool(1 << 20);
    int64_t shape[] = {100};
    tensor = *pool.allocate(ElementType::F32, shape);
  }
  tensor.data[0] = std::byte(1);
  EXPECT_EQ(tensor.as<float>().size(), 100u);
}

} // namespace
