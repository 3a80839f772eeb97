// Caches, scratch and address resolution of the token program.
#include "runtime/model/backend.h"

#include "runtime/formats/caches.h"
#include "runtime/formats/formats.h"
#include "runtime/model/cache_layout.h"
#include "runtime/model/pages.h"
#include "runtime/model/resolve.h"
#include "runtime/model/step_inputs.h"

#include <algorithm>

namespace smelt {

using namespace format;

namespace {

/// Kernels may write this far beyond the last row of logits.
constexpr uint64_t logitMargin = 256;

class TokenBackend final : public LastLayers {
public:
  TokenBackend(std::shared_ptr<const Model> model, std::shared_ptr<ThreadTeam> team,
               uint32_t context, uint32_t slots, uint32_t firstLayer)
      : shared(std::move(model)), team(std::move(team)), slots(slots), firstLayer(firstLayer),
        capacity(uint32_t(roundUp(context, shared->config().positionBlock))),
        inputs(shared->config(), slots) {}

  Status allocate();
  void resolve();
  Status step(std::span<const Token> tokens, std::span<const int32_t> logitRows, StepOutput output,
              std::span<const std::vector<int32_t>> histories) override;
  std::span<const float> logits(size_t row) const override;
  void setProfile(StepProfile *perLabel, std::vector<uint64_t> *) override { profile = perLabel; }
  size_t chunkTokens() const override {
    return shared->config().bidirectional ? SIZE_MAX : cpuStepTokens;
  }
  uint64_t reservedBytes() const override { return reserved; }
  bool rewinds() const override { return true; }
  Status visit(int32_t slot, uint32_t length, CacheAccess access,
               const PieceVisitor &piece) override;
  Status copy(int32_t from, int32_t to, uint32_t length) override;
  std::span<std::byte> rowsIn() override;

private:
  void *address(const Operand &operand);
  std::byte *cache(uint32_t layer, bool isValues);

  std::shared_ptr<const Model> shared;
  std::shared_ptr<ThreadTeam> team;
  uint32_t slots, firstLayer, capacity;
  uint64_t reserved = 0;
  Pages keys, values, scratch, logitMemory;
  std::vector<ResolvedInstruction> program;
  StepInputs inputs;
  StepProfile *profile = nullptr;
};

Status TokenBackend::allocate() {
  const ModelConfig &config = shared->config();
  uint64_t keyOffset = 0, valueOffset = 0; // of what other devices run
  if (firstLayer != 0) {
    keyOffset = shared->artifact().cacheLayers()[firstLayer].keyOffsetPerPosition;
    valueOffset = shared->artifact().cacheLayers()[firstLayer].valueOffsetPerPosition;
  }
  SMELT_ASSIGN(uint64_t keyBytes,
               cacheBytes(slots, capacity, config.keyBytesPerPosition - keyOffset));
  SMELT_ASSIGN(uint64_t valueBytes,
               cacheBytes(slots, capacity, config.valueBytesPerPosition - valueOffset));
  uint64_t logitBytes =
      uint64_t(config.maxLogitRows) * config.vocabSize * sizeof(float) + logitMargin;
  SMELT_ASSIGN(keys, Pages::allocate(keyBytes, "the key cache"));
  SMELT_ASSIGN(values, Pages::allocate(valueBytes, "the value cache"));
  SMELT_ASSIGN(scratch, Pages::allocate(config.scratchBytes, "scratch"));
  SMELT_ASSIGN(logitMemory, Pages::allocate(logitBytes, "logits"));
  reserved = keyBytes + valueBytes + config.scratchBytes + logitBytes;
  return {};
}

void *TokenBackend::address(const Operand &operand) {
  const Artifact &artifact = shared->artifact();
  switch (operand.kind) {
  case OperandKind::Weights:
    return const_cast<std::byte *>(artifact.weights().data()) + operand.value;
  case OperandKind::Scratch:
    return scratch.data() + operand.value;
  case OperandKind::KeyCache:
    return cache(uint32_t(operand.value), false);
  case OperandKind::ValueCache:
    return cache(uint32_t(operand.value), true);
  case OperandKind::Tokens:
    return inputs.ids();
  case OperandKind::Positions:
    return inputs.places();
  case OperandKind::LogitRows:
    return inputs.rows();
  case OperandKind::Logits:
    return logitMemory.data();
  case OperandKind::None:
  case OperandKind::RowsIn: // the reader lets these two into tensor programs only
  case OperandKind::RowsOut:
    return nullptr;
  }
  return nullptr;
}

void TokenBackend::resolve() {
  const Artifact &artifact = shared->artifact();
  auto at = [this](const Operand &operand) { return address(operand); };
  if (firstLayer == 0) {
    program = resolveProgram(*shared, artifact.program().instructions, shared->kernels(), at);
    return;
  }
  const uint32_t first = artifact.layerStarts()[firstLayer].instruction;
  program = resolveProgram(*shared, artifact.divisibleProgram().instructions.subspan(first),
                           std::span(shared->divisibleKernels()).subspan(first), at);
}

Status TokenBackend::step(std::span<const Token> tokens, std::span<const int32_t> logitRows,
                          StepOutput, std::span<const std::vector<int32_t>>) {
  inputs.set(tokens, logitRows);
  int64_t info[FieldCount] = {};
  info[FieldTokens] = int64_t(tokens.size());
  info[FieldLogitRows] = int64_t(logitRows.size());
  info[FieldCapacity] = capacity;
  info[FieldSlots] = slots;
  team->run(program, info, profile);
  return {};
}

/// The keys or values of a layer, of all slots. Those of layers that run elsewhere take no memory.
std::byte *TokenBackend::cache(uint32_t layer, bool isValues) {
  const CacheLayer &entry = shared->artifact().cacheLayers()[layer];
  const CacheLayer &first = shared->artifact().cacheLayers()[firstLayer];
  const uint64_t cached = uint64_t(slots) * capacity;
  return isValues
             ? values.data() +
                   (entry.valueOffsetPerPosition - first.valueOffsetPerPosition) * cached
             : keys.data() + (entry.keyOffsetPerPosition - first.keyOffsetPerPosition) * cached;
}

Status TokenBackend::visit(int32_t slot, uint32_t length, CacheAccess, const PieceVisitor &piece) {
  visitCache(shared->artifact(), {firstLayer, shared->config().layers}, capacity, slot, length,
             [&](const CachePiece &p) {
               return piece({cache(p.layer, p.isValues) + p.offset, p.bytes});
             });
  return {};
}

Status TokenBackend::copy(int32_t from, int32_t to, uint32_t length) {
  std::vector<std::span<std::byte>> pieces;
  SMELT_TRY(visit(from, length, CacheAccess::Read, [&](std::span<std::byte> piece) {
    pieces.push_back(piece);
    return true;
  }));
  auto next = pieces.begin();
  return visit(to, length, CacheAccess::Write, [&](std::span<std::byte> piece) {
    std::copy(next->begin(), next->end(), piece.begin());
    ++next;
    return true;
  });
}

std::span<std::byte> TokenBackend::rowsIn() {
  const LayerStart &start = shared->artifact().layerStarts()[firstLayer];
  return {scratch.data() + start.scratch, uint64_t(start.rowBytes) * shared->config().maxTokens};
}

std::span<const float> TokenBackend::logits(size_t row) const {
  if (row >= inputs.rowCount())
    return {};
  size_t vocabulary = shared->config().vocabSize;
  return {reinterpret_cast<const float *>(logitMemory.data()) + row * vocabulary, vocabulary};
}

} // namespace

Result<std::unique_ptr<LastLayers>> createTokenBackend(std::shared_ptr<const Model> model,
                                                       std::shared_ptr<ThreadTeam> team,
                                                       uint32_t context, uint32_t slots,
                                                       uint32_t firstLayer) {
  auto backend =
      std::make_unique<TokenBackend>(std::move(model), std::move(team), context, slots, firstLayer);
  SMELT_TRY(backend->allocate());
  backend->resolve();
  return std::unique_ptr<LastLayers>(std::move(backend));
}

} // namespace smelt
