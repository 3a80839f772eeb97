// The decoder chain.
#include "runtime/tokenizer/decoder.h"

#include "runtime/tokenizer/pre_tokenizer.h"

namespace smelt {

Result<DecoderChain> DecoderChain::read(ByteReader &reader, const std::vector<Pattern> &patterns) {
  DecoderChain chain;
  uint32_t count = reader.count(1);
  bool fused = false, byteSteps = false;
  for (uint32_t i = 0; i < count; ++i) {
    Step step;
    step.kind = DecoderStep(reader.u8());
    step.fused = fused;
    bool holdsBytes = step.kind == DecoderStep::ByteLevel || step.kind == DecoderStep::ByteFallback;
    if (holdsBytes && byteSteps)
      return corrupt("two steps of the decoder turn tokens into bytes, expected at most one");
    byteSteps |= holdsBytes;
    switch (step.kind) {
    case DecoderStep::ByteLevel:
    case DecoderStep::Fuse:
      fused = true;
      break;
    case DecoderStep::ByteFallback:
    case DecoderStep::JoinSpaces:
      break;
    case DecoderStep::Strip:
      step.character = reader.u32();
      step.start = reader.u32();
      step.stop = reader.u32();
      break;
    case DecoderStep::Replace: {
      uint32_t pattern = reader.u32();
      if (pattern >= patterns.size())
        return corrupt("the decoder names a pattern that does not exist");
      step.pattern = &patterns[pattern];
      step.content = reader.string();
      break;
    }
    case DecoderStep::Metaspace:
      step.content = reader.string();
      step.dropFirst = reader.u8() != 0;
      break;
    case DecoderStep::WordPiece:
      step.content = reader.string();
      step.tidy = reader.u8() != 0;
      break;
    default:
      return corrupt("unknown decoder step " + std::to_string(int(step.kind)));
    }
    if (!isValidUtf8(step.content))
      return corrupt("the text of a decoder step is not UTF-8");
    if (step.fused && step.kind != DecoderStep::Fuse &&
        (step.kind != DecoderStep::Strip || step.stop != 0))
      return corrupt("decoder step " + std::to_string(int(step.kind)) +
                     " can not run on fused text piece by piece");
    chain.steps.push_back(step);
  }
  SMELT_TRY(reader.finish("the decoder section"));
  return chain;
}

void DecoderChain::push(std::string_view token, State &state, std::string &out) const {
  state.seen.resize(steps.size());
  state.stripped.resize(steps.size());
  feed(0, std::string(token), state, out);
}

void DecoderChain::finish(State &state, std::string &out) const {
  state.seen.resize(steps.size());
  state.stripped.resize(steps.size());
  for (size_t i = 0; i < steps.size(); ++i) {
    if (steps[i].kind == DecoderStep::ByteLevel)
      feedBytes(i, true, state, out);
    else if (steps[i].kind == DecoderStep::ByteFallback)
      flushFallback(i, state, out);
  }
}

std::string DecoderChain::stripToken(const Step &step, std::string_view text) {
  std::string character;
  appendUtf8(character, step.character);
  for (uint32_t i = 0; i < step.start && text.starts_with(character); ++i)
    text.remove_prefix(character.size());
  for (uint32_t i = 0; i < step.stop && text.ends_with(character); ++i)
    text.remove_suffix(character.size());
  return std::string(text);
}

/// Strips at the start of a text that comes in parts.
std::string DecoderChain::stripStart(const Step &step, std::string_view text, uint32_t &done) {
  std::string character;
  appendUtf8(character, step.character);
  while (done < step.start && text.starts_with(character)) {
    text.remove_prefix(character.size());
    ++done;
  }
  if (!text.empty())
    done = blobNone;
  return std::string(text);
}

namespace {

std::string replaceContent(std::string_view text, std::string_view from, bool drop) {
  std::string result;
  while (!text.empty()) {
    if (!from.empty() && text.starts_with(from)) {
      if (!drop)
        result += ' ';
      text.remove_prefix(from.size());
    } else {
      result += text[0];
      text.remove_prefix(1);
    }
  }
  return result;
}

/// The byte that a token "<0xNN>" stands for, or -1.
int fallbackByte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>')
    return -1;
  int value = 0;
  for (char c : token.substr(3, 2)) {
    int digit = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
    if (digit < 0)
      return -1;
    value = value * 16 + digit;
  }
  return value;
}

} // namespace

/// A token that continues a word joins it, any other one starts a new word.
std::string DecoderChain::joinWordPiece(const Step &step, std::string text, bool first) {
  if (!first && !step.content.empty() && text.starts_with(step.content))
    text.erase(0, step.content.size());
  else if (!first)
    text.insert(0, " ");
  if (!step.tidy)
    return text;
  static constexpr std::pair<std::string_view, std::string_view> contractions[] = {
      {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto &[from, to] : contractions)
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
      text.replace(at, from.size(), to);
  return text;
}

void DecoderChain::feed(size_t index, std::string text, State &state, std::string &out) const {
  for (; index < steps.size(); ++index) {
    const Step &step = steps[index];
    uint64_t nth = state.seen[index]++;
    switch (step.kind) {
    case DecoderStep::ByteLevel: {
      // A token with a character outside the byte alphabet stands for its own UTF-8, all of it.
      size_t before = state.bytes.size();
      for (size_t at = 0; at < text.size();) {
        int byte = charToByte(nextChar(text, at));
        if (byte < 0) {
          state.bytes.resize(before);
          state.bytes += text;
          break;
        }
        state.bytes += char(byte);
      }
      return feedBytes(index, false, state, out);
    }
    case DecoderStep::ByteFallback:
      if (int byte = fallbackByte(text); byte >= 0) {
        state.bytes += char(byte);
        if (state.eager && isValidUtf8(state.bytes))
          flushFallback(index, state, out);
        return;
      }
      flushFallback(index, state, out);
      break;
    case DecoderStep::Fuse:
      break;
    case DecoderStep::Strip:
      text = step.fused ? stripStart(step, text, state.stripped[index]) : stripToken(step, text);
      break;
    case DecoderStep::Replace: {
      std::vector<TextRange> matches;
      if (step.pattern->findAll(text, matches).ok()) // a token too hard to search keeps its text
        text = replaceRanges(text, matches, step.content);
      break;
    }
    case DecoderStep::Metaspace:
      text = replaceContent(text, step.content, nth == 0 && step.dropFirst);
      break;
    case DecoderStep::JoinSpaces:
      if (nth > 0)
        text.insert(0, " ");
      break;
    case DecoderStep::WordPiece:
      text = joinWordPiece(step, std::move(text), nth == 0);
      break;
    }
  }
  out += text;
}

/// Passes on the bytes whose meaning is settled.
void DecoderChain::feedBytes(size_t index, bool atEnd, State &state, std::string &out) const {
  std::string text;
  std::string_view bytes = state.bytes;
  while (!bytes.empty()) {
    Utf8Prefix prefix = classifyUtf8(bytes);
    if (prefix.kind == Utf8Prefix::Incomplete && !atEnd)
      break;
    if (prefix.kind == Utf8Prefix::Valid)
      text += bytes.substr(0, prefix.bytes);
    else
      appendUtf8(text, replacementCharacter);
    bytes.remove_prefix(prefix.bytes);
  }
  state.bytes.erase(0, state.bytes.size() - bytes.size());
  if (!text.empty())
    feed(index + 1, std::move(text), state, out);
}

/// Passes on a run of byte tokens: its text, or one U+FFFD per byte when it is not valid as a
/// whole.
void DecoderChain::flushFallback(size_t index, State &state, std::string &out) const {
  if (state.bytes.empty())
    return;
  std::string bytes = std::move(state.bytes);
  state.bytes.clear();
  if (isValidUtf8(bytes))
    return feed(index + 1, std::move(bytes), state, out);
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string text;
    appendUtf8(text, replacementCharacter);
    feed(index + 1, std::move(text), state, out);
  }
}

} // namespace smelt
