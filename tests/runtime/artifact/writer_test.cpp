// The writer: whole files or none, and what it writes is read back.
#include "runtime/artifact/reader.h"
#include "support/fake_model.h"

#include <gtest/gtest.h>

#include <csignal>
#include <cstring>
#include <filesystem>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace smelt;
using namespace smelt::test;
using format::SectionKind;

namespace {

TEST(Writer, WhatIsWrittenIsRead) {
  TemporaryFolder folder;
  FakeModel model;
  std::string path = writeFake(folder);
  auto artifact = Artifact::open(path);
  ASSERT_TRUE(artifact.ok()) << artifact.status().message();
  EXPECT_EQ((*artifact)->fileBytes(), std::filesystem::file_size(path));
  EXPECT_EQ((*artifact)->config().vocabSize, unsigned(fakeVocabulary));
  EXPECT_EQ((*artifact)->weights().size(), model.weights.size());
  EXPECT_EQ((*artifact)->text(SectionKind::Metadata), model.metadata);
  EXPECT_EQ((*artifact)->program().kernelNames.size(), 4u);
  EXPECT_STREQ((*artifact)->program().kernelNames[3], "fake_head_many");
  EXPECT_EQ((*artifact)->program().instructions.size(), 3u);
  EXPECT_EQ((*artifact)->program().instructions[2].operands[2].value, 64u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>((*artifact)->weights().data()) % 4096, 0u);
  EXPECT_EQ(folder.files(), std::vector<std::string>{"model.smelt"});
}

TEST(Writer, NothingStaysWithoutFinish) {
  TemporaryFolder folder;
  std::string path = folder.path("m.smelt");
  {
    auto writer = ArtifactWriter::create(path);
    ASSERT_TRUE(writer.ok());
    EXPECT_TRUE((*writer)->addSection(SectionKind::Metadata, "{}").ok());
    EXPECT_EQ(folder.files().size(), 1u);
  }
  EXPECT_TRUE(folder.files().empty());
}

TEST(Writer, AnOldFileStaysUntilTheNewOneIsWhole) {
  TemporaryFolder folder;
  std::string path = folder.path("m.smelt");
  std::string old = "old";
  writeFile(path, std::as_bytes(std::span(old)));
  {
    auto writer = ArtifactWriter::create(path);
    ASSERT_TRUE(writer.ok());
    EXPECT_TRUE((*writer)->addSection(SectionKind::Metadata, "{}").ok());
    EXPECT_EQ(readFile(path).size(), 3u);
  }
  EXPECT_EQ(readFile(path).size(), 3u);
  auto writer = ArtifactWriter::create(path);
  EXPECT_TRUE((*writer)->addSection(SectionKind::Metadata, "{}").ok());
  EXPECT_TRUE((*writer)->finish().ok());
  EXPECT_EQ(readFile(path).size(), format::sectionAlignment + 2);
}

TEST(Writer, WhatAKilledWriterLeftIsRemoved) {
  TemporaryFolder folder;
  std::string path = folder.path("m.smelt");
  pid_t child = ::fork();
  if (child == 0) {
    auto writer = ArtifactWriter::create(path);
    ::_exit(writer.ok() ? 0 : 1); // no destructor runs
  }
  int result = 0;
  ::waitpid(child, &result, 0);
  ASSERT_EQ(result, 0);
  ASSERT_EQ(folder.files().size(), 1u);
  auto first = ArtifactWriter::create(path);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(folder.files(), std::vector<std::string>{"m.smelt.tmp-" + std::to_string(::getpid())});
}

TEST(Writer, SectionsOfAnySizeAndPiece) {
  TemporaryFolder folder;
  std::vector<std::byte> large(3'000'001);
  for (size_t i = 0; i < large.size(); ++i)
    large[i] = std::byte(i * 31);
  FakeModel model;
  std::string path = folder.path("m.smelt");

  auto writer = ArtifactWriter::create(path);
  ASSERT_TRUE(writer.ok());
  EXPECT_TRUE(
      (*writer)->addSection(SectionKind::Config, std::as_bytes(std::span(&model.config, 1))).ok());
  EXPECT_TRUE((*writer)->addSection(SectionKind::Weights, large).ok());
  EXPECT_TRUE((*writer)->beginSection(SectionKind::Metadata).ok());
  for (size_t at = 0, piece = 1; at < large.size(); at += piece, piece = piece * 5 % 700'001 + 1) {
    piece = std::min(piece, large.size() - at);
    EXPECT_TRUE((*writer)->write(std::span(large).subspan(at, piece)).ok());
  }
  EXPECT_TRUE((*writer)->align(64).ok());
  EXPECT_EQ((*writer)->sectionBytes() % 64, 0u);
  EXPECT_TRUE((*writer)->endSection().ok());
  EXPECT_TRUE((*writer)->addSection(SectionKind::Program, encodeProgram(model.program)).ok());
  EXPECT_TRUE((*writer)->finish().ok());

  auto artifact = Artifact::open(path);
  ASSERT_TRUE(artifact.ok()) << artifact.status().message();
  EXPECT_EQ(std::memcmp((*artifact)->weights().data(), large.data(), large.size()), 0);
  EXPECT_EQ(
      std::memcmp((*artifact)->text(SectionKind::Metadata).data(), large.data(), large.size()), 0);
}

TEST(Writer, MisuseIsSaid) {
  TemporaryFolder folder;
  auto writer = ArtifactWriter::create(folder.path("m"));
  ASSERT_TRUE(writer.ok());
  EXPECT_EQ((*writer)->write({}).code(), StatusCode::Internal);
  EXPECT_EQ((*writer)->endSection().code(), StatusCode::Internal);
  EXPECT_TRUE((*writer)->beginSection(SectionKind::Config).ok());
  EXPECT_EQ((*writer)->beginSection(SectionKind::Config).code(), StatusCode::Internal);
  EXPECT_EQ((*writer)->finish().code(), StatusCode::Internal);
}

TEST(Writer, PlacesThatCannotBeWritten) {
  TemporaryFolder folder;
  for (std::string path : {std::string(), folder.path("no/such/folder/m"), folder.path("")}) {
    auto writer = ArtifactWriter::create(path);
    ASSERT_FALSE(writer.ok()) << path;
    EXPECT_EQ(writer.status().code(), StatusCode::InvalidArgument);
  }
}

TEST(Writer, AFullDiskLeavesNothing) {
  TemporaryFolder folder;
  pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {1 << 20, 1 << 20};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    std::vector<std::byte> large(3 << 20);
    Status status;
    if (auto writer = ArtifactWriter::create(folder.path("m")); writer.ok())
      status = (*writer)->addSection(SectionKind::Weights, large);
    ::_exit(status.code() == StatusCode::Exhausted && folder.files().empty() ? 0 : 1);
  }
  int result = 0;
  ::waitpid(child, &result, 0);
  EXPECT_EQ(result, 0);
}

} // namespace
