// Writes the tiny blob.
#include "tiny_blob.h"

#include "runtime/tokenizer/pre_tokenizer.h"
#include "runtime/tokenizer/unicode.h"

#include <cstring>

namespace smelt {

namespace {

struct Writer {
  std::string out;
  Writer &u8(unsigned value) { return number(value, 1); }
  Writer &u16(unsigned value) { return number(value, 2); }
  Writer &u32(uint64_t value) { return number(value, 4); }
  Writer &number(uint64_t value, unsigned width) {
    TinyBlob::number(out, value, width);
    return *this;
  }
  Writer &instruction(PatternOp op, uint8_t flag, uint32_t a, uint32_t b, uint32_t c) {
    return u8(unsigned(op)).u8(flag).u32(a).u32(b).u32(c);
  }
};

std::string vocabularySection() {
  std::vector<std::string> tokens = {"<s>", "<e>", "<tag>", "<unk>"};
  for (int byte = 0; byte < 256; ++byte) {
    tokens.emplace_back();
    appendUtf8(tokens.back(), byteToChar(uint8_t(byte)));
  }
  tokens.insert(tokens.end(), {"th", "the", "\u0120the", "\u00C3\u00A9"});
  Writer writer;
  writer.u32(tokens.size());
  for (const std::string &token : tokens)
    writer.u16(unsigned(token.size()));
  for (const std::string &token : tokens)
    writer.out += token;
  return writer.out;
}

} // namespace

void TinyBlob::number(std::string &out, uint64_t value, unsigned width) {
  for (unsigned i = 0; i < width; ++i)
    out += char(value >> (8 * i));
}

TinyBlob::TinyBlob() {
  auto id = [](char byte) { return uint32_t(4 + uint8_t(byte)); };
  sections[BlobSection::Vocabulary] = vocabularySection();
  sections[BlobSection::Model] = Writer().u8(0).u32(blobNone).u16(0).u16(0).out;
  Writer merges;
  merges.u8(2).u32(4);
  const uint32_t triples[][3] = {
      {id('t'), id('h'), 260}, {260, id('e'), 261}, {id(' '), 261, 262}, {4 + 0xC3, 4 + 0xA9, 263}};
  for (const auto &triple : triples)
    for (uint32_t token : triple)
      merges.u16(token);
  sections[BlobSection::Merges] = merges.out;
  Writer added;
  added.u32(1).u32(blobNone).u32(3);
  added.u32(0).u8(addedSpecial).u32(1).u8(addedSpecial).u32(2).u8(addedRightStrip);
  sections[BlobSection::Added] = added.out;
  // Set 0: letters of ASCII, Latin-1 and one high range; 1: white space; 2: a space; 3: everything.
  Writer sets;
  sets.u32(4);
  sets.u32(4).u32('A').u32('Z').u32('a').u32('z').u32(0xC0).u32(0xFF).u32(0x1F600).u32(0x1F64F);
  sets.u32(2).u32(9).u32(13).u32(32).u32(32);
  sets.u32(1).u32(32).u32(32);
  sets.u32(1).u32(0).u32(0x10FFFF);
  sections[BlobSection::Sets] = sets.out;
  Writer patterns; // ` ?[letters]+|.`
  patterns.u32(1).u32(6);
  patterns.instruction(PatternOp::Fork, 0, 1, 4, 0);
  patterns.instruction(PatternOp::Loop, loopGreedy, 2, 0, 1);
  patterns.instruction(PatternOp::Loop, loopGreedy, 0, 1, blobNone);
  patterns.instruction(PatternOp::Jump, 0, 5, 0, 0);
  patterns.instruction(PatternOp::Set, 0, 3, 0, 0);
  patterns.instruction(PatternOp::Match, 0, 0, 0, 0);
  sections[BlobSection::Patterns] = patterns.out;
  sections[BlobSection::Tables] = Writer().u32(0).out;
  sections[BlobSection::Normalizer] = Writer().u32(0).out;
  sections[BlobSection::PreTokenizer] = Writer()
                                            .u32(2)
                                            .u8(unsigned(PreTokenizerStep::Split))
                                            .u32(0)
                                            .u8(0)
                                            .u8(0)
                                            .u8(unsigned(PreTokenizerStep::ByteMap))
                                            .out;
  sections[BlobSection::PostProcessor] = Writer().u32(1).u32(0).u32(0).out;
  sections[BlobSection::Decoder] = Writer().u32(1).u8(unsigned(DecoderStep::ByteLevel)).out;
}

std::vector<std::byte> TinyBlob::bytes() const {
  Writer writer;
  writer.u32(tokenizerBlobMagic).u32(version).u32(sections.size());
  size_t offset = 12 + 12 * sections.size();
  for (const auto &[kind, content] : sections) {
    writer.u32(uint32_t(kind)).u32(offset).u32(content.size());
    offset += content.size();
  }
  for (const auto &[kind, content] : sections)
    writer.out += content;
  std::vector<std::byte> result(writer.out.size());
  std::memcpy(result.data(), writer.out.data(), result.size());
  return result;
}

} // namespace smelt
