// Opens the tokenizer blob and runs its steps in order.
#include "runtime/tokenizer/tokenizer.h"

#include "runtime/tokenizer/added_tokens.h"
#include "runtime/tokenizer/bpe.h"
#include "runtime/tokenizer/decoder.h"
#include "runtime/tokenizer/normalizer.h"
#include "runtime/tokenizer/pre_tokenizer.h"

#include <deque>

namespace smelt {

struct Tokenizer::Parts {
  std::vector<CharSet> sets;
  std::vector<Pattern> patterns;
  UnicodeTables tables;
  Vocabulary vocabulary;
  Normalizer normalizer;
  AddedTokens added;
  PreTokenizer preTokenizer;
  Bpe bpe;
  DecoderChain decoder;
  std::vector<int32_t> before, after; ///< ids around a text when special tokens are added

  Status encodeText(std::string_view text, bool atStart, Bpe::Scratch &scratch,
                    std::deque<std::string> &arena, std::vector<int32_t> &ids) const;
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

private:
  std::array<std::span<const std::byte>, 12> parts;
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
  ByteReader modelReader = sections[BlobSection::Model],
             mergeReader = sections[BlobSection::Merges];
  SMELT_ASSIGN(parts->bpe, Bpe::read(modelReader, mergeReader, parts->vocabulary,
                                     parts->preTokenizer.yieldsBytes()));
  ByteReader postReader = sections[BlobSection::PostProcessor];
  SMELT_TRY(readIds(postReader, parts->vocabulary.size(), parts->before));
  SMELT_TRY(readIds(postReader, parts->vocabulary.size(), parts->after));
  SMELT_TRY(postReader.finish("the post-processor section"));
  ByteReader decoderReader = sections[BlobSection::Decoder];
  SMELT_ASSIGN(parts->decoder, DecoderChain::read(decoderReader, parts->patterns));
  return Tokenizer(std::move(parts));
}

/// Encodes a stretch of normalized text without added tokens.
Status Tokenizer::Parts::encodeText(std::string_view text, bool atStart, Bpe::Scratch &scratch,
                                    std::deque<std::string> &arena,
                                    std::vector<int32_t> &ids) const {
  std::vector<TextPiece> pieces;
  if (!text.empty())
    pieces.push_back({text, atStart});
  SMELT_TRY(preTokenizer.apply(pieces, arena));
  for (const TextPiece &piece : pieces)
    bpe.encode(piece.text, scratch, ids);
  return {};
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  std::deque<std::string>
      arena; // holds whatever text the steps make, for as long as pieces view it
  if (!isValidUtf8(text)) {
    arena.push_back(toValidUtf8(text));
    text = arena.back();
  }
  std::vector<int32_t> ids;
  if (options.addSpecial)
    ids = parts->before;
  Bpe::Scratch scratch;
  std::vector<AddedTokens::Segment> outer, inner;
  parts->added.split(text, false, options.parseSpecial, outer);
  for (const AddedTokens::Segment &segment : outer) {
    if (segment.id >= 0) {
      ids.push_back(segment.id);
      continue;
    }
    std::string_view part =
        text.substr(segment.range.begin, segment.range.end - segment.range.begin);
    bool atStart = segment.range.begin == 0;
    if (!parts->normalizer.empty()) {
      SMELT_ASSIGN(Normalizer::Output normalized, parts->normalizer.apply(std::string(part)));
      arena.push_back(std::move(normalized.text));
      part = arena.back();
      atStart &= normalized.startKept;
    }
    inner.clear();
    parts->added.split(part, true, options.parseSpecial, inner);
    for (const AddedTokens::Segment &piece : inner) {
      if (piece.id >= 0)
        ids.push_back(piece.id);
      else
        SMELT_TRY(
            parts->encodeText(part.substr(piece.range.begin, piece.range.end - piece.range.begin),
                              atStart && piece.range.begin == 0, scratch, arena, ids));
    }
  }
  if (options.addSpecial)
    ids.insert(ids.end(), parts->after.begin(), parts->after.end());
  return ids;
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
