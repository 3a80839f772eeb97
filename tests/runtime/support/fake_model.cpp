// Builds the fake model's artifact and its tokenizer blob.
#include "support/fake_model.h"

#include "runtime/devices/cpu.h"
#include "runtime/formats/caches.h"
#include "runtime/tokenizer/blob.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace smelt::test {

using namespace format;

namespace {

class BlobBytes {
public:
  template <typename T> void put(T value) {
    auto raw = std::as_bytes(std::span(&value, 1));
    bytes.insert(bytes.end(), raw.begin(), raw.end());
  }
  std::vector<std::byte> bytes;
};

/// A character-level tokenizer in the layout of blob.h.
std::vector<std::byte> makeTokenizer() {
  BlobBytes vocabulary, model, merges, added, decoder, none, nothingAround;
  vocabulary.put(uint32_t(fakeVocabulary));
  for (int id = 0; id < fakeVocabulary; ++id)
    vocabulary.put(uint16_t(1));
  for (int id = 0; id < fakeVocabulary; ++id)
    vocabulary.put(char(' ' + id));
  model.put(uint8_t(0));
  model.put(blobNone);
  model.put(uint16_t(0)); // prefix
  model.put(uint16_t(0)); // suffix
  merges.put(uint8_t(2));
  merges.put(uint32_t(0));
  added.put(blobNone);
  added.put(blobNone);
  added.put(uint32_t(0));
  decoder.put(uint32_t(1));
  decoder.put(uint8_t(DecoderStep::Fuse));
  none.put(uint32_t(0));
  nothingAround.put(uint64_t(0));

  std::pair<BlobSection, const BlobBytes *> sections[] = {
      {BlobSection::Vocabulary, &vocabulary},
      {BlobSection::Model, &model},
      {BlobSection::Merges, &merges},
      {BlobSection::Added, &added},
      {BlobSection::Sets, &none},
      {BlobSection::Patterns, &none},
      {BlobSection::Tables, &none},
      {BlobSection::Normalizer, &none},
      {BlobSection::PreTokenizer, &none},
      {BlobSection::PostProcessor, &nothingAround},
      {BlobSection::Decoder, &decoder}};
  BlobBytes out;
  out.put(tokenizerBlobMagic);
  out.put(tokenizerBlobVersion);
  out.put(uint32_t(std::size(sections)));
  auto offset = uint32_t(12 + 12 * std::size(sections));
  for (auto &[kind, section] : sections) {
    out.put(kind);
    out.put(offset);
    out.put(uint32_t(section->bytes.size()));
    offset += uint32_t(section->bytes.size());
  }
  for (auto &[kind, section] : sections)
    out.bytes.insert(out.bytes.end(), section->bytes.begin(), section->bytes.end());
  return out.bytes;
}

Instruction instruction(uint32_t one, uint32_t many, Domain domain, OpLabel label,
                        std::initializer_list<Operand> operands) {
  Instruction made{one, many, domain, label, {}};
  std::copy(operands.begin(), operands.end(), made.operands);
  return made;
}

} // namespace

FakeModel::FakeModel() : config{} {
  config.vocabSize = fakeVocabulary;
  config.hiddenSize = 1;
  config.layers = 1;
  config.maxContext = fakeMaxContext;
  config.maxTokens = fakeMaxTokens;
  config.maxLogitRows = fakeMaxLogitRows;
  config.cacheFormat = uint32_t(CacheFormat::F32);
  config.positionBlock = fakePositionBlock;
  config.keyBytesPerPosition = config.valueBytesPerPosition = fakeHeadDim * sizeof(float);
  config.scratchBytes = fakeMaxTokens * sizeof(int64_t);
  config.bosToken = config.padToken = -1;
  std::fill(std::begin(config.eosTokens), std::end(config.eosTokens), -1);
  config.topP = config.repetitionPenalty = 1;

  auto operand = [](OperandKind kind, uint64_t value = 0) { return Operand{kind, {}, value}; };
  program.kernelNames = {"fake_store", "fake_attend", "fake_head_one", "fake_head_many"};
  program.instructions = {
      instruction(0, 0, Domain::Tokens, OpLabel::Embedding,
                  {operand(OperandKind::Tokens), operand(OperandKind::Positions),
                   operand(OperandKind::KeyCache), operand(OperandKind::ValueCache)}),
      instruction(1, 1, Domain::Tokens, OpLabel::Attention,
                  {operand(OperandKind::Positions), operand(OperandKind::KeyCache),
                   operand(OperandKind::ValueCache), operand(OperandKind::Scratch)}),
      instruction(2, 3, Domain::LogitRows, OpLabel::Head,
                  {operand(OperandKind::LogitRows), operand(OperandKind::Scratch),
                   operand(OperandKind::Weights, 64), operand(OperandKind::Logits)})};
  program.cacheLayers = {{1, fakeHeadDim, 0, 0}};

  // 64 bytes that nothing reads, then the logits by distance from the likeliest token.
  std::vector<float> table(16 + fakeVocabulary);
  for (int distance = 0; distance < fakeVocabulary; ++distance)
    table[size_t(16 + distance)] = -float(distance);
  auto raw = std::as_bytes(std::span(table));
  weights.assign(raw.begin(), raw.end());
  code = readFile(FAKE_KERNELS_FILE);
  for (const CpuTarget &target : cpuTargets())
    targets.push_back(target.row);
  tokenizer = makeTokenizer();
  chatTemplate =
      "{% for message in messages %}{{ message['role'] | upper }}: {{ message['content'] "
      "}} / {% endfor %}{% if add_generation_prompt %}ASSISTANT: {% endif %}";
  metadata =
      R"({"producer": "test", "numerics": {"cache": "f32"}, "linears": [{"name": "head", "rows": 64,)"
      R"( "cols": 1, "weights": "f32", "activations": "f32", "bytes": 256, "role": "head"}]})";
}

Status FakeModel::write(const std::string &path) const {
  SMELT_ASSIGN(std::unique_ptr<ArtifactWriter> writer, ArtifactWriter::create(path));
  SMELT_TRY(writer->addSection(SectionKind::Config, std::as_bytes(std::span(&config, 1))));
  SMELT_TRY(writer->addSection(SectionKind::Program, encodeProgram(program)));
  if (tensors)
    SMELT_TRY(writer->addSection(SectionKind::TensorProgram, encodeTensorProgram(*tensors)));
  SMELT_TRY(writer->addSection(SectionKind::Weights, weights));
  for (uint32_t target : targets)
    SMELT_TRY(writer->addSection(SectionKind::Code, code, target));
  for (const Section &section : sections)
    SMELT_TRY(writer->addSection(section.kind, section.bytes, section.target));
  if (!tokenizer.empty())
    SMELT_TRY(writer->addSection(SectionKind::Tokenizer, tokenizer));
  if (!chatTemplate.empty())
    SMELT_TRY(writer->addSection(SectionKind::Template, chatTemplate));
  if (!metadata.empty())
    SMELT_TRY(writer->addSection(SectionKind::Metadata, metadata));
  return writer->finish();
}

int32_t fakeNext(std::span<const int32_t> history) {
  int64_t sum = 0;
  for (size_t p = 0; p < history.size(); ++p)
    sum += int64_t(p + 1) * history[p];
  return int32_t(sum % fakeVocabulary);
}

std::vector<int32_t> fakeTokens(std::string_view text) {
  std::vector<int32_t> tokens;
  for (char c : text)
    tokens.push_back(c - ' ');
  return tokens;
}

std::string fakeText(std::span<const int32_t> tokens) {
  std::string text;
  for (int32_t token : tokens)
    text += char(' ' + token);
  return text;
}

TemporaryFolder::TemporaryFolder() {
  std::string pattern = ::testing::TempDir() + "/smelt-test-XXXXXX";
  folder = ::mkdtemp(pattern.data());
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
}

std::vector<std::string> TemporaryFolder::files() const {
  std::vector<std::string> names;
  for (const auto &entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::string writeFake(const TemporaryFolder &folder,
                      const std::function<void(FakeModel &)> &change) {
  FakeModel model;
  if (change)
    change(model);
  std::string path = folder.path("model.smelt");
  Status status = model.write(path);
  EXPECT_TRUE(status.ok()) << status.message();
  return path;
}

std::vector<std::byte> readFile(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  std::vector<char> text{std::istreambuf_iterator<char>(in), {}};
  auto raw = std::as_bytes(std::span(text));
  return {raw.begin(), raw.end()};
}

void writeFile(const std::string &path, std::span<const std::byte> bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char *>(bytes.data()), std::streamsize(bytes.size()));
  EXPECT_TRUE(out.good()) << path;
}

} // namespace smelt::test
