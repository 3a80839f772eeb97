// Pre-tokenization steps.
#include "runtime/tokenizer/pre_tokenizer.h"

#include <array>

namespace smelt {

namespace {

/// The two directions of GPT-2's byte alphabet.
struct ByteAlphabet {
  std::array<uint16_t, 256> charOf;
  std::array<int16_t, 512> byteOf;

  constexpr ByteAlphabet() : charOf(), byteOf() {
    for (int16_t &byte : byteOf)
      byte = -1;
    uint16_t next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      uint16_t c = printable ? uint16_t(byte) : next++;
      charOf[byte] = c;
      byteOf[c] = int16_t(byte);
    }
  }
};
constexpr ByteAlphabet alphabet;

} // namespace

uint32_t byteToChar(uint8_t byte) { return alphabet.charOf[byte]; }
int charToByte(uint32_t c) { return c < 512 ? alphabet.byteOf[c] : -1; }

Result<PreTokenizer> PreTokenizer::read(ByteReader &reader, const std::vector<Pattern> &patterns) {
  PreTokenizer result;
  uint32_t count = reader.count(1);
  for (uint32_t i = 0; i < count; ++i) {
    Step step;
    step.kind = PreTokenizerStep(reader.u8());
    switch (step.kind) {
    case PreTokenizerStep::Split: {
      uint32_t pattern = reader.u32();
      step.behavior = SplitBehavior(reader.u8());
      step.invert = reader.u8() != 0;
      if (pattern >= patterns.size() || step.behavior > SplitBehavior::Contiguous)
        return corrupt("a pre-tokenizer splits by a pattern or behaviour that does not exist");
      step.pattern = &patterns[pattern];
      break;
    }
    case PreTokenizerStep::ByteMap:
    case PreTokenizerStep::PrefixSpace:
      break;
    case PreTokenizerStep::Metaspace:
      step.replacement = reader.string();
      step.scheme = PrependScheme(reader.u8());
      if (step.scheme > PrependScheme::Always || !isValidUtf8(step.replacement))
        return corrupt("a meta space step has false operands");
      break;
    default:
      return corrupt("unknown pre-tokenizer step " + std::to_string(int(step.kind)));
    }
    result.steps.push_back(step);
  }
  SMELT_TRY(reader.finish("the pre-tokenizer section"));
  if (!result.steps.empty() && result.steps.back().kind == PreTokenizerStep::ByteMap) {
    result.steps.pop_back();
    result.lastMapsBytes = true;
  }
  return result;
}

namespace {

struct Span {
  TextRange range;
  bool match;
};

/// Matches and the gaps between them, covering all of a text of `size` bytes.
void cover(const std::vector<TextRange> &matches, size_t size, bool invert,
           std::vector<Span> &out) {
  out.clear();
  size_t done = 0;
  for (const TextRange &match : matches) {
    if (match.begin > done)
      out.push_back({{done, match.begin}, invert});
    out.push_back({match, !invert});
    done = match.end;
  }
  if (done < size)
    out.push_back({{done, size}, invert});
}

/// Applies a behaviour of Hugging Face's `Split` to the spans of one piece.
void merge(SplitBehavior behavior, const std::vector<Span> &spans, std::vector<TextRange> &out) {
  out.clear();
  bool previousMatch = false;
  switch (behavior) {
  case SplitBehavior::Isolated:
    for (const Span &span : spans)
      out.push_back(span.range);
    break;
  case SplitBehavior::Removed:
    for (const Span &span : spans)
      if (!span.match)
        out.push_back(span.range);
    break;
  case SplitBehavior::Contiguous:
    for (const Span &span : spans) {
      if (span.match == previousMatch && !out.empty())
        out.back().end = span.range.end;
      else
        out.push_back(span.range);
      previousMatch = span.match;
    }
    break;
  case SplitBehavior::MergedWithPrevious:
    for (const Span &span : spans) {
      if (span.match && !previousMatch && !out.empty())
        out.back().end = span.range.end;
      else
        out.push_back(span.range);
      previousMatch = span.match;
    }
    break;
  case SplitBehavior::MergedWithNext:
    for (auto span = spans.rbegin(); span != spans.rend(); ++span) {
      if (span->match && !previousMatch && !out.empty())
        out.back().begin = span->range.begin;
      else
        out.push_back(span->range);
      previousMatch = span->match;
    }
    for (size_t i = 0, j = out.size(); i + 1 < j; ++i)
      std::swap(out[i], out[--j]);
    break;
  }
}

std::string mapBytes(std::string_view text) {
  std::string out;
  out.reserve(text.size() * 2);
  for (char byte : text)
    appendUtf8(out, byteToChar(uint8_t(byte)));
  return out;
}

std::string metaspace(const TextPiece &piece, std::string_view replacement, PrependScheme scheme) {
  std::string out;
  for (char c : piece.text) {
    if (c == ' ')
      out += replacement;
    else
      out += c;
  }
  bool wanted =
      scheme == PrependScheme::Always || (scheme == PrependScheme::First && piece.atStart);
  if (wanted && !out.starts_with(replacement))
    out.insert(0, replacement);
  return out;
}

} // namespace

Status PreTokenizer::split(const Step &step, std::vector<TextPiece> &pieces) const {
  std::vector<TextPiece> cut;
  cut.reserve(pieces.size());
  std::vector<TextRange> matches, ranges;
  std::vector<Span> spans;
  for (const TextPiece &piece : pieces) {
    matches.clear();
    SMELT_TRY(step.pattern->findAll(piece.text, matches));
    cover(matches, piece.text.size(), step.invert, spans);
    merge(step.behavior, spans, ranges);
    for (const TextRange &range : ranges)
      cut.push_back({piece.text.substr(range.begin, range.end - range.begin),
                     piece.atStart && range.begin == 0});
  }
  pieces = std::move(cut);
  return {};
}

Status PreTokenizer::apply(std::vector<TextPiece> &pieces, std::deque<std::string> &arena) const {
  auto replace = [&](TextPiece &piece, std::string text) {
    arena.push_back(std::move(text));
    piece.text = arena.back();
  };
  for (const Step &step : steps) {
    if (step.kind == PreTokenizerStep::Split) {
      SMELT_TRY(split(step, pieces));
      continue;
    }
    for (TextPiece &piece : pieces) {
      if (step.kind == PreTokenizerStep::ByteMap)
        replace(piece, mapBytes(piece.text));
      else if (step.kind == PreTokenizerStep::Metaspace)
        replace(piece, metaspace(piece, step.replacement, step.scheme));
      else if (!piece.text.starts_with(' '))
        replace(piece, " " + std::string(piece.text));
    }
  }
  return {};
}

} // namespace smelt
