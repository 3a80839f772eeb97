// A backtracking matcher for compiled regular expressions.
#include "runtime/tokenizer/pattern.h"

#include <string>

namespace smelt {

Result<Pattern> Pattern::read(ByteReader &reader, const std::vector<CharSet> &sets) {
  Pattern pattern;
  pattern.sets = &sets;
  uint32_t count = reader.count(14);
  pattern.code.resize(count);
  for (Instruction &i : pattern.code) {
    i.op = PatternOp(reader.u8());
    i.flag = reader.u8();
    i.a = reader.u32();
    i.b = reader.u32();
    i.c = reader.u32();
  }
  if (reader.failed())
    return corrupt("a pattern is cut short");
  SMELT_TRY(pattern.check(sets.size()));
  return pattern;
}

Status Pattern::check(size_t setCount) const {
  auto bad = [&](size_t at, const char *what) {
    return corrupt("instruction " + std::to_string(at) + " of a pattern has " + what);
  };
  if (code.empty() || code.back().op != PatternOp::Match)
    return corrupt("a pattern does not end with its match instruction");
  for (size_t at = 0; at < code.size(); ++at) {
    const Instruction &i = code[at];
    switch (i.op) {
    case PatternOp::Set:
    case PatternOp::Loop:
    case PatternOp::Behind:
    case PatternOp::Boundary:
      if (i.a >= setCount)
        return bad(at, "a set that does not exist");
      if (i.op == PatternOp::Loop && (i.b > i.c || i.flag > loopPossessive))
        return bad(at, "a loop with false bounds");
      break;
    case PatternOp::Fork:
      if (i.b >= code.size())
        return bad(at, "a target outside the pattern");
      [[fallthrough]];
    case PatternOp::Jump:
    case PatternOp::Ahead:
    case PatternOp::Atomic:
      if (i.a >= code.size())
        return bad(at, "a target outside the pattern");
      break;
    case PatternOp::Match:
    case PatternOp::TextStart:
    case PatternOp::TextEnd:
    case PatternOp::LineStart:
    case PatternOp::LineEnd:
      break;
    default:
      return bad(at, "an unknown operation");
    }
  }
  return {};
}

/// One search over one text: the backtrack stack and what is left of the budget.
class Pattern::Matcher {
public:
  Matcher(const Pattern &pattern, std::string_view text)
      : code(pattern.code), sets(*pattern.sets), text(text),
        budget(uint64_t(text.size()) * 2000 + 100000) {}

  static constexpr size_t noMatch = ~size_t(0);

  /// The end of the match of the program at `pc` from byte `at`, or noMatch.
  size_t run(uint32_t pc, size_t at, unsigned depth);
  bool exhausted() const { return spent; }

private:
  /// A place to resume at. A greedy loop keeps one entry for all its shorter matches: low..at,
  /// walked backwards.
  struct Choice {
    uint32_t pc;
    size_t at;
    size_t low;
  };
  static constexpr unsigned maxDepth = 64;       // of nested look-arounds
  static constexpr size_t maxChoices = 4u << 20; // stack entries, 24 bytes each

  bool inSet(uint32_t set, size_t at) const {
    return at < text.size() && sets[set].contains(nextChar(text, at));
  }
  bool inSetBefore(uint32_t set, size_t at) const {
    return at > 0 && inSet(set, previousChar(text, at));
  }
  bool pay(uint64_t steps) {
    if (budget < steps)
      spent = true;
    else
      budget -= steps;
    return !spent;
  }
  bool loop(const Instruction &i, uint32_t pc, size_t &at);
  bool resume(size_t base, uint32_t &pc, size_t &at);

  const std::vector<Instruction> &code;
  const std::vector<CharSet> &sets;
  std::string_view text;
  uint64_t budget;
  bool spent = false;
  std::vector<Choice> choices;
};

/// Runs a loop of one set: moves `at` and notes the other counts that would do.
bool Pattern::Matcher::loop(const Instruction &i, uint32_t pc, size_t &at) {
  const CharSet &set = sets[i.a];
  uint32_t wanted = i.flag == loopLazy ? i.b : i.c;
  uint32_t count = 0;
  size_t low = at, start = at;
  while (count < wanted && at < text.size()) {
    size_t next = at;
    if (!set.contains(nextChar(text, next)))
      break;
    at = next;
    if (++count == i.b)
      low = at;
  }
  if (!pay(at - start) || count < i.b)
    return false;
  if (i.flag == loopGreedy && at > low)
    choices.push_back({pc + 1, at, low});
  // A lazy loop that fails later takes one more; low above at marks it, its difference counts the
  // characters taken.
  if (i.flag == loopLazy && count < i.c)
    choices.push_back({pc, at, at + 1 + count});
  return true;
}

/// Takes the newest alternative above `base`; false when there is none.
bool Pattern::Matcher::resume(size_t base, uint32_t &pc, size_t &at) {
  while (choices.size() > base) {
    Choice &choice = choices.back();
    if (choice.low == noMatch) { // an alternative of a fork
      pc = choice.pc, at = choice.at;
      choices.pop_back();
      return true;
    }
    if (choice.low <= choice.at) { // a greedy loop gives one character back
      choice.at = previousChar(text, choice.at);
      pc = choice.pc, at = choice.at;
      if (choice.at <= choice.low)
        choices.pop_back();
      return true;
    }
    // A lazy loop takes one more character.
    const Instruction &i = code[choice.pc];
    uint32_t count = uint32_t(choice.low - choice.at - 1) + 1;
    uint32_t loopPc = choice.pc;
    at = choice.at;
    choices.pop_back();
    if (!inSet(i.a, at))
      continue;
    nextChar(text, at);
    if (count < i.c)
      choices.push_back({loopPc, at, at + 1 + count});
    pc = loopPc + 1;
    return true;
  }
  return false;
}

size_t Pattern::Matcher::run(uint32_t pc, size_t at, unsigned depth) {
  if (depth > maxDepth) {
    spent = true;
    return noMatch;
  }
  size_t base = choices.size();
  while (pay(1) && choices.size() < maxChoices) {
    const Instruction &i = code[pc];
    bool matched = true;
    switch (i.op) {
    case PatternOp::Match:
      choices.resize(base);
      return at;
    case PatternOp::Set:
      matched = inSet(i.a, at);
      if (matched)
        nextChar(text, at);
      break;
    case PatternOp::Loop:
      matched = loop(i, pc, at);
      break;
    case PatternOp::Fork:
      choices.push_back({i.b, at, noMatch});
      pc = i.a;
      continue;
    case PatternOp::Jump:
      pc = i.a;
      continue;
    case PatternOp::Ahead:
    case PatternOp::Atomic: {
      size_t end = run(pc + 1, at, depth + 1);
      if (spent)
        return noMatch;
      matched = (end != noMatch) != (i.op == PatternOp::Ahead && i.flag != 0);
      if (matched) {
        if (i.op == PatternOp::Atomic)
          at = end;
        pc = i.a;
        continue;
      }
      break;
    }
    case PatternOp::Behind:
      matched = inSetBefore(i.a, at) != (i.flag != 0);
      break;
    case PatternOp::TextStart:
      matched = at == 0;
      break;
    case PatternOp::TextEnd:
      matched = at == text.size();
      break;
    case PatternOp::LineStart:
      matched = at == 0 || (text[at - 1] == '\n' && at < text.size());
      break;
    case PatternOp::LineEnd:
      matched = at == text.size() || text[at] == '\n';
      break;
    case PatternOp::Boundary:
      matched = (inSetBefore(i.a, at) != inSet(i.a, at)) != (i.flag != 0);
      break;
    }
    if (matched)
      ++pc;
    else if (!resume(base, pc, at))
      return noMatch;
  }
  spent = true;
  return noMatch;
}

Status Pattern::findAll(std::string_view text, std::vector<TextRange> &out) const {
  Matcher matcher(*this, text);
  for (size_t at = 0; at < text.size();) {
    size_t end = matcher.run(0, at, 0);
    if (matcher.exhausted())
      return exhausted("a pattern of the tokenizer needs too many steps on a text of " +
                       std::to_string(text.size()) + " bytes");
    if (end != Matcher::noMatch && end > at) {
      out.push_back({at, end});
      at = end;
    } else {
      nextChar(text, at);
    }
  }
  return {};
}

std::string replaceRanges(std::string_view text, const std::vector<TextRange> &ranges,
                          std::string_view content) {
  std::string out;
  size_t done = 0;
  for (const TextRange &range : ranges) {
    out += text.substr(done, range.begin - done);
    out += content;
    done = range.end;
  }
  return out += text.substr(done);
}

} // namespace smelt
