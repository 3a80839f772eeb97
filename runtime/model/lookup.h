// Prompt lookup: what followed the last tokens of a text when they stood in it before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace smelt {

/// An index of the n-grams of a growing text (prompt lookup decoding, Saxena 2023). Adding a token
/// and finding a match take constant time: chains of equal hashes are followed a few links only.
class PromptLookup {
public:
  /// Allocates all that a text of `mostTokens` tokens needs.
  explicit PromptLookup(size_t mostTokens);

  /// Adds a token; what is beyond `mostTokens` is left out.
  void push(int32_t token);

  std::span<const int32_t> tokens() const { return text; }

  /// An earlier place whose last `length` tokens are those that the text ends with.
  struct Match {
    size_t length = 0; ///< 0: there is none
    size_t next = 0;   ///< index of the token behind it
  };
  /// The longest match of those that were looked at, the latest among equals.
  Match find() const;
  /// Token `index` of what follows a match; a match that runs into the end of the text repeats.
  int32_t continuation(const Match &match, size_t index) const {
    return text[match.next + index % (text.size() - match.next)];
  }

private:
  static constexpr size_t orders[] = {4, 2}; ///< n-grams that have an index, the longer ones first
  static constexpr uint32_t none = 0xffffffff;

  /// Places by the hash of the n-gram before them: the latest, and for each place the one before.
  struct Chains {
    std::vector<uint32_t> latest, earlier;
  };
  size_t bucket(size_t order, size_t end) const;

  size_t most;
  std::vector<int32_t> text;
  Chains chains[2];
};

} // namespace smelt
