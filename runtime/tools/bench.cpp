// smelt bench: load, prefill and decode of a model, with the machine's limits probed between the
// measurements.
#include "runtime/tools/bench.h"

#include "runtime/model/weight_parts.h"
#include "runtime/tools/bench_answers.h"
#include "runtime/tools/bench_clock.h"
#include "runtime/tools/bench_print.h"
#include "runtime/tools/bench_texts.h"
#include "runtime/tools/commands.h"
#include "runtime/tools/common.h"
#include "runtime/tools/probes.h"
#include "runtime/tools/progress.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include <sys/resource.h>

namespace smelt::cli {

namespace {

constexpr uint32_t prefillLengths[] = {64, 512, 2048};
constexpr uint32_t decodeContexts[] = {16, 1000, 4000};
constexpr uint32_t decodeTokens = 32; ///< timed together, so that a round is long beside the clock
constexpr uint32_t firstTokenPrompt = 16;
constexpr size_t slowestNodes = 16; ///< shown by --profile

double peakBytes() {
  struct rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  return double(usage.ru_maxrss) * 1024;
}

/// Tokens without meaning, spread over the vocabulary; always the same.
std::vector<int32_t> testTokens(uint32_t count, uint32_t vocabulary) {
  std::vector<int32_t> tokens;
  for (uint32_t i = 0; i < count; ++i)
    tokens.push_back(int32_t(uint64_t(i + 1) * 2654435761u % vocabulary));
  return tokens;
}

struct Series {
  uint32_t length;
  std::vector<double> tokensPerSecond;
  StepProfile profile = {};           ///< with --profile
  std::vector<uint64_t> perNode = {}; ///< per instruction of a tensor program
};

struct Measurements {
  double loadSeconds = 0, firstTokenSeconds = 0, peak = 0, barrierSeconds = 0;
  std::vector<Series> prefill, decode;
  std::vector<double> bandwidth;
  Json steps, slots, speculation; ///< bench_answers.h
  Json texts;                     ///< bench_texts.h
};

class Bench {
public:
  Bench(const BenchOptions &options, Progress &progress)
      : asked(options), progress(progress), rounds(std::max<uint64_t>(1, options.rounds)) {}

  /// `start`: when loading of the model began.
  Status run(std::shared_ptr<const Model> model, Clock::time_point start) {
    SMELT_TRY(open(std::move(model), start));
    const format::ModelConfig &config = session->model().config();
    // Longer prompts come in several steps, which a model that reads in both directions cannot.
    const uint32_t most =
        config.bidirectional ? std::min(config.maxTokens, session->context()) : session->context();
    for (uint32_t length : prefillLengths)
      if (length <= most)
        found.prefill.push_back({length, {}, {}, {}});
    tokens = testTokens(session->context(), config.vocabSize);

    progress.begin("prefill", rounds);
    for (uint64_t round = 0; round < rounds; ++round) {
      for (Series &series : found.prefill)
        SMELT_TRY(measurePrefill(series));
      progress.update(round + 1);
    }
    // Before the probe, whose buffer is no part of the model.
    found.peak = peakBytes();
    if (config.bidirectional) {
      progress.begin("texts");
      SMELT_ASSIGN(found.texts, measureTexts(session->sharedModel(), session->threads(), rounds));
    } else {
      SMELT_TRY(measureAnswers());
    }
    found.barrierSeconds = measureBarrier(session->threadTeam());
    if (asked.profile)
      SMELT_TRY(profile());
    progress.end();
    return {};
  }

  const Session &openedSession() const { return *session; }
  Measurements found;

private:
  /// The first token comes from what is cold in this process.
  Status open(std::shared_ptr<const Model> model, Clock::time_point start) {
    SessionOptions options;
    options.context = std::min(model->config().maxContext, longestContext());
    options.threads = asked.threads;
    uint32_t vocabulary = model->config().vocabSize;
    SMELT_ASSIGN(session, Session::create(std::move(model), options));
    found.loadSeconds = secondsSince(start);
    uint32_t count = std::min(firstTokenPrompt, session->context());
    SMELT_TRY(session->append(0, testTokens(count, vocabulary)));
    if (argmax(session->logits(0)) < 0)
      return internalError("the model gives no finite logit");
    found.firstTokenSeconds = secondsSince(start);
    return {};
  }

  static uint32_t longestContext() {
    return std::max(*std::max_element(std::begin(prefillLengths), std::end(prefillLengths)),
                    *std::max_element(std::begin(decodeContexts), std::end(decodeContexts)) +
                        decodeTokens + 1);
  }

  /// What only models that write text do: token after token, several at once, whole answers.
  Status measureAnswers() {
    for (uint32_t length : decodeContexts)
      if (length + decodeTokens < session->context())
        found.decode.push_back({length, {}, {}, {}});
    progress.begin("decode and bandwidth", rounds * found.decode.size());
    SMELT_ASSIGN(ReadProbe probe, ReadProbe::create(session->threadTeam()));
    uint64_t done = 0;
    for (Series &series : found.decode)
      for (uint64_t round = 0; round < rounds; ++round) {
        found.bandwidth.push_back(probe.measure());
        SMELT_TRY(measureDecode(series));
        progress.update(++done);
      }
    progress.begin("several tokens at once");
    SMELT_ASSIGN(found.steps, measureSteps(*session, rounds));
    SMELT_ASSIGN(found.slots, measureSlots(*session, rounds));
    progress.begin("answers with and without drafts");
    SMELT_ASSIGN(found.speculation, measureSpeculation(*session, rounds));
    return {};
  }

  Status measurePrefill(Series &series) {
    SMELT_TRY(session->truncate(0, 0));
    Clock::time_point start = Clock::now();
    SMELT_TRY(session->append(0, std::span(tokens).first(series.length)));
    series.tokensPerSecond.push_back(series.length / secondsSince(start));
    return {};
  }

  /// Brings the slot to `length` tokens, and takes one step: the first one after a prefill finds
  /// cold caches, or states that have to be made again.
  Status continueFrom(uint32_t length) {
    if (session->cached(0).size() > length)
      SMELT_TRY(session->truncate(0, length));
    auto held = uint32_t(session->cached(0).size());
    if (held < length)
      SMELT_TRY(session->append(0, std::span(tokens).subspan(held, length - held)));
    return decode(1, length);
  }

  Status measureDecode(Series &series) {
    SMELT_TRY(continueFrom(series.length));
    Clock::time_point start = Clock::now();
    SMELT_TRY(decode(decodeTokens, series.length + 1));
    series.tokensPerSecond.push_back(decodeTokens / secondsSince(start));
    return {};
  }

  Status decode(uint32_t count, uint32_t position) {
    int32_t row = 0;
    for (uint32_t i = 0; i < count; ++i) {
      Token token{tokens[position + i], int32_t(position + i), 0};
      SMELT_TRY(session->step({&token, 1}, {&row, 1}));
    }
    return {};
  }

  Status profile() {
    for (Series &series : found.prefill) {
      SMELT_TRY(session->truncate(0, 0));
      session->setProfile(&series.profile, &series.perNode);
      SMELT_TRY(session->append(0, std::span(tokens).first(series.length)));
    }
    for (Series &series : found.decode) {
      session->setProfile(nullptr);
      SMELT_TRY(continueFrom(series.length));
      session->setProfile(&series.profile, &series.perNode);
      SMELT_TRY(decode(decodeTokens, series.length + 1));
    }
    session->setProfile(nullptr);
    return {};
  }

  const BenchOptions &asked;
  Progress &progress;
  uint64_t rounds;
  std::unique_ptr<Session> session;
  std::vector<int32_t> tokens;
};

Json seriesJson(const std::vector<Series> &list) {
  Json out;
  for (const Series &series : list)
    out.set(std::to_string(series.length), median(series.tokensPerSecond));
  return out;
}

Json profileJson(const StepProfile &profile, double tokens) {
  Json out;
  for (size_t label = 0; label < opLabelCount; ++label)
    if (profile.calls[label] != 0)
      out.set(std::string(opLabelName(format::OpLabel(label))),
              double(profile.nanoseconds[label]) / tokens * 1e-3);
  return out;
}

/// Microseconds per token of the nodes of a tensor program that take the most time, in that order,
/// and of all others together.
Json nodesJson(const Artifact &artifact, const std::vector<uint64_t> &times, double tokens) {
  std::map<std::string, double> sums;
  for (size_t i = 0; i < times.size(); ++i) {
    const TensorProgram &program = *artifact.tensorProgram();
    sums[program.name(program.instructions[i].nodeName)] += double(times[i]) / tokens * 1e-3;
  }
  std::vector<std::pair<std::string, double>> nodes(sums.begin(), sums.end());
  std::sort(nodes.begin(), nodes.end(),
            [](const auto &a, const auto &b) { return a.second > b.second; });
  Json out;
  double rest = 0;
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (i < slowestNodes)
      out.set(nodes[i].first, nodes[i].second);
    else
      rest += nodes[i].second;
  }
  if (rest > 0)
    out.set("all others", rest);
  return out;
}

/// By length, microseconds per token of the kinds of operation, and of the nodes of a tensor
/// program; `tokens`: that were timed, 0: as many as the length.
Json profilesJson(const Artifact &artifact, const std::vector<Series> &list, double tokens) {
  Json out;
  for (const Series &series : list) {
    const double count = tokens > 0 ? tokens : series.length;
    Json one;
    one.set("operations", profileJson(series.profile, count));
    if (artifact.tensorProgram())
      one.set("nodes", nodesJson(artifact, series.perNode, count));
    out.set(std::to_string(series.length), one);
  }
  return out;
}

/// What every measurement begins with.
Json headOf(const BenchOptions &options, const Model &model, uint32_t threads, double loadSeconds,
            double peak) {
  Json out;
  out.set("file", options.model);
  out.set("bytes", model.artifact().fileBytes());
  out.set("target", model.target());
  out.set("threads", threads);
  out.set("load_seconds", loadSeconds);
  out.set("peak_bytes", peak);
  return out;
}

/// An encoder whose graph runs as it stands has no session, only texts.
Result<Json> measureGraphOfTexts(const std::shared_ptr<const Model> &model,
                                 const BenchOptions &options, double loadSeconds,
                                 Progress &progress) {
  const uint32_t threads = options.threads ? options.threads : defaultThreads();
  progress.begin("texts");
  SMELT_ASSIGN(Json texts, measureTexts(model, threads, std::max<uint64_t>(1, options.rounds)));
  progress.end();
  Json out = headOf(options, *model, threads, loadSeconds, peakBytes());
  out.set("texts", std::move(texts));
  return out;
}

/// What only models that write text have.
void setAnswers(const Measurements &found, const Artifact &artifact, Json &out) {
  const double weightBytes = double(weightBytesOfToken(artifact)),
               bandwidth = median(found.bandwidth);
  out.set("decode_tokens_per_second", seriesJson(found.decode));
  out.set("decode_weight_bytes", weightBytes);
  out.set("read_bytes_per_second", bandwidth);
  Json shares;
  for (const Series &series : found.decode)
    shares.set(std::to_string(series.length),
               median(series.tokensPerSecond) * weightBytes / bandwidth);
  out.set("share_of_read_bandwidth", shares);
  out.set("step_seconds", found.steps);
  out.set("slots_together", found.slots);
  out.set("speculation", found.speculation);
}

} // namespace

Result<Json> measureSpeed(const BenchOptions &options) {
  Progress progress(!options.quiet);
  progress.begin("load");
  Clock::time_point start = Clock::now();
  SMELT_ASSIGN(std::shared_ptr<const Model> model, Model::open(options.model, options.target));
  if (model->artifact().tensorProgram() && model->config().output != format::PortRole::Logits)
    return measureGraphOfTexts(model, options, secondsSince(start), progress);
  Bench bench(options, progress);
  SMELT_TRY(bench.run(std::move(model), start));
  const Measurements &found = bench.found;
  const Session &session = bench.openedSession();
  const Artifact &artifact = session.model().artifact();

  Json out = headOf(options, session.model(), session.threads(), found.loadSeconds, found.peak);
  out.set("first_token_seconds", found.firstTokenSeconds);
  out.set("session_bytes", session.reservedBytes());
  out.set("prefill_tokens_per_second", seriesJson(found.prefill));
  out.set("barrier_seconds", found.barrierSeconds);
  if (session.model().config().bidirectional)
    out.set("texts", found.texts);
  else
    setAnswers(found, artifact, out);
  if (options.profile) {
    out.set("prefill_profile", profilesJson(artifact, found.prefill, 0));
    if (!found.decode.empty())
      out.set("decode_profile", profilesJson(artifact, found.decode, decodeTokens));
  }
  return out;
}

Status commandBench(const Arguments &arguments) {
  BenchOptions options;
  options.model = arguments.operands[0];
  options.target = arguments.text("target");
  options.rounds = uint64_t(arguments.whole("rounds"));
  SMELT_ASSIGN(options.threads, threadCount(arguments));
  options.profile = arguments.flag("profile");
  options.quiet = arguments.flag("json");
  SMELT_ASSIGN(Json out, measureSpeed(options));
  if (arguments.flag("json"))
    std::puts(out.dump(2).c_str());
  else
    printSpeed(out);
  return {};
}

} // namespace smelt::cli
