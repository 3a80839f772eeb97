// Reading of calibration files and their tokenization.
#include "compiler/driver/dataset.h"

#include "runtime/base/xxh64.h"

#include "llvm/Support/JSON.h"
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
  llvm::Expected<llvm::json::Value> parsed = llvm::json::parse(line);
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

Status readJsonLines(const fs::path &path, llvm::StringRef text, std::vector<Document> &documents) {
  for (size_t number = 1; !text.empty(); ++number) {
    auto [line, rest] = text.split('\n');
    text = rest;
    if (line.trim().empty())
      continue;
    Result<Document> document = readLine(line);
    if (!document)
      return Status(document.status()).withContext(path.string() + ":" + std::to_string(number));
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

size_t documentBytes(const Document &document) {
  size_t bytes = document.text.size();
  for (const ChatMessage &message : document.messages)
    bytes += message.content.size();
  return bytes;
}

Result<std::vector<int32_t>> encodeDocument(const Document &document, const TextEncoder &encoder) {
  EncodeOptions options;
  options.addSpecial = false; // the windows get their BOS, which is not where documents start
  if (document.messages.empty()) {
    options.parseSpecial = false;
    return encoder.tokenizer->encode(document.text, options);
  }
  if (!encoder.chatTemplate)
    return invalidArgument("the calibration data has conversations, but the model has no chat "
                           "template; give plain text or {\"text\": ...} lines");
  SMELT_ASSIGN(std::string text,
               encoder.chatTemplate->renderMessages(document.messages, false, encoder.chatContext));
  return encoder.tokenizer->encode(text, options);
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
      if (isJsonLines(file))
        SMELT_TRY(readJsonLines(file, text, documents));
      else
        cutText(text, documents);
    }
  }
  return documents;
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
  std::vector<int32_t> stream;
  for (size_t i = 0; i < documents.size(); i += stride) {
    SMELT_ASSIGN(std::vector<int32_t> ids, encodeDocument(documents[i], encoder));
    stream.insert(stream.end(), ids.begin(), ids.end());
  }

  bool bos = encoder.bosToken >= 0;
  size_t length = size_t(std::max<int64_t>(2, options.tokens)) - (bos ? 1 : 0);
  size_t whole = stream.size() / length, wanted = size_t(options.samples);
  size_t windows = std::min(whole, wanted);
  bool partial = windows < wanted && stream.size() % length >= 2;
  SampleSet set;
  for (size_t i = 0; i < windows + (partial ? 1 : 0); ++i) {
    size_t first = i < windows ? i * whole / windows * length : whole * length;
    std::vector<int32_t> sample;
    if (bos)
      sample.push_back(encoder.bosToken);
    sample.insert(sample.end(), stream.begin() + ptrdiff_t(first),
                  stream.begin() + ptrdiff_t(std::min(first + length, stream.size())));
    set.tokens += int64_t(sample.size());
    set.samples.push_back(std::move(sample));
  }
  if (set.samples.empty())
    return invalidArgument("the calibration data has no text; expected about " +
                           std::to_string(options.samples * options.tokens) + " tokens");
  return set;
}

} // namespace smelt
