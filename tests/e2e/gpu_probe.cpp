// Runs a model on the CPU and on a GPU and prints how far they are apart, for gpu_model_test.py.
//
// usage: gpu_probe CPU_ARTIFACT GPU_ARTIFACT DEVICE
#include "runtime/model/session.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <string>

using namespace smelt;

namespace {

constexpr size_t promptTokens = 75, answerTokens = 24; // longer than an attention block

std::vector<int32_t> promptOf(const Model &model) {
  std::vector<int32_t> prompt(promptTokens);
  for (size_t i = 0; i < prompt.size(); ++i)
    prompt[i] = int32_t((i * i * 31 + 7 * i + 3) % model.config().vocabSize);
  return prompt;
}

Result<std::unique_ptr<Session>> open(const std::shared_ptr<const Model> &model,
                                      const std::string &device) {
  SessionOptions options;
  options.context = 128;
  options.slots = 3;
  options.threads = 1;
  options.device = device;
  return Session::create(model, options);
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

/// The likeliest tokens after the prompt.
Result<std::vector<int32_t>> answerOf(Session &session) {
  SMELT_TRY(logitsOf(session, 0, 0).status());
  std::vector<int32_t> answer;
  for (size_t i = 0; i < answerTokens; ++i) {
    auto logits = session.logits(0);
    answer.push_back(int32_t(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    SMELT_TRY(session.append(0, std::span(&answer.back(), 1)));
  }
  return answer;
}

Status compare(const char *cpuPath, const char *gpuPath, const char *device) {
  SMELT_ASSIGN(std::shared_ptr<const Model> cpuModel, Model::open(cpuPath));
  SMELT_ASSIGN(std::shared_ptr<const Model> gpuModel, Model::open(gpuPath));
  SMELT_ASSIGN(std::unique_ptr<Session> cpu, open(cpuModel, "cpu"));
  SMELT_ASSIGN(std::unique_ptr<Session> gpu, open(gpuModel, device));
  SMELT_ASSIGN(std::vector<float> expected, logitsOf(*cpu, 0, 0));
  SMELT_ASSIGN(std::vector<float> got, logitsOf(*gpu, 0, 0));
  double sum = 0, squares = 0, most = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    sum += expected[i];
    squares += double(expected[i]) * expected[i];
    most = std::max(most, std::fabs(double(got[i]) - expected[i]));
  }
  const double n = double(got.size());
  const double deviation = std::sqrt(squares / n - sum / n * (sum / n));
  std::printf("error %.3g\n", most / deviation);

  // A step's rows do not change each other, wherever they lie.
  bool isSame = true;
  for (auto [slot, chunk] : {std::pair<int32_t, size_t>(1, 1), {2, 7}, {0, 64}}) {
    SMELT_ASSIGN(std::vector<float> other, logitsOf(*gpu, slot, chunk));
    for (size_t i = 0; i < got.size(); ++i)
      isSame &= std::bit_cast<uint32_t>(got[i]) == std::bit_cast<uint32_t>(other[i]);
  }
  std::printf("same %d\n", isSame);
  SMELT_ASSIGN(std::vector<int32_t> wanted, answerOf(*cpu));
  SMELT_ASSIGN(std::vector<int32_t> answer, answerOf(*gpu));
  auto differs = std::mismatch(answer.begin(), answer.end(), wanted.begin()).first;
  std::printf("tokens %td of %zu\n", differs - answer.begin(), wanted.size());
  return {};
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: gpu_probe CPU_ARTIFACT GPU_ARTIFACT DEVICE\n");
    return 2;
  }
  const Status status = compare(argv[1], argv[2], argv[3]);
  if (!status.ok())
    std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
