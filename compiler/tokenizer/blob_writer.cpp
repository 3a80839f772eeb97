// Serializes tokenizer blobs.
#include "compiler/tokenizer/blob_writer.h"

#include <bit>
#include <cstring>
#include <span>

namespace smelt {

namespace {

using Images = std::map<uint32_t, std::vector<uint32_t>>;

/// Adds rows {character, n, image...} over those already there.
void addRows(Images &images, std::span<const uint32_t> rows) {
  for (size_t i = 0; i + 1 < rows.size(); i += 2 + rows[i + 1])
    images[rows[i]].assign(rows.begin() + i + 2, rows.begin() + i + 2 + rows[i + 1]);
}

void writeCharMap(ByteWriter &out, const Images &images) {
  out.u32(uint32_t(images.size()));
  for (const auto &[character, image] : images) {
    out.u32(character);
    out.u8(uint8_t(image.size()));
    for (uint32_t c : image)
      out.u32(c);
  }
}

std::string steps(const StepWriter &writer) {
  ByteWriter out;
  out.u32(writer.count);
  out.raw(writer.bytes.data());
  return out.data();
}

std::string vocabularySection(const std::vector<std::string> &vocabulary) {
  ByteWriter out;
  out.u32(uint32_t(vocabulary.size()));
  for (const std::string &token : vocabulary)
    out.u16(uint16_t(token.size()));
  for (const std::string &token : vocabulary)
    out.raw(token);
  return out.data();
}

std::string mergesSection(const BlobContents &blob) {
  ByteWriter out;
  size_t tokens = blob.vocabulary.size();
  unsigned width = tokens <= 1 << 16 ? 2 : tokens <= 1 << 24 ? 3 : 4;
  out.u8(uint8_t(width));
  out.u32(uint32_t(blob.merges.size()));
  for (const auto &merge : blob.merges)
    for (uint32_t id : merge)
      out.number(id, width);
  return out.data();
}

std::string addedSection(BlobContents &blob) {
  uint8_t all = 0;
  for (const BlobContents::Added &token : blob.added)
    all |= token.flags;
  ByteWriter out;
  bool strips = all & (addedLeftStrip | addedRightStrip), alone = all & addedSingleWord;
  out.u32(strips ? blob.sets.indexOf(*namedCodeSet("RustSpace")) : blobNone);
  out.u32(alone ? blob.sets.indexOf(*namedCodeSet("RustWord")) : blobNone);
  out.u32(uint32_t(blob.added.size()));
  for (const BlobContents::Added &token : blob.added) {
    out.u32(token.id);
    out.u8(token.flags);
  }
  return out.data();
}

std::string setsSection(const std::vector<CodeSet> &sets) {
  ByteWriter out;
  out.u32(uint32_t(sets.size()));
  for (const CodeSet &set : sets) {
    out.u32(uint32_t(set.ranges().size()));
    for (const auto &[first, last] : set.ranges()) {
      out.u32(first);
      out.u32(last);
    }
  }
  return out.data();
}

std::string patternsSection(const std::vector<PatternProgram> &patterns) {
  ByteWriter out;
  out.u32(uint32_t(patterns.size()));
  for (const PatternProgram &program : patterns) {
    out.u32(uint32_t(program.size()));
    for (const PatternInstruction &i : program) {
      out.u8(uint8_t(i.op));
      out.u8(i.flag);
      out.u32(i.a);
      out.u32(i.b);
      out.u32(i.c);
    }
  }
  return out.data();
}

} // namespace

uint32_t BlobContents::addPattern(PatternProgram program) {
  patterns.push_back(std::move(program));
  return uint32_t(patterns.size() - 1);
}

uint32_t BlobContents::tableIndex(const std::string &name) {
  auto [entry, isNew] = tablesByName.try_emplace(name, tables.count);
  if (!isNew)
    return entry->second;
  if (name == "Classes") {
    ByteWriter &out = tables.add(TableKind::Classes);
    std::span<const uint32_t> rows = combiningClasses();
    out.u32(uint32_t(rows.size() / 2));
    for (size_t i = 0; i < rows.size(); i += 2) {
      out.u32(rows[i]);
      out.u8(uint8_t(rows[i + 1]));
    }
  } else if (name == "Compositions") {
    std::map<std::pair<uint32_t, uint32_t>, uint32_t> sorted;
    std::span<const uint32_t> rows = compositions();
    for (size_t i = 0; i < rows.size(); i += 3)
      sorted[{rows[i], rows[i + 1]}] = rows[i + 2];
    ByteWriter &out = tables.add(TableKind::Compositions);
    out.u32(uint32_t(sorted.size()));
    for (const auto &[pair, composed] : sorted) {
      out.u32(pair.first);
      out.u32(pair.second);
      out.u32(composed);
    }
  } else {
    Images images;
    if (name == "Lowercase") {
      addRows(images, lowercaseMap());
    } else if (name == "StripAccents") {
      addRows(images, stripAccentsMap());
    } else if (name == "BertAccents") {
      addRows(images, bertAccentsMap());
    } else if (name == "Nmt") {
      addRows(images, nmtMap());
    } else {
      addRows(images, canonicalDecompositions());
      if (name == "Compatible")
        addRows(images, compatibleDecompositions());
    }
    writeCharMap(tables.add(TableKind::CharMap), images);
  }
  return entry->second;
}

/// The sections of the model: which exist says of what kind it is.
static std::vector<std::pair<BlobSection, std::string>> modelSections(const BlobContents &blob) {
  ByteWriter model;
  if (blob.isWordPiece) {
    model.u32(blob.unknown);
    model.u32(blob.maxWordCharacters);
    model.string(blob.continuingPrefix);
    return {{BlobSection::WordPiece, model.data()}};
  }
  model.u8(blob.modelFlags);
  model.u32(blob.unknown);
  if (blob.isUnigram) {
    model.u32(uint32_t(blob.scores.size()));
    for (double score : blob.scores)
      model.number(std::bit_cast<uint64_t>(score), 8);
    return {{BlobSection::Unigram, model.data()}};
  }
  model.string(blob.continuingPrefix);
  model.string(blob.wordSuffix);
  return {{BlobSection::Model, model.data()}, {BlobSection::Merges, mergesSection(blob)}};
}

std::vector<std::byte> BlobContents::serialize() {
  ByteWriter post;
  for (const auto *ids : {&before, &after}) {
    post.u32(uint32_t(ids->size()));
    for (uint32_t id : *ids)
      post.u32(id);
  }
  std::string addedBytes = addedSection(*this); // first: it may add sets
  std::vector<std::pair<BlobSection, std::string>> sections = {
      {BlobSection::Vocabulary, vocabularySection(vocabulary)},
      {BlobSection::Added, addedBytes},
      {BlobSection::Sets, setsSection(sets.sets())},
      {BlobSection::Patterns, patternsSection(patterns)},
      {BlobSection::Tables, steps(tables)},
      {BlobSection::Normalizer, steps(normalizer)},
      {BlobSection::PreTokenizer, steps(preTokenizer)},
      {BlobSection::PostProcessor, post.data()},
      {BlobSection::Decoder, steps(decoder)},
  };
  for (auto &section : modelSections(*this))
    sections.push_back(std::move(section));
  if (!pair.empty()) {
    ByteWriter pairs;
    pairs.u32(uint32_t(pair.size()));
    for (const PairToken &token : pair) {
      pairs.u8(uint8_t(token.part));
      pairs.u8(token.type);
      pairs.u32(token.id);
    }
    sections.emplace_back(BlobSection::Pair, pairs.data());
  }
  ByteWriter out;
  out.u32(tokenizerBlobMagic);
  out.u32(tokenizerBlobVersion);
  out.u32(uint32_t(sections.size()));
  size_t offset = 12 + 12 * sections.size();
  for (const auto &[kind, bytes] : sections) {
    out.u32(uint32_t(kind));
    out.u32(uint32_t(offset));
    out.u32(uint32_t(bytes.size()));
    offset += bytes.size();
  }
  for (const auto &[kind, bytes] : sections)
    out.raw(bytes);
  std::vector<std::byte> result(out.data().size());
  std::memcpy(result.data(), out.data().data(), result.size());
  return result;
}

} // namespace smelt
