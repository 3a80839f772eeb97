// Caches, scratch and kernels of the token program on a GPU.
#include "runtime/model/backend.h"

#include "runtime/formats/caches.h"
#include "runtime/formats/formats.h"
#include "runtime/model/cache_layout.h"
#include "runtime/model/resolve.h"
#include "runtime/model/step_inputs.h"

#include <algorithm>
#include <array>

namespace smelt {

using namespace format;

namespace {

class GpuBackend final : public Backend {
public:
  GpuBackend(std::shared_ptr<const Model> model, std::unique_ptr<GpuDevice> device,
             uint32_t context, uint32_t slots)
      : shared(std::move(model)), device(std::move(device)), slots(slots),
        capacity(uint32_t(roundUp(context, shared->config().positionBlock))),
        inputs(shared->config(), slots) {}

  Status allocate();
  Status load(GpuCodeKind kind);
  Status step(std::span<const Token> tokens, std::span<const int32_t> logitRows,
              std::span<const std::vector<int32_t>> histories) override;
  std::span<const float> logits(size_t row) const override;
  void setProfile(StepProfile *, std::vector<uint64_t> *) override {} // steps are not taken apart
  uint64_t reservedBytes() const override { return reserved; }
  bool rewinds() const override { return true; }
  Status visit(int32_t, uint32_t, const PieceVisitor &) override {
    return unsupported("the cache lies on " + device->name() +
                       ", from where it is not copied; run on the CPU to keep prompts");
  }

private:
  struct Call {
    uint32_t call = 0;
    const GpuKernel *kernel = nullptr; ///< null: nothing to do
  };
  struct Calls {
    Call one, many;
    Domain domain;
    bool waits; ///< not all of its operands are ready
  };

  std::shared_ptr<const Model> shared;
  std::unique_ptr<GpuDevice> device;
  uint32_t slots, capacity;
  StepInputs inputs;
  uint64_t reserved = 0;
  int32_t weights = -1, scratch = -1, keys = -1, values = -1, stepInputs = -1, logitMemory = -1;
  std::vector<Calls> program;
  std::vector<GpuDispatch> dispatches; ///< of a step
  std::vector<float> logitRowsRead;

  Result<int32_t> reserve(uint64_t bytes, const std::string &what,
                          GpuTransfer transfer = GpuTransfer::Asked);
  GpuOperand place(const Operand &operand);
};

Result<int32_t> GpuBackend::reserve(uint64_t bytes, const std::string &what, GpuTransfer transfer) {
  reserved += bytes;
  return device->allocate(bytes, what, transfer);
}

Status GpuBackend::allocate() {
  const ModelConfig &config = shared->config();
  SMELT_ASSIGN(uint64_t keyBytes, cacheBytes(slots, capacity, config.keyBytesPerPosition));
  SMELT_ASSIGN(uint64_t valueBytes, cacheBytes(slots, capacity, config.valueBytesPerPosition));
  std::span<const std::byte> packed = shared->artifact().weights();
  SMELT_ASSIGN(weights, reserve(packed.size(), "the weights"));
  SMELT_TRY(device->write(weights, 0, packed));
  SMELT_ASSIGN(keys, reserve(keyBytes, "the key cache"));
  SMELT_ASSIGN(values, reserve(valueBytes, "the value cache"));
  SMELT_ASSIGN(scratch, reserve(config.scratchBytes, "scratch"));
  SMELT_ASSIGN(stepInputs,
               reserve(inputs.all().size_bytes(), "the inputs of a step", GpuTransfer::BeforeRun));
  const uint64_t logits = uint64_t(config.maxLogitRows) * config.vocabSize;
  SMELT_ASSIGN(logitMemory, reserve(logits * sizeof(float), "logits"));
  logitRowsRead.resize(logits);
  return {};
}

GpuOperand GpuBackend::place(const Operand &operand) {
  const Artifact &artifact = shared->artifact();
  const uint64_t cached = uint64_t(slots) * capacity;
  auto input = [&](const int32_t *at) {
    return GpuOperand{stepInputs, uint64_t(at - inputs.all().data()) * sizeof(int32_t)};
  };
  switch (operand.kind) {
  case OperandKind::Weights:
    return {weights, operand.value};
  case OperandKind::Scratch:
    return {scratch, operand.value};
  case OperandKind::KeyCache:
    return {keys, artifact.cacheLayers()[operand.value].keyOffsetPerPosition * cached};
  case OperandKind::ValueCache:
    return {values, artifact.cacheLayers()[operand.value].valueOffsetPerPosition * cached};
  case OperandKind::Tokens:
    return input(inputs.ids());
  case OperandKind::Positions:
    return input(inputs.places());
  case OperandKind::LogitRows:
    return input(inputs.rows());
  case OperandKind::Logits:
    return {logitMemory, 0};
  case OperandKind::None:
  case OperandKind::RowsIn: // the reader lets these two into tensor programs only
  case OperandKind::RowsOut:
    return {};
  }
  return {};
}

Status GpuBackend::load(GpuCodeKind kind) {
  const Artifact &artifact = shared->artifact();
  std::span<const std::byte> code = artifact.section(SectionKind::GpuCode, uint32_t(kind));
  std::span<const GpuKernel> table = artifact.gpuKernels(kind);
  std::vector<uint32_t> kernels;
  for (size_t i = 0; i < table.size(); ++i) {
    auto bytes = code.subspan(table[i].offset, table[i].bytes);
    SMELT_ASSIGN(uint32_t kernel,
                 device->addKernel(bytes, artifact.kernelNames()[i], table[i].threads));
    kernels.push_back(kernel);
  }
  for (const Instruction &instruction : artifact.instructions()) {
    std::array<GpuOperand, operandCount> operands;
    for (size_t i = 0; i < operandCount; ++i)
      operands[i] = place(instruction.operands[i]);
    Calls calls{{}, {}, instruction.domain, waitsForOthers(instruction)};
    for (auto [kernel, call] : {std::pair(instruction.kernelOne, &calls.one),
                                std::pair(instruction.kernelMany, &calls.many)}) {
      if (kernel == noKernel)
        continue;
      SMELT_ASSIGN(call->call, device->addCall(kernels[kernel], operands));
      call->kernel = &table[kernel];
    }
    program.push_back(calls);
  }
  dispatches.reserve(program.size());
  return {};
}

Status GpuBackend::step(std::span<const Token> tokens, std::span<const int32_t> logitRows,
                        std::span<const std::vector<int32_t>>) {
  inputs.set(tokens, logitRows);
  SMELT_TRY(device->write(stepInputs, 0, std::as_bytes(inputs.all())));
  int32_t lastPosition = 0;
  for (const Token &token : tokens)
    lastPosition = std::max(lastPosition, token.position);
  const uint32_t blocks = uint32_t(lastPosition) / shared->config().positionBlock + 1;
  dispatches.clear();
  bool waits = false; // an instruction that does not run leaves its barrier to the next one
  for (const Calls &calls : program) {
    const size_t rows = calls.domain == Domain::Tokens ? tokens.size() : logitRows.size();
    const Call &call = rows == 1 ? calls.one : calls.many;
    waits |= calls.waits;
    if (rows == 0 || !call.kernel)
      continue;
    const GpuKernel &kernel = *call.kernel;
    const uint32_t rowGroups = uint32_t((rows + kernel.rowsPerGroup - 1) / kernel.rowsPerGroup);
    dispatches.push_back(
        {call.call, {kernel.groups, rowGroups, kernel.overPositions ? blocks : 1}, waits});
    waits = false;
  }
  std::array<int32_t, FieldCount> fields{};
  fields[FieldThreads] = 1;
  fields[FieldTokens] = int32_t(tokens.size());
  fields[FieldLogitRows] = int32_t(logitRows.size());
  fields[FieldCapacity] = int32_t(capacity);
  fields[FieldSlots] = int32_t(slots);
  SMELT_TRY(device->run(fields, dispatches));
  auto read = std::span(logitRowsRead).first(logitRows.size() * shared->config().vocabSize);
  return device->read(logitMemory, 0, std::as_writable_bytes(read));
}

std::span<const float> GpuBackend::logits(size_t row) const {
  const size_t vocabulary = shared->config().vocabSize;
  if (row >= inputs.rowCount())
    return {};
  return std::span(logitRowsRead).subspan(row * vocabulary, vocabulary);
}

} // namespace

Result<std::unique_ptr<Backend>> createGpuBackend(std::shared_ptr<const Model> model,
                                                  std::unique_ptr<GpuDevice> device,
                                                  GpuCodeKind kind, uint32_t context,
                                                  uint32_t slots) {
  auto backend = std::make_unique<GpuBackend>(std::move(model), std::move(device), context, slots);
  SMELT_TRY(backend->allocate());
  SMELT_TRY(backend->load(kind));
  return std::unique_ptr<Backend>(std::move(backend));
}

} // namespace smelt
