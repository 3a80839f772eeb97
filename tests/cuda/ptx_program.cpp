// Reads PTX text: declarations, labels and instructions, whose operands become places in a warp's
// registers.
#include "tests/cuda/ptx_program.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>

namespace smelt::ptx {

namespace {

constexpr uint32_t registerAlignment = 64;

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos)
    return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

/// Parts between commas outside of brackets.
std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> parts;
  int depth = 0;
  size_t start = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && (text[i] == '{' || text[i] == '['))
      ++depth;
    if (i < text.size() && (text[i] == '}' || text[i] == ']'))
      --depth;
    if (i == text.size() || (text[i] == ',' && depth == 0)) {
      if (std::string_view part = trimmed(text.substr(start, i - start)); !part.empty())
        parts.push_back(part);
      start = i + 1;
    }
  }
  return parts;
}

class Reader {
public:
  Reader(std::string_view text, Program &program) : text(text), program(program) {}

  bool read(std::string &error) {
    declareSpecials();
    bool isGood = lines() && resolve();
    if (isGood && (program.name.empty() || program.threads == 0))
      isGood = fail("there is no kernel with .maxntid");
    error = message;
    return isGood;
  }

private:
  std::string_view text;
  Program &program;
  std::string message;
  uint32_t line = 0;
  std::map<std::string, uint32_t> registers; ///< their places, with special ones and parameters
  std::map<std::string, uint32_t> shared;    ///< where variables lie
  std::map<std::string, uint32_t> labels;
  std::map<std::pair<uint64_t, int>, uint32_t> constants;
  std::vector<std::pair<size_t, std::string>> branches;

  bool fail(const std::string &what) {
    if (message.empty())
      message = "line " + std::to_string(line) + ": " + what;
    return false;
  }

  uint32_t reserve(int bytes) {
    const size_t place = program.registers.size();
    const size_t size = size_t(bytes) * warpLanes;
    program.registers.resize(place + (size + registerAlignment - 1) / registerAlignment *
                                         registerAlignment);
    return uint32_t(place);
  }

  void declareSpecials() {
    program.specials.thread = registers["%tid.x"] = reserve(4);
    const char *const names[] = {"%ctaid.x", "%ctaid.y", "%ctaid.z"};
    for (int i = 0; i < 3; ++i)
      program.specials.group[i] = registers[names[i]] = reserve(4);
  }

  bool lines() {
    std::string pending; // what goes on in the next line
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find('\n', at), text.size());
      std::string_view content = text.substr(at, end - at);
      at = end + 1;
      ++line;
      content = trimmed(content.substr(0, content.find("//")));
      if (content.empty())
        continue;
      const bool goesOn =
          (!pending.empty() || content.starts_with("mma.")) && content.back() != ';';
      if (goesOn || !pending.empty()) {
        pending += std::string(content) + " ";
        if (goesOn)
          continue;
        content = trimmed(pending);
      }
      const bool isGood = statement(content);
      pending.clear();
      if (!isGood)
        return false;
    }
    return true;
  }

  bool statement(std::string_view s) {
    if (s == "(" || s == ")" || s == "{" || s == "}")
      return true;
    if (s[0] == '$' && s.back() == ':') {
      labels[std::string(s.substr(0, s.size() - 1))] = uint32_t(program.code.size());
      return true;
    }
    return s[0] == '.' ? directive(s) : instruction(s);
  }

  static std::string_view lastWord(std::string_view s) {
    while (!s.empty() && (s.back() == ';' || s.back() == ',' || s.back() == '('))
      s.remove_suffix(1);
    return s.substr(s.find_last_of(" \t") + 1);
  }
  static uint32_t number(std::string_view s) {
    uint32_t value = 0;
    std::from_chars(s.data(), s.data() + s.size(), value);
    return value;
  }
  /// The number between two signs.
  static uint32_t between(std::string_view s, char open) {
    return number(s.substr(s.find(open) + 1));
  }

  bool directive(std::string_view s) {
    for (const char *known : {".version", ".address_size", ".minnctapersm"})
      if (s.starts_with(known))
        return true;
    if (s.starts_with(".target"))
      return s.substr(s.find("sm_")) <= "sm_80" ||
             fail("made for a newer device: " + std::string(s));
    if (s.starts_with(".visible .entry")) {
      if (!program.name.empty())
        return fail("a second kernel");
      program.name = lastWord(s);
      return true;
    }
    if (s.starts_with(".param .u64")) {
      const uint32_t place = registers[std::string(lastWord(s))] = reserve(8);
      program.specials.parameters.push_back(place);
      return true;
    }
    if (s.starts_with(".maxntid")) {
      program.threads = number(trimmed(s.substr(8)));
      return true;
    }
    if (s.starts_with(".reg")) {
      const int bytes = s.find(".pred") != s.npos  ? 1
                        : s.find(".b16") != s.npos ? 2
                        : s.find(".b32") != s.npos ? 4
                                                   : 8;
      const std::string prefix(s.substr(s.find('%'), s.find('<') - s.find('%')));
      for (uint32_t i = 0; i < between(s, '<'); ++i)
        registers[prefix + std::to_string(i)] = reserve(bytes);
      return true;
    }
    if (s.starts_with(".shared .align ") && s.find('[') != s.npos) {
      const std::string_view variable = lastWord(s);
      const uint32_t alignment = number(s.substr(15));
      uint32_t &end = program.sharedBytes;
      end = (end + alignment - 1) / alignment * alignment;
      shared[std::string(variable.substr(0, variable.find('[')))] = end;
      end += between(variable, '[');
      return true;
    }
    return fail("unknown directive " + std::string(s));
  }

  //===--- Operands

  uint32_t constant(uint64_t bits, int bytes) {
    auto [found, isNew] = constants.try_emplace({bits, bytes}, 0);
    if (isNew) {
      found->second = reserve(bytes);
      for (int lane = 0; lane < warpLanes; ++lane)
        std::memcpy(program.registers.data() + found->second + lane * bytes, &bits, size_t(bytes));
    }
    return found->second;
  }

  bool place(std::string_view s, int bytes, uint32_t &result) {
    if (auto found = registers.find(std::string(s)); found != registers.end()) {
      result = found->second;
      return true;
    }
    if (auto found = shared.find(std::string(s)); found != shared.end()) {
      result = constant(found->second, 8);
      return true;
    }
    const bool isNegative = s.starts_with('-');
    std::string_view digits = s.substr(isNegative);
    int base = 10;
    if (digits.starts_with("0f") || digits.starts_with("0x")) {
      base = 16;
      digits.remove_prefix(2);
    }
    if (digits.ends_with('U'))
      digits.remove_suffix(1);
    uint64_t value = 0;
    auto [end, failure] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    if (failure != std::errc() || end != digits.data() + digits.size())
      return fail("unknown operand " + std::string(s));
    // Of predicates any number but 0 is true.
    result = constant(bytes == 1 ? value != 0 : isNegative ? 0 - value : value, bytes);
    return true;
  }

  /// [register], [register+number] or [variable+number].
  bool address(std::string_view s, Instruction &in) {
    if (s.size() < 3 || s.front() != '[' || s.back() != ']')
      return fail("expected an address, found " + std::string(s));
    s = s.substr(1, s.size() - 2);
    const size_t plus = s.find('+');
    if (plus != s.npos) {
      std::string_view offset = s.substr(plus + 1);
      std::from_chars(offset.data(), offset.data() + offset.size(), in.offset);
    }
    return place(s.substr(0, plus), 8, in.place[4]);
  }

  //===--- Instructions

  bool instruction(std::string_view s) {
    // How LLVM writes the upper half of a register.
    constexpr std::string_view upper = "{ .reg .b16 tmp; mov.b32 {tmp, ", scopeEnd = "; }";
    if (s.starts_with(upper) && s.ends_with(scopeEnd)) {
      s = s.substr(upper.size(), s.size() - upper.size() - scopeEnd.size());
      const size_t brace = std::min(s.find('}'), s.size());
      const std::string plain =
          "upper.b16 " + std::string(s.substr(0, brace)) + std::string(s.substr(brace + 1)) + ";";
      return instruction(plain);
    }
    Instruction in;
    in.line = line;
    if (s.back() != ';')
      return fail("expected an instruction that ends here, found " + std::string(s));
    s.remove_suffix(1);
    if (s[0] == '@') {
      in.guardNot = s[1] == '!';
      const size_t end = s.find_first_of(" \t");
      uint32_t guard = 0;
      if (!place(s.substr(1 + in.guardNot, end - 1 - in.guardNot), 1, guard))
        return false;
      in.guard = int32_t(guard);
      s = trimmed(s.substr(end));
    }
    const size_t end = std::min(s.find_first_of(" \t"), s.size());
    const std::string name(s.substr(0, end));
    const auto operands = split(s.substr(end));
    if (!fill(in, name, operands))
      return false;
    program.code.push_back(in);
    return true;
  }

  bool fill(Instruction &in, const std::string &name,
            const std::vector<std::string_view> &operands) {
    auto isOf = [&](const char *prefix) { return name.starts_with(prefix); };
    if (name == "ret") {
      in.action = Action::Return;
      return true;
    }
    if (isOf("bar.sync")) {
      in.action = Action::Barrier;
      return true;
    }
    if (isOf("bra")) {
      in.action = Action::Branch;
      branches.emplace_back(program.code.size(), operands.at(0));
      return true;
    }
    if (isOf("ld.param"))
      return parameter(in, operands);
    if (isOf("ld.global") || isOf("ld.shared") || isOf("st.global") || isOf("st.shared"))
      return access(in, name, operands);
    if (isOf("atom.global.")) {
      in.action = Action::Atomic;
      constexpr std::string_view names[] = {"atom.global.and.b32", "atom.global.or.b32",
                                            "atom.global.add.u32"};
      const auto found = std::find(std::begin(names), std::end(names), name);
      if (found == std::end(names))
        return fail("unknown instruction " + name);
      in.combine = Combine(found - std::begin(names));
      return operands.size() == 3 && place(operands[0], 4, in.place[0]) &&
             address(operands[1], in) && place(operands[2], 4, in.place[1]);
    }
    if (name == "shfl.sync.bfly.b32") {
      in.action = Action::Shuffle;
      if (operands.size() != 5 || operands[3] != "31" || operands[4] != "-1")
        return fail("a shuffle of other than the whole warp");
      return place(operands[0], 4, in.place[0]) && place(operands[1], 4, in.place[1]) &&
             place(operands[2], 4, in.place[2]);
    }
    if (isOf("mma.sync.aligned."))
      return tile(in, name, operands);
    const Operation *operation = findOperation(name);
    if (!operation)
      return fail("unknown instruction " + name);
    if (operands.size() != operation->bytes.size())
      return fail(name + " has " + std::to_string(operands.size()) + " operands");
    in.execute = operation->execute;
    for (size_t i = 0; i < operands.size(); ++i)
      if (!place(operands[i], operation->bytes[i], in.place[i]))
        return false;
    return true;
  }

  bool registersOf(std::string_view braced, size_t count, uint32_t *places) {
    if (!braced.starts_with('{'))
      return fail("expected registers in braces, found " + std::string(braced));
    const auto parts = split(braced.substr(1, braced.size() - 2));
    if (parts.size() != count)
      return fail(std::to_string(parts.size()) + " registers instead of " + std::to_string(count));
    for (size_t i = 0; i < count; ++i)
      if (!place(parts[i], 4, places[i]))
        return false;
    return true;
  }

  bool tile(Instruction &in, const std::string &name,
            const std::vector<std::string_view> &operands) {
    in.action = Action::Tile;
    in.count = name.find("m16n8k32") != name.npos ? 2 : 1;
    in.isSigned = name.ends_with(".row.col.s32.s8.s8.s32");
    const char *const shape = in.count == 2 ? "m16n8k32" : "m16n8k16";
    if (name != "mma.sync.aligned." + std::string(shape) + ".row.col.s32." +
                    (in.isSigned ? "s8" : "u8") + ".s8.s32")
      return fail("unknown instruction " + name);
    const size_t inputs = size_t(in.count);
    return operands.size() == 4 && registersOf(operands[0], 4, in.place) &&
           registersOf(operands[1], 2 * inputs, in.place + 4) &&
           registersOf(operands[2], inputs, in.place + 8) &&
           registersOf(operands[3], 4, in.place + 10);
  }

  bool parameter(Instruction &in, const std::vector<std::string_view> &operands) {
    if (operands.size() != 2 || operands[1].size() < 3)
      return fail("expected a register and a parameter");
    in.execute = findOperation("mov.b64")->execute;
    return place(operands[0], 8, in.place[0]) &&
           place(operands[1].substr(1, operands[1].size() - 2), 8, in.place[1]);
  }

  bool access(Instruction &in, const std::string &name,
              const std::vector<std::string_view> &operands) {
    const bool isLoad = name[0] == 'l';
    in.action = isLoad ? Action::Load : Action::Store;
    in.isShared = name.find(".shared") != name.npos;
    if (name == "ld.global.b16" && operands.at(0).starts_with("%r") &&
        !operands.at(0).starts_with("%rs")) {
      in.isHalf = true;
      in.count = 1;
      return place(operands.at(0), 4, in.place[0]) && address(operands.at(1), in);
    }
    if (!name.ends_with(".b32"))
      return fail("unknown instruction " + name);
    std::string_view values = operands.at(isLoad ? 0 : 1);
    in.count = 0;
    if (values.starts_with('{'))
      values = values.substr(1, values.size() - 2);
    for (std::string_view value : split(values))
      if (in.count == 4 || !place(value, 4, in.place[in.count++]))
        return fail("too many registers");
    return address(operands.at(isLoad ? 1 : 0), in);
  }

  bool resolve() {
    for (const auto &[at, label] : branches) {
      auto found = labels.find(label);
      if (found == labels.end())
        return fail("no label " + label);
      program.code[at].target = found->second;
    }
    return true;
  }
};

} // namespace

bool readProgram(std::string_view text, Program &program, std::string &error) {
  return Reader(text, program).read(error);
}

} // namespace smelt::ptx
