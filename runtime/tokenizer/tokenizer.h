// Text to token ids and back, from the tokenizer section of an artifact.
#pragma once

#include "runtime/base/status.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace smelt {

struct EncodeOptions {
  bool addSpecial = true; ///< put the ids around the text that the post-processor names (often BOS)
  bool parseSpecial = true; ///< find special tokens written in the text; else they are plain text
  size_t maxTokens = SIZE_MAX; ///< a longer text loses tokens at its end, never special ones around
};

/// The tokens of two texts that a model reads together.
struct PairEncoding {
  std::vector<int32_t> ids;
  std::vector<int32_t> types; ///< [ids.size()] the token type of each, as BERT wants it
};

/// A tokenizer. It is not changed by use: any number of threads may share one.
class Tokenizer {
public:
  /// Opens a blob (layout: blob.h), which must outlive the tokenizer. The bytes may be anything:
  /// each offset is checked, and what is wrong is said.
  static Result<Tokenizer> open(std::span<const std::byte> blob);
  Tokenizer(Tokenizer &&) noexcept;
  Tokenizer &operator=(Tokenizer &&) noexcept;
  ~Tokenizer();

  /// The ids of `text`; bytes that are not UTF-8 count as U+FFFD. Fails only when a text is too
  /// hard for the tokenizer's regular expressions.
  Result<std::vector<int32_t>> encode(std::string_view text, EncodeOptions options = {}) const;

  /// The ids and types of two texts, put together as the tokenizer's file says. When they are too
  /// long, the longer one loses tokens first. Fails also when the file does not say how.
  Result<PairEncoding> encodePair(std::string_view first, std::string_view second,
                                  EncodeOptions options = {}) const;
  bool encodesPairs() const;

  /// The text of `ids`, always valid UTF-8; ids without a token are skipped.
  std::string decode(std::span<const int32_t> ids, bool skipSpecial = true) const;

  /// Ids run from 0 to vocabSize() - 1; some may have no token.
  uint32_t vocabSize() const;
  /// The token as the tokenizer's file writes it (with "Ġ" or "▁"); empty when there is none.
  std::string_view tokenText(int32_t id) const;
  /// The id of a token written as in the file, or -1.
  int32_t findToken(std::string_view text) const;
  /// Whether `id` is a control token such as end-of-text.
  bool isSpecial(int32_t id) const;

private:
  friend class StreamDecoder;
  struct Parts;
  explicit Tokenizer(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts;
};

/// Decodes tokens as they are generated. It gives out whole UTF-8 only, and the parts joined are
/// what decode() says (except that byte tokens of invalid text may differ in how many U+FFFD they
/// make).
class StreamDecoder {
public:
  /// `tokenizer` must outlive the decoder.
  explicit StreamDecoder(const Tokenizer &tokenizer, bool skipSpecial = true);
  StreamDecoder(StreamDecoder &&) noexcept;
  StreamDecoder &operator=(StreamDecoder &&) noexcept;
  ~StreamDecoder();

  /// The text that `id` adds; empty while a character is incomplete.
  std::string push(int32_t id);
  /// The rest: U+FFFD for bytes that never became a character. Then the decoder starts anew.
  std::string finish();

private:
  friend class Tokenizer;
  struct Progress;
  StreamDecoder(const Tokenizer &tokenizer, bool skipSpecial, bool eager);
  void push(int32_t id, std::string &out);
  const Tokenizer *tokenizer;
  bool skipSpecial;
  std::unique_ptr<Progress> progress;
};

} // namespace smelt
