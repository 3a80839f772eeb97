// Byte pair encoding.
#include "runtime/tokenizer/bpe.h"

#include "runtime/tokenizer/blob.h"
#include "runtime/tokenizer/pre_tokenizer.h"

#include <algorithm>
#include <bit>
#include <cstdio>

namespace smelt {

namespace {

constexpr uint32_t freeSlot = UINT32_MAX;
constexpr size_t knownSlots = 1 << 14, knownProbes = 4, maxKnownWord = 64;

size_t hashPair(uint64_t pair) {
  pair *= 0x9E3779B97F4A7C15;
  return size_t(pair ^ pair >> 29);
}

} // namespace

Result<Bpe> Bpe::read(ByteReader &model, ByteReader &mergesReader, const Vocabulary &vocabulary,
                      bool bytesIn) {
  Bpe bpe;
  bpe.vocabulary = &vocabulary;
  bpe.bytesIn = bytesIn;
  uint8_t flags = model.u8();
  bpe.byteFallback = flags & modelByteFallback;
  bpe.fuseUnknown = flags & modelFuseUnknown;
  bpe.ignoreMerges = flags & modelIgnoreMerges;
  uint32_t unknown = model.u32();
  bpe.continuingPrefix = model.string();
  bpe.wordSuffix = model.string();
  SMELT_TRY(model.finish("the model section"));
  if (unknown != blobNone && unknown >= vocabulary.size())
    return corrupt("the unknown token " + std::to_string(unknown) + " is outside the vocabulary");
  bpe.unknown = unknown == blobNone ? -1 : int32_t(unknown);
  for (int byte = 0; byte < 256; ++byte) {
    std::string text;
    appendUtf8(text, byteToChar(uint8_t(byte)));
    bpe.byteSymbol[byte] = vocabulary.find(text);
    char name[8];
    std::snprintf(name, sizeof(name), "<0x%02X>", byte);
    bpe.byteToken[byte] = vocabulary.find(name);
  }
  SMELT_TRY(bpe.readMerges(mergesReader));
  return bpe;
}

Status Bpe::readMerges(ByteReader &reader) {
  unsigned width = reader.u8();
  if (width < 2 || width > 4)
    return corrupt("merges of " + std::to_string(width) + " bytes per id, expected 2 to 4");
  uint32_t count = reader.count(3 * width);
  constexpr unsigned maxProbes = 4096;
  merges.assign(std::bit_ceil(size_t(count) * 3 / 2 + 1), {0, freeSlot, 0});
  size_t mask = merges.size() - 1;
  for (uint32_t rank = 0; rank < count; ++rank) {
    uint64_t left = reader.number(width), right = reader.number(width);
    uint64_t result = reader.number(width);
    if (left >= vocabulary->size() || right >= vocabulary->size() || result >= vocabulary->size())
      return corrupt("merge " + std::to_string(rank) + " names a token outside the vocabulary");
    uint64_t pair = left << 32 | right;
    size_t slot = hashPair(pair) & mask;
    unsigned probes = 0;
    while (merges[slot].rank != freeSlot && merges[slot].pair != pair) {
      slot = (slot + 1) & mask;
      if (++probes > maxProbes)
        return corrupt("the merges collide too much to be real ones");
    }
    merges[slot] = {pair, rank, uint32_t(result)}; // the last of equal pairs counts
  }
  return reader.finish("the merges section");
}

const Bpe::Merge *Bpe::find(uint32_t left, uint32_t right) const {
  uint64_t pair = uint64_t(left) << 32 | right;
  size_t mask = merges.size() - 1;
  for (size_t slot = hashPair(pair) & mask; merges[slot].rank != freeSlot; slot = (slot + 1) & mask)
    if (merges[slot].pair == pair)
      return &merges[slot];
  return nullptr;
}

/// One symbol's ids. An unknown token waits (`unknownPending`) for a neighbour to fuse with; byte
/// tokens overtake it, as they do in Hugging Face tokenizers.
void Bpe::addSymbol(std::string_view symbol, std::vector<uint32_t> &ids,
                    bool &unknownPending) const {
  if (int32_t id = vocabulary->find(symbol); id >= 0) {
    if (unknownPending)
      ids.push_back(uint32_t(unknown));
    unknownPending = false;
    ids.push_back(uint32_t(id));
    return;
  }
  if (byteFallback && std::all_of(symbol.begin(), symbol.end(),
                                  [&](char byte) { return byteToken[uint8_t(byte)] >= 0; })) {
    for (char byte : symbol)
      ids.push_back(uint32_t(byteToken[uint8_t(byte)]));
    return;
  }
  if (unknown < 0)
    return;
  if (unknownPending && !fuseUnknown)
    ids.push_back(uint32_t(unknown));
  unknownPending = true;
}

void Bpe::addSymbols(std::string_view word, Scratch &scratch) const {
  scratch.ids.clear();
  bool unknownPending = false;
  bool plain = continuingPrefix.empty() && wordSuffix.empty();
  for (size_t at = 0; at < word.size();) {
    size_t start = at;
    if (bytesIn) {
      int32_t id = byteSymbol[uint8_t(word[at++])];
      if (plain && id >= 0 && !unknownPending) {
        scratch.ids.push_back(uint32_t(id));
        continue;
      }
    } else {
      nextChar(word, at);
    }
    std::string &symbol = scratch.text;
    symbol = start > 0 ? continuingPrefix : std::string_view();
    if (bytesIn)
      appendUtf8(symbol, byteToChar(uint8_t(word[start])));
    else
      symbol += word.substr(start, at - start);
    if (at == word.size())
      symbol += wordSuffix;
    addSymbol(symbol, scratch.ids, unknownPending);
  }
  if (unknownPending)
    scratch.ids.push_back(uint32_t(unknown));
}

/// Merges scratch.ids until no pair has a merge; what stays alive in scratch.symbols is the result.
void Bpe::mergeAll(Scratch &scratch) const {
  auto &symbols = scratch.symbols;
  auto &heap = scratch.heap;
  symbols.clear();
  heap.clear();
  int32_t count = int32_t(scratch.ids.size());
  for (int32_t i = 0; i < count; ++i)
    symbols.push_back({scratch.ids[i], i - 1, i + 1 < count ? i + 1 : -1, true});
  for (int32_t i = 0; i + 1 < count; ++i)
    if (const Merge *merge = find(symbols[i].id, symbols[i + 1].id))
      heap.push_back({merge->rank, uint32_t(i), merge->result});
  std::make_heap(heap.begin(), heap.end());
  auto offer = [&](int32_t left, int32_t right) {
    if (left < 0 || right < 0)
      return;
    if (const Merge *merge = find(symbols[left].id, symbols[right].id)) {
      heap.push_back({merge->rank, uint32_t(left), merge->result});
      std::push_heap(heap.begin(), heap.end());
    }
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    auto top = heap.back();
    heap.pop_back();
    auto &left = symbols[top.at];
    if (!left.alive || left.next < 0)
      continue;
    auto &right = symbols[left.next];
    const Merge *merge = find(left.id, right.id);
    if (!merge || merge->result != top.result) // a neighbour has changed since this was offered
      continue;
    left.id = top.result;
    right.alive = false;
    left.next = right.next;
    if (left.next >= 0)
      symbols[left.next].previous = int32_t(top.at);
    offer(left.previous, int32_t(top.at));
    offer(int32_t(top.at), left.next);
  }
}

void Bpe::encode(std::string_view word, Scratch &scratch, std::vector<int32_t> &out) const {
  if (word.empty())
    return;
  // Words seen before in this call: text repeats itself, so most words end here.
  Scratch::Known *free = nullptr;
  if (word.size() <= maxKnownWord) {
    if (scratch.known.empty())
      scratch.known.resize(knownSlots);
    uint64_t hash = hashBytes(word);
    for (size_t probe = 0; probe < knownProbes; ++probe) {
      Scratch::Known &slot = scratch.known[(hash + probe) & (knownSlots - 1)];
      if (slot.word == word) {
        out.insert(out.end(), scratch.knownIds.begin() + slot.begin,
                   scratch.knownIds.begin() + slot.end);
        return;
      }
      if (slot.word.empty()) {
        free = &slot;
        break;
      }
    }
  }
  size_t before = out.size();
  int32_t whole = -1;
  if (ignoreMerges) {
    if (bytesIn) {
      scratch.text.clear();
      for (char byte : word)
        appendUtf8(scratch.text, byteToChar(uint8_t(byte)));
      whole = vocabulary->find(scratch.text);
    } else {
      whole = vocabulary->find(word);
    }
  }
  if (whole >= 0) {
    out.push_back(whole);
  } else {
    addSymbols(word, scratch);
    mergeAll(scratch);
    for (const Scratch::Symbol &symbol : scratch.symbols)
      if (symbol.alive)
        out.push_back(int32_t(symbol.id));
  }
  if (free) {
    free->word = word;
    free->begin = uint32_t(scratch.knownIds.size());
    scratch.knownIds.insert(scratch.knownIds.end(), out.begin() + before, out.end());
    free->end = uint32_t(scratch.knownIds.size());
  }
}

} // namespace smelt
