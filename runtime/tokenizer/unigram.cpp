// Unigram language model.
#include "runtime/tokenizer/unigram.h"

#include "runtime/tokenizer/blob.h"
#include "runtime/tokenizer/unicode.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <string>

namespace smelt {

namespace {

/// What an unknown character scores below the worst token (SentencePiece: kUnkPenalty).
constexpr double unknownPenalty = 10;

} // namespace

Result<Unigram> Unigram::read(ByteReader &reader, const Vocabulary &vocabulary,
                              const std::vector<bool> &hidden) {
  Unigram model;
  model.vocabulary = &vocabulary;
  model.byteFallback = reader.u8() & modelByteFallback;
  uint32_t unknown = reader.u32();
  uint32_t count = reader.count(8);
  model.scores.assign(vocabulary.size(), 0);
  if (count > vocabulary.size())
    return corrupt("the unigram model scores " + std::to_string(count) +
                   " tokens, the vocabulary has " + std::to_string(vocabulary.size()));
  double worst = 0;
  for (uint32_t i = 0; i < count; ++i) {
    model.scores[i] = std::bit_cast<double>(reader.number(8));
    if (!std::isfinite(model.scores[i]))
      return corrupt("the score of token " + std::to_string(i) + " is not a number");
    worst = i == 0 ? model.scores[i] : std::min(worst, model.scores[i]);
  }
  SMELT_TRY(reader.finish("the unigram section"));
  if (unknown != blobNone && unknown >= vocabulary.size())
    return corrupt("the unknown token " + std::to_string(unknown) + " is outside the vocabulary");
  model.unknown = unknown == blobNone ? -1 : int32_t(unknown);
  model.unknownScore = worst - unknownPenalty;
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof(name), "<0x%02X>", byte);
    model.byteToken[byte] = vocabulary.find(name);
  }
  model.buildTree(hidden);
  return model;
}

void Unigram::buildTree(const std::vector<bool> &hidden) {
  std::vector<std::pair<std::string_view, int32_t>> sorted;
  for (uint32_t id = 0; id < vocabulary->size(); ++id)
    if (!hidden[id] && !vocabulary->text(id).empty())
      sorted.emplace_back(vocabulary->text(id), int32_t(id));
  std::sort(sorted.begin(), sorted.end());
  // Nodes in order of depth, so that children are neighbours; each holds the range of tokens that
  // start with its text.
  struct Range {
    uint32_t begin, end, depth;
  };
  std::vector<Range> ranges = {{0, uint32_t(sorted.size()), 0}};
  tree.assign(1, {});
  labels.assign(1, 0);
  for (size_t node = 0; node < tree.size(); ++node) {
    Range range = ranges[node];
    while (range.begin < range.end && sorted[range.begin].first.size() == range.depth)
      tree[node].id = sorted[range.begin++].second; // of equal texts the last one counts
    tree[node].firstChild = uint32_t(tree.size());
    while (range.begin < range.end) {
      char label = sorted[range.begin].first[range.depth];
      uint32_t end = range.begin + 1;
      while (end < range.end && sorted[end].first[range.depth] == label)
        ++end;
      tree.push_back({});
      labels.push_back(uint8_t(label));
      ranges.push_back({range.begin, end, range.depth + 1});
      range.begin = end;
    }
    tree[node].children = uint32_t(tree.size()) - tree[node].firstChild;
  }
}

const Unigram::TreeNode *Unigram::child(const TreeNode &node, uint8_t label) const {
  auto first = labels.begin() + node.firstChild, last = first + node.children;
  auto found = std::lower_bound(first, last, label);
  return found != last && *found == label ? &tree[size_t(found - labels.begin())] : nullptr;
}

void Unigram::addPiece(std::string_view piece, std::vector<int32_t> &out) const {
  if (int32_t id = vocabulary->find(piece); id >= 0) {
    out.push_back(id);
    return;
  }
  if (byteFallback && std::all_of(piece.begin(), piece.end(),
                                  [&](char byte) { return byteToken[uint8_t(byte)] >= 0; })) {
    for (char byte : piece)
      out.push_back(byteToken[uint8_t(byte)]);
    return;
  }
  if (unknown >= 0)
    out.push_back(unknown);
}

/// Viterbi over byte positions, as in Hugging Face tokenizers: of equal sums the first found stays.
void Unigram::encode(std::string_view word, Scratch &scratch, std::vector<int32_t> &out) const {
  auto &nodes = scratch.nodes;
  nodes.assign(word.size() + 1, {});
  nodes[0].start = 0;
  auto offer = [&](size_t start, size_t end, double score, int32_t id) {
    Scratch::Node &target = nodes[end];
    score += nodes[start].score;
    if (target.start == UINT32_MAX || score > target.score)
      target = {score, uint32_t(start), id};
  };
  for (size_t start = 0; start < word.size();) {
    size_t next = start;
    nextChar(word, next);
    bool wholeCharacter = false;
    const TreeNode *node = &tree[0];
    for (size_t end = start; end < word.size();) {
      node = child(*node, uint8_t(word[end++]));
      if (!node)
        break;
      if (node->id < 0)
        continue;
      offer(start, end, scores[node->id], node->id == unknown ? -1 : node->id);
      wholeCharacter |= end == next;
    }
    if (!wholeCharacter)
      offer(start, next, unknownScore, -1);
    start = next;
  }
  // Back along the best cut; unknown neighbours join.
  scratch.pieces.clear();
  bool joining = false;
  for (size_t end = word.size(); end > 0;) {
    const Scratch::Node &node = nodes[end];
    bool isUnknown = node.id < 0 && unknown >= 0;
    if (isUnknown && joining)
      scratch.pieces.back().first = node.start;
    else
      scratch.pieces.emplace_back(node.start, uint32_t(end));
    joining = isUnknown;
    end = node.start;
  }
  for (auto piece = scratch.pieces.rbegin(); piece != scratch.pieces.rend(); ++piece)
    addPiece(word.substr(piece->first, piece->second - piece->first), out);
}

} // namespace smelt
