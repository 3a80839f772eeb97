// smelt embed and smelt classify: texts through an encoder.
#include "runtime/base/json.h"
#include "runtime/model/encoder.h"
#include "runtime/tools/commands.h"
#include "runtime/tools/common.h"

#include <cstdio>
#include <iostream>

namespace smelt::cli {

namespace {

/// Texts of one call of the encoder: results come as text comes.
constexpr size_t batch = 64;

/// Texts given as operands after the model, or the lines of stdin.
class Texts {
public:
  explicit Texts(const Arguments &arguments)
      : given(arguments.operands.begin() + 1, arguments.operands.end()) {}

  /// The next texts, at most `count`; none at the end.
  std::vector<std::string> next(size_t count) {
    std::vector<std::string> texts;
    if (!given.empty()) {
      for (; at < given.size() && texts.size() < count; ++at)
        texts.push_back(given[at]);
      return texts;
    }
    for (std::string line; texts.size() < count && std::getline(std::cin, line);) {
      if (line.ends_with('\r'))
        line.pop_back();
      if (!line.empty())
        texts.push_back(line);
    }
    return texts;
  }

private:
  std::vector<std::string> given;
  size_t at = 0;
};

Result<std::unique_ptr<Encoder>> openEncoder(const Arguments &arguments) {
  SMELT_ASSIGN(std::shared_ptr<const Model> model,
               Model::open(arguments.operands[0], arguments.text("target")));
  EncoderOptions options;
  SMELT_ASSIGN(options.threads, threadCount(arguments));
  options.maxTokens = size_t(arguments.whole("max-tokens"));
  return Encoder::create(std::move(model), options);
}

/// A tab in a text parts the two that are read together.
EncoderText textOf(const std::string &line) {
  size_t tab = line.find('\t');
  std::string_view view = line;
  if (tab == std::string::npos)
    return {view};
  return {view.substr(0, tab), view.substr(tab + 1)};
}

Status write(const std::string &line) {
  if (std::fwrite(line.data(), 1, line.size(), stdout) != line.size() ||
      std::fputc('\n', stdout) < 0)
    return invalidArgument("cannot write the result to stdout");
  return {};
}

Json numbers(std::span<const float> values) {
  Json::Array array;
  for (float value : values)
    array.emplace_back(double(value));
  return Json(std::move(array));
}

/// Calls `each` with batches of texts until there are none.
template <typename Each> Status forBatches(const Arguments &arguments, const Each &each) {
  Texts texts(arguments);
  for (bool any = false;; any = true) {
    std::vector<std::string> lines = texts.next(batch);
    if (lines.empty())
      return any ? Status()
                 : invalidArgument("no text found; give texts after the model, or lines on stdin");
    std::vector<EncoderText> views;
    for (const std::string &line : lines)
      views.push_back(textOf(line));
    SMELT_TRY(each(lines, views));
    std::fflush(stdout);
  }
}

Json probabilities(const Encoder &encoder, const Classification &classes) {
  Json row;
  for (size_t i = 0; i < classes.probabilities.size(); ++i)
    row.set(encoder.label(i), double(classes.probabilities[i]));
  return row;
}

std::string best(const Encoder &encoder, const Classification &classes) {
  char share[32];
  std::snprintf(share, sizeof share, "%.4f", double(classes.probabilities[classes.best]));
  return encoder.label(classes.best) + "\t" + share;
}

Status printTokens(const Encoder &encoder, const Model &model, const std::string &line,
                   const std::vector<ClassifiedToken> &tokens, bool isJson) {
  Json::Array array;
  for (const ClassifiedToken &token : tokens) {
    std::string text(model.tokenizer()->tokenText(token.id));
    if (!isJson) {
      SMELT_TRY(write(text + "\t" + best(encoder, token.classes)));
      continue;
    }
    Json row;
    row.set("token", text);
    row.set("label", encoder.label(token.classes.best));
    row.set("probability", double(token.classes.probabilities[token.classes.best]));
    array.push_back(std::move(row));
  }
  if (!isJson)
    return write("");
  Json row;
  row.set("text", line);
  row.set("tokens", Json(std::move(array)));
  return write(row.dump());
}

} // namespace

Status commandEmbed(const Arguments &arguments) {
  SMELT_ASSIGN(std::unique_ptr<Encoder> encoder, openEncoder(arguments));
  bool isJson = arguments.flag("json");
  return forBatches(
      arguments,
      [&](const std::vector<std::string> &lines, const std::vector<EncoderText> &texts) -> Status {
        SMELT_ASSIGN(auto embeddings, encoder->embed(texts));
        for (size_t i = 0; i < lines.size(); ++i) {
          Json values = numbers(embeddings[i]);
          if (isJson) {
            Json row;
            row.set("text", lines[i]);
            row.set("embedding", std::move(values));
            SMELT_TRY(write(row.dump()));
          } else {
            SMELT_TRY(write(values.dump()));
          }
        }
        return {};
      });
}

Status commandClassify(const Arguments &arguments) {
  SMELT_ASSIGN(std::unique_ptr<Encoder> encoder, openEncoder(arguments));
  bool isJson = arguments.flag("json");
  return forBatches(
      arguments,
      [&](const std::vector<std::string> &lines, const std::vector<EncoderText> &texts) -> Status {
        if (encoder->output() == format::PortRole::TokenClasses) {
          for (size_t i = 0; i < lines.size(); ++i) {
            SMELT_ASSIGN(auto tokens, encoder->classifyTokens(texts[i]));
            SMELT_TRY(printTokens(*encoder, encoder->sharedModel(), lines[i], tokens, isJson));
          }
          return {};
        }
        SMELT_ASSIGN(auto classes, encoder->classify(texts));
        for (size_t i = 0; i < lines.size(); ++i) {
          if (!isJson) {
            SMELT_TRY(write(best(*encoder, classes[i]) + "\t" + lines[i]));
            continue;
          }
          Json row;
          row.set("text", lines[i]);
          row.set("label", encoder->label(classes[i].best));
          row.set("probabilities", probabilities(*encoder, classes[i]));
          SMELT_TRY(write(row.dump()));
        }
        return {};
      });
}

} // namespace smelt::cli
