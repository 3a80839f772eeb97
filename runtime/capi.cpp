// The C interface: checks arguments, calls the runtime, turns failures and exceptions into
// statuses.
#define SMELT_BUILDING_LIBRARY
#include "smelt/smelt.h"

#include "runtime/model/encoder.h"
#include "runtime/model/generate.h"
#include "runtime/model/model.h"
#include "runtime/model/prefix_cache.h"
#include "runtime/model/session.h"
#include "runtime/model/tensor_session.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <new>

using namespace smelt;

struct smelt_model {
  std::shared_ptr<const Model> shared;
};

struct smelt_session {
  std::unique_ptr<Session> session;
  std::atomic<bool> cancel{false};
  std::vector<Token> tokens; ///< for smelt_step, capacity reserved at creation
  std::vector<int32_t> generated;
};

struct smelt_encoder {
  std::unique_ptr<Encoder> encoder;
};

struct smelt_graph {
  std::unique_ptr<TensorSession> session;
};

namespace {

/// A fixed buffer: reporting that memory is exhausted must not need any.
thread_local char lastError[1024] = "";

smelt_status report(smelt_status status, std::string_view message) {
  size_t bytes = std::min(message.size(), sizeof lastError - 1);
  std::memcpy(lastError, message.data(), bytes);
  lastError[bytes] = '\0';
  return status;
}

smelt_status report(const Status &status) {
  static_assert(int(StatusCode::Internal) == SMELT_INTERNAL);
  static_assert(int(StatusCode::Corrupt) == SMELT_CORRUPT);
  return status.ok() ? SMELT_OK : report(smelt_status(status.code()), status.message());
}

/// Runs `body` (returning Status or smelt_status) so that nothing it throws escapes.
template <typename Body> smelt_status guarded(Body &&body) noexcept {
  try {
    if constexpr (std::is_same_v<decltype(body()), Status>)
      return report(body());
    else
      return body();
  } catch (const std::bad_alloc &) {
    return report(SMELT_EXHAUSTED, "out of memory");
  } catch (const std::exception &error) {
    return report(SMELT_INTERNAL, error.what());
  } catch (...) {
    return report(SMELT_INTERNAL, "an unknown exception");
  }
}

/// No structure of any version is larger: a wild struct_size is a forgotten initializer.
constexpr size_t largestStruct = 4096;

Status checkSize(size_t size, const char *name) {
  if (size < sizeof(size_t) || size > largestStruct)
    return invalidArgument(std::string(name) + ".struct_size is " + std::to_string(size) +
                           ", expected sizeof(" + name + ")");
  return {};
}

/// Reads a structure of any version: fields that the caller does not have keep their defaults.
template <typename T> Status takeStruct(const T *given, const char *name, T &out) {
  if (!given)
    return {};
  SMELT_TRY(checkSize(given->struct_size, name));
  std::memcpy(&out, given, std::min(given->struct_size, sizeof(T)));
  return {};
}

/// Fills the caller's structure as far as it has fields.
template <typename T> Status giveStruct(T value, const char *name, T *out) {
  SMELT_TRY(checkSize(out->struct_size, name));
  value.struct_size = out->struct_size;
  std::memcpy(out, &value, std::min(out->struct_size, sizeof(T)));
  return {};
}

Status nullArgument(const char *name) { return invalidArgument(std::string(name) + " is NULL"); }

#define SMELT_NEED(argument)                                                                       \
  if (!(argument))                                                                                 \
  return nullArgument(#argument)

/// Hands out `count` items under the buffer rules of smelt.h.
template <typename T>
smelt_status giveArray(const T *items, size_t count, T *out, size_t capacity, size_t *needed) {
  *needed = count;
  if (count > capacity || (count != 0 && !out))
    return report(SMELT_BUFFER_TOO_SMALL, "the buffer holds " + std::to_string(capacity) +
                                              " items, " + std::to_string(count) + " are needed");
  if (count != 0)
    std::memcpy(out, items, count * sizeof(T));
  return SMELT_OK;
}

} // namespace

const char *smelt_version(void) { return SMELT_VERSION; }
int32_t smelt_api_version(void) { return SMELT_API_VERSION; }
const char *smelt_last_error(void) { return lastError; }

const char *smelt_status_name(int32_t status) {
  constexpr const char *names[] = {"ok",        "invalid argument", "not found",
                                   "corrupt",   "unsupported",      "exhausted",
                                   "cancelled", "internal",         "buffer too small"};
  return size_t(status) < std::size(names) ? names[status] : "unknown";
}

smelt_status smelt_model_open(const char *path, const smelt_model_options *options,
                              smelt_model **model) {
  return guarded([&]() -> Status {
    SMELT_NEED(model);
    *model = nullptr;
    SMELT_NEED(path);
    smelt_model_options taken = SMELT_MODEL_OPTIONS_INIT;
    SMELT_TRY(takeStruct(options, "smelt_model_options", taken));
    SMELT_ASSIGN(std::shared_ptr<const Model> opened,
                 Model::open(path, taken.target ? taken.target : ""));
    *model = new smelt_model{std::move(opened)};
    return {};
  });
}

void smelt_model_close(smelt_model *model) { delete model; }

smelt_status smelt_model_get_info(const smelt_model *model, smelt_model_info *info) {
  return guarded([&]() -> Status {
    SMELT_NEED(model);
    SMELT_NEED(info);
    const Model &opened = *model->shared;
    const format::ModelConfig &config = opened.config();
    std::string_view metadata = opened.artifact().text(format::SectionKind::Metadata);
    smelt_model_info value = SMELT_MODEL_INFO_INIT;
    value.file_bytes = opened.artifact().fileBytes();
    value.vocab_size = config.vocabSize;
    value.hidden_size = config.hiddenSize;
    value.layers = config.layers;
    value.max_context = config.maxContext;
    value.max_step_tokens = config.maxTokens;
    value.max_logit_rows = config.maxLogitRows;
    value.bos_token = config.bosToken;
    std::copy(std::begin(config.eosTokens), std::end(config.eosTokens), value.eos_tokens);
    value.has_tokenizer = opened.tokenizer() != nullptr;
    value.has_chat_template = opened.chatTemplate() != nullptr;
    value.cache_bytes_per_position = config.keyBytesPerPosition + config.valueBytesPerPosition;
    value.scratch_bytes = config.scratchBytes;
    value.target = opened.target().data();
    value.metadata = metadata.empty() ? "" : metadata.data();
    value.metadata_bytes = metadata.size();
    value.has_graph = opened.artifact().tensorProgram() != nullptr;
    return giveStruct(value, "smelt_model_info", info);
  });
}

smelt_status smelt_tokenize(const smelt_model *model, const char *text, size_t bytes,
                            uint32_t flags, int32_t *tokens, size_t capacity, size_t *needed) {
  return guarded([&]() -> smelt_status {
    std::vector<int32_t> ids;
    Status status = [&]() -> Status {
      SMELT_NEED(model);
      SMELT_NEED(needed);
      if (bytes != 0)
        SMELT_NEED(text);
      if (flags & ~uint32_t(SMELT_TOKENIZE_NO_BOS | SMELT_TOKENIZE_NO_SPECIAL))
        return invalidArgument("unknown flags " + std::to_string(flags));
      SMELT_ASSIGN(ids, model->shared->encode({text, bytes}, !(flags & SMELT_TOKENIZE_NO_BOS),
                                              !(flags & SMELT_TOKENIZE_NO_SPECIAL)));
      return {};
    }();
    return status.ok() ? giveArray(ids.data(), ids.size(), tokens, capacity, needed)
                       : report(status);
  });
}

smelt_status smelt_detokenize(const smelt_model *model, const int32_t *tokens, size_t count,
                              char *text, size_t capacity, size_t *needed) {
  return guarded([&]() -> smelt_status {
    std::string decoded;
    Status status = [&]() -> Status {
      SMELT_NEED(model);
      SMELT_NEED(needed);
      if (count != 0)
        SMELT_NEED(tokens);
      const Tokenizer *tokenizer = model->shared->tokenizer();
      if (!tokenizer)
        return unsupported("the artifact has no tokenizer");
      decoded = tokenizer->decode({tokens, count});
      return {};
    }();
    return status.ok() ? giveArray(decoded.data(), decoded.size(), text, capacity, needed)
                       : report(status);
  });
}

smelt_status smelt_apply_chat_template(const smelt_model *model, const smelt_message *messages,
                                       size_t count, int32_t add_generation_prompt, char *text,
                                       size_t capacity, size_t *needed) {
  return guarded([&]() -> smelt_status {
    std::string rendered;
    Status status = [&]() -> Status {
      SMELT_NEED(model);
      SMELT_NEED(needed);
      if (count != 0)
        SMELT_NEED(messages);
      std::vector<ChatMessage> chat;
      for (size_t i = 0; i < count; ++i) {
        SMELT_NEED(messages[i].role);
        SMELT_NEED(messages[i].content);
        chat.push_back({messages[i].role, messages[i].content});
      }
      SMELT_ASSIGN(rendered, model->shared->renderChat(chat, add_generation_prompt != 0));
      return {};
    }();
    return status.ok() ? giveArray(rendered.data(), rendered.size(), text, capacity, needed)
                       : report(status);
  });
}

smelt_status smelt_session_create(const smelt_model *model, const smelt_session_options *options,
                                  smelt_session **session) {
  return guarded([&]() -> Status {
    SMELT_NEED(session);
    *session = nullptr;
    SMELT_NEED(model);
    smelt_session_options taken = SMELT_SESSION_OPTIONS_INIT;
    SMELT_TRY(takeStruct(options, "smelt_session_options", taken));
    SessionOptions wanted;
    wanted.context = taken.context;
    wanted.slots = std::max(taken.slots, 1u);
    wanted.threads = taken.threads;
    if (taken.draft)
      wanted.draft = taken.draft->shared;
    if (taken.device)
      wanted.device = taken.device;
    if (taken.gpu_layers != 0)
      wanted.gpuLayers = taken.gpu_layers;
    auto created = std::make_unique<smelt_session>();
    SMELT_ASSIGN(created->session, Session::create(model->shared, wanted));
    created->tokens.reserve(model->shared->config().maxTokens);
    *session = created.release();
    return {};
  });
}

void smelt_session_free(smelt_session *session) { delete session; }

smelt_status smelt_step(smelt_session *session, const smelt_token *tokens, size_t count,
                        const int32_t *logit_rows, size_t row_count) {
  return smelt_step_types(session, tokens, nullptr, count, logit_rows, row_count);
}

smelt_status smelt_step_types(smelt_session *session, const smelt_token *tokens,
                              const int32_t *types, size_t count, const int32_t *logit_rows,
                              size_t row_count) {
  return guarded([&]() -> Status {
    SMELT_NEED(session);
    SMELT_NEED(tokens);
    if (row_count != 0)
      SMELT_NEED(logit_rows);
    uint32_t most = session->session->model().config().maxTokens;
    if (count > most)
      return invalidArgument("a step has " + std::to_string(count) + " tokens, expected 1 to " +
                             std::to_string(most));
    session->tokens.clear();
    for (size_t i = 0; i < count; ++i)
      session->tokens.push_back(
          {tokens[i].id, tokens[i].position, tokens[i].slot, types ? types[i] : 0});
    return session->session->step(session->tokens, {logit_rows, row_count});
  });
}

const float *smelt_logits(const smelt_session *session, size_t row) {
  return session ? session->session->logits(row).data() : nullptr;
}

smelt_status smelt_append(smelt_session *session, int32_t slot, const int32_t *tokens,
                          size_t count) {
  return guarded([&]() -> Status {
    SMELT_NEED(session);
    SMELT_NEED(tokens);
    session->cancel = false;
    return session->session->append(slot, {tokens, count}, &session->cancel);
  });
}

int64_t smelt_slot_length(const smelt_session *session, int32_t slot) {
  if (!session || slot < 0 || uint32_t(slot) >= session->session->slots())
    return -1;
  return int64_t(session->session->cached(slot).size());
}

smelt_status smelt_truncate(smelt_session *session, int32_t slot, uint32_t length) {
  return guarded([&]() -> Status {
    SMELT_NEED(session);
    return session->session->truncate(slot, length);
  });
}

smelt_status smelt_slot_save(const smelt_session *session, int32_t slot, const char *path) {
  return guarded([&]() -> Status {
    SMELT_NEED(session);
    SMELT_NEED(path);
    const Session &own = *session->session;
    bool exists = slot >= 0 && uint32_t(slot) < own.slots();
    return savePrefix(own, slot, exists ? uint32_t(own.cached(slot).size()) : 0, path);
  });
}

smelt_status smelt_slot_load(smelt_session *session, int32_t slot, const char *path) {
  return guarded([&]() -> Status {
    SMELT_NEED(session);
    SMELT_NEED(path);
    return loadPrefix(*session->session, slot, path).status();
  });
}

smelt_status smelt_generate_defaults(const smelt_model *model, smelt_generate_options *options) {
  return guarded([&]() -> Status {
    SMELT_NEED(model);
    SMELT_NEED(options);
    smelt_generate_options value = SMELT_GENERATE_OPTIONS_INIT;
    SMELT_TRY(takeStruct(options, "smelt_generate_options", value));
    SamplingOptions defaults = SamplingOptions::defaultsOf(model->shared->config());
    value.temperature = defaults.temperature;
    value.top_k = defaults.topK;
    value.top_p = defaults.topP;
    value.repetition_penalty = defaults.repetitionPenalty;
    return giveStruct(value, "smelt_generate_options", options);
  });
}

smelt_status smelt_generate(smelt_session *session, int32_t slot, const int32_t *prompt,
                            size_t count, const smelt_generate_options *options,
                            smelt_generate_result *result) {
  return guarded([&]() -> Status {
    SMELT_NEED(session);
    if (count != 0)
      SMELT_NEED(prompt);
    smelt_generate_options taken = SMELT_GENERATE_OPTIONS_INIT;
    SMELT_TRY(takeStruct(options, "smelt_generate_options", taken));
    GenerateOptions wanted;
    wanted.maxTokens = taken.max_tokens;
    wanted.sampling = {taken.temperature,        taken.top_k, taken.top_p, taken.min_p,
                       taken.repetition_penalty, taken.seed};
    wanted.ignoreEnd = taken.ignore_end != 0;
    wanted.speculate = taken.no_speculation == 0;
    if (taken.stop_count != 0)
      SMELT_NEED(taken.stop);
    for (size_t i = 0; i < taken.stop_count; ++i) {
      SMELT_NEED(taken.stop[i]);
      wanted.stop.emplace_back(taken.stop[i]);
    }
    TextCallback onText;
    if (taken.on_text)
      onText = [&](std::string_view text) {
        return taken.on_text(text.data(), text.size(), taken.user) == 0;
      };
    session->cancel = false;
    session->generated.clear();
    SMELT_ASSIGN(GenerateResult done, generate(*session->session, slot, {prompt, count}, wanted,
                                               onText, &session->cancel));
    session->generated = std::move(done.tokens);
    if (!result)
      return {};
    smelt_generate_result value = SMELT_GENERATE_RESULT_INIT;
    static_assert(int(FinishReason::Callback) == SMELT_FINISH_CALLBACK);
    value.finish = smelt_finish(done.finish);
    value.prompt_tokens = done.promptTokens;
    value.reused_tokens = done.reusedTokens;
    value.answer_tokens = uint32_t(session->generated.size());
    value.prompt_seconds = done.promptSeconds;
    value.first_token_seconds = done.firstTokenSeconds;
    value.decode_seconds = done.decodeSeconds;
    value.drafted_tokens = done.draftedTokens;
    value.accepted_tokens = done.acceptedTokens;
    return giveStruct(value, "smelt_generate_result", result);
  });
}

smelt_status smelt_generated_tokens(const smelt_session *session, int32_t *tokens, size_t capacity,
                                    size_t *needed) {
  return guarded([&]() -> smelt_status {
    if (!session || !needed)
      return report(nullArgument(session ? "needed" : "session"));
    return giveArray(session->generated.data(), session->generated.size(), tokens, capacity,
                     needed);
  });
}

void smelt_cancel(smelt_session *session) {
  if (session)
    session->cancel.store(true, std::memory_order_relaxed);
}

smelt_status smelt_graph_create(const smelt_model *model, const smelt_graph_options *options,
                                smelt_graph **graph) {
  return guarded([&]() -> Status {
    SMELT_NEED(graph);
    *graph = nullptr;
    SMELT_NEED(model);
    smelt_graph_options taken = SMELT_GRAPH_OPTIONS_INIT;
    SMELT_TRY(takeStruct(options, "smelt_graph_options", taken));
    SMELT_ASSIGN(std::unique_ptr<ThreadTeam> team,
                 ThreadTeam::create(taken.threads != 0 ? taken.threads : defaultThreads()));
    auto created = std::make_unique<smelt_graph>();
    SMELT_ASSIGN(created->session,
                 TensorSession::create(model->shared, std::move(team), taken.memory_limit));
    *graph = created.release();
    return {};
  });
}

void smelt_graph_free(smelt_graph *graph) { delete graph; }

size_t smelt_graph_input_count(const smelt_graph *graph) {
  return graph ? graph->session->program().inputs.size() : 0;
}

size_t smelt_graph_output_count(const smelt_graph *graph) {
  return graph ? graph->session->program().outputs.size() : 0;
}

namespace {

Status indexStatus(size_t index, size_t count, const char *what) {
  if (index < count)
    return {};
  return invalidArgument(std::string(what) + " " + std::to_string(index) + " of " +
                         std::to_string(count));
}

Status givePort(const TensorProgram &program, std::span<const format::TensorPort> ports,
                size_t index, smelt_port *port) {
  SMELT_NEED(port);
  SMELT_TRY(indexStatus(index, ports.size(), "port"));
  static_assert(int(format::ElementType::Bool) == SMELT_BOOL);
  static_assert(int(format::PortRole::TokenClasses) == SMELT_ROLE_TOKEN_CLASSES);
  static_assert(format::maxRank == SMELT_MAX_RANK);
  const format::TensorPort &found = ports[index];
  const format::TensorEntry &entry = program.tensors[found.tensor];
  smelt_port value = SMELT_PORT_INIT;
  value.name = program.name(found.nameOffset);
  value.type = smelt_type(entry.type);
  value.rank = entry.rank;
  std::copy_n(entry.dims, entry.rank, value.dims);
  value.role = smelt_role(found.role);
  bool isState = found.role == format::PortRole::State;
  value.partner = isState ? int32_t(found.partner) : -1;
  value.grow_axis = isState ? found.growAxis : -1;
  return giveStruct(value, "smelt_port", port);
}

} // namespace

smelt_status smelt_graph_input(const smelt_graph *graph, size_t index, smelt_port *port) {
  return guarded([&]() -> Status {
    SMELT_NEED(graph);
    const TensorProgram &program = graph->session->program();
    return givePort(program, program.inputs, index, port);
  });
}

smelt_status smelt_graph_output(const smelt_graph *graph, size_t index, smelt_port *port) {
  return guarded([&]() -> Status {
    SMELT_NEED(graph);
    const TensorProgram &program = graph->session->program();
    return givePort(program, program.outputs, index, port);
  });
}

smelt_status smelt_graph_run(smelt_graph *graph, const smelt_tensor *inputs, size_t count) {
  return guarded([&]() -> Status {
    SMELT_NEED(graph);
    if (count != 0)
      SMELT_NEED(inputs);
    const TensorProgram &program = graph->session->program();
    std::vector<TensorValue> ordered(program.inputs.size());
    for (size_t i = 0; i < count; ++i) {
      const smelt_tensor &given = inputs[i];
      SMELT_NEED(given.name);
      std::optional<size_t> index = graph->session->findInput(given.name);
      if (!index)
        return notFound(std::string("the graph has no input '") + given.name + "'");
      std::string name = "input '" + std::string(given.name) + "'";
      if (ordered[*index].data)
        return invalidArgument(name + " is given twice");
      if (uint32_t(given.type) >= elementTypeCount || given.rank > format::maxRank)
        return invalidArgument(name + " has type " + std::to_string(given.type) + " and rank " +
                               std::to_string(given.rank));
      TensorValue tensor =
          TensorValue::view(format::ElementType(given.type), {given.dims, given.rank}, given.data);
      if (!given.data && tensor.elements() != 0)
        return nullArgument((name + ".data").c_str());
      if (reinterpret_cast<uintptr_t>(given.data) % elementBytes(tensor.type) != 0)
        return invalidArgument(name + ".data is not aligned to its type");
      ordered[*index] = tensor;
    }
    for (size_t i = 0; i < ordered.size(); ++i)
      if (!ordered[i].data)
        return invalidArgument("input '" + std::string(program.name(program.inputs[i].nameOffset)) +
                               "' is not given");
    return graph->session->run(ordered);
  });
}

smelt_status smelt_graph_result(const smelt_graph *graph, size_t index, smelt_tensor *tensor) {
  return guarded([&]() -> Status {
    SMELT_NEED(graph);
    SMELT_NEED(tensor);
    const TensorProgram &program = graph->session->program();
    SMELT_TRY(indexStatus(index, program.outputs.size(), "output"));
    if (graph->session->outputs().empty())
      return notFound("the graph has not run yet");
    const TensorValue &found = graph->session->outputs()[index];
    *tensor = {program.name(program.outputs[index].nameOffset),
               smelt_type(found.type),
               found.rank,
               {},
               found.data};
    std::copy_n(found.dims.data(), found.rank, tensor->dims);
    return {};
  });
}

smelt_status smelt_encoder_create(const smelt_model *model, const smelt_encoder_options *options,
                                  smelt_encoder **encoder) {
  return guarded([&]() -> Status {
    SMELT_NEED(encoder);
    *encoder = nullptr;
    SMELT_NEED(model);
    smelt_encoder_options taken = SMELT_ENCODER_OPTIONS_INIT;
    SMELT_TRY(takeStruct(options, "smelt_encoder_options", taken));
    static_assert(int(format::Pooling::Last) == SMELT_POOLING_LAST);
    if (uint32_t(taken.pooling) > SMELT_POOLING_LAST || taken.normalize < -1 || taken.normalize > 1)
      return invalidArgument("pooling " + std::to_string(int(taken.pooling)) + " or normalize " +
                             std::to_string(taken.normalize) + " is not one of smelt.h");
    EncoderOptions wanted;
    wanted.threads = taken.threads;
    wanted.maxTokens = taken.max_tokens;
    if (taken.pooling != SMELT_POOLING_DEFAULT)
      wanted.pooling = format::Pooling(taken.pooling);
    if (taken.normalize >= 0)
      wanted.normalize = taken.normalize != 0;
    auto created = std::make_unique<smelt_encoder>();
    SMELT_ASSIGN(created->encoder, Encoder::create(model->shared, wanted));
    *encoder = created.release();
    return {};
  });
}

void smelt_encoder_free(smelt_encoder *encoder) { delete encoder; }

smelt_role smelt_encoder_role(const smelt_encoder *encoder) {
  static_assert(int(format::PortRole::TokenClasses) == SMELT_ROLE_TOKEN_CLASSES);
  return encoder ? smelt_role(encoder->encoder->output()) : SMELT_ROLE_OTHER;
}

size_t smelt_encoder_width(const smelt_encoder *encoder) {
  return encoder ? encoder->encoder->width() : 0;
}

smelt_status smelt_encoder_label(const smelt_encoder *encoder, size_t index, char *text,
                                 size_t capacity, size_t *needed) {
  return guarded([&]() -> smelt_status {
    if (!encoder || !needed)
      return report(nullArgument(encoder ? "needed" : "encoder"));
    std::string name = encoder->encoder->label(index);
    return giveArray(name.data(), name.size(), text, capacity, needed);
  });
}

namespace {

Status takeTexts(const smelt_text *texts, size_t count, std::vector<EncoderText> &out) {
  if (count != 0)
    SMELT_NEED(texts);
  for (size_t i = 0; i < count; ++i) {
    const smelt_text &given = texts[i];
    if (given.bytes != 0)
      SMELT_NEED(given.text);
    EncoderText text{{given.text, given.bytes}};
    if (given.second)
      text.second = std::string_view(given.second, given.second_bytes);
    out.push_back(text);
  }
  return {};
}

/// Rows of floats of texts; what is known not to fit does not run at all.
template <typename Rows>
smelt_status giveRows(smelt_encoder *encoder, const smelt_text *texts, size_t count, float *out,
                      size_t capacity, size_t *needed, Rows &&rowsOf) {
  return guarded([&]() -> smelt_status {
    std::vector<float> values;
    Status status = [&]() -> Status {
      SMELT_NEED(encoder);
      SMELT_NEED(needed);
      values.assign(count * encoder->encoder->width(), 0);
      if (values.size() > capacity)
        return {};
      std::vector<EncoderText> given;
      SMELT_TRY(takeTexts(texts, count, given));
      values.clear();
      return rowsOf(*encoder->encoder, given, values);
    }();
    return status.ok() ? giveArray(values.data(), values.size(), out, capacity, needed)
                       : report(status);
  });
}

} // namespace

smelt_status smelt_embed(smelt_encoder *encoder, const smelt_text *texts, size_t count,
                         float *embeddings, size_t capacity, size_t *needed) {
  auto rowsOf = [](Encoder &with, std::span<const EncoderText> given,
                   std::vector<float> &values) -> Status {
    SMELT_ASSIGN(auto rows, with.embed(given));
    for (const std::vector<float> &row : rows)
      values.insert(values.end(), row.begin(), row.end());
    return {};
  };
  return giveRows(encoder, texts, count, embeddings, capacity, needed, rowsOf);
}

smelt_status smelt_classify(smelt_encoder *encoder, const smelt_text *texts, size_t count,
                            float *probabilities, size_t capacity, size_t *needed) {
  auto rowsOf = [](Encoder &with, std::span<const EncoderText> given,
                   std::vector<float> &values) -> Status {
    SMELT_ASSIGN(auto rows, with.classify(given));
    for (const Classification &row : rows)
      values.insert(values.end(), row.probabilities.begin(), row.probabilities.end());
    return {};
  };
  return giveRows(encoder, texts, count, probabilities, capacity, needed, rowsOf);
}

smelt_status smelt_classify_tokens(smelt_encoder *encoder, const smelt_text *text, int32_t *tokens,
                                   float *probabilities, size_t capacity, size_t *needed) {
  return guarded([&]() -> smelt_status {
    std::vector<int32_t> ids;
    std::vector<float> values;
    Status status = [&]() -> Status {
      SMELT_NEED(encoder);
      SMELT_NEED(text);
      SMELT_NEED(needed);
      std::vector<EncoderText> given;
      SMELT_TRY(takeTexts(text, 1, given));
      SMELT_ASSIGN(auto classified, encoder->encoder->classifyTokens(given[0]));
      for (const ClassifiedToken &token : classified) {
        ids.push_back(token.id);
        values.insert(values.end(), token.classes.probabilities.begin(),
                      token.classes.probabilities.end());
      }
      return {};
    }();
    if (!status.ok())
      return report(status);
    smelt_status given = giveArray(ids.data(), ids.size(), tokens, capacity, needed);
    if (given == SMELT_OK && !values.empty()) {
      if (!probabilities)
        return report(nullArgument("probabilities"));
      std::memcpy(probabilities, values.data(), values.size() * sizeof(float));
    }
    return given;
  });
}
