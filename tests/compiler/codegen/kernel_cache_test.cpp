// The cache of compiled kernels: what is kept is found again, what is damaged is not, and the
// folder stays within its bound.
#include "compiler/codegen/codegen.h"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <thread>

namespace fs = std::filesystem;

namespace smelt {
namespace {

class Cache : public testing::Test {
protected:
  Cache() {
    char text[] = "/tmp/smelt-kernel-cache-XXXXXX";
    root = mkdtemp(text);
    folder = root + "/a/b";
  }
  ~Cache() override { fs::remove_all(root); }

  std::vector<fs::path> files() const {
    std::vector<fs::path> found;
    if (fs::exists(folder))
      for (const auto &entry : fs::directory_iterator(folder))
        found.push_back(entry.path());
    return found;
  }
  uint64_t bytes() const {
    uint64_t total = 0;
    for (const fs::path &path : files())
      total += fs::file_size(path);
    return total;
  }

  std::string root, folder;
};

TEST_F(Cache, FindsWhatAnEarlierProcessKept) {
  const std::string object(1000, 'x');
  KernelCache(folder).keep("key", object);
  EXPECT_EQ(KernelCache(folder).find("key"), object);
  EXPECT_FALSE(KernelCache(folder).find("another key"));
  ASSERT_EQ(files().size(), 1u);
}

TEST_F(Cache, WithoutAFolderKeepsInMemoryOnly) {
  KernelCache cache;
  cache.keep("key", "object");
  EXPECT_EQ(cache.find("key"), "object");
  EXPECT_FALSE(KernelCache().find("key"));
}

TEST_F(Cache, AFolderThatCannotBeWrittenIsTheSameAsNone) {
  std::ofstream(root + "/file") << "no folder";
  KernelCache cache(root + "/file/below");
  cache.keep("key", "object");
  cache.trim();
  EXPECT_EQ(cache.find("key"), "object");
}

TEST_F(Cache, DamagedFilesCountAsAbsentAndAreReplaced) {
  const std::string object(500, 'y');
  KernelCache(folder).keep("key", object);
  const fs::path path = files().at(0);
  const uint64_t whole = fs::file_size(path);
  for (uint64_t at = 0; at < whole; at += 7) { // any byte: header, key, object
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(std::streamoff(at));
    const int byte = file.get();
    file.seekp(std::streamoff(at));
    file.put(char(byte ^ 0x41));
    file.close();
    EXPECT_FALSE(KernelCache(folder).find("key")) << "byte " << at;
    KernelCache(folder).keep("key", object);
    EXPECT_EQ(KernelCache(folder).find("key"), object);
  }
  for (uint64_t length : {uint64_t(0), uint64_t(10), whole - 1}) {
    fs::resize_file(path, length);
    EXPECT_FALSE(KernelCache(folder).find("key")) << length << " bytes";
    KernelCache(folder).keep("key", object);
  }
}

TEST_F(Cache, TrimRemovesWhatWasNotUsedForLongest) {
  KernelCache cache(folder, 10'000);
  for (int i = 0; i < 20; ++i) {
    cache.keep("key" + std::to_string(i), std::string(900, char('a' + i)));
    // The files' times tell which was used last: a second apart, in the past.
    for (const fs::path &path : files())
      fs::last_write_time(path, fs::last_write_time(path) - std::chrono::seconds(1));
  }
  EXPECT_TRUE(KernelCache(folder, 10'000).find("key0")); // used just now
  cache.trim();
  EXPECT_LE(bytes(), 7'500u);
  EXPECT_GT(bytes(), 5'000u);
  EXPECT_TRUE(KernelCache(folder).find("key0"));
  EXPECT_FALSE(KernelCache(folder).find("key1"));
  EXPECT_TRUE(KernelCache(folder).find("key19"));
}

TEST_F(Cache, WritersAtTheSameTimeLeaveWholeFiles) {
  std::vector<std::thread> writers;
  for (int writer = 0; writer < 4; ++writer)
    writers.emplace_back([&] {
      KernelCache cache(folder);
      for (int i = 0; i < 25; ++i)
        cache.keep("key" + std::to_string(i), std::string(size_t(100 + i), 'z'));
    });
  for (std::thread &writer : writers)
    writer.join();
  EXPECT_EQ(files().size(), 25u);
  KernelCache cache(folder);
  for (int i = 0; i < 25; ++i)
    EXPECT_EQ(cache.find("key" + std::to_string(i)), std::string(size_t(100 + i), 'z'));
}

KernelSpec scaling(double factor) {
  KernelSpec spec;
  spec.kind = KernelKind::Elementwise;
  spec.elementwise = ElementwiseKind::Scale;
  spec.cols = spec.inStride = spec.outStride = 32;
  spec.scalar = factor;
  return spec;
}

TEST_F(Cache, GeneratedCodeIsTheSameCachedOrNotOnAnyNumberOfThreads) {
  std::vector<KernelSpec> specs = {scaling(2), scaling(3), scaling(2)};
  specs.push_back(scaling(3));
  specs.back().logitRows = true;
  std::vector<const KernelTarget *> targets;
  for (const KernelTarget &target : kernelTargets())
    targets.push_back(&target);
  auto plain = generateCode(specs, {}, targets, {});
  ASSERT_TRUE(plain.ok()) << plain.status().message();
  KernelCache first(folder);
  CodegenOptions options;
  options.cache = &first;
  options.threads = 3;
  auto filled = generateCode(specs, {}, targets, options);
  ASSERT_TRUE(filled.ok()) << filled.status().message();
  EXPECT_EQ(*filled, *plain);
  EXPECT_EQ(files().size(), 3 * targets.size()); // two scalings, one of them for logit rows too
  KernelCache second(folder);
  options.cache = &second;
  int compiled = 0;
  options.progress = [&](double) { ++compiled; };
  auto found = generateCode(specs, {}, targets, options);
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_EQ(*found, *plain);
  EXPECT_EQ(compiled, 0);
}

} // namespace
} // namespace smelt
