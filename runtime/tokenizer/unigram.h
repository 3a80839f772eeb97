// Unigram language model: the cut of a text whose tokens have the best sum of scores (Kudo 2018,
// arXiv:1804.10959).
#pragma once

#include "runtime/tokenizer/vocabulary.h"

#include <array>
#include <string_view>
#include <vector>

namespace smelt {

/// A Unigram model over a vocabulary, which must outlive it.
class Unigram {
public:
  /// Reads the Unigram section. `hidden` [vocabulary.size()] marks added tokens that the model's
  /// own vocabulary lacks.
  static Result<Unigram> read(ByteReader &reader, const Vocabulary &vocabulary,
                              const std::vector<bool> &hidden);

  /// Memory that one encode call reuses from word to word.
  struct Scratch {
    /// The best cut of the text up to a byte.
    struct Node {
      double score = 0;
      uint32_t start = UINT32_MAX; ///< of its last token; UINT32_MAX: not reached
      int32_t id = -1;             ///< -1: unknown
    };
    std::vector<Node> nodes;
    std::vector<std::pair<uint32_t, uint32_t>> pieces; ///< byte ranges, last first
  };

  /// Appends the tokens of one word of at most 4 GiB. Neighbouring unknown characters become one
  /// unknown token, or the tokens of their bytes where the model falls back to those.
  void encode(std::string_view word, Scratch &scratch, std::vector<int32_t> &out) const;

private:
  /// Token texts as a tree of bytes: the children of a node are neighbours, ascending by label.
  struct TreeNode {
    uint32_t firstChild = 0, children = 0;
    int32_t id = -1; ///< the token that ends here, or -1
  };
  void buildTree(const std::vector<bool> &hidden);
  const TreeNode *child(const TreeNode &node, uint8_t label) const;
  void addPiece(std::string_view piece, std::vector<int32_t> &out) const;

  const Vocabulary *vocabulary = nullptr;
  std::vector<double> scores; ///< [vocabulary.size()]
  double unknownScore = 0;
  int32_t unknown = -1;
  bool byteFallback = false;
  std::array<int32_t, 256> byteToken; ///< token "<0xNN>", or -1
  std::vector<TreeNode> tree;         ///< [0] is the root
  std::vector<uint8_t> labels;        ///< the byte that leads to each node
};

} // namespace smelt
