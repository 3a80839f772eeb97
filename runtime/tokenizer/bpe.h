// Byte pair encoding: merges the symbols of a word by rank (Sennrich et al. 2016,
// arXiv:1508.07909).
#pragma once

#include "runtime/tokenizer/vocabulary.h"

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace smelt {

/// A BPE model over a vocabulary, which must outlive it.
class Bpe {
public:
  /// Reads the Model and Merges sections. `bytesIn`: words come as raw bytes whose symbols are the
  /// GPT-2 characters.
  static Result<Bpe> read(ByteReader &model, ByteReader &merges, const Vocabulary &vocabulary,
                          bool bytesIn);

  /// Memory that one encode call reuses from word to word, and the words it has seen.
  class Scratch;

  /// Appends the tokens of one word. A symbol without a token, an unknown token or byte tokens
  /// yields nothing, as in Hugging Face tokenizers.
  void encode(std::string_view word, Scratch &scratch, std::vector<int32_t> &out) const;

private:
  struct Merge {
    uint64_t pair; ///< left << 32 | right
    uint32_t rank;
    uint32_t result;
  };
  const Merge *find(uint32_t left, uint32_t right) const;
  Status readMerges(ByteReader &reader);
  void addSymbols(std::string_view word, Scratch &scratch) const;
  void addSymbol(std::string_view symbol, std::vector<uint32_t> &ids, bool &unknownPending) const;
  void mergeAll(Scratch &scratch) const;

  const Vocabulary *vocabulary = nullptr;
  bool bytesIn = false, byteFallback = false, fuseUnknown = false, ignoreMerges = false;
  int32_t unknown = -1;
  std::string_view continuingPrefix, wordSuffix;
  std::array<int32_t, 256> byteSymbol; ///< token of the GPT-2 character of a byte, or -1
  std::array<int32_t, 256> byteToken;  ///< token "<0xNN>", or -1
  std::vector<Merge> merges;           ///< hash table; rank UINT32_MAX: free slot
};

class Bpe::Scratch {
  friend class Bpe;

  struct Symbol {
    uint32_t id;
    int32_t previous, next; ///< -1: none
    bool alive;
  };
  struct Candidate {
    uint32_t rank, at, result;
    bool
    operator<(const Candidate &other) const { // the heap's top is the least rank, then the leftmost
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  struct Known {
    std::string_view word;
    uint32_t begin = 0, end = 0; ///< in knownIds
  };

  std::vector<uint32_t> ids;
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
  std::vector<Known> known; ///< hash table of words; words must outlive the scratch
  std::vector<int32_t> knownIds;
  std::string text;
};

} // namespace smelt
