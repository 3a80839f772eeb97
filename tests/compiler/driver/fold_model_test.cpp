// Folds as text and back, and that whoever asks the store for a weight sees it folded.
#include "compiler/driver/fold_model.h"
#include "tests/calibration/random_model.h"

#include <cstring>
#include <fstream>
#include <gtest/gtest.h>

namespace smelt {
namespace {

std::vector<Fold> someFolds(const Graph &graph) {
  std::vector<Fold> folds;
  for (const FoldPlace &place : findFoldPlaces(graph)) {
    Fold fold;
    fold.place = place;
    fold.before = 0.3;
    fold.after = 0.1;
    if (place.rotates) {
      fold.algorithm = FoldAlgorithm::Hadamard;
      fold.block = 4;
    } else {
      fold.exponent = 0.7;
      for (int64_t k = 0; k < place.channels; ++k)
        fold.scales.push_back(1.0f / float(k + 3)); // no short decimal fraction
    }
    folds.push_back(std::move(fold));
  }
  return folds;
}

TEST(FoldModel, TextHoldsAllThatFoldsWeights) {
  const RandomModel model = makeRandomModel({});
  const std::vector<Fold> folds = someFolds(model.graph);
  const std::string text = foldsText(model.graph, folds, "key");
  std::optional<std::vector<Fold>> read = readFolds(model.graph, text, "key");
  ASSERT_TRUE(read);
  ASSERT_EQ(read->size(), folds.size());
  for (size_t i = 0; i < folds.size(); ++i) {
    EXPECT_EQ((*read)[i].place.consumers, folds[i].place.consumers);
    EXPECT_EQ((*read)[i].algorithm, folds[i].algorithm);
    EXPECT_EQ((*read)[i].scales, folds[i].scales);
    EXPECT_EQ((*read)[i].block, folds[i].block);
    EXPECT_EQ((*read)[i].exponent, folds[i].exponent);
    EXPECT_EQ((*read)[i].after, folds[i].after);
  }
}

TEST(FoldModel, TextOfOthersIsNotUsed) {
  const RandomModel model = makeRandomModel({});
  const std::string text = foldsText(model.graph, someFolds(model.graph), "key");
  EXPECT_FALSE(readFolds(model.graph, text, "another key"));
  EXPECT_FALSE(readFolds(model.graph, text.substr(0, text.size() / 2), "key"));
  EXPECT_FALSE(readFolds(model.graph, "{\"key\": \"key\", \"folds\": [3]}", "key"));
  ModelShape wider;
  wider.inner = 96;
  EXPECT_FALSE(readFolds(makeRandomModel(wider).graph, text, "key"));
}

TEST(FoldModel, TheStoreGivesFoldedViews) {
  const std::string path = testing::TempDir() + "/smelt_fold_store.bin";
  std::ofstream(path) << "no weights of its own";
  Result<std::unique_ptr<WeightStore>> store = WeightStore::open(path);
  ASSERT_TRUE(store.ok()) << store.status().message();
  const float values[] = {1, 2, 3, 4, 5, 6};
  std::vector<std::byte> bytes(sizeof values);
  std::memcpy(bytes.data(), values, sizeof values);
  Result<int64_t> id = (*store)->addOwned("w", bytes, StoredType::F32, {3, 2});
  ASSERT_TRUE(id.ok());
  Result<WeightView> view = (*store)->view(*id, 0, 3, 2, 2, 1);
  ASSERT_TRUE(view.ok());
  auto transform = std::make_shared<WeightTransform>();
  transform->rowFactors = {1, 10, 100};
  transform->columnFactors = {1, 2};
  view->transform = transform;
  (*store)->setTransform(*view);

  std::vector<float> read(6);
  readRows(*(*store)->view(*id, 0, 3, 2, 2, 1), 0, 3, read.data());
  EXPECT_EQ(read, (std::vector<float>{1, 4, 30, 80, 500, 1200}));
  // A view of other elements, or in another order, is another weight.
  readRows(*(*store)->view(*id, 0, 2, 2, 2, 1), 0, 2, read.data());
  EXPECT_EQ(read[2], 3);
  readRows(*(*store)->view(*id, 0, 2, 3, 1, 2), 0, 2, read.data());
  EXPECT_EQ(read, (std::vector<float>{1, 3, 5, 2, 4, 6}));
  // Rows of the folded view keep their factors.
  readRows(viewOfRows(*view, 1, 2), 1, 1, read.data());
  EXPECT_EQ(read[1], 1200);
}

} // namespace
} // namespace smelt
