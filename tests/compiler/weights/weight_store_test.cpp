// Rows of the weight store and the views they give.
#include "compiler/weights/weight_store.h"

#include <gtest/gtest.h>

#include <fstream>
#include <numeric>
#include <unistd.h>

using namespace smelt;

namespace {

class WeightStoreTest : public testing::Test {
protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    std::ofstream(folder + "/m.onnx", std::ios::binary) << std::string(1000, 'x');
    Result<std::unique_ptr<WeightStore>> opened = WeightStore::open(folder + "/m.onnx");
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    store = *std::move(opened);
  }
  void TearDown() override { std::filesystem::remove_all(folder); }

  std::string folder = "/tmp/smelt_weights_XXXXXX";
  std::unique_ptr<WeightStore> store;
};

TEST_F(WeightStoreTest, ViewsNameElements) {
  Result<int64_t> id = store->addEmbedded("w", 100, 6 * 10 * 4, StoredType::F32, {6, 10});
  ASSERT_TRUE(id.ok()) << id.status().message();
  // Columns 2..5 of the transposed matrix.
  Result<WeightView> view = store->view(*id, 2, 4, 6, 1, 10);
  ASSERT_TRUE(view.ok()) << view.status().message();
  EXPECT_EQ(view->data, store->modelBytes().data() + 100 + 2 * 4);
  EXPECT_EQ(view->rows, 4);
  EXPECT_EQ(view->cols, 6);
  EXPECT_EQ(view->colStride, 10);
}

TEST_F(WeightStoreTest, ViewsOutsideAreRefused) {
  Result<int64_t> id = store->addEmbedded("w", 0, 60 * 4, StoredType::F32, {6, 10});
  ASSERT_TRUE(id.ok());
  EXPECT_TRUE(store->view(*id, 0, 6, 10, 10, 1).ok());
  EXPECT_FALSE(store->view(*id, 1, 6, 10, 10, 1).ok());
  EXPECT_FALSE(store->view(*id, 0, 7, 10, 10, 1).ok());
  EXPECT_FALSE(store->view(*id, 0, 6, 10, INT64_MAX, 1).ok());
  EXPECT_FALSE(store->view(*id, -1, 1, 1, 1, 1).ok());
  EXPECT_FALSE(store->view(*id + 1, 0, 1, 1, 1, 1).ok());
}

TEST_F(WeightStoreTest, OnlyFloatsHaveViews) {
  Result<int64_t> id = store->addEmbedded("ids", 0, 80, StoredType::I64, {10});
  ASSERT_TRUE(id.ok());
  Result<WeightView> view = store->view(*id, 0, 1, 10, 10, 1);
  ASSERT_FALSE(view.ok());
  EXPECT_NE(view.status().message().find("i64"), std::string::npos);
}

TEST_F(WeightStoreTest, OwnedBytesStayWhereTheyAre) {
  std::vector<std::byte> bytes(16, std::byte(7));
  Result<int64_t> first = store->addOwned("a", bytes, StoredType::F32, {4});
  ASSERT_TRUE(first.ok());
  const std::byte *data = store->bytesOf(*first).data();
  for (int i = 0; i < 100; ++i)
    ASSERT_TRUE(store->addOwned("b", bytes, StoredType::F16, {8}).ok());
  EXPECT_EQ(store->bytesOf(*first).data(), data);
}

TEST_F(WeightStoreTest, FourBitElementsShareBytes) {
  EXPECT_TRUE(store->addEmbedded("odd", 0, 3, StoredType::U4, {5}).ok());
  EXPECT_FALSE(store->addEmbedded("odd", 0, 2, StoredType::U4, {5}).ok());
}

} // namespace
