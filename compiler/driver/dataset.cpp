// Reading of calibration files and their tokenization.
#include "compiler/driver/dataset.h"

#include "passes/json_text.h"
#include "runtime/base/xxh64.h"

#include "llvm/Support/MemoryBuffer.h"

#include <algorithm>
#include <cstdio>
#include <set>
#include <span>

namespace fs = std::filesystem;

namespace smelt {

namespace {

constexpr size_t pieceBytes = 8192;
/// A token is rarely longer on average; text beyond this many bytes per wanted token is left out
/// before tokenizing.
constexpr size_t bytesPerToken = 8;

bool isJsonLines(const fs::path &path) {
  return path.extension() == ".jsonl" || path.extension() == ".json";
}

/// The files that `path` stands for: itself, or the text files below it.
Result<std::vector<fs::path>> listFiles(const fs::path &path) {
  std::error_code error;
  if (!fs::exists(path, error))
    return notFound("no calibration data at '" + path.string() + "'");
  if (fs::is_character_file(path, error) || fs::is_block_file(path, error))
    return invalidArgument("'" + path.string() + "' is a device, expected a file or a folder");
  if (!fs::is_directory(path, error))
    return std::vector<fs::path>{path};
  std::set<fs::path> found;
  fs::recursive_directory_iterator entry(path, error), end;
  for (; !error && entry != end; entry.increment(error)) {
    const fs::path &file = entry->path();
    if (entry->is_regular_file(error) &&
        (isJsonLines(file) || file.extension() == ".txt" || file.extension() == ".md"))
      found.insert(file);
  }
  if (error)
    return notFound("cannot read folder '" + path.string() + "': " + error.message());
  if (found.empty())
    return notFound("folder '" + path.string() + "' has no .jsonl, .json, .txt or .md files");
  return std::vector<fs::path>(found.begin(), found.end());
}

Result<ChatMessage> readMessage(const llvm::json::Value &value) {
  const llvm::json::Object *object = value.getAsObject();
  std::optional<llvm::StringRef> role, content;
  if (object) {
    role = object->getString("role");
    content = object->getString("content");
  }
  if (!role || !content)
    return invalidArgument("a message needs the strings \"role\" and \"content\"");
  ChatMessage message;
  message.role = role->str();
  message.content = content->str();
  return message;
}

Result<Document> readLine(llvm::StringRef line) {
  llvm::Expected<llvm::json::Value> parsed = parseJson(line);
  if (!parsed)
    return invalidArgument("not JSON: " + llvm::toString(parsed.takeError()));
  const llvm::json::Object *object = parsed->getAsObject();
  if (!object)
    return invalidArgument("expected an object with \"text\" or \"messages\"");
  Document document;
  if (std::optional<llvm::StringRef> text = object->getString("text")) {
    document.text = text->str();
    // What follows is another text.
    if (!text->ends_with("\n"))
      document.text += "\n\n";
    return document;
  }
  const llvm::json::Array *messages = object->getArray("messages");
  if (!messages || messages->empty())
    return invalidArgument("expected a string \"text\" or a list \"messages\"");
  for (const llvm::json::Value &value : *messages) {
    SMELT_ASSIGN(ChatMessage message, readMessage(value));
    document.messages.push_back(std::move(message));
  }
  return document;
}

Status readJsonLines(const std::string &path, llvm::StringRef text,
                     std::vector<Document> &documents) {
  for (size_t number = 1; !text.empty(); ++number) {
    auto [line, rest] = text.split('\n');
    text = rest;
    if (line.trim().empty())
      continue;
    Result<Document> document = readLine(line);
    if (!document)
      return Status(document.status()).withContext(path + ":" + std::to_string(number));
    documents.push_back(*std::move(document));
  }
  return {};
}

/// Cuts at ends of lines, so that no word or character is broken unless a line is very long.
void cutText(llvm::StringRef text, std::vector<Document> &documents) {
  while (!text.empty()) {
    size_t end = text.size() <= pieceBytes ? text.npos : text.find('\n', pieceBytes);
    llvm::StringRef piece = text.take_front(end == text.npos ? text.size() : end + 1);
    documents.push_back({piece.str(), {}});
    text = text.drop_front(piece.size());
  }
}

/// Unknown words, and single bytes of what the vocabulary lacks ("<0xE4>").
bool isStrange(std::string_view token) {
  return token == "<unk>" || token == "[UNK]" || token == "<|unk|>" ||
         (token.size() == 6 && token.starts_with("<0x") && token.ends_with(">"));
}

size_t documentBytes(const Document &document) {
  size_t bytes = document.text.size();
  for (const ChatMessage &message : document.messages)
    bytes += message.content.size();
  return bytes;
}

/// Ids of a document; what was read of it is added to `set`.
Result<std::vector<int32_t>> encodeDocument(const Document &document, const TextEncoder &encoder,
                                            SampleSet &set) {
  EncodeOptions options;
  options.addSpecial = false; // the windows get their BOS, which is not where documents start
  std::string rendered;
  if (document.messages.empty()) {
    options.parseSpecial = false;
  } else if (encoder.chatTemplate) {
    SMELT_ASSIGN(rendered, encoder.chatTemplate->renderMessages(document.messages, false,
                                                                encoder.chatContext));
  } else {
    return invalidArgument("the calibration data has conversations, but the model has no chat "
                           "template; give plain text or {\"text\": ...} lines");
  }
  const std::string &text = document.messages.empty() ? document.text : rendered;
  SMELT_ASSIGN(std::vector<int32_t> ids, encoder.tokenizer->encode(text, options));
  set.textBytes += int64_t(text.size());
  set.textCharacters +=
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
  set.textTokens += int64_t(ids.size());
  for (int32_t id : ids)
    set.strangeTokens += isStrange(encoder.tokenizer->tokenText(id));
  return ids;
}

/// Evenly spread numbers: `wanted` of 0 .. count - 1, or all.
std::vector<size_t> spread(size_t count, size_t wanted) {
  const size_t taken = std::min(count, wanted);
  std::vector<size_t> places;
  for (size_t i = 0; i < taken; ++i)
    places.push_back(i * count / taken);
  return places;
}

/// Windows of one document each.
std::vector<std::vector<int32_t>> cutSeparately(const std::vector<std::vector<int32_t>> &texts,
                                                const TextEncoder &encoder, size_t length) {
  const size_t around = encoder.before.size() + encoder.after.size();
  const size_t inner = length > around ? length - around : 1;
  std::vector<std::vector<int32_t>> windows;
  for (const std::vector<int32_t> &ids : texts)
    for (size_t first = 0; first < ids.size(); first += inner) {
      std::vector<int32_t> window = encoder.before;
      window.insert(window.end(), ids.begin() + ptrdiff_t(first),
                    ids.begin() + ptrdiff_t(std::min(first + inner, ids.size())));
      window.insert(window.end(), encoder.after.begin(), encoder.after.end());
      windows.push_back(std::move(window));
    }
  return windows;
}

/// Windows of the documents one after the other; all of one length but perhaps the last.
std::vector<std::vector<int32_t>> cutStream(const std::vector<std::vector<int32_t>> &texts,
                                            const TextEncoder &encoder, size_t tokens,
                                            size_t wanted) {
  std::vector<int32_t> stream;
  for (const std::vector<int32_t> &ids : texts)
    stream.insert(stream.end(), ids.begin(), ids.end());
  const bool bos = encoder.bosToken >= 0;
  const size_t length = tokens - (bos ? 1 : 0), whole = stream.size() / length;
  std::vector<size_t> starts = spread(whole, wanted);
  if (starts.size() < wanted && stream.size() % length >= 2)
    starts.push_back(whole);
  std::vector<std::vector<int32_t>> windows;
  for (size_t start : starts) {
    std::vector<int32_t> &window = windows.emplace_back();
    if (bos)
      window.push_back(encoder.bosToken);
    window.insert(window.end(), stream.begin() + ptrdiff_t(start * length),
                  stream.begin() + ptrdiff_t(std::min((start + 1) * length, stream.size())));
  }
  return windows;
}

} // namespace

Result<std::vector<Document>> readDocuments(const std::vector<std::string> &paths) {
  std::vector<Document> documents;
  for (const std::string &path : paths) {
    SMELT_ASSIGN(std::vector<fs::path> files, listFiles(path));
    for (const fs::path &file : files) {
      auto buffer = llvm::MemoryBuffer::getFile(file.string(), /*IsText=*/false,
                                                /*RequiresNullTerminator=*/false);
      if (!buffer)
        return notFound("cannot read '" + file.string() + "': " + buffer.getError().message());
      llvm::StringRef text = (*buffer)->getBuffer();
      text.consume_front("\xEF\xBB\xBF");
      if (size_t zero = text.find('\0'); zero != text.npos)
        return invalidArgument("'" + file.string() + "' is not text: byte " + std::to_string(zero) +
                               " is zero; expected UTF-8");
      if (isJsonLines(file))
        SMELT_TRY(readJsonLines(file.string(), text, documents));
      else
        cutText(text, documents);
    }
  }
  return documents;
}

Result<std::vector<Document>> parseJsonLines(std::string_view text, const std::string &name) {
  std::vector<Document> documents;
  SMELT_TRY(readJsonLines(name, text, documents));
  return documents;
}

void flatten(Document &document) {
  for (const ChatMessage &message : document.messages)
    document.text += message.content + "\n\n";
  document.messages.clear();
}

std::string hashSamples(const SampleSet &set) {
  Xxh64 hash;
  for (const std::vector<int32_t> &sample : set.samples) {
    const uint64_t length = sample.size();
    hash.update(std::as_bytes(std::span(&length, 1)));
    hash.update(std::as_bytes(std::span(sample)));
  }
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", (unsigned long long)hash.digest());
  return text;
}

Result<SampleSet> makeSamples(const std::vector<Document> &documents, const TextEncoder &encoder,
                              const SampleOptions &options) {
  // Only as much text as is needed is tokenized, taken evenly.
  size_t bytes = 0;
  for (const Document &document : documents)
    bytes += documentBytes(document);
  size_t needed = size_t(options.samples) * size_t(options.tokens) * bytesPerToken;
  size_t stride = std::max<size_t>(1, bytes / std::max<size_t>(1, needed));
  SampleSet set;
  std::vector<std::vector<int32_t>> texts;
  for (size_t i = 0; i < documents.size(); i += stride) {
    SMELT_ASSIGN(std::vector<int32_t> ids, encodeDocument(documents[i], encoder, set));
    texts.push_back(std::move(ids));
  }

  const size_t length = size_t(std::max<int64_t>(2, options.tokens));
  const size_t wanted = size_t(options.samples);
  if (encoder.separate) {
    std::vector<std::vector<int32_t>> windows = cutSeparately(texts, encoder, length);
    for (size_t place : spread(windows.size(), wanted))
      set.samples.push_back(std::move(windows[place]));
  } else {
    set.samples = cutStream(texts, encoder, length, wanted);
  }
  for (const std::vector<int32_t> &sample : set.samples)
    set.tokens += int64_t(sample.size());
  if (set.samples.empty())
    return invalidArgument(
        "the calibration data has " +
        (set.textTokens == 0 ? "no text"
                             : std::to_string(set.textTokens) +
                                   (set.textTokens == 1 ? " token" : " tokens") + " of text") +
        "; expected about " + std::to_string(options.samples * options.tokens) + " tokens");
  return set;
}

} // namespace smelt
