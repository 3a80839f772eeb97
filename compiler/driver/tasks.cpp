// Reading of task files, and judging of answers.
#include "compiler/driver/tasks.h"

#include "passes/json_text.h"

#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>
#include <cstdlib>

namespace smelt {

namespace {

using llvm::StringRef;
namespace json = llvm::json;

/// What a value is, for messages.
std::string kindOf(const json::Value *value) {
  if (!value)
    return "nothing";
  switch (value->kind()) {
  case json::Value::Null:
    return "null";
  case json::Value::Boolean:
    return "a boolean";
  case json::Value::Number:
    return "a number";
  case json::Value::String:
    return "a string";
  case json::Value::Array:
    return "a list of " + std::to_string(value->getAsArray()->size());
  case json::Value::Object:
    return "an object";
  }
  return "nothing";
}

Result<std::string> stringOf(const json::Object &object, StringRef name) {
  const json::Value *value = object.get(name);
  std::optional<StringRef> text = value ? value->getAsString() : std::nullopt;
  if (!text)
    return invalidArgument("\"" + name.str() + "\" is " + kindOf(value) + ", expected a string");
  return text->str();
}

/// A string, or a list of strings of at least `least`.
Result<std::vector<std::string>> stringsOf(const json::Object &object, StringRef name,
                                           size_t least) {
  const json::Value *value = object.get(name);
  std::vector<std::string> strings;
  bool sound = value && value->getAsArray() && value->getAsArray()->size() >= least;
  if (sound)
    for (const json::Value &element : *value->getAsArray()) {
      std::optional<StringRef> text = element.getAsString();
      sound &= text.has_value();
      strings.push_back(text ? text->str() : "");
    }
  if (!sound)
    return invalidArgument("\"" + name.str() + "\" is " + kindOf(value) +
                           ", expected a list of at least " + std::to_string(least) + " strings");
  return strings;
}

Result<ChoiceItem> readChoice(const json::Object &object) {
  ChoiceItem item;
  SMELT_ASSIGN(item.context, stringOf(object, object.get("context") ? "context" : "question"));
  SMELT_ASSIGN(item.choices, stringsOf(object, "choices", 2));
  for (const std::string &choice : item.choices)
    if (StringRef(choice).trim().empty())
      return invalidArgument("a choice is empty");
  std::optional<int64_t> answer = object.getInteger("answer");
  if (!answer || *answer < 0 || size_t(*answer) >= item.choices.size())
    return invalidArgument("\"answer\" is " +
                           (answer ? std::to_string(*answer) : kindOf(object.get("answer"))) +
                           ", expected the number of the right choice, 0 to " +
                           std::to_string(item.choices.size() - 1));
  item.answer = size_t(*answer);
  return item;
}

Result<AnswerCheck> readCheck(const json::Object &object) {
  std::optional<StringRef> name = object.getString("check");
  if (name == "exact")
    return AnswerCheck::Exact;
  if (name == "contains")
    return AnswerCheck::Contains;
  if (name == "json")
    return AnswerCheck::Json;
  return invalidArgument("\"check\" is " +
                         (name ? "\"" + name->str() + "\"" : kindOf(object.get("check"))) +
                         ", expected \"exact\", \"contains\" or \"json\"");
}

Result<GenerationItem> readGeneration(const json::Object &object) {
  GenerationItem item;
  if (const json::Array *messages = object.getArray("messages")) {
    for (const json::Value &value : *messages) {
      const json::Object *message = value.getAsObject();
      if (!message)
        return invalidArgument("a message is " + kindOf(&value) + ", expected an object");
      ChatMessage read;
      SMELT_ASSIGN(read.role, stringOf(*message, "role"));
      SMELT_ASSIGN(read.content, stringOf(*message, "content"));
      item.messages.push_back(std::move(read));
    }
    if (messages->empty())
      return invalidArgument("\"messages\" is empty");
  } else {
    SMELT_ASSIGN(item.prompt, stringOf(object, "prompt"));
    if (item.prompt.empty())
      return invalidArgument("\"prompt\" is empty");
  }
  SMELT_ASSIGN(item.check, readCheck(object));
  if (const json::Value *expect = object.get("expect")) {
    if (std::optional<StringRef> text = expect->getAsString())
      item.expect = {text->str()};
    else if (item.check == AnswerCheck::Json && expect->getAsObject())
      llvm::raw_string_ostream(item.expect.emplace_back()) << *expect;
    else {
      SMELT_ASSIGN(item.expect, stringsOf(object, "expect", 1));
    }
  } else if (item.check != AnswerCheck::Json) {
    return invalidArgument("\"expect\" is missing: what should the answer be?");
  }
  if (item.check == AnswerCheck::Json)
    for (const std::string &expect : item.expect)
      if (llvm::Expected<json::Value> parsed = parseJson(expect); !parsed)
        return invalidArgument("\"expect\" is not JSON: " + llvm::toString(parsed.takeError()));
  if (object.get("max_tokens")) {
    item.maxTokens = object.getInteger("max_tokens").value_or(0);
    if (item.maxTokens < 1 || item.maxTokens > 65536)
      return invalidArgument("\"max_tokens\" is " + kindOf(object.get("max_tokens")) +
                             ", expected a whole number from 1 to 65536");
  }
  return item;
}

Result<PairItem> readPair(const json::Object &object) {
  PairItem item;
  SMELT_ASSIGN(item.a, stringOf(object, "a"));
  SMELT_ASSIGN(item.b, stringOf(object, "b"));
  std::optional<double> score = object.getNumber("score");
  if (!score || !std::isfinite(*score))
    return invalidArgument("\"score\" is " + kindOf(object.get("score")) + ", expected a number");
  item.score = *score;
  return item;
}

Result<PairItem> readTabbed(StringRef line) {
  llvm::SmallVector<StringRef, 4> fields;
  line.split(fields, '\t');
  PairItem item;
  if (fields.size() != 3 || fields[2].trim().getAsDouble(item.score) || !std::isfinite(item.score))
    return invalidArgument("found " + std::to_string(fields.size()) +
                           " fields, expected two texts and a number with tabs between them");
  item.a = fields[0].str();
  item.b = fields[1].str();
  return item;
}

/// Reads one line into the list of its kind.
Status readLine(StringRef line, TaskFile &file) {
  llvm::Expected<json::Value> parsed = parseJson(line);
  if (!parsed)
    return invalidArgument("not JSON: " + llvm::toString(parsed.takeError()));
  const json::Object *object = parsed->getAsObject();
  if (!object)
    return invalidArgument("found " + kindOf(&*parsed) + ", expected an object");
  // The first line decides; a line of another kind then lacks what is asked for.
  const bool isFirst = file.choices.empty() && file.generations.empty() && file.pairs.empty();
  if (isFirst ? object->get("choices") != nullptr : !file.choices.empty()) {
    SMELT_ASSIGN(ChoiceItem item, readChoice(*object));
    file.choices.push_back(std::move(item));
  } else if (isFirst ? object->get("a") != nullptr : !file.pairs.empty()) {
    SMELT_ASSIGN(PairItem item, readPair(*object));
    file.pairs.push_back(std::move(item));
  } else if (isFirst ? object->get("prompt") || object->get("messages")
                     : !file.generations.empty()) {
    SMELT_ASSIGN(GenerationItem item, readGeneration(*object));
    file.generations.push_back(std::move(item));
  } else {
    return invalidArgument("found none of \"choices\" (a question), \"prompt\" or \"messages\" "
                           "(a generation), \"a\" (a pair of texts)");
  }
  return {};
}

/// The inside of a ``` block if the text is one, without the language behind the first fence.
StringRef withoutFence(StringRef text) {
  text = text.trim();
  if (!text.consume_front("```"))
    return text;
  text = text.drop_until([](char c) { return c == '\n'; });
  return text.take_front(text.find("```")).trim();
}

} // namespace

Result<TaskFile> readTaskFile(const std::string &path) {
  auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                            /*RequiresNullTerminator=*/false);
  if (!buffer)
    return notFound("cannot read '" + path + "': " + buffer.getError().message());
  TaskFile file;
  file.path = path;
  StringRef text = (*buffer)->getBuffer();
  text.consume_front("\xEF\xBB\xBF");
  const bool isTabbed = StringRef(path).ends_with(".tsv");
  for (size_t number = 1; !text.empty(); ++number) {
    auto [line, rest] = text.split('\n');
    text = rest;
    line = line.rtrim('\r');
    if (line.trim().empty())
      continue;
    Status status;
    if (!isTabbed)
      status = readLine(line, file);
    else if (Result<PairItem> item = readTabbed(line); item.ok())
      file.pairs.push_back(*std::move(item));
    else
      status = std::move(item).status();
    if (!status.ok())
      return std::move(status).withContext(path + ":" + std::to_string(number));
  }
  if (file.choices.empty() && file.generations.empty() && file.pairs.empty())
    return invalidArgument("'" + path +
                           "' has no lines: expected one question, prompt or pair of "
                           "texts a line");
  return file;
}

bool passes(const GenerationItem &item, const std::string &answer) {
  const StringRef text = StringRef(answer).trim();
  switch (item.check) {
  case AnswerCheck::Exact:
    return llvm::any_of(item.expect, [&](StringRef expect) { return text == expect.trim(); });
  case AnswerCheck::Contains:
    return llvm::any_of(item.expect, [&](StringRef expect) { return text.contains(expect); });
  case AnswerCheck::Json:
    break;
  }
  llvm::Expected<json::Value> parsed = parseJson(withoutFence(text));
  if (!parsed) {
    llvm::consumeError(parsed.takeError());
    return false;
  }
  return item.expect.empty() || llvm::any_of(item.expect, [&](StringRef expect) {
           return llvm::cantFail(parseJson(expect)) == *parsed; // checked when it was read
         });
}

} // namespace smelt
