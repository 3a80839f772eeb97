// The two kinds of models that are evaluated.
#include "compiler/driver/evaluated_model.h"

#include "calibration/collect.h"
#include "compiler/driver/calibrate.h"
#include "compiler/driver/frontend.h"
#include "compiler/driver/inspect_model.h"
#include "compiler/driver/text_use.h"
#include "runtime/model/encoder.h"
#include "runtime/model/generate.h"
#include "runtime/model/session.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>

namespace smelt {

namespace {

class EvaluatedArtifact : public EvaluatedModel {
public:
  Status open(const std::string &path, const ModelSettings &settings) {
    SMELT_ASSIGN(model, Model::open(path, settings.target));
    if (isEncoder()) {
      EncoderOptions options;
      options.threads = uint32_t(settings.threads);
      SMELT_ASSIGN(encoder, Encoder::create(model, options));
      return {};
    }
    int64_t limit = model->config().maxContext;
    if (settings.context > limit)
      return invalidArgument("--context is " + std::to_string(settings.context) + ", but '" + path +
                             "' has " + std::to_string(limit) + " positions");
    SessionOptions options;
    options.context = uint32_t(std::max(settings.context, std::min(settings.wanted, limit)));
    options.threads = uint32_t(settings.threads);
    options.device = settings.device;
    SMELT_ASSIGN(session, Session::create(model, options));
    return {};
  }

  Status logits(const std::vector<int32_t> &tokens, int64_t first,
                const Receiver &receiver) override {
    const format::ModelConfig &config = model->config();
    const int64_t count = int64_t(tokens.size());
    // Sequences that begin alike (the choices of a question) share what is cached.
    std::span<const int32_t> cached = session->cached(0);
    int64_t begin = std::mismatch(tokens.begin(), tokens.begin() + std::min(first, count),
                                  cached.begin(), cached.end())
                        .first -
                    tokens.begin();
    SMELT_TRY(session->truncate(0, uint32_t(begin)));
    for (int64_t end; begin < count; begin = end) {
      // Tokens whose logits nobody asked for go in large steps.
      const bool scored = begin >= first;
      end = scored ? std::min(count, begin + config.maxLogitRows)
                   : std::min(first, begin + config.maxTokens);
      end = std::min(end, begin + int64_t(config.maxTokens));
      std::vector<Token> step;
      std::vector<int32_t> rows;
      for (int64_t i = begin; i < end; ++i) {
        step.push_back({tokens[size_t(i)], int32_t(i), 0});
        if (scored)
          rows.push_back(int32_t(i - begin));
      }
      SMELT_TRY(session->step(step, rows));
      for (size_t row = 0; row < rows.size(); ++row)
        SMELT_TRY(receiver(begin + int64_t(row), session->logits(row)));
    }
    return {};
  }

  Result<std::string> answer(const std::vector<int32_t> &prompt, int64_t maxTokens) override {
    GenerateOptions options;
    options.maxTokens = uint32_t(maxTokens);
    options.sampling.temperature = 0;
    SMELT_ASSIGN(GenerateResult result,
                 generate(*session, 0, prompt, options, [](std::string_view) { return true; }));
    return std::move(result.text);
  }

  Result<std::vector<std::vector<float>>> embed(std::span<const std::string> texts) override {
    std::vector<EncoderText> views;
    for (const std::string &text : texts)
      views.push_back({text});
    return encoder->embed(views);
  }

  bool isEncoder() const override {
    const format::PortRole output = model->config().output;
    return output == format::PortRole::HiddenState || output == format::PortRole::Embedding;
  }
  int64_t vocabSize() const override { return model->config().vocabSize; }
  uint64_t bytes() const override { return model->artifact().fileBytes(); }
  const Tokenizer *tokenizer() const override { return model->tokenizer(); }
  int32_t bosToken() const override {
    return model->config().addBos ? model->config().bosToken : -1;
  }
  Result<std::string> renderChat(std::span<const ChatMessage> messages) const override {
    return model->renderChat(messages);
  }

private:
  std::shared_ptr<const Model> model;
  std::unique_ptr<Session> session; ///< of a model that predicts tokens
  std::unique_ptr<Encoder> encoder; ///< of one that gives embeddings
};

class EvaluatedGraph : public EvaluatedModel {
public:
  Status open(const std::string &path, const ModelSettings &settings) {
    threads = settings.threads;
    context = std::max(settings.context, settings.wanted);
    SMELT_ASSIGN(import, findTokenizer(path));
    if (import) {
      SMELT_ASSIGN(Tokenizer opened, Tokenizer::open(import->blob));
      words.emplace(std::move(opened));
      if (!import->chatTemplate.empty()) {
        SMELT_ASSIGN(chat, ChatTemplate::parse(import->chatTemplate));
      }
    }
    SMELT_ASSIGN(use, readTextUse(std::filesystem::path(path).parent_path()));
    SMELT_ASSIGN(model, loadSourceModel(path, context));
    for (const Node &node : model.graph.nodes)
      encodes |= node.bidirectional;
    return {};
  }

  Status logits(const std::vector<int32_t> &tokens, int64_t first,
                const Receiver &receiver) override {
    std::vector<int32_t> rows;
    for (int64_t i = first; i < int64_t(tokens.size()); ++i)
      rows.push_back(int32_t(i));
    SMELT_ASSIGN(std::vector<float> logits, floatLogits(model.graph, tokens, rows, threads));
    for (size_t i = 0; i < rows.size(); ++i)
      SMELT_TRY(receiver(rows[i],
                         std::span(logits).subspan(i * size_t(vocabSize()), size_t(vocabSize()))));
    return {};
  }

  /// Without a cache: the whole sequence again for every token.
  Result<std::string> answer(const std::vector<int32_t> &prompt, int64_t maxTokens) override {
    std::vector<int32_t> tokens = prompt;
    for (int64_t i = 0; i < maxTokens && int64_t(tokens.size()) < context; ++i) {
      int64_t next = -1;
      SMELT_TRY(logits(tokens, int64_t(tokens.size()) - 1,
                       [&](int64_t, std::span<const float> row) -> Status {
                         next = argmax(row);
                         return {};
                       }));
      if (next < 0)
        return corrupt("the float model gives no finite logit");
      if (std::find(import->eosIds.begin(), import->eosIds.end(), next) != import->eosIds.end())
        break;
      tokens.push_back(int32_t(next));
    }
    return words->decode(std::span(tokens).subspan(prompt.size()));
  }

  Result<std::vector<std::vector<float>>> embed(std::span<const std::string> texts) override {
    std::vector<std::vector<float>> embeddings;
    for (const std::string &text : texts) {
      SMELT_ASSIGN(std::vector<int32_t> ids, words->encode(text, {.maxTokens = maxTokens()}));
      SMELT_ASSIGN(std::vector<float> row, embedOne(ids));
      embeddings.push_back(std::move(row));
    }
    return embeddings;
  }

  bool isEncoder() const override { return encodes; }
  int64_t vocabSize() const override { return model.graph.vocabSize; }
  uint64_t bytes() const override { return model.bytes; }
  const Tokenizer *tokenizer() const override { return words ? &*words : nullptr; }
  int32_t bosToken() const override { return import && import->addBos ? import->bosId : -1; }
  Result<std::string> renderChat(std::span<const ChatMessage> messages) const override {
    if (!chat)
      return unsupported("the model has no chat template; give \"prompt\" instead of \"messages\"");
    ChatContext context;
    context.bosToken = import->bosToken;
    context.eosToken = import->eosToken;
    return chat->renderMessages(messages, true, context);
  }

private:
  size_t maxTokens() const {
    int64_t most = std::min<int64_t>(positionLimit(model.graph), context);
    return size_t(use.maxTokens > 0 ? std::min(most, use.maxTokens) : most);
  }

  /// Pools the hidden states [tokens, width] as completeConfig() says for artifacts.
  Result<std::vector<float>> embedOne(const std::vector<int32_t> &ids) {
    format::ModelConfig config{};
    config.output = format::PortRole::HiddenState;
    completeConfig(config, use);
    std::vector<int32_t> rows;
    for (size_t i = 0; i < ids.size(); ++i)
      rows.push_back(int32_t(i));
    SMELT_ASSIGN(std::vector<float> states, floatLogits(model.graph, ids, rows, threads));
    const size_t width = size_t(vocabSize());
    const bool isMean = config.pooling == format::Pooling::Mean;
    const size_t first = config.pooling == format::Pooling::Last ? ids.size() - 1 : 0;
    std::vector<float> pooled(width);
    double squares = 0;
    for (size_t k = 0; k < width; ++k) {
      double sum = 0;
      for (size_t row = first; row < (isMean ? ids.size() : first + 1); ++row)
        sum += states[row * width + k];
      sum /= isMean ? double(ids.size()) : 1;
      pooled[k] = float(sum);
      squares += sum * sum;
    }
    if (config.normalize && squares > 0)
      for (float &value : pooled)
        value = float(value / std::sqrt(squares));
    return pooled;
  }

  SourceModel model;
  std::optional<TokenizerImport> import;
  std::optional<Tokenizer> words;
  std::optional<ChatTemplate> chat;
  TextUse use;
  int threads = 0;
  int64_t context = 0;
  bool encodes = false;
};

template <typename Kind>
Result<std::unique_ptr<EvaluatedModel>> openAs(const std::string &path,
                                               const ModelSettings &settings) {
  auto model = std::make_unique<Kind>();
  SMELT_TRY(model->open(path, settings));
  return std::unique_ptr<EvaluatedModel>(std::move(model));
}

} // namespace

Result<std::unique_ptr<EvaluatedModel>> EvaluatedModel::open(const std::string &path,
                                                             const ModelSettings &settings) {
  return isArtifact(path) ? openAs<EvaluatedArtifact>(path, settings)
                          : openAs<EvaluatedGraph>(path, settings);
}

Result<std::vector<int32_t>> EvaluatedModel::encode(std::string_view text, bool prompt,
                                                    bool parseSpecial) const {
  SMELT_ASSIGN(std::vector<int32_t> ids,
               tokenizer()->encode(text, {.addSpecial = prompt, .parseSpecial = parseSpecial}));
  // Some models want a first token that their tokenizer does not add.
  if (prompt && bosToken() >= 0 && (ids.empty() || ids.front() != bosToken()))
    ids.insert(ids.begin(), bosToken());
  return ids;
}

} // namespace smelt
