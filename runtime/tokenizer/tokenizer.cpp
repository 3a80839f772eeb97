// Opens the tokenizer blob and runs its steps in order.
#include "runtime/tokenizer/tokenizer.h"

#include "runtime/tokenizer/added_tokens.h"
#include "runtime/tokenizer/bpe.h"
#include "runtime/tokenizer/decoder.h"
#include "runtime/tokenizer/normalizer.h"
#include "runtime/tokenizer/pre_tokenizer.h"
#include "runtime/tokenizer/unigram.h"
#include "runtime/tokenizer/wordpiece.h"

#include <algorithm>
#include <deque>
#include <variant>

namespace smelt {

struct Tokenizer::Parts {
  std::vector<CharSet> sets;
  std::vector<Pattern> patterns;
  UnicodeTables tables;
  Vocabulary vocabulary;
  Normalizer normalizer;
  AddedTokens added;
  PreTokenizer preTokenizer;
  std::variant<Bpe, WordPiece, Unigram> model;
  DecoderChain decoder;
  std::vector<int32_t> before, after; ///< ids around a text when special tokens are added
  struct PairToken {
    PairPart part;
    uint8_t type;
    int32_t id; ///< of Special
  };
  std::vector<PairToken> pair;

  struct Scratch {
    Bpe::Scratch bpe;
    Unigram::Scratch unigram;
    std::deque<std::string> arena; ///< text the steps make, for as long as pieces view it
  };
  Status encodeText(std::string_view text, bool atStart, Scratch &scratch,
                    std::vector<int32_t> &ids) const;
  Result<std::vector<int32_t>> encode(std::string_view text, bool parseSpecial) const;
};

namespace {

/// The section directory of a blob.
class Sections {
public:
  static Result<Sections> read(std::span<const std::byte> blob) {
    ByteReader reader(blob);
    uint32_t magic = reader.u32(), version = reader.u32();
    if (reader.failed() || magic != tokenizerBlobMagic)
      return corrupt("the tokenizer section does not start with its magic number");
    if (version != tokenizerBlobVersion)
      return unsupported("the tokenizer section has version " + std::to_string(version) +
                         ", this build reads version " + std::to_string(tokenizerBlobVersion));
    Sections sections;
    uint32_t count = reader.count(12);
    for (uint32_t i = 0; i < count; ++i) {
      uint32_t kind = reader.u32(), offset = reader.u32(), bytes = reader.u32();
      if (offset > blob.size() || bytes > blob.size() - offset)
        return corrupt("part " + std::to_string(kind) +
                       " of the tokenizer section lies outside it");
      if (kind < sections.parts.size())
        sections.parts[kind] = blob.subspan(offset, bytes);
    }
    if (reader.failed())
      return corrupt("the directory of the tokenizer section is cut short");
    return sections;
  }

  /// A reader over a section; one that is absent reads as empty and so as cut short.
  ByteReader operator[](BlobSection section) const { return ByteReader(parts[size_t(section)]); }
  bool has(BlobSection section) const { return !parts[size_t(section)].empty(); }

private:
  std::array<std::span<const std::byte>, 15> parts;
};

Status readIds(ByteReader &reader, uint32_t vocabSize, std::vector<int32_t> &ids) {
  uint32_t count = reader.count(4);
  for (uint32_t i = 0; i < count; ++i) {
    uint32_t id = reader.u32();
    if (id >= vocabSize)
      return corrupt("the post-processor adds token " + std::to_string(id) +
                     ", which is outside the vocabulary");
    ids.push_back(int32_t(id));
  }
  return {};
}

Result<std::variant<Bpe, WordPiece, Unigram>> readModel(const Sections &sections,
                                                        const Vocabulary &vocabulary,
                                                        const AddedTokens &added, bool bytesIn) {
  if (sections.has(BlobSection::WordPiece)) {
    ByteReader reader = sections[BlobSection::WordPiece];
    SMELT_ASSIGN(WordPiece model, WordPiece::read(reader, vocabulary));
    return std::variant<Bpe, WordPiece, Unigram>(std::move(model));
  }
  if (sections.has(BlobSection::Unigram)) {
    ByteReader reader = sections[BlobSection::Unigram];
    SMELT_ASSIGN(Unigram model, Unigram::read(reader, vocabulary, added.outsideModel()));
    return std::variant<Bpe, WordPiece, Unigram>(std::move(model));
  }
  ByteReader reader = sections[BlobSection::Model], merges = sections[BlobSection::Merges];
  SMELT_ASSIGN(Bpe model, Bpe::read(reader, merges, vocabulary, bytesIn));
  return std::variant<Bpe, WordPiece, Unigram>(std::move(model));
}

} // namespace

Tokenizer::Tokenizer(std::unique_ptr<Parts> parts) : parts(std::move(parts)) {}
Tokenizer::Tokenizer(Tokenizer &&) noexcept = default;
Tokenizer &Tokenizer::operator=(Tokenizer &&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::open(std::span<const std::byte> blob) {
  SMELT_ASSIGN(Sections sections, Sections::read(blob));
  auto parts = std::make_unique<Parts>();

  ByteReader setReader = sections[BlobSection::Sets];
  for (uint32_t i = setReader.count(4); i > 0; --i) {
    SMELT_ASSIGN(CharSet set, CharSet::read(setReader));
    parts->sets.push_back(std::move(set));
    if (parts->sets.size() > 4096)
      return corrupt("more than 4096 character sets");
  }
  SMELT_TRY(setReader.finish("the section of character sets"));
  ByteReader patternReader = sections[BlobSection::Patterns];
  for (uint32_t i = patternReader.count(4); i > 0; --i) {
    SMELT_ASSIGN(Pattern pattern, Pattern::read(patternReader, parts->sets));
    parts->patterns.push_back(std::move(pattern));
  }
  SMELT_TRY(patternReader.finish("the section of patterns"));
  ByteReader tableReader = sections[BlobSection::Tables];
  SMELT_ASSIGN(parts->tables, UnicodeTables::read(tableReader));
  SMELT_TRY(tableReader.finish("the section of unicode tables"));

  ByteReader normalizerReader = sections[BlobSection::Normalizer];
  SMELT_ASSIGN(parts->normalizer,
               Normalizer::read(normalizerReader, parts->tables, parts->patterns, parts->sets));
  ByteReader vocabularyReader = sections[BlobSection::Vocabulary];
  SMELT_ASSIGN(parts->vocabulary, Vocabulary::read(vocabularyReader));
  ByteReader addedReader = sections[BlobSection::Added];
  SMELT_ASSIGN(parts->added,
               AddedTokens::read(addedReader, parts->vocabulary, parts->sets, parts->normalizer));
  SMELT_TRY(parts->vocabulary.index(parts->added.outsideModel()));
  ByteReader preReader = sections[BlobSection::PreTokenizer];
  SMELT_ASSIGN(parts->preTokenizer, PreTokenizer::read(preReader, parts->patterns));
  SMELT_ASSIGN(parts->model, readModel(sections, parts->vocabulary, parts->added,
                                       parts->preTokenizer.yieldsBytes()));
  if (parts->preTokenizer.yieldsBytes() && parts->model.index() != 0)
    return corrupt("the pre-tokenizer ends in bytes, which only byte pair encoding takes");
  ByteReader postReader = sections[BlobSection::PostProcessor];
  SMELT_TRY(readIds(postReader, parts->vocabulary.size(), parts->before));
  SMELT_TRY(readIds(postReader, parts->vocabulary.size(), parts->after));
  SMELT_TRY(postReader.finish("the post-processor section"));
  if (sections.has(BlobSection::Pair)) {
    ByteReader pairReader = sections[BlobSection::Pair];
    for (uint32_t i = pairReader.count(6); i > 0; --i) {
      PairPart part = PairPart(pairReader.u8());
      uint8_t type = pairReader.u8();
      uint32_t id = pairReader.u32();
      if (part > PairPart::Second || (part == PairPart::Special && id >= parts->vocabulary.size()))
        return corrupt("the template for two texts names a part or token that does not exist");
      parts->pair.push_back({part, type, int32_t(id)});
    }
    SMELT_TRY(pairReader.finish("the section of the template for two texts"));
  }
  ByteReader decoderReader = sections[BlobSection::Decoder];
  SMELT_ASSIGN(parts->decoder, DecoderChain::read(decoderReader, parts->patterns));
  return Tokenizer(std::move(parts));
}

/// Encodes a stretch of normalized text without added tokens.
Status Tokenizer::Parts::encodeText(std::string_view text, bool atStart, Scratch &scratch,
                                    std::vector<int32_t> &ids) const {
  std::vector<TextPiece> pieces;
  if (!text.empty())
    pieces.push_back({text, atStart});
  SMELT_TRY(preTokenizer.apply(pieces, scratch.arena));
  for (const TextPiece &piece : pieces)
    if (const Bpe *bpe = std::get_if<Bpe>(&model))
      bpe->encode(piece.text, scratch.bpe, ids);
    else if (const WordPiece *wordPiece = std::get_if<WordPiece>(&model))
      wordPiece->encode(piece.text, ids);
    else
      std::get<Unigram>(model).encode(piece.text, scratch.unigram, ids);
  return {};
}

/// The ids of a text without those that are put around it.
Result<std::vector<int32_t>> Tokenizer::Parts::encode(std::string_view text,
                                                      bool parseSpecial) const {
  Scratch scratch;
  std::deque<std::string> &arena = scratch.arena;
  if (!isValidUtf8(text)) {
    arena.push_back(toValidUtf8(text));
    text = arena.back();
  }
  std::vector<int32_t> ids;
  std::vector<AddedTokens::Segment> outer, inner;
  added.split(text, false, parseSpecial, outer);
  for (const AddedTokens::Segment &segment : outer) {
    if (segment.id >= 0) {
      ids.push_back(segment.id);
      continue;
    }
    std::string_view part =
        text.substr(segment.range.begin, segment.range.end - segment.range.begin);
    bool atStart = segment.range.begin == 0;
    if (!normalizer.empty()) {
      SMELT_ASSIGN(Normalizer::Output normalized, normalizer.apply(std::string(part)));
      arena.push_back(std::move(normalized.text));
      part = arena.back();
      atStart &= normalized.startKept;
    }
    inner.clear();
    added.split(part, true, parseSpecial, inner);
    for (const AddedTokens::Segment &piece : inner) {
      if (piece.id >= 0)
        ids.push_back(piece.id);
      else
        SMELT_TRY(encodeText(part.substr(piece.range.begin, piece.range.end - piece.range.begin),
                             atStart && piece.range.begin == 0, scratch, ids));
    }
  }
  return ids;
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  SMELT_ASSIGN(std::vector<int32_t> ids, parts->encode(text, options.parseSpecial));
  size_t around = options.addSpecial ? parts->before.size() + parts->after.size() : 0;
  if (ids.size() + around > options.maxTokens)
    ids.resize(options.maxTokens > around ? options.maxTokens - around : 0);
  if (options.addSpecial) {
    ids.insert(ids.begin(), parts->before.begin(), parts->before.end());
    ids.insert(ids.end(), parts->after.begin(), parts->after.end());
  }
  return ids;
}

bool Tokenizer::encodesPairs() const { return !parts->pair.empty(); }

Result<PairEncoding> Tokenizer::encodePair(std::string_view first, std::string_view second,
                                           EncodeOptions options) const {
  if (!encodesPairs())
    return unsupported("the tokenizer of this model does not say how two texts go together, "
                       "expected a template for a pair in its tokenizer.json");
  SMELT_ASSIGN(std::vector<int32_t> left, parts->encode(first, options.parseSpecial));
  SMELT_ASSIGN(std::vector<int32_t> right, parts->encode(second, options.parseSpecial));
  size_t special = 0;
  for (const Parts::PairToken &token : parts->pair)
    special += options.addSpecial && token.part == PairPart::Special;
  size_t room = options.maxTokens > special ? options.maxTokens - special : 0;
  if (left.size() + right.size() > room) { // the shorter text keeps at least half of the room
    bool leftIsShorter = left.size() <= right.size();
    size_t shorter = std::min({left.size(), right.size(), room / 2});
    (leftIsShorter ? left : right).resize(shorter);
    (leftIsShorter ? right : left).resize(room - shorter);
  }
  PairEncoding out;
  for (const Parts::PairToken &token : parts->pair) {
    if (token.part == PairPart::First)
      out.ids.insert(out.ids.end(), left.begin(), left.end());
    else if (token.part == PairPart::Second)
      out.ids.insert(out.ids.end(), right.begin(), right.end());
    else if (options.addSpecial)
      out.ids.push_back(token.id);
    out.types.resize(out.ids.size(), token.type);
  }
  return out;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skipSpecial) const {
  StreamDecoder decoder(*this, skipSpecial, /*eager=*/false);
  std::string text;
  for (int32_t id : ids)
    decoder.push(id, text);
  return text += decoder.finish();
}

uint32_t Tokenizer::vocabSize() const { return parts->vocabulary.size(); }
std::string_view Tokenizer::tokenText(int32_t id) const {
  return parts->vocabulary.text(uint32_t(id));
}
int32_t Tokenizer::findToken(std::string_view text) const {
  int32_t id = parts->added.find(text);
  return id >= 0 ? id : parts->vocabulary.find(text);
}
bool Tokenizer::isSpecial(int32_t id) const { return parts->added.isSpecial(uint32_t(id)); }

struct StreamDecoder::Progress {
  DecoderChain::State state;
};

StreamDecoder::StreamDecoder(const Tokenizer &tokenizer, bool skipSpecial, bool eager)
    : tokenizer(&tokenizer), skipSpecial(skipSpecial), progress(std::make_unique<Progress>()) {
  progress->state.eager = eager;
}
StreamDecoder::StreamDecoder(const Tokenizer &tokenizer, bool skipSpecial)
    : StreamDecoder(tokenizer, skipSpecial, /*eager=*/true) {}
StreamDecoder::StreamDecoder(StreamDecoder &&) noexcept = default;
StreamDecoder &StreamDecoder::operator=(StreamDecoder &&) noexcept = default;
StreamDecoder::~StreamDecoder() = default;

void StreamDecoder::push(int32_t id, std::string &out) {
  std::string_view token = tokenizer->tokenText(id);
  // As in Hugging Face tokenizers, what normalization has changed decodes changed and counts as
  // ordinary text.
  if (const std::string *normalized = tokenizer->parts->added.normalizedText(uint32_t(id)))
    token = *normalized;
  else if (skipSpecial && tokenizer->isSpecial(id))
    return;
  if (!token.empty())
    tokenizer->parts->decoder.push(token, progress->state, out);
}

std::string StreamDecoder::push(int32_t id) {
  std::string out;
  push(id, out);
  return out;
}

std::string StreamDecoder::finish() {
  std::string out;
  tokenizer->parts->decoder.finish(progress->state, out);
  bool eager = progress->state.eager;
  progress->state = {};
  progress->state.eager = eager;
  return out;
}

} // namespace smelt
