// C++20 over smelt.h, header only: owning handles, exceptions or none, no other dependency.
//
//   smelt::api::Model model("model.smelt");
//   smelt::api::Session session(model);
//   smelt::api::GenerateOptions options(model);
//   options.onText = [](std::string_view text) { std::cout << text << std::flush; return true; };
//   session.generate(model.chat({{"user", "Hello"}}), options);
#pragma once

#include "smelt/smelt.h"

#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace smelt::api {

/// What failed calls throw.
class Error : public std::runtime_error {
public:
  explicit Error(smelt_status status) : std::runtime_error(smelt_last_error()), code(status) {}
  smelt_status status() const { return code; }

private:
  smelt_status code;
};

inline void check(smelt_status status) {
  if (status != SMELT_OK)
    throw Error(status);
}

struct Message {
  std::string role, content;
};

/// An opened artifact. Cheap to copy; copies share it.
class Model {
public:
  explicit Model(const std::string &path, const std::string &target = {}) {
    smelt_model_options options = SMELT_MODEL_OPTIONS_INIT;
    options.target = target.empty() ? nullptr : target.c_str();
    smelt_model *opened = nullptr;
    check(smelt_model_open(path.c_str(), &options, &opened));
    handle.reset(opened, smelt_model_close);
  }

  smelt_model_info info() const {
    smelt_model_info value = SMELT_MODEL_INFO_INIT;
    check(smelt_model_get_info(get(), &value));
    return value;
  }

  std::vector<int32_t> tokenize(std::string_view text, uint32_t flags = 0) const {
    return grown<std::vector<int32_t>>(text.size() + 16, [&](auto &out, size_t *needed) {
      return smelt_tokenize(get(), text.data(), text.size(), flags, out.data(), out.size(), needed);
    });
  }

  std::string detokenize(std::span<const int32_t> tokens) const {
    return grown<std::string>(tokens.size() * 8 + 64, [&](auto &out, size_t *needed) {
      return smelt_detokenize(get(), tokens.data(), tokens.size(), out.data(), out.size(), needed);
    });
  }

  std::string applyTemplate(std::span<const Message> messages, bool generationPrompt = true) const {
    std::vector<smelt_message> plain;
    for (const Message &message : messages)
      plain.push_back({message.role.c_str(), message.content.c_str()});
    return grown<std::string>(4096, [&](auto &out, size_t *needed) {
      return smelt_apply_chat_template(get(), plain.data(), plain.size(), generationPrompt,
                                       out.data(), out.size(), needed);
    });
  }

  /// The prompt of a conversation, ready for Session::generate.
  std::vector<int32_t> chat(const std::vector<Message> &messages) const {
    return tokenize(applyTemplate(messages), SMELT_TOKENIZE_NO_BOS);
  }

  smelt_model *get() const { return handle.get(); }

private:
  /// Calls with a first guess of the size, and again with the size that was asked for.
  template <typename Out, typename Call> static Out grown(size_t guess, Call &&call) {
    Out out;
    out.resize(guess);
    size_t needed = 0;
    smelt_status status = call(out, &needed);
    if (status == SMELT_BUFFER_TOO_SMALL) {
      out.resize(needed);
      status = call(out, &needed);
    }
    check(status);
    out.resize(needed);
    return out;
  }

  std::shared_ptr<smelt_model> handle;
};

/// Options of Session::generate; the constructor takes the model's own defaults.
struct GenerateOptions {
  explicit GenerateOptions(const Model &model) {
    check(smelt_generate_defaults(model.get(), &sampling));
  }
  /// Sampling and limits; `stop`, `on_text` and `user` are filled in by Session::generate.
  smelt_generate_options sampling = SMELT_GENERATE_OPTIONS_INIT;
  std::vector<std::string> stop;
  /// Receives the answer as it comes; false ends it.
  std::function<bool(std::string_view)> onText;
};

class Session {
public:
  explicit Session(const Model &model, uint32_t context = 0, uint32_t slots = 1,
                   uint32_t threads = 0, const Model *draft = nullptr, const char *device = nullptr,
                   uint32_t gpuLayers = 0)
      : owner(model) {
    smelt_session_options options = SMELT_SESSION_OPTIONS_INIT;
    options.device = device;
    options.gpu_layers = gpuLayers;
    options.draft = draft ? draft->get() : nullptr;
    options.context = context;
    options.slots = slots;
    options.threads = threads;
    smelt_session *created = nullptr;
    check(smelt_session_create(model.get(), &options, &created));
    handle.reset(created);
  }

  void step(std::span<const smelt_token> tokens, std::span<const int32_t> logitRows) {
    check(smelt_step(get(), tokens.data(), tokens.size(), logitRows.data(), logitRows.size()));
  }
  void append(int32_t slot, std::span<const int32_t> tokens) {
    check(smelt_append(get(), slot, tokens.data(), tokens.size()));
  }
  void truncate(int32_t slot, uint32_t length) { check(smelt_truncate(get(), slot, length)); }
  /// What the slot holds, to a file and back.
  void save(int32_t slot, const std::string &path) const {
    check(smelt_slot_save(get(), slot, path.c_str()));
  }
  void load(int32_t slot, const std::string &path) {
    check(smelt_slot_load(get(), slot, path.c_str()));
  }
  int64_t length(int32_t slot) const { return smelt_slot_length(get(), slot); }

  /// Logits of a row of the last step; empty if it was not asked for.
  std::span<const float> logits(size_t row) const {
    const float *found = smelt_logits(get(), row);
    return {found, found ? owner.info().vocab_size : 0};
  }

  smelt_generate_result generate(std::span<const int32_t> prompt, const GenerateOptions &options,
                                 int32_t slot = 0) {
    smelt_generate_options plain = options.sampling;
    std::vector<const char *> stops;
    for (const std::string &stop : options.stop)
      stops.push_back(stop.c_str());
    plain.stop = stops.data();
    plain.stop_count = stops.size();
    Stream stream{&options.onText, {}};
    plain.on_text = options.onText ? receive : nullptr;
    plain.user = &stream;
    smelt_generate_result result = SMELT_GENERATE_RESULT_INIT;
    smelt_status status =
        smelt_generate(get(), slot, prompt.data(), prompt.size(), &plain, &result);
    if (stream.thrown)
      std::rethrow_exception(stream.thrown);
    check(status);
    return result;
  }

  /// The ids that the last generate() sampled, the end token included.
  std::vector<int32_t> generatedTokens() const {
    size_t needed = 0;
    (void)smelt_generated_tokens(get(), nullptr, 0, &needed);
    std::vector<int32_t> tokens(needed);
    check(smelt_generated_tokens(get(), tokens.data(), tokens.size(), &needed));
    return tokens;
  }

  /// May be called from any thread and from signal handlers.
  void cancel() { smelt_cancel(get()); }
  smelt_session *get() const { return handle.get(); }

private:
  struct Stream {
    const std::function<bool(std::string_view)> *onText;
    std::exception_ptr thrown; ///< must not cross the C interface
  };
  static int32_t receive(const char *text, size_t bytes, void *user) {
    Stream &stream = *static_cast<Stream *>(user);
    try {
      return (*stream.onText)({text, bytes}) ? 0 : 1;
    } catch (...) {
      stream.thrown = std::current_exception();
      return 1;
    }
  }
  struct Free {
    void operator()(smelt_session *session) const { smelt_session_free(session); }
  };

  Model owner;
  std::unique_ptr<smelt_session, Free> handle;
};

/// The graph of a model that runs whole tensors.
class Graph {
public:
  /// An input; `data` is only read during run().
  struct Tensor {
    std::string name;
    smelt_type type;
    std::vector<int64_t> dims;
    const void *data;
  };
  explicit Graph(const Model &model, uint32_t threads = 0, uint64_t memoryLimit = 0)
      : owner(model) {
    smelt_graph_options options = SMELT_GRAPH_OPTIONS_INIT;
    options.threads = threads;
    options.memory_limit = memoryLimit;
    smelt_graph *created = nullptr;
    check(smelt_graph_create(model.get(), &options, &created));
    handle.reset(created);
  }

  std::vector<smelt_port> inputs() const {
    return ports(smelt_graph_input_count(get()), smelt_graph_input);
  }
  std::vector<smelt_port> outputs() const {
    return ports(smelt_graph_output_count(get()), smelt_graph_output);
  }

  void run(std::span<const Tensor> tensors) {
    std::vector<smelt_tensor> plain;
    for (const Tensor &tensor : tensors) {
      smelt_tensor &made = plain.emplace_back();
      made = {tensor.name.c_str(), tensor.type, uint32_t(tensor.dims.size()), {}, tensor.data};
      for (size_t axis = 0; axis < tensor.dims.size() && axis < SMELT_MAX_RANK; ++axis)
        made.dims[axis] = tensor.dims[axis];
    }
    check(smelt_graph_run(get(), plain.data(), plain.size()));
  }
  /// An output of the last run; its data lives until the end of the next one.
  smelt_tensor result(size_t index) const {
    smelt_tensor found = {};
    check(smelt_graph_result(get(), index, &found));
    return found;
  }

  smelt_graph *get() const { return handle.get(); }

private:
  template <typename Call> std::vector<smelt_port> ports(size_t count, Call &&call) const {
    std::vector<smelt_port> list(count, smelt_port SMELT_PORT_INIT);
    for (size_t i = 0; i < count; ++i)
      check(call(get(), i, &list[i]));
    return list;
  }
  struct Free {
    void operator()(smelt_graph *graph) const { smelt_graph_free(graph); }
  };

  Model owner;
  std::unique_ptr<smelt_graph, Free> handle;
};

} // namespace smelt::api
