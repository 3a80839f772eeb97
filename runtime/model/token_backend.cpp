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

class TokenBackend final : public Backend {
public:
  TokenBackend(std::shared_ptr<const Model> model, std::shared_ptr<ThreadTeam> team,
               uint32_t context, uint32_t slots)
      : shared(std::move(model)), team(std::move(team)), slots(slots),
        capacity(uint32_t(roundUp(context, shared->config().positionBlock))),
        inputs(shared->config(), slots) {}

  Status allocate();
  void resolve();
  Status step(std::span<const Token> tokens, std::span<const int32_t> logitRows,
              std::span<const std::vector<int32_t>> histories) override;
  std::span<const float> logits(size_t row) const override;
  void setProfile(StepProfile *perLabel, std::vector<uint64_t> *) override { profile = perLabel; }
  uint64_t reservedBytes() const override { return reserved; }
  bool rewinds() const override { return true; }
  Status visit(int32_t slot, uint32_t length, const PieceVisitor &piece) override;

private:
  void *address(const Operand &operand);

  std::shared_ptr<const Model> shared;
  std::shared_ptr<ThreadTeam> team;
  uint32_t slots, capacity;
  uint64_t reserved = 0;
  Pages keys, values, scratch, logitMemory;
  std::vector<ResolvedInstruction> program;
  StepInputs inputs;
  StepProfile *profile = nullptr;
};

Status TokenBackend::allocate() {
  const ModelConfig &config = shared->config();
  SMELT_ASSIGN(uint64_t keyBytes, cacheBytes(slots, capacity, config.keyBytesPerPosition));
  SMELT_ASSIGN(uint64_t valueBytes, cacheBytes(slots, capacity, config.valueBytesPerPosition));
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
  uint64_t cached = uint64_t(slots) * capacity;
  switch (operand.kind) {
  case OperandKind::Weights:
    return const_cast<std::byte *>(artifact.weights().data()) + operand.value;
  case OperandKind::Scratch:
    return scratch.data() + operand.value;
  case OperandKind::KeyCache:
    return keys.data() + artifact.cacheLayers()[operand.value].keyOffsetPerPosition * cached;
  case OperandKind::ValueCache:
    return values.data() + artifact.cacheLayers()[operand.value].valueOffsetPerPosition * cached;
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
  program = resolveProgram(*shared, [this](const Operand &operand) { return address(operand); });
}

Status TokenBackend::step(std::span<const Token> tokens, std::span<const int32_t> logitRows,
                          std::span<const std::vector<int32_t>>) {
  inputs.set(tokens, logitRows);
  int64_t info[FieldCount] = {};
  info[FieldTokens] = int64_t(tokens.size());
  info[FieldLogitRows] = int64_t(logitRows.size());
  info[FieldCapacity] = capacity;
  info[FieldSlots] = slots;
  team->run(program, info, profile);
  return {};
}

/// Codes of a head's positions lie together, its scales in planes of `capacity` behind all codes.
Status TokenBackend::visit(int32_t slot, uint32_t length, const PieceVisitor &piece) {
  const Artifact &artifact = shared->artifact();
  const auto cache = CacheFormat(shared->config().cacheFormat);
  const uint64_t cached = uint64_t(slots) * capacity, whole = roundUp(length, cachedTogether);
  for (const CacheLayer &layer : artifact.cacheLayers()) {
    const CacheSizes sizes = cacheSizes(cache, layer.headDim);
    struct Side {
      std::byte *first;
      uint64_t codes, planes;
    };
    const Side sides[] = {
        {keys.data() + layer.keyOffsetPerPosition * cached, sizes.keyCodes, sizes.keyPlanes},
        {values.data() + layer.valueOffsetPerPosition * cached, sizes.valueCodes,
         sizes.valuePlanes}};
    for (const Side &side : sides) {
      const uint64_t head = (side.codes + side.planes * scaleBytes) * capacity;
      for (uint32_t h = 0; h < layer.kvHeads; ++h) {
        std::byte *at = side.first + (uint64_t(slot) * layer.kvHeads + h) * head;
        if (!piece({at, whole * side.codes}))
          return {};
        at += side.codes * capacity;
        for (uint64_t plane = 0; plane < side.planes; ++plane, at += scaleBytes * capacity)
          if (!piece({at, uint64_t(length) * uint64_t(scaleBytes)}))
            return {};
      }
    }
  }
  return {};
}

std::span<const float> TokenBackend::logits(size_t row) const {
  if (row >= inputs.rowCount())
    return {};
  size_t vocabulary = shared->config().vocabSize;
  return {reinterpret_cast<const float *>(logitMemory.data()) + row * vocabulary, vocabulary};
}

} // namespace

Result<std::unique_ptr<Backend>> createTokenBackend(std::shared_ptr<const Model> model,
                                                    std::shared_ptr<ThreadTeam> team,
                                                    uint32_t context, uint32_t slots) {
  auto backend = std::make_unique<TokenBackend>(std::move(model), std::move(team), context, slots);
  SMELT_TRY(backend->allocate());
  backend->resolve();
  return std::unique_ptr<Backend>(std::move(backend));
}

} // namespace smelt
