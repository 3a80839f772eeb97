// The checked step and chunked append.
#include "runtime/model/session.h"

#include "runtime/model/devices.h"

#include <algorithm>

namespace smelt {

using namespace format;

namespace {

constexpr uint32_t mostSlots = 1 << 16;

/// Drafted ids are fed to the model: they must mean the same.
Status checkSameVocabulary(const Model &model, const Model &draft) {
  auto differ = [](const std::string &what) {
    return invalidArgument("the draft model has another vocabulary than the model: " + what +
                           "; both must come with the same tokenizer");
  };
  const Tokenizer *words = model.tokenizer(), *others = draft.tokenizer();
  if (!words || !others) {
    uint32_t size = model.config().vocabSize, other = draft.config().vocabSize;
    return size == other ? Status()
                         : differ("found " + std::to_string(other) + " tokens, expected " +
                                  std::to_string(size));
  }
  if (words->vocabSize() != others->vocabSize())
    return differ("found " + std::to_string(others->vocabSize()) + " tokens, expected " +
                  std::to_string(words->vocabSize()));
  for (int32_t id = 0; uint32_t(id) < words->vocabSize(); ++id)
    if (words->tokenText(id) != others->tokenText(id))
      return differ("token " + std::to_string(id) + " is '" + std::string(others->tokenText(id)) +
                    "', expected '" + std::string(words->tokenText(id)) + "'");
  return {};
}

template <typename Part>
Result<std::unique_ptr<Backend>> asBackend(Result<std::unique_ptr<Part>> whole) {
  if (!whole.ok())
    return std::move(whole).status();
  return std::unique_ptr<Backend>(*std::move(whole));
}

/// A GPU, alone or with the CPU behind it; null: it is to run no layer.
Result<std::unique_ptr<Backend>> createOnGpu(const std::shared_ptr<const Model> &model,
                                             const std::shared_ptr<ThreadTeam> &team,
                                             const SessionOptions &options, ChosenDevice chosen) {
  const uint32_t all = model->config().layers;
  uint32_t layers = std::min(options.gpuLayers.value_or(all), all);
  if (!options.gpuLayers && options.device == "auto") {
    SMELT_ASSIGN(layers, layersThatFit(*model, *chosen.device, options.context, options.slots));
  }
  if (layers == 0)
    return std::unique_ptr<Backend>();
  if (layers == all) {
    auto whole =
        asBackend(createGpuBackend(model, std::move(chosen), options.context, options.slots, all));
    if (whole.status().code() != StatusCode::Exhausted)
      return whole;
    return exhausted(whole.status().message() +
                     "; choose a shorter context, or fewer layers for the GPU (--gpu-layers)");
  }
  SMELT_TRY(Status(model->onCpu()));
  return createOffloadBackend(model, std::move(chosen), team, options.context, options.slots,
                              layers);
}

/// What runs the steps: a GPU, if one is asked for or found, else the threads.
Result<std::unique_ptr<Backend>> createBackend(const std::shared_ptr<const Model> &model,
                                               const std::shared_ptr<ThreadTeam> &team,
                                               const SessionOptions &options) {
  if (options.gpuLayers && options.device == "cpu")
    return invalidArgument("layers for a GPU are given (--gpu-layers " +
                           std::to_string(*options.gpuLayers) +
                           "), but the device is the CPU; choose one with --device cuda:N, "
                           "vulkan:N or auto");
  SMELT_ASSIGN(ChosenDevice chosen, chooseDevice(*model, options.device));
  if (chosen.device) {
    auto backend = createOnGpu(model, team, options, std::move(chosen));
    const bool isLast = options.device != "auto" || !model->onCpu().ok();
    if (backend.ok() ? *backend != nullptr : isLast)
      return backend;
  }
  SMELT_TRY(Status(model->onCpu()));
  if (model->artifact().tensorProgram())
    return createTensorBackend(model, team, options.slots);
  return asBackend(createTokenBackend(model, team, options.context, options.slots));
}

} // namespace

size_t commonPrefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  size_t most = std::min(a.size(), b.size());
  return size_t(std::mismatch(a.begin(), a.begin() + std::ptrdiff_t(most), b.begin()).first -
                a.begin());
}

Result<std::unique_ptr<Session>> Session::create(std::shared_ptr<const Model> model,
                                                 const SessionOptions &options) {
  SMELT_ASSIGN(std::shared_ptr<ThreadTeam> team,
               ThreadTeam::create(options.threads != 0 ? options.threads : defaultThreads()));
  SMELT_ASSIGN(std::unique_ptr<Session> session, create(std::move(model), options, team));
  if (!options.draft)
    return session;
  SMELT_TRY(checkSameVocabulary(session->model(), *options.draft));
  SessionOptions small;
  small.slots = session->slots();
  small.context = std::min(session->context(), options.draft->config().maxContext);
  auto draft = create(options.draft, small, std::move(team));
  if (!draft.ok())
    return std::move(draft).status().withContext("the draft model");
  if (!(*draft)->rewinds() || options.draft->config().bidirectional != 0)
    return unsupported("the draft model runs as a graph or reads in both directions; only a model "
                       "of tokens can draft");
  session->draft = *std::move(draft);
  return session;
}

Result<std::unique_ptr<Session>> Session::create(std::shared_ptr<const Model> model,
                                                 const SessionOptions &wanted,
                                                 std::shared_ptr<ThreadTeam> team) {
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
  session->team = std::move(team);
  options.threads = session->team->size();
  SMELT_ASSIGN(session->backend, createBackend(session->shared, session->team, options));

  session->histories.resize(options.slots);
  for (std::vector<int32_t> &history : session->histories)
    history.reserve(options.context);
  session->stepEnd.assign(options.slots, -1);
  session->chunk.reserve(config.maxTokens);
  return session;
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
    uint32_t vocabulary = config.inputVocab != 0 ? config.inputVocab : config.vocabSize;
    if (token.id < 0 || int64_t(token.id) >= int64_t(vocabulary))
      return invalidArgument(where() + "id " + std::to_string(token.id) +
                             " is not in the vocabulary of " + std::to_string(vocabulary));
    if (token.type < 0 || uint32_t(token.type) >= std::max(1u, config.tokenTypes))
      return invalidArgument(where() + "token type " + std::to_string(token.type) +
                             ", the model has " + std::to_string(std::max(1u, config.tokenTypes)));
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
    if (config.bidirectional != 0 && end < 0 && token.position != 0)
      return invalidArgument(where() + "position " + std::to_string(token.position) +
                             ": this model reads a text in both directions, so all of its tokens "
                             "must come in one step, from position 0");
    end = token.position + 1;
  }
  return {};
}

Status Session::step(std::span<const Token> tokens, std::span<const int32_t> logitRows,
                     StepOutput output) {
  Status status = check(tokens, logitRows);
  for (const Token &token : tokens)
    if (token.slot >= 0 && uint32_t(token.slot) < options.slots)
      stepEnd[size_t(token.slot)] = -1;
  SMELT_TRY(std::move(status));

  SMELT_TRY(backend->step(tokens, logitRows, output, histories));
  for (const Token &token : tokens) {
    std::vector<int32_t> &history = histories[size_t(token.slot)];
    history.resize(size_t(token.position)); // never grows, see check()
    history.push_back(token.id);
  }
  return {};
}

Status Session::append(int32_t slot, std::span<const int32_t> tokens,
                       const std::atomic<bool> *cancel, StepOutput output) {
  if (slot < 0 || uint32_t(slot) >= options.slots)
    return invalidArgument("slot " + std::to_string(slot) + " of " + std::to_string(options.slots));
  if (tokens.empty())
    return invalidArgument("no tokens to append; a prompt must have at least one");
  size_t start = cached(slot).size();
  if (tokens.size() > options.context - start)
    return exhausted(std::to_string(tokens.size()) + " more tokens do not fit the context: " +
                     std::to_string(start) + " of " + std::to_string(options.context) +
                     " positions are taken; shorten the prompt or choose a longer context");
  if (shared->config().bidirectional != 0 &&
      (start > 0 || tokens.size() > shared->config().maxTokens))
    return invalidArgument(
        "this model reads a text in both directions: " + std::to_string(start + tokens.size()) +
        " tokens must come in one step of at most " + std::to_string(shared->config().maxTokens) +
        ", into an empty slot");
  for (size_t at = 0; at < tokens.size();) {
    if (cancel && cancel->load(std::memory_order_relaxed))
      return cancelled("cancelled while reading the prompt");
    size_t count = std::min<size_t>(tokens.size() - at, shared->config().maxTokens);
    count = std::min(count, backend->chunkTokens());
    chunk.clear();
    for (size_t i = 0; i < count; ++i)
      chunk.push_back({tokens[at + i], int32_t(start + at + i), slot});
    at += count;
    auto last = int32_t(count - 1);
    SMELT_TRY(
        step(chunk, at == tokens.size() ? std::span(&last, 1) : std::span<int32_t>(), output));
  }
  return {};
}

Result<uint32_t> Session::reuse(int32_t slot, std::span<const int32_t> tokens) {
  if (slot < 0 || uint32_t(slot) >= options.slots)
    return invalidArgument("slot " + std::to_string(slot) + " of " + std::to_string(options.slots));
  size_t shared = commonPrefix(cached(slot), tokens), best = shared;
  int32_t from = slot;
  for (int32_t other = 0; backend->rewinds() && uint32_t(other) < options.slots; ++other) {
    if (size_t length = commonPrefix(cached(other), tokens); length > best) {
      best = length;
      from = other;
    }
  }
  SMELT_TRY(truncate(slot, uint32_t(shared)));
  if (from == slot)
    return uint32_t(shared);
  SMELT_TRY(backend->copy(from, slot, uint32_t(best)));
  histories[size_t(slot)].assign(tokens.begin(), tokens.begin() + std::ptrdiff_t(best));
  return uint32_t(best);
}

Status Session::visit(int32_t slot, uint32_t length, CacheAccess access,
                      const PieceVisitor &piece) const {
  if (slot < 0 || uint32_t(slot) >= options.slots || length > options.context)
    return invalidArgument("slot " + std::to_string(slot) + " of " + std::to_string(options.slots) +
                           ", " + std::to_string(length) + " of " +
                           std::to_string(options.context) + " positions");
  return backend->visit(slot, length, access, piece);
}

Status Session::adopt(int32_t slot, std::span<const int32_t> tokens) {
  const ModelConfig &config = shared->config();
  uint32_t vocabulary = config.inputVocab != 0 ? config.inputVocab : config.vocabSize;
  for (int32_t id : tokens)
    if (id < 0 || uint32_t(id) >= vocabulary)
      return corrupt("id " + std::to_string(id) + " is not in the vocabulary of " +
                     std::to_string(vocabulary));
  histories[size_t(slot)].assign(tokens.begin(), tokens.end());
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
