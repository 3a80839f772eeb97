// Session memory, address resolution, the checked step and chunked append.
#include "runtime/model/session.h"

#include "runtime/formats/formats.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <sys/mman.h>

namespace smelt {

using namespace format;

namespace {

constexpr uint32_t mostSlots = 1 << 16;
/// Kernels may write this far beyond the last row of logits.
constexpr uint64_t logitMargin = 256;

} // namespace

Result<Pages> Pages::allocate(uint64_t bytes, const char *what) {
  Pages pages;
  if (bytes == 0)
    return pages;
  void *memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    return exhausted("cannot reserve " + std::to_string(bytes) + " bytes for " + what + ": " +
                     std::strerror(errno) + "; choose a shorter context or fewer slots");
  pages.memory = static_cast<std::byte *>(memory);
  pages.size = bytes;
  return pages;
}

Pages::Pages(Pages &&other) noexcept
    : memory(std::exchange(other.memory, nullptr)), size(std::exchange(other.size, 0)) {}

Pages &Pages::operator=(Pages &&other) noexcept {
  std::swap(memory, other.memory);
  std::swap(size, other.size);
  return *this;
}

Pages::~Pages() {
  if (memory)
    ::munmap(memory, size);
}

Result<std::unique_ptr<Session>> Session::create(std::shared_ptr<const Model> model,
                                                 const SessionOptions &wanted) {
  const ModelConfig &config = model->config();
  std::unique_ptr<Session> session(new Session);
  session->shared = std::move(model);
  session->options = wanted;
  SessionOptions &options = session->options;
  if (options.context == 0)
    options.context = config.maxContext;
  if (options.context > config.maxContext)
    return invalidArgument("context of " + std::to_string(options.context) +
                           " positions asked for, the model has " +
                           std::to_string(config.maxContext));
  if (options.slots == 0 || options.slots > mostSlots)
    return invalidArgument(std::to_string(options.slots) + " slots asked for, expected 1 to " +
                           std::to_string(mostSlots));
  SMELT_TRY(session->allocate());
  SMELT_ASSIGN(session->team,
               ThreadTeam::create(options.threads != 0 ? options.threads : defaultThreads()));
  session->options.threads = session->team->size();
  session->resolve();
  return session;
}

Status Session::allocate() {
  const ModelConfig &config = shared->config();
  capacity = uint32_t(roundUp(options.context, config.positionBlock));
  uint64_t cached = uint64_t(options.slots) * capacity; // at most 2^41
  auto cacheBytes = [&](uint64_t perPosition) -> Result<uint64_t> {
    uint64_t bytes = 0;
    if (__builtin_mul_overflow(cached, perPosition, &bytes) || bytes >> 48 != 0)
      return exhausted("a cache of " + std::to_string(options.slots) + " slots with " +
                       std::to_string(capacity) + " positions does not fit the address space");
    return bytes;
  };
  SMELT_ASSIGN(uint64_t keyBytes, cacheBytes(config.keyBytesPerPosition));
  SMELT_ASSIGN(uint64_t valueBytes, cacheBytes(config.valueBytesPerPosition));
  uint64_t logitBytes =
      uint64_t(config.maxLogitRows) * config.vocabSize * sizeof(float) + logitMargin;
  SMELT_ASSIGN(keys, Pages::allocate(keyBytes, "the key cache"));
  SMELT_ASSIGN(values, Pages::allocate(valueBytes, "the value cache"));
  SMELT_ASSIGN(scratch, Pages::allocate(config.scratchBytes, "scratch"));
  SMELT_ASSIGN(logitMemory, Pages::allocate(logitBytes, "logits"));
  reserved = keyBytes + valueBytes + config.scratchBytes + logitBytes;

  ids.assign(config.maxTokens, 0);
  positions.assign(size_t(2) * config.maxTokens, 0);
  rows.assign(config.maxLogitRows, 0);
  histories.resize(options.slots);
  for (std::vector<int32_t> &history : histories)
    history.reserve(options.context);
  stepEnd.assign(options.slots, -1);
  chunk.reserve(config.maxTokens);
  return {};
}

void Session::resolve() {
  const Artifact &artifact = shared->artifact();
  uint64_t cached = uint64_t(options.slots) * capacity;
  auto address = [&](const Operand &operand) -> void * {
    switch (operand.kind) {
    case OperandKind::None:
      return nullptr;
    case OperandKind::Weights:
      return const_cast<std::byte *>(artifact.weights().data()) + operand.value;
    case OperandKind::Scratch:
      return scratch.data() + operand.value;
    case OperandKind::KeyCache:
      return keys.data() + artifact.cacheLayers()[operand.value].keyOffsetPerPosition * cached;
    case OperandKind::ValueCache:
      return values.data() + artifact.cacheLayers()[operand.value].valueOffsetPerPosition * cached;
    case OperandKind::Tokens:
      return ids.data();
    case OperandKind::Positions:
      return positions.data();
    case OperandKind::LogitRows:
      return rows.data();
    case OperandKind::Logits:
      return logitMemory.data();
    }
    return nullptr;
  };
  std::span<const Instruction> instructions = artifact.instructions();
  program.reserve(instructions.size());
  for (size_t i = 0; i < instructions.size(); ++i) {
    const InstructionKernels &kernels = shared->kernels()[i];
    ResolvedInstruction resolved{
        kernels.one, kernels.many, instructions[i].domain, instructions[i].label, {}};
    for (uint32_t k = 0; k < operandCount; ++k)
      resolved.operands[k] = address(instructions[i].operands[k]);
    program.push_back(resolved);
  }
}

Status Session::check(std::span<const Token> tokens, std::span<const int32_t> logitRows) {
  const ModelConfig &config = shared->config();
  if (tokens.empty() || tokens.size() > config.maxTokens)
    return invalidArgument("a step has " + std::to_string(tokens.size()) +
                           " tokens, expected 1 to " + std::to_string(config.maxTokens));
  if (logitRows.size() > config.maxLogitRows)
    return invalidArgument("a step asks for " + std::to_string(logitRows.size()) +
                           " rows of logits, at most " + std::to_string(config.maxLogitRows) +
                           " are possible");
  for (int32_t row : logitRows)
    if (row < 0 || size_t(row) >= tokens.size())
      return invalidArgument("logits asked for row " + std::to_string(row) + " of a step of " +
                             std::to_string(tokens.size()) + " tokens");
  for (size_t i = 0; i < tokens.size(); ++i) {
    const Token &token = tokens[i];
    auto where = [&] { return "token " + std::to_string(i) + " of the step: "; };
    if (token.id < 0 || int64_t(token.id) >= int64_t(config.vocabSize))
      return invalidArgument(where() + "id " + std::to_string(token.id) +
                             " is not in the vocabulary of " + std::to_string(config.vocabSize));
    if (token.slot < 0 || uint32_t(token.slot) >= options.slots)
      return invalidArgument(where() + "slot " + std::to_string(token.slot) + " of " +
                             std::to_string(options.slots));
    if (token.position >= 0 && uint32_t(token.position) >= options.context)
      return exhausted("the context of " + std::to_string(options.context) +
                       " positions is full; start a new conversation or open a session with a "
                       "longer context");
    int64_t &end = stepEnd[size_t(token.slot)];
    int64_t held = int64_t(histories[size_t(token.slot)].size());
    if (token.position < 0 || (end >= 0 ? token.position != end : token.position > held))
      return invalidArgument(where() + "position " + std::to_string(token.position) + " in slot " +
                             std::to_string(token.slot) + " does not continue it, expected " +
                             (end >= 0 ? std::to_string(end) : "0 to " + std::to_string(held)));
    end = token.position + 1;
  }
  return {};
}

Status Session::step(std::span<const Token> tokens, std::span<const int32_t> logitRows) {
  Status status = check(tokens, logitRows);
  for (const Token &token : tokens)
    if (token.slot >= 0 && uint32_t(token.slot) < options.slots)
      stepEnd[size_t(token.slot)] = -1;
  SMELT_TRY(std::move(status));

  int32_t *slotOf = positions.data() + shared->config().maxTokens;
  for (size_t i = 0; i < tokens.size(); ++i) {
    ids[i] = tokens[i].id;
    positions[i] = tokens[i].position;
    slotOf[i] = tokens[i].slot;
    std::vector<int32_t> &history = histories[size_t(tokens[i].slot)];
    history.resize(size_t(tokens[i].position)); // never grows, see check()
    history.push_back(tokens[i].id);
  }
  // Entries of the step before that this one does not reach become padding.
  for (size_t i = tokens.size(); i < usedTokens; ++i)
    ids[i] = positions[i] = slotOf[i] = 0;
  std::copy(logitRows.begin(), logitRows.end(), rows.begin());
  for (size_t i = logitRows.size(); i < usedRows; ++i)
    rows[i] = 0;
  usedTokens = tokens.size();
  usedRows = logitRows.size();

  int64_t info[FieldCount] = {};
  info[FieldTokens] = int64_t(tokens.size());
  info[FieldLogitRows] = int64_t(logitRows.size());
  info[FieldCapacity] = capacity;
  info[FieldSlots] = options.slots;
  team->run(program, info, profile);
  return {};
}

std::span<const float> Session::logits(size_t row) const {
  if (row >= usedRows)
    return {};
  size_t vocabulary = shared->config().vocabSize;
  return {reinterpret_cast<const float *>(logitMemory.data()) + row * vocabulary, vocabulary};
}

Status Session::append(int32_t slot, std::span<const int32_t> tokens,
                       const std::atomic<bool> *cancel) {
  if (slot < 0 || uint32_t(slot) >= options.slots)
    return invalidArgument("slot " + std::to_string(slot) + " of " + std::to_string(options.slots));
  if (tokens.empty())
    return invalidArgument("no tokens to append; a prompt must have at least one");
  size_t start = cached(slot).size();
  if (tokens.size() > options.context - start)
    return exhausted(std::to_string(tokens.size()) + " more tokens do not fit the context: " +
                     std::to_string(start) + " of " + std::to_string(options.context) +
                     " positions are taken; shorten the prompt or choose a longer context");
  for (size_t at = 0; at < tokens.size();) {
    if (cancel && cancel->load(std::memory_order_relaxed))
      return cancelled("cancelled while reading the prompt");
    size_t count = std::min<size_t>(tokens.size() - at, shared->config().maxTokens);
    chunk.clear();
    for (size_t i = 0; i < count; ++i)
      chunk.push_back({tokens[at + i], int32_t(start + at + i), slot});
    at += count;
    auto last = int32_t(count - 1);
    SMELT_TRY(step(chunk, at == tokens.size() ? std::span(&last, 1) : std::span<int32_t>()));
  }
  return {};
}

Status Session::truncate(int32_t slot, uint32_t length) {
  if (slot < 0 || uint32_t(slot) >= options.slots)
    return invalidArgument("slot " + std::to_string(slot) + " of " + std::to_string(options.slots));
  if (length > cached(slot).size())
    return invalidArgument("slot " + std::to_string(slot) + " holds " +
                           std::to_string(cached(slot).size()) + " positions, cannot be cut to " +
                           std::to_string(length));
  histories[size_t(slot)].resize(length);
  return {};
}

} // namespace smelt
