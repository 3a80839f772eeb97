// Answers questions about tokenizers and chat templates on stdin, one JSON object per line, for the
// scripts here.
#include "compiler/tokenizer/import.h"
#include "runtime/tokenizer/chat_template.h"
#include "runtime/tokenizer/tokenizer.h"

#include <chrono>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

using namespace smelt;
using Json = nlohmann::ordered_json; // templates see keys in the order given

namespace {

/// The tokenizer in use; the import owns the blob that the tokenizer views.
struct Loaded {
  TokenizerImport import;
  std::optional<Tokenizer> tokenizer;
};

Json errorAnswer(const Status &status) { return {{"error", status.message()}}; }

Json load(const Json &question, Loaded &loaded) {
  auto import = importTokenizer(question.at("folder").get<std::string>());
  if (!import.ok())
    return errorAnswer(import.status());
  loaded.tokenizer.reset();
  loaded.import = *std::move(import);
  auto start = std::chrono::steady_clock::now();
  auto tokenizer = Tokenizer::open(loaded.import.blob);
  if (!tokenizer.ok())
    return errorAnswer(tokenizer.status());
  std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  loaded.tokenizer = *std::move(tokenizer);
  return {{"bytes", loaded.import.blob.size()},
          {"open_ms", seconds.count() * 1e3},
          {"bos", loaded.import.bosId},
          {"eos", loaded.import.eosIds},
          {"pairs", loaded.tokenizer->encodesPairs()},
          {"template", loaded.import.chatTemplate}};
}

Json encode(const Json &question, const Loaded &loaded) {
  EncodeOptions options{question.value("add", true), question.value("parse", true)};
  options.maxTokens = question.value("limit", options.maxTokens);
  const std::string &text = question.at("text").get_ref<const std::string &>();
  auto start = std::chrono::steady_clock::now();
  auto ids = loaded.tokenizer->encode(text, options);
  std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  if (!ids.ok())
    return errorAnswer(ids.status());
  return {{"ids", *ids}, {"seconds", seconds.count()}};
}

Json encodePair(const Json &question, const Loaded &loaded) {
  EncodeOptions options;
  options.addSpecial = question.value("add", true);
  options.maxTokens = question.value("limit", options.maxTokens);
  auto pair =
      loaded.tokenizer->encodePair(question.at("text").get_ref<const std::string &>(),
                                   question.at("second").get_ref<const std::string &>(), options);
  if (!pair.ok())
    return errorAnswer(pair.status());
  return {{"ids", pair->ids}, {"types", pair->types}};
}

Json decode(const Json &question, const Loaded &loaded) {
  auto ids = question.at("ids").get<std::vector<int32_t>>();
  bool skip = question.value("skip", true);
  StreamDecoder stream(*loaded.tokenizer, skip);
  std::string parts;
  for (int32_t id : ids)
    parts += stream.push(id);
  parts += stream.finish();
  return {{"text", loaded.tokenizer->decode(ids, skip)}, {"stream", parts}};
}

Value toValue(const Json &json) {
  switch (json.type()) {
  case Json::value_t::boolean:
    return Value(json.get<bool>());
  case Json::value_t::number_integer:
  case Json::value_t::number_unsigned:
    return Value(json.get<int64_t>());
  case Json::value_t::number_float:
    return Value(json.get<double>());
  case Json::value_t::string:
    return Value(json.get<std::string>());
  case Json::value_t::array: {
    std::vector<Value> items;
    for (const Json &item : json)
      items.push_back(toValue(item));
    return Value::list(std::move(items));
  }
  case Json::value_t::object: {
    std::vector<Value::Entry> entries;
    for (const auto &[key, value] : json.items())
      entries.emplace_back(Value(key), toValue(value));
    return Value::map(std::move(entries));
  }
  default:
    return Value(nullptr);
  }
}

Json render(const Json &question) {
  auto chat = ChatTemplate::parse(question.at("template").get_ref<const std::string &>());
  if (!chat.ok())
    return errorAnswer(chat.status());
  auto text = chat->render(toValue(question.at("variables")));
  if (!text.ok())
    return errorAnswer(text.status());
  return {{"text", *text}};
}

Json answer(const Json &question, Loaded &loaded) {
  std::string op = question.at("op");
  if (op == "load")
    return load(question, loaded);
  if (op == "render")
    return render(question);
  if (!loaded.tokenizer)
    return {{"error", "no tokenizer is loaded"}};
  if (op == "pair")
    return encodePair(question, loaded);
  return op == "encode" ? encode(question, loaded) : decode(question, loaded);
}

} // namespace

int main() {
  Loaded loaded;
  for (std::string line; std::getline(std::cin, line);) {
    Json reply;
    try {
      reply = answer(Json::parse(line), loaded);
    } catch (const std::exception &e) {
      reply = {{"error", std::string("bad question: ") + e.what()}};
    }
    std::cout << reply.dump() << std::endl;
  }
  return 0;
}
