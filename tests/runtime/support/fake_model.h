// A handmade artifact with fake kernels (fake_kernels.c), for tests of everything around the
// arithmetic.
#pragma once

#include "runtime/artifact/writer.h"
#include "support/fake_kernels.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace smelt::test {

/// What goes into the artifact; tests change a part before writing.
struct FakeModel {
  format::ModelConfig config;
  ProgramImage program;
  std::optional<TensorProgramImage> tensors; ///< see fake_tensors.h
  std::vector<std::byte> weights, code;
  std::vector<uint32_t>
      targets; ///< rows that `code` is stored for: all that this machine's architecture has
  struct Section {
    format::SectionKind kind;
    uint32_t target;
    std::vector<std::byte> bytes;
  };
  std::vector<Section> sections; ///< further ones
  std::vector<std::byte> tokenizer;
  std::string chatTemplate, metadata;

  FakeModel();
  Status write(const std::string &path) const;
};

/// The token that the fake model finds likeliest after `history`.
int32_t fakeNext(std::span<const int32_t> history);
/// Tokens of `text`: the fake tokenizer has one token per character from ' ' (0) to '_' (63).
std::vector<int32_t> fakeTokens(std::string_view text);
std::string fakeText(std::span<const int32_t> tokens);

/// A folder that is removed with all that is in it at the end of the test.
class TemporaryFolder {
public:
  TemporaryFolder();
  ~TemporaryFolder();
  std::string path(std::string_view name) const { return folder + "/" + std::string(name); }
  std::vector<std::string> files() const;

private:
  std::string folder;
};

/// Writes the fake model into `folder`, after `change`; returns its path and fails the test on
/// errors.
std::string writeFake(const TemporaryFolder &folder,
                      const std::function<void(FakeModel &)> &change = {});

std::vector<std::byte> readFile(const std::string &path);
void writeFile(const std::string &path, std::span<const std::byte> bytes);

} // namespace smelt::test
