// Partial offload: the first layers on a GPU, what is behind them on the CPU.
#include "runtime/model/backend.h"
#include "runtime/model/gpu_parts.h"

namespace smelt {

namespace {

class OffloadBackend final : public Backend {
public:
  OffloadBackend(std::unique_ptr<FirstLayers> first, std::unique_ptr<LastLayers> last,
                 uint32_t rowBytes)
      : first(std::move(first)), last(std::move(last)), rowBytes(rowBytes) {}

  Status step(std::span<const Token> tokens, std::span<const int32_t> logitRows, StepOutput output,
              std::span<const std::vector<int32_t>> histories) override {
    SMELT_TRY(first->step(tokens, logitRows, output, histories));
    SMELT_TRY(first->takeRows(last->rowsIn().first(tokens.size() * rowBytes)));
    return last->step(tokens, logitRows, output, histories);
  }
  std::span<const float> logits(size_t row) const override { return last->logits(row); }
  int64_t likeliest(size_t row) const override { return last->likeliest(row); }
  std::span<const LikelyToken> likely(size_t row) const override { return last->likely(row); }
  /// Of what runs on the CPU.
  void setProfile(StepProfile *perLabel, std::vector<uint64_t> *perInstruction) override {
    last->setProfile(perLabel, perInstruction);
  }
  size_t chunkTokens() const override { return last->chunkTokens(); }
  uint64_t reservedBytes() const override { return first->reservedBytes() + last->reservedBytes(); }
  bool rewinds() const override { return true; }
  Status visit(int32_t slot, uint32_t length, CacheAccess access,
               const PieceVisitor &piece) override {
    bool goesOn = true;
    auto remember = [&](std::span<std::byte> bytes) { return goesOn = piece(bytes); };
    SMELT_TRY(first->visit(slot, length, access, remember));
    return goesOn ? last->visit(slot, length, access, piece) : Status();
  }
  Status copy(int32_t from, int32_t to, uint32_t length) override {
    SMELT_TRY(first->copy(from, to, length));
    return last->copy(from, to, length);
  }

private:
  std::unique_ptr<FirstLayers> first;
  std::unique_ptr<LastLayers> last;
  uint32_t rowBytes;
};

} // namespace

Result<std::unique_ptr<Backend>> createOffloadBackend(std::shared_ptr<const Model> model,
                                                      ChosenDevice chosen,
                                                      std::shared_ptr<ThreadTeam> team,
                                                      uint32_t context, uint32_t slots,
                                                      uint32_t layers) {
  if (!canEndAt(*model, layers))
    return unsupported("the program of the artifact cannot be divided behind " +
                       std::to_string(layers) + " layers; choose another number");
  const uint32_t rowBytes = model->artifact().layerStarts()[layers].rowBytes;
  SMELT_ASSIGN(std::unique_ptr<FirstLayers> first,
               createGpuBackend(model, std::move(chosen), context, slots, layers));
  SMELT_ASSIGN(std::unique_ptr<LastLayers> last,
               createTokenBackend(std::move(model), std::move(team), context, slots, layers));
  return std::unique_ptr<Backend>(
      std::make_unique<OffloadBackend>(std::move(first), std::move(last), rowBytes));
}

} // namespace smelt
