// llama.cpp as a peer on a GPU: tokens per second of prefill and greedy decode, as gpu_speed
// measures smelt's. Prints one JSON object. Built by tests/bench/build_llama_cuda.
//
// usage: llama_speed GGUF PREFILL,... CONTEXT,... ROUNDS [cpu]
#include "ggml-backend.h"
#include "llama.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
constexpr int decodedTokens = 32, warmTokens = 4;

std::vector<int> numbers(const char *list) {
  std::vector<int> found;
  for (const char *at = list; at; at = std::strchr(at, ',') ? std::strchr(at, ',') + 1 : nullptr)
    found.push_back(std::atoi(at));
  return found;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

class Engine {
public:
  Engine(const char *path, int positions, bool onGpu) {
    llama_model_params loading = llama_model_default_params();
    loading.n_gpu_layers = onGpu ? 999 : 0;
    model = llama_model_load_from_file(path, loading);
    if (!model)
      return;
    vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
    llama_context_params options = llama_context_default_params();
    options.n_ctx = options.n_batch = uint32_t(positions);
    options.n_ubatch = 512;
    context = llama_init_from_model(model, options);
  }
  ~Engine() {
    llama_free(context);
    llama_model_free(model);
  }
  bool works() const { return context; }

  /// Seconds; negative: it failed.
  double prefill(int length) {
    llama_memory_clear(llama_get_memory(context), true);
    std::vector<llama_token> tokens;
    for (int i = 0; i < length; ++i)
      tokens.push_back(llama_token((uint32_t(i) * 2654435761u >> 7) % uint32_t(vocabulary)));
    const Clock::time_point start = Clock::now();
    return feed(tokens) ? secondsSince(start) : -1;
  }
  double decode(int length) {
    if (prefill(length) < 0)
      return -1;
    Clock::time_point start = Clock::now();
    for (int i = 0; i < warmTokens + decodedTokens; ++i) {
      if (i == warmTokens)
        start = Clock::now();
      std::vector<llama_token> next = {likeliest()};
      if (!feed(next))
        return -1;
    }
    return secondsSince(start);
  }

private:
  llama_model *model = nullptr;
  llama_context *context = nullptr;
  int vocabulary = 0;

  static double secondsSince(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  }
  bool feed(std::vector<llama_token> &tokens) {
    const bool done =
        llama_decode(context, llama_batch_get_one(tokens.data(), int32_t(tokens.size()))) == 0;
    llama_synchronize(context);
    return done;
  }
  llama_token likeliest() {
    const float *logits = llama_get_logits_ith(context, -1);
    return llama_token(std::max_element(logits, logits + vocabulary) - logits);
  }
};

/// Prints a field of speeds; false: a run failed.
template <typename Measure>
bool print(const char *name, const std::vector<int> &lengths, int rounds, const Measure &measure) {
  std::printf("\"%s\": {", name);
  for (size_t i = 0; i < lengths.size(); ++i) {
    std::vector<double> speeds;
    for (int round = 0; round < rounds; ++round)
      speeds.push_back(measure(lengths[i]));
    if (speeds.back() < 0)
      return false;
    std::printf("%s\"%d\": %g", i ? ", " : "", lengths[i], median(speeds));
  }
  std::printf("}");
  return true;
}

} // namespace

int main(int argc, char **argv) {
  if (argc < 5) {
    std::fprintf(stderr, "usage: llama_speed GGUF PREFILL,... CONTEXT,... ROUNDS [cpu]\n");
    return 2;
  }
  const std::vector<int> prefills = numbers(argv[2]), contexts = numbers(argv[3]);
  const int rounds = std::atoi(argv[4]);
  const bool onGpu = argc < 6;
  llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
  llama_backend_init();
  if (onGpu && !llama_supports_gpu_offload()) {
    std::fprintf(stderr, "llama.cpp finds no GPU\n");
    return 1;
  }
  const int longest =
      std::max(*std::max_element(prefills.begin(), prefills.end()),
               *std::max_element(contexts.begin(), contexts.end()) + warmTokens + decodedTokens);
  Engine engine(argv[1], longest + 64, onGpu);
  if (!engine.works() || engine.prefill(32) < 0) {
    std::fprintf(stderr, "llama.cpp cannot run %s\n", argv[1]);
    return 1;
  }
  std::printf("{");
  bool done = print("prefill", prefills, rounds, [&](int n) { return n / engine.prefill(n); });
  std::printf(", ");
  done = done &&
         print("decode", contexts, rounds, [&](int n) { return decodedTokens / engine.decode(n); });
  std::printf("}\n");
  return done ? 0 : 1;
}
