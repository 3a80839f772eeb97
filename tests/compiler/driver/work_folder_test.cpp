// A calibration that is stopped goes on from its work folder and finds the same.
#include "compiler/driver/output_folder.h"
#include "compiler/driver/packed_folder.h"
#include "compiler/driver/work_folder.h"
#include "tests/calibration/random_model.h"

#include <fstream>
#include <gtest/gtest.h>
#include <optional>

namespace fs = std::filesystem;

namespace smelt {
namespace {

class WorkFolderTest : public testing::Test {
protected:
  void SetUp() override {
    folder = fs::path(testing::TempDir()) /
             ("smelt_work_" +
              std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(folder);
    ModelShape shape;
    shape.layers = 3;
    model = makeRandomModel(shape);
    for (int i = 0; i < 3; ++i)
      samples.push_back(randomTokens(9 + i, shape.vocab, uint64_t(i)));
    options.threads = 1;
    options.secondMoments = true;
    Result<Statistics> all = collectStatistics(model.graph, samples, options);
    ASSERT_TRUE(all.ok());
    expected = *std::move(all);
  }
  void TearDown() override { fs::remove_all(folder); }

  /// Collects into the folder; stops after `segments` of them were finished (-1: never).
  Status collect(WorkFolder &work, int64_t segments = -1) {
    struct Stopping : SegmentSink {
      WorkFolder &work;
      int64_t left;
      Stopping(WorkFolder &work, int64_t left) : work(work), left(left) {}
      Result<int64_t> resume(int64_t total, std::vector<Matrix> &boundary) override {
        return work.resume(total, boundary);
      }
      Status finished(int64_t index, Statistics found, std::span<const Matrix> boundary) override {
        SMELT_TRY(work.finished(index, std::move(found), boundary));
        return --left == 0 ? cancelled("killed") : Status();
      }
    } sink(work, segments);
    return collectSegments(model.graph, samples, options, sink);
  }

  void expectAll(WorkFolder &work) {
    StatisticsLookup lookup = work.lookup();
    for (const auto &[name, input] : expected.inputs) {
      auto found = lookup(name);
      ASSERT_TRUE(found.ok() && *found) << name;
      EXPECT_EQ((*found)->sumSquares, input.sumSquares) << name;
      EXPECT_EQ((*found)->tokens, input.tokens) << name;
      EXPECT_EQ(*(*found)->secondMoments, *input.secondMoments) << name;
    }
    auto none = lookup("no such linear");
    EXPECT_TRUE(none.ok() && !*none);
  }

  WorkFolder open(const std::string &key) {
    Result<WorkFolder> work = WorkFolder::open(folder, key);
    EXPECT_TRUE(work.ok()) << work.status().message();
    return *std::move(work);
  }

  /// A run that ends within a collection.
  void stopAfter(const std::string &key, int64_t segments) {
    WorkFolder work = open(key);
    EXPECT_EQ(collect(work, segments).code(), StatusCode::Cancelled);
  }

  fs::path folder;
  RandomModel model;
  std::vector<std::vector<int32_t>> samples;
  CollectOptions options;
  Statistics expected;
};

TEST_F(WorkFolderTest, LeavesFoldersOfOtherThingsAlone) {
  fs::create_directories(folder);
  std::ofstream(folder / "thesis.txt") << "three years of work";
  std::ofstream(folder / "key") << "of the front door";
  Result<WorkFolder> refused = WorkFolder::open(folder, "a");
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.status().message().find("is no work folder"), std::string::npos);
  EXPECT_TRUE(fs::exists(folder / "thesis.txt"));
  // An empty one is taken, and one of ours with another key is emptied.
  fs::remove_all(folder);
  fs::create_directories(folder);
  {
    WorkFolder work = open("a");
    ASSERT_EQ(collect(work, 1).code(), StatusCode::Cancelled);
    ASSERT_TRUE(work.save("found", "something").ok());
    Result<WorkFolder> second = WorkFolder::open(folder, "a");
    ASSERT_FALSE(second.ok());
    EXPECT_NE(second.status().message().find("another smelt works in"), std::string::npos);
  }
  EXPECT_TRUE(open("a").load("found"));
  EXPECT_FALSE(open("b").load("found"));
}

TEST_F(WorkFolderTest, SaysThatItIsDamaged) {
  WorkFolder work = open("a");
  ASSERT_TRUE(collect(work).ok());
  fs::resize_file(folder / "segment-0.stats", 100);
  auto found = work.lookup()(expected.inputs.begin()->first);
  for (const auto &[name, input] : expected.inputs)
    if (found.ok())
      found = work.lookup()(name);
  ASSERT_FALSE(found.ok());
  EXPECT_NE(found.status().message().find("is damaged, delete it"), std::string::npos)
      << found.status().message();
}

TEST_F(WorkFolderTest, HoldsWhatIsCollectedInMemory) {
  WorkFolder work = open("a");
  ASSERT_TRUE(collect(work).ok());
  EXPECT_EQ(work.resumed(), 0);
  expectAll(work);
  work.remove();
  EXPECT_FALSE(fs::exists(folder));
}

TEST_F(WorkFolderTest, GoesOnAfterEverySegment) {
  WorkFolder whole = open("a");
  ASSERT_TRUE(collect(whole).ok());
  const std::string hash = whole.statisticsHash();
  whole.remove();
  for (int64_t stop = 1; stop < 4; ++stop) {
    stopAfter("a", stop);
    WorkFolder second = open("a");
    ASSERT_TRUE(collect(second).ok());
    EXPECT_EQ(second.resumed(), stop);
    expectAll(second);
    EXPECT_EQ(second.statisticsHash(), hash);
    second.remove();
  }
}

TEST_F(WorkFolderTest, AnotherKeyBeginsAnew) {
  stopAfter("a", 2);
  WorkFolder other = open("b");
  ASSERT_TRUE(collect(other).ok());
  EXPECT_EQ(other.resumed(), 0);
  expectAll(other);
}

TEST_F(WorkFolderTest, DamagedFilesAreNotUsed) {
  for (const char *broken : {"state.json", "boundary-2.f32"}) {
    stopAfter("a", 2);
    std::ofstream(folder / broken, std::ios::binary | std::ios::trunc) << "[{\"linears\": 3}]";
    WorkFolder second = open("a");
    ASSERT_TRUE(collect(second).ok()) << broken;
    EXPECT_EQ(second.resumed(), 0) << broken;
    expectAll(second);
    second.remove();
  }
}

TEST_F(WorkFolderTest, KeepsPackedMatricesByKeyNameAndFormat) {
  std::optional<WorkFolder> work = open("a");
  PackedFolder folder(work->packedPath(), "polish"), other(work->packedPath(), "search");
  const std::string name = "/layers.0/q proj";
  EXPECT_FALSE(folder.find(name, WeightFormat::A4G32));
  PackedKeeper::Kept matrix{std::vector<std::byte>(100, std::byte(3)), {}};
  matrix.report.weightError = 1.0 / 3;
  matrix.report.rowsPolished = 5;
  matrix.report.fallback = "why";
  ASSERT_TRUE(folder.keep(name, WeightFormat::A4G32, matrix).ok());
  auto found = folder.find(name, WeightFormat::A4G32);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->bytes, matrix.bytes);
  EXPECT_EQ(found->report.weightError, 1.0 / 3);
  EXPECT_EQ(found->report.rowsPolished, 5);
  EXPECT_EQ(found->report.fallback, "why");
  EXPECT_FALSE(folder.find(name, WeightFormat::A5G32));
  EXPECT_FALSE(folder.find("another", WeightFormat::A4G32));
  EXPECT_FALSE(other.find(name, WeightFormat::A4G32));

  // A file that lost its end or a bit is as good as none.
  const fs::path file = fs::directory_iterator(work->packedPath())->path();
  const auto size = fs::file_size(file);
  std::fstream(file, std::ios::in | std::ios::out).seekp(std::streamoff(size) - 20).put(7);
  EXPECT_FALSE(folder.find(name, WeightFormat::A4G32));
  ASSERT_TRUE(folder.keep(name, WeightFormat::A4G32, matrix).ok());
  EXPECT_TRUE(folder.find(name, WeightFormat::A4G32));
  fs::resize_file(file, size - 1);
  EXPECT_FALSE(folder.find(name, WeightFormat::A4G32));

  // Another model or other data: the folder is emptied.
  ASSERT_TRUE(folder.keep(name, WeightFormat::A4G32, matrix).ok());
  work.reset();
  PackedFolder anew(open("b").packedPath(), "polish");
  EXPECT_FALSE(anew.find(name, WeightFormat::A4G32));
}

TEST_F(WorkFolderTest, KeepsOutputMoments) {
  WorkFolder work = open("a");
  EXPECT_NE(work.outputsPath(""), work.outputsPath("folds awq"));
  OutputFolder outputs(work.outputsPath(""));
  OutputMomentsOptions how;
  how.threads = 1;
  how.progress = [](double share) { return share < 0.6; };
  EXPECT_FALSE(outputs.collect(model.graph, samples, how).ok()); // killed on the way
  how.progress = {};
  ASSERT_TRUE(outputs.collect(model.graph, samples, how).ok());

  std::string first;
  OutputMomentsLookup lookup = outputs.lookup();
  ASSERT_TRUE(
      collectOutputMoments(model.graph, samples, how,
                           [&](const std::string &linear, OutputMoments moments) -> Status {
                             first = linear;
                             auto found = lookup(linear);
                             EXPECT_TRUE(found.ok() && *found) << linear;
                             SMELT_TRY(found.status());
                             EXPECT_EQ((*found)->blocks.size(), moments.blocks.size());
                             for (size_t b = 0; b < moments.blocks.size(); ++b) {
                               EXPECT_EQ((*found)->blocks[b].first, moments.blocks[b].first);
                               EXPECT_EQ((*found)->blocks[b].values, moments.blocks[b].values);
                             }
                             return Status();
                           })
          .ok());
  auto none = lookup("no such linear");
  EXPECT_TRUE(none.ok() && !*none);

  // What is there is not collected again, and what is damaged is named.
  how.progress = [](double) { return false; };
  EXPECT_TRUE(outputs.collect(model.graph, samples, how).ok());
  for (const fs::directory_entry &entry : fs::directory_iterator(work.outputsPath("")))
    fs::resize_file(entry.path(), fs::file_size(entry.path()) / 2);
  auto damaged = lookup(first);
  ASSERT_FALSE(damaged.ok());
  EXPECT_NE(damaged.status().message().find("'" + first + "'"), std::string::npos);
}

} // namespace
} // namespace smelt
