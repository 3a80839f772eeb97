// Runs a model on the CPU and on a GPU and prints how far they are apart, for gpu_model_test.py.
//
// usage: gpu_probe compare CPU_ARTIFACT GPU_ARTIFACT DEVICE [GPU_LAYERS]
//        gpu_probe keep ARTIFACT DEVICE FILE     (prompts kept in other slots and in FILE)
//        gpu_probe fit ARTIFACT DEVICE           (layers that fit its memory)
//        gpu_probe limits ARTIFACT               (a Vulkan device with small allocations)
#include "runtime/devices/vulkan.h"
#include "runtime/model/devices.h"
#include "runtime/model/gpu_parts.h"
#include "runtime/model/prefix_cache.h"
#include "runtime/model/session.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <string>

using namespace smelt;

namespace {

constexpr size_t promptTokens = 75, answerTokens = 24; // longer than an attention block
constexpr uint32_t context = 128, slots = 3;

std::vector<int32_t> promptOf(const Model &model) {
  std::vector<int32_t> prompt(promptTokens);
  for (size_t i = 0; i < prompt.size(); ++i)
    prompt[i] = int32_t((i * i * 31 + 7 * i + 3) % model.config().vocabSize);
  return prompt;
}

Result<std::unique_ptr<Session>> open(const std::shared_ptr<const Model> &model,
                                      const std::string &device,
                                      std::optional<uint32_t> gpuLayers = {}) {
  SessionOptions options;
  options.context = context;
  options.slots = slots;
  options.threads = 1;
  options.device = device;
  options.gpuLayers = gpuLayers;
  return Session::create(model, options);
}

bool sameBits(std::span<const float> a, std::span<const float> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
    return std::bit_cast<uint32_t>(x) == std::bit_cast<uint32_t>(y);
  });
}

/// Logits after the prompt, given in chunks (0: at once).
Result<std::vector<float>> logitsOf(Session &session, int32_t slot, size_t chunk) {
  const std::vector<int32_t> prompt = promptOf(session.model());
  SMELT_TRY(session.truncate(slot, 0));
  for (size_t at = 0; at < prompt.size();) {
    const size_t count = chunk ? std::min(chunk, prompt.size() - at) : prompt.size();
    SMELT_TRY(session.append(slot, std::span(prompt).subspan(at, count)));
    at += count;
  }
  return std::vector<float>(session.logits(0).begin(), session.logits(0).end());
}

/// The likeliest tokens after the prompt, as the device finds them or by its logits.
Result<std::vector<int32_t>> answerOf(Session &session, StepOutput output) {
  std::vector<int32_t> next = promptOf(session.model()), answer;
  SMELT_TRY(session.truncate(0, 0));
  for (size_t i = 0; i < answerTokens; ++i) {
    SMELT_TRY(session.append(0, next, nullptr, output));
    next = {int32_t(output == StepOutput::Likeliest ? session.likeliest(0)
                                                    : argmax(session.logits(0)))};
    answer.push_back(next[0]);
  }
  return answer;
}

/// Tokens drawn after the prompt, of what the step is asked for.
Result<std::vector<int32_t>> sampled(Session &session, StepOutput output) {
  SMELT_ASSIGN(Sampler sampler, Sampler::create({.temperature = 1, .topK = 10, .seed = 3},
                                                session.model().config().vocabSize));
  std::vector<int32_t> next = promptOf(session.model()), answer;
  SMELT_TRY(session.truncate(0, 0));
  for (size_t i = 0; i < answerTokens; ++i) {
    SMELT_TRY(session.append(0, next, nullptr, output));
    const std::span<const LikelyToken> likely = session.likely(0);
    SMELT_ASSIGN(int32_t token,
                 likely.empty() ? sampler.sample(session.logits(0), {}) : sampler.sampleOf(likely));
    next = {token};
    answer.push_back(token);
  }
  return answer;
}

/// The largest difference in standard deviations of the logits.
double errorOf(std::span<const float> got, std::span<const float> expected) {
  double sum = 0, squares = 0, most = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    sum += expected[i];
    squares += double(expected[i]) * expected[i];
    most = std::max(most, std::fabs(double(got[i]) - expected[i]));
  }
  const double n = double(got.size());
  return most / std::sqrt(squares / n - sum / n * (sum / n));
}

Status compare(const char *cpuPath, const char *gpuPath, const char *device,
               std::optional<uint32_t> gpuLayers) {
  SMELT_ASSIGN(std::shared_ptr<const Model> cpuModel, Model::open(cpuPath));
  SMELT_ASSIGN(std::shared_ptr<const Model> gpuModel, Model::open(gpuPath));
  SMELT_ASSIGN(std::unique_ptr<Session> cpu, open(cpuModel, "cpu"));
  SMELT_ASSIGN(std::unique_ptr<Session> gpu, open(gpuModel, device, gpuLayers));
  SMELT_ASSIGN(std::vector<float> expected, logitsOf(*cpu, 0, 0));
  SMELT_ASSIGN(std::vector<float> got, logitsOf(*gpu, 0, 0));
  std::printf("error %.3g\n", errorOf(got, expected));

  // A step's rows do not change each other, wherever they lie.
  bool isSame = true;
  for (auto [slot, chunk] : {std::pair<int32_t, size_t>(1, 1), {2, 7}, {0, 64}}) {
    SMELT_ASSIGN(std::vector<float> other, logitsOf(*gpu, slot, chunk));
    isSame &= sameBits(got, other);
  }
  std::printf("same %d\n", isSame);
  SMELT_ASSIGN(std::vector<int32_t> wanted, answerOf(*cpu, StepOutput::Logits));
  for (auto [name, output] :
       {std::pair("tokens", StepOutput::Logits), {"likeliest", StepOutput::Likeliest}}) {
    SMELT_ASSIGN(std::vector<int32_t> answer, answerOf(*gpu, output));
    auto differs = std::mismatch(answer.begin(), answer.end(), wanted.begin()).first;
    std::printf("%s %td of %zu\n", name, differs - answer.begin(), wanted.size());
  }
  SMELT_ASSIGN(std::vector<int32_t> ofAll, sampled(*gpu, StepOutput::Logits));
  SMELT_ASSIGN(std::vector<int32_t> ofFew, sampled(*gpu, StepOutput::Likely));
  std::printf("sampled %d\n", ofAll == ofFew);
  return {};
}

/// Logits of the prompt's last token, where what is before it is not computed again.
Result<std::vector<float>> continued(Session &session, int32_t slot) {
  const std::vector<int32_t> prompt = promptOf(session.model());
  SMELT_TRY(session.append(slot, std::span(prompt).last(1)));
  return std::vector<float>(session.logits(0).begin(), session.logits(0).end());
}

Status keep(const char *path, const char *device, const char *file) {
  SMELT_ASSIGN(std::shared_ptr<const Model> model, Model::open(path));
  SMELT_ASSIGN(std::unique_ptr<Session> session, open(model, device));
  const std::vector<int32_t> prompt = promptOf(*model);
  SMELT_ASSIGN(std::vector<float> expected, logitsOf(*session, 0, 0));
  SMELT_ASSIGN(uint32_t reused, session->reuse(2, std::span(prompt).first(promptTokens - 1)));
  SMELT_ASSIGN(std::vector<float> copied, continued(*session, 2));
  std::printf("reused %u %d\n", reused, sameBits(expected, copied));

  SMELT_TRY(savePrefix(*session, 0, promptTokens - 1, file));
  SMELT_ASSIGN(std::unique_ptr<Session> other, open(model, device));
  SMELT_ASSIGN(uint32_t loaded, loadPrefix(*other, 1, file));
  SMELT_ASSIGN(std::vector<float> after, continued(*other, 1));
  std::printf("loaded %u %d\n", loaded, sameBits(expected, after));
  // The CPU goes on with what the GPU has computed.
  SMELT_ASSIGN(std::unique_ptr<Session> cpu, open(model, "cpu"));
  SMELT_TRY(loadPrefix(*cpu, 0, file).status());
  SMELT_ASSIGN(std::vector<float> onCpu, continued(*cpu, 0));
  std::printf("error %.3g\n", errorOf(onCpu, expected));
  return {};
}

Result<std::unique_ptr<FirstLayers>> openWithin(const std::shared_ptr<const Model> &model,
                                                const GpuLimits &limits) {
  ChosenDevice chosen;
  SMELT_ASSIGN(chosen.device, openVulkanDevice(0, limits));
  return createGpuBackend(model, std::move(chosen), context, slots, model->config().layers);
}

Status limits(const char *path) {
  SMELT_ASSIGN(std::shared_ptr<const Model> model, Model::open(path));
  SMELT_ASSIGN(std::unique_ptr<Session> whole, open(model, "vulkan"));
  SMELT_ASSIGN(std::vector<float> expected, logitsOf(*whole, 0, 0));

  // Room for the largest part of what is divided, and for what is not.
  const format::ModelConfig &config = model->config();
  SMELT_ASSIGN(const CacheParts caches, cacheParts(*model, slots, context, config.layers));
  const std::vector<GpuArea::Part> weights = weightParts(*model, config.layers);
  uint64_t largest = 0;
  for (const auto *parts : {&weights, &caches.keys, &caches.values})
    for (const GpuArea::Part &part : *parts)
      largest = std::max(largest, part.bytes);
  const uint64_t enough =
      std::max({largest, config.scratchBytes,
                uint64_t(config.maxLogitRows) * config.vocabSize * sizeof(float)});
  SMELT_ASSIGN(std::unique_ptr<FirstLayers> small,
               openWithin(model, {.allocationBytes = enough, .operandBytes = enough}));
  std::vector<Token> tokens;
  for (int32_t id : promptOf(*model))
    tokens.push_back({id, int32_t(tokens.size()), 0});
  const auto last = int32_t(tokens.size()) - 1;
  SMELT_TRY(small->step(tokens, {&last, 1}, StepOutput::Logits, {}));
  std::printf("memories %.1f\n", double(model->artifact().weights().size()) / double(enough));
  std::printf("same %d\n", sameBits(small->logits(0), expected));

  auto tooSmall = openWithin(model, {.operandBytes = largest - 4});
  std::printf("refused %s\n", tooSmall.status().message().c_str());
  return {};
}

Status fit(const char *path, const char *device) {
  SMELT_ASSIGN(std::shared_ptr<const Model> model, Model::open(path));
  SMELT_ASSIGN(ChosenDevice chosen, chooseDevice(*model, device));
  SMELT_ASSIGN(uint32_t layers, layersThatFit(*model, *chosen.device, context, slots));
  std::printf("layers %u\n", layers);
  return {};
}

} // namespace

int main(int argc, char **argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  Status status;
  if (what == "compare" && (argc == 5 || argc == 6))
    status = compare(argv[2], argv[3], argv[4],
                     argc == 6 ? std::optional(uint32_t(std::stoul(argv[5]))) : std::nullopt);
  else if (what == "keep" && argc == 5)
    status = keep(argv[2], argv[3], argv[4]);
  else if (what == "fit" && argc == 4)
    status = fit(argv[2], argv[3]);
  else if (what == "limits" && argc == 3)
    status = limits(argv[2]);
  else {
    std::fprintf(stderr, "usage: gpu_probe compare|keep|fit|limits ..., see gpu_probe.cpp\n");
    return 2;
  }
  if (!status.ok())
    std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
