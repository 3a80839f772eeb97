// Tokenizing, ragged batches, pooling and probabilities.
#include "runtime/model/encoder.h"

#include "runtime/base/json.h"

#include <algorithm>
#include <cmath>

namespace smelt {

using namespace format;

namespace {

/// Texts that share a step at most.
constexpr uint32_t mostSlots = 32;

bool isUseful(PortRole role) {
  return role == PortRole::HiddenState || role == PortRole::Embedding ||
         role == PortRole::Classes || role == PortRole::TokenClasses;
}

/// True if the first token's row speaks for the text.
bool isOfText(PortRole role) { return role == PortRole::Embedding || role == PortRole::Classes; }

Status givesOther(const char *wanted, PortRole role) {
  const char *has = role == PortRole::Classes        ? "classes of texts"
                    : role == PortRole::TokenClasses ? "classes of tokens"
                                                     : "embeddings";
  return unsupported(std::string("the model gives ") + has + ", not " + wanted);
}

} // namespace

Result<std::unique_ptr<Encoder>> Encoder::create(std::shared_ptr<const Model> model,
                                                 const EncoderOptions &options) {
  std::unique_ptr<Encoder> encoder(new Encoder);
  encoder->model = std::move(model);
  if (!encoder->model->tokenizer())
    return unsupported("the artifact has no tokenizer; compile it from a folder with "
                       "tokenizer.json");
  SMELT_TRY(encoder->readMetadata());
  SMELT_TRY(encoder->plan(options));
  return encoder;
}

Status Encoder::readMetadata() {
  std::string_view text = model->artifact().text(SectionKind::Metadata);
  if (text.empty())
    return {};
  SMELT_ASSIGN(Json metadata, Json::parse(text));
  const Json *use = metadata.find("text");
  if (!use)
    return {};
  if (const Json *names = use->find("labels"); names && names->array())
    for (const Json &name : *names->array())
      labels.push_back(name.string() ? *name.string() : std::string());
  if (const Json *kind = use->find("activation"); kind && kind->string())
    activation = *kind->string();
  if (const Json *most = use->find("max_tokens"); most && most->number() >= 2)
    maxTokens = size_t(most->number());
  return {};
}

Status Encoder::plan(const EncoderOptions &options) {
  const ModelConfig &config = model->config();
  if (const TensorProgram *program = model->artifact().tensorProgram()) {
    SMELT_ASSIGN(team, ThreadTeam::create(options.threads ? options.threads : defaultThreads()));
    SMELT_ASSIGN(tensors, TensorSession::create(model, team));
    // What speaks for the whole text comes first: a graph may give its hidden states too.
    for (PortRole wanted :
         {PortRole::Classes, PortRole::TokenClasses, PortRole::Embedding, PortRole::HiddenState})
      for (size_t i = 0; i < program->outputs.size() && role == PortRole::Other; ++i)
        if (program->outputs[i].role == wanted) {
          role = wanted;
          tensorOutput = i;
        }
    for (const TensorPort &port : program->inputs)
      if (port.role == PortRole::Other || port.role == PortRole::State)
        return unsupported("text cannot be run through this graph: nobody knows what to feed its "
                           "input '" +
                           std::string(program->name(port.nameOffset)) + "'; run it with tensors");
  } else {
    role = config.output;
    SessionOptions session;
    session.threads = options.threads;
    session.slots = std::min(mostSlots, config.maxLogitRows);
    if (isUseful(role)) {
      SMELT_ASSIGN(this->session, Session::create(model, session));
    }
  }
  if (!isUseful(role))
    return unsupported("the model gives neither hidden states, embeddings nor classes; use 'run' "
                       "for a model that writes text");
  pool = options.pooling.value_or(config.pooling);
  if (role == PortRole::HiddenState && pool == Pooling::None)
    pool = Pooling::Mean;
  normalize = options.normalize.value_or(config.normalize != 0);
  size_t most = tensors ? config.maxContext
                        : std::min<size_t>(config.maxContext,
                                           config.bidirectional ? config.maxTokens : SIZE_MAX);
  maxTokens = std::min(most, options.maxTokens ? options.maxTokens : maxTokens ? maxTokens : most);
  return {};
}

size_t Encoder::width() const {
  if (!tensors)
    return model->config().vocabSize;
  const TensorProgram &program = tensors->program();
  const TensorEntry &entry = program.tensors[program.outputs[tensorOutput].tensor];
  return entry.rank == 0 || entry.dims[entry.rank - 1] < 0 ? 0 : size_t(entry.dims[entry.rank - 1]);
}

std::string Encoder::label(size_t index) const {
  return index < labels.size() ? labels[index] : "LABEL_" + std::to_string(index);
}

Result<Encoder::Tokens> Encoder::tokenize(const EncoderText &text) const {
  EncodeOptions options;
  options.maxTokens = maxTokens;
  options.parseSpecial = false;
  Tokens tokens;
  if (text.second) {
    SMELT_ASSIGN(PairEncoding pair,
                 model->tokenizer()->encodePair(text.text, *text.second, options));
    tokens.ids = std::move(pair.ids);
    // Models without token types read both texts alike.
    if (tensors || model->config().tokenTypes > 1)
      tokens.types = std::move(pair.types);
  } else {
    SMELT_ASSIGN(tokens.ids, model->tokenizer()->encode(text.text, options));
  }
  if (tokens.ids.empty())
    return invalidArgument("a text has no tokens; give some text");
  return tokens;
}

//===--- Running
//----------------------------------------------------------------------------------===//

Result<std::vector<Encoder::RowsOfText>> Encoder::run(std::span<const Tokens> texts) {
  std::vector<RowsOfText> rows(texts.size());
  if (!tensors) {
    SMELT_TRY(runTokens(texts, rows));
    return rows;
  }
  for (size_t i = 0; i < texts.size(); ++i) {
    SMELT_ASSIGN(rows[i], runTensors(texts[i]));
  }
  return rows;
}

/// Texts share steps, one slot each, without padding. When more rows are wanted than a step gives,
/// the step runs again for the rest.
Status Encoder::runTokens(std::span<const Tokens> texts, std::vector<RowsOfText> &out) {
  const ModelConfig &config = model->config();
  size_t next = 0;
  while (next < texts.size()) {
    std::vector<Token> step;
    std::vector<int32_t> wanted; // rows of the step
    std::vector<size_t> ownerOf; // the text of each wanted row
    int32_t slot = 0;
    for (; next < texts.size() && uint32_t(slot) < session->slots(); ++next, ++slot) {
      const Tokens &text = texts[next];
      if (text.ids.size() > config.maxTokens)
        return invalidArgument("a text has " + std::to_string(text.ids.size()) +
                               " tokens, the model reads at most " +
                               std::to_string(config.maxTokens));
      if (step.size() + text.ids.size() > config.maxTokens)
        break;
      SMELT_TRY(session->truncate(slot, 0));
      for (size_t i = 0; i < text.ids.size(); ++i) {
        if (i == 0 || !isOfText(role)) {
          wanted.push_back(int32_t(step.size()));
          ownerOf.push_back(next);
        }
        step.push_back({text.ids[i], int32_t(i), slot, text.types.empty() ? 0 : text.types[i]});
      }
    }
    for (size_t at = 0; at < wanted.size(); at += config.maxLogitRows) {
      size_t count = std::min<size_t>(wanted.size() - at, config.maxLogitRows);
      SMELT_TRY(session->step(step, std::span(wanted).subspan(at, count)));
      for (size_t row = 0; row < count; ++row) {
        RowsOfText &text = out[ownerOf[at + row]];
        std::span<const float> values = session->logits(row);
        text.width = values.size();
        text.values.insert(text.values.end(), values.begin(), values.end());
      }
    }
  }
  return {};
}

Result<Encoder::RowsOfText> Encoder::runTensors(const Tokens &text) {
  const TensorProgram &program = tensors->program();
  const int64_t shape[] = {1, int64_t(text.ids.size())};
  std::vector<std::vector<int64_t>> wide(program.inputs.size());
  std::vector<std::vector<int32_t>> narrow(program.inputs.size());
  std::vector<TensorValue> inputs;
  for (size_t k = 0; k < program.inputs.size(); ++k) {
    const TensorPort &port = program.inputs[k];
    for (size_t i = 0; i < text.ids.size(); ++i)
      wide[k].push_back(port.role == PortRole::Ids         ? text.ids[i]
                        : port.role == PortRole::Mask      ? 1
                        : port.role == PortRole::Positions ? int64_t(i)
                        : text.types.empty()               ? 0
                                                           : text.types[i]);
    ElementType type = program.tensors[port.tensor].type;
    narrow[k].assign(wide[k].begin(), wide[k].end());
    if (type != ElementType::I64 && type != ElementType::I32)
      return unsupported("text cannot be run through this graph: its input '" +
                         std::string(program.name(port.nameOffset)) + "' is not int64 or int32");
    const void *data = narrow[k].data();
    if (type == ElementType::I64)
      data = wide[k].data();
    inputs.push_back(TensorValue::view(type, shape, data));
  }
  SMELT_TRY(tensors->run(inputs));
  const TensorValue &result = tensors->outputs()[tensorOutput];
  RowsOfText rows;
  if (result.rank < 2 || result.dims[0] != 1)
    return invalidArgument("the graph gives " + result.text() + " for one text");
  rows.width = size_t(result.dims[result.rank - 1]);
  std::span<const float> values = result.as<float>();
  rows.values.assign(values.begin(), values.end());
  if (rows.count() != (isOfText(role) ? 1 : text.ids.size()))
    return invalidArgument("the graph gives " + result.text() + " for one text of " +
                           std::to_string(text.ids.size()) + " tokens");
  return rows;
}

//===--- What rows say
//----------------------------------------------------------------------------===//

/// Sums and lengths in double, so that they do not depend on the order of texts.
std::vector<float> Encoder::pooled(const RowsOfText &rows) const {
  std::vector<double> sum(rows.width, 0);
  size_t first = pool == Pooling::Last ? rows.count() - 1 : 0;
  size_t count = pool == Pooling::Mean && role == PortRole::HiddenState ? rows.count() : 1;
  for (size_t i = first; i < first + count; ++i)
    for (size_t k = 0; k < rows.width; ++k)
      sum[k] += rows.row(i)[k];
  double square = 0;
  for (double &value : sum) {
    value /= double(count);
    square += value * value;
  }
  double factor = normalize ? 1 / std::max(std::sqrt(square), 1e-12) : 1;
  std::vector<float> embedding(rows.width);
  for (size_t k = 0; k < rows.width; ++k)
    embedding[k] = float(sum[k] * factor);
  return embedding;
}

Classification Encoder::classified(std::span<const float> scores) const {
  Classification result;
  double most = *std::max_element(scores.begin(), scores.end()), total = 0;
  for (float score : scores)
    total += std::exp(score - most);
  for (float score : scores)
    result.probabilities.push_back(activation == "none" ? score
                                   : activation == "sigmoid"
                                       ? float(1 / (1 + std::exp(-double(score))))
                                       : float(std::exp(score - most) / total));
  result.best = size_t(std::max_element(result.probabilities.begin(), result.probabilities.end()) -
                       result.probabilities.begin());
  return result;
}

Result<std::vector<std::vector<float>>> Encoder::embed(std::span<const EncoderText> texts) {
  if (role != PortRole::HiddenState && role != PortRole::Embedding)
    return givesOther("embeddings", role);
  std::vector<Tokens> tokens;
  for (const EncoderText &text : texts) {
    SMELT_ASSIGN(Tokens of, tokenize(text));
    tokens.push_back(std::move(of));
  }
  SMELT_ASSIGN(std::vector<RowsOfText> rows, run(tokens));
  std::vector<std::vector<float>> embeddings;
  for (const RowsOfText &of : rows)
    embeddings.push_back(pooled(of));
  return embeddings;
}

Result<std::vector<Classification>> Encoder::classify(std::span<const EncoderText> texts) {
  if (role != PortRole::Classes)
    return givesOther("classes of texts", role);
  std::vector<Tokens> tokens;
  for (const EncoderText &text : texts) {
    SMELT_ASSIGN(Tokens of, tokenize(text));
    tokens.push_back(std::move(of));
  }
  SMELT_ASSIGN(std::vector<RowsOfText> rows, run(tokens));
  std::vector<Classification> classes;
  for (const RowsOfText &of : rows)
    classes.push_back(classified(of.row(0)));
  return classes;
}

Result<std::vector<ClassifiedToken>> Encoder::classifyTokens(const EncoderText &text) {
  if (role != PortRole::TokenClasses)
    return givesOther("classes of tokens", role);
  SMELT_ASSIGN(Tokens tokens, tokenize(text));
  SMELT_ASSIGN(std::vector<RowsOfText> rows, run(std::span(&tokens, 1)));
  std::vector<ClassifiedToken> classes;
  for (size_t i = 0; i < tokens.ids.size(); ++i)
    if (!model->tokenizer()->isSpecial(tokens.ids[i]))
      classes.push_back({tokens.ids[i], classified(rows[0].row(i))});
  return classes;
}

} // namespace smelt
