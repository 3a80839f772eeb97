// Measures a model on a device: tokens per second of prefill and decode, and how far its
// predictions are from the CPU's, or how far both are from a reference's on the CPU. Prints one
// JSON object. Run by tests/bench/gpu.
//
// usage: gpu_speed ARTIFACT DEVICE PREFILL,... CONTEXT,... ROUNDS [TEXT WINDOWS [REFERENCE]]
#include "runtime/base/json.h"
#include "runtime/model/session.h"
#include "runtime/model/weight_parts.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

using namespace smelt;
using Clock = std::chrono::steady_clock;

namespace {

constexpr uint32_t decodedTokens = 32, warmTokens = 2, windowTokens = 256;

double secondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  auto middle = values.begin() + std::ptrdiff_t(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

std::vector<uint32_t> numbers(const std::string &list) {
  std::vector<uint32_t> found;
  for (size_t at = 0; at < list.size();) {
    const size_t end = std::min(list.find(',', at), list.size());
    found.push_back(uint32_t(std::stoul(list.substr(at, end - at))));
    at = end + 1;
  }
  return found;
}

/// Tokens that no cache has seen in this order.
std::vector<int32_t> someTokens(uint32_t count, uint32_t vocabulary) {
  std::vector<int32_t> tokens(count);
  for (uint32_t i = 0; i < count; ++i)
    tokens[i] = int32_t((i * 2654435761u >> 7) % vocabulary);
  return tokens;
}

Result<std::unique_ptr<Session>> open(const std::shared_ptr<const Model> &model,
                                      const std::string &device, uint32_t context) {
  SessionOptions options;
  options.context = std::min(context, model->config().maxContext);
  options.device = device;
  return Session::create(model, options);
}

Result<double> prefillSeconds(Session &session, std::span<const int32_t> tokens) {
  SMELT_TRY(session.truncate(0, 0));
  const Clock::time_point start = Clock::now();
  SMELT_TRY(session.append(0, tokens, nullptr, StepOutput::Likeliest));
  return secondsSince(start);
}

/// Greedy tokens one by one behind `tokens`.
Result<double> decodeSeconds(Session &session, std::span<const int32_t> tokens) {
  SMELT_TRY(prefillSeconds(session, tokens).status());
  Clock::time_point start = Clock::now();
  for (uint32_t i = 0; i < warmTokens + decodedTokens; ++i) {
    if (i == warmTokens)
      start = Clock::now();
    const auto next = int32_t(session.likeliest(0));
    SMELT_TRY(session.append(0, std::span(&next, 1), nullptr, StepOutput::Likeliest));
  }
  return secondsSince(start);
}

/// The mean of sum p (ln p - ln q) over the tokens of the second half of each window: p the
/// expected probabilities, q those that were got.
class Divergence {
public:
  void add(std::span<const float> expected, std::span<const float> got) {
    const double p = logSum(expected), q = logSum(got);
    double sum = 0;
    for (size_t i = 0; i < expected.size(); ++i)
      sum += std::exp(expected[i] - p) * ((expected[i] - p) - (got[i] - q));
    total += sum;
    same += argmax(expected) == argmax(got);
    ++count;
  }
  double mean() const { return total / count; }
  double total = 0, same = 0, count = 0;

private:
  static double logSum(std::span<const float> logits) {
    const float most = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (float logit : logits)
      sum += std::exp(double(logit) - most);
    return most + std::log(sum);
  }
};

Result<std::vector<int32_t>> tokensOf(const Model &model, const std::string &path) {
  if (!model.tokenizer())
    return someTokens(8 * windowTokens, model.config().vocabSize);
  std::ifstream file(path, std::ios::binary);
  if (!file)
    return notFound("cannot open " + path);
  return model.encode(std::string(std::istreambuf_iterator<char>(file), {}), false, false);
}

struct Divergences {
  Divergence device, cpu; ///< the CPU's is nothing where it is the reference
};

/// Of the predictions of `onDevice` from those of `reference` on the CPU, and, where that is
/// another model, of the CPU's.
Result<Divergences> divergences(const std::shared_ptr<const Model> &model,
                                const std::shared_ptr<const Model> &reference, Session &onDevice,
                                const std::string &text, uint32_t windows) {
  SMELT_ASSIGN(std::unique_ptr<Session> expected, open(reference, "cpu", windowTokens));
  std::unique_ptr<Session> onCpu;
  if (model != reference) {
    SMELT_ASSIGN(onCpu, open(model, "cpu", windowTokens));
  }
  std::vector<Session *> all = {expected.get(), &onDevice};
  if (onCpu)
    all.push_back(onCpu.get());
  SMELT_ASSIGN(std::vector<int32_t> tokens, tokensOf(*model, text));
  uint32_t window = windowTokens, rowsOfStep = windowTokens;
  for (const Session *session : all) {
    const format::ModelConfig &config = session->model().config();
    window = std::min(window, session->context());
    rowsOfStep = std::min({rowsOfStep, config.maxLogitRows, config.maxTokens});
  }
  Divergences found;
  for (uint32_t w = 0; w < windows && (w + 1) * window <= tokens.size(); ++w) {
    std::span<const int32_t> part = std::span(tokens).subspan(w * window, window);
    for (Session *session : all) {
      SMELT_TRY(session->truncate(0, 0));
      SMELT_TRY(session->append(0, part.first(window / 2)));
    }
    for (uint32_t at = window / 2; at < window; at += rowsOfStep) {
      std::vector<Token> step;
      std::vector<int32_t> rows;
      for (uint32_t i = at; i < std::min(window, at + rowsOfStep); ++i) {
        rows.push_back(int32_t(step.size()));
        step.push_back({part[i], int32_t(i), 0});
      }
      for (Session *session : all)
        SMELT_TRY(session->step(step, rows));
      for (size_t row = 0; row < rows.size(); ++row) {
        found.device.add(expected->logits(row), onDevice.logits(row));
        if (onCpu)
          found.cpu.add(expected->logits(row), onCpu->logits(row));
      }
    }
  }
  if (found.device.count == 0)
    return invalidArgument("the text has fewer tokens than a window");
  return found;
}

Status measure(int argc, char **argv) {
  const std::string device = argv[2];
  const std::vector<uint32_t> prefills = numbers(argv[3]), contexts = numbers(argv[4]);
  const int rounds = std::stoi(argv[5]);
  const Clock::time_point start = Clock::now();
  SMELT_ASSIGN(std::shared_ptr<const Model> model, Model::open(argv[1]));
  const uint32_t longest =
      std::max({*std::max_element(prefills.begin(), prefills.end()), windowTokens,
                *std::max_element(contexts.begin(), contexts.end()) + warmTokens + decodedTokens});
  SMELT_ASSIGN(std::unique_ptr<Session> session, open(model, device, longest));
  Json out;
  out.set("load_seconds", secondsSince(start));
  const std::vector<int32_t> tokens = someTokens(session->context(), model->config().vocabSize);
  SMELT_TRY(prefillSeconds(*session, std::span(tokens).first(1)).status()); // warms up

  Json prefill, decode;
  for (uint32_t length : prefills) {
    std::vector<double> speeds;
    for (int i = 0; i < rounds && length <= session->context(); ++i) {
      SMELT_ASSIGN(double seconds, prefillSeconds(*session, std::span(tokens).first(length)));
      speeds.push_back(length / seconds);
    }
    if (!speeds.empty())
      prefill.set(std::to_string(length), median(speeds));
  }
  for (uint32_t length : contexts) {
    std::vector<double> speeds;
    const bool fits = length + warmTokens + decodedTokens <= session->context();
    for (int i = 0; i < rounds && fits; ++i) {
      SMELT_ASSIGN(double seconds, decodeSeconds(*session, std::span(tokens).first(length)));
      speeds.push_back(decodedTokens / seconds);
    }
    if (!speeds.empty())
      decode.set(std::to_string(length), median(speeds));
  }
  out.set("prefill", std::move(prefill));
  out.set("decode", std::move(decode));
  out.set("weight_bytes", weightBytesOfToken(model->artifact()));
  if (argc >= 8) {
    std::shared_ptr<const Model> reference = model;
    if (argc == 9) {
      SMELT_ASSIGN(reference, Model::open(argv[8]));
    }
    SMELT_ASSIGN(Divergences found,
                 divergences(model, reference, *session, argv[6], uint32_t(std::stoul(argv[7]))));
    out.set("kl", found.device.mean());
    out.set("same_top", found.device.same / found.device.count);
    out.set("kl_tokens", found.device.count);
    if (argc == 9)
      out.set("kl_cpu", found.cpu.mean());
  }
  std::puts(out.dump(0).c_str());
  return {};
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 6 && argc != 8 && argc != 9) {
    std::fprintf(stderr, "usage: gpu_speed ARTIFACT DEVICE PREFILL,... CONTEXT,... ROUNDS "
                         "[TEXT WINDOWS [REFERENCE]]\n");
    return 2;
  }
  const Status status = measure(argc, argv);
  if (!status.ok())
    std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
