// Caches, scratch and kernels of the token program on a GPU.
#include "runtime/model/backend.h"

#include "runtime/formats/caches.h"
#include "runtime/formats/formats.h"
#include "runtime/model/cache_layout.h"
#include "runtime/model/gpu_area.h"
#include "runtime/model/gpu_parts.h"
#include "runtime/model/resolve.h"
#include "runtime/model/step_inputs.h"

#include <algorithm>
#include <array>
#include <bit>

namespace smelt {

using namespace format;

namespace {

class GpuBackend final : public FirstLayers {
public:
  GpuBackend(std::shared_ptr<const Model> model, ChosenDevice chosen, uint32_t context,
             uint32_t slots, uint32_t layers)
      : shared(std::move(model)), device(std::move(chosen.device)), kind(chosen.kind), slots(slots),
        layers(layers), capacity(uint32_t(roundUp(context, shared->config().positionBlock))),
        inputs(shared->config(), slots) {}

  Status allocate();
  Status load();
  Status step(std::span<const Token> tokens, std::span<const int32_t> logitRows, StepOutput output,
              std::span<const std::vector<int32_t>> histories) override;
  std::span<const float> logits(size_t row) const override;
  int64_t likeliest(size_t row) const override;
  std::span<const LikelyToken> likely(size_t row) const override;
  void setProfile(StepProfile *, std::vector<uint64_t> *) override {} // steps are not taken apart
  uint64_t reservedBytes() const override { return reserved; }
  bool rewinds() const override { return true; }
  Status visit(int32_t slot, uint32_t length, CacheAccess access,
               const PieceVisitor &piece) override;
  Status copy(int32_t from, int32_t to, uint32_t length) override;
  Status takeRows(std::span<std::byte> rows) override;

private:
  struct Call {
    uint32_t call = 0;
    const GpuKernel *kernel = nullptr; ///< null: nothing to do
  };
  struct Calls {
    Call one, many;
    Call wide; ///< without a kernel: `many` is for all numbers of rows
    Domain domain;
    bool oneWaits, manyWait; ///< not all operands are ready
  };

  std::shared_ptr<const Model> shared;
  std::unique_ptr<GpuDevice> device;
  GpuCodeKind kind;
  uint32_t slots, layers, capacity;
  StepInputs inputs;
  uint64_t reserved = 0;
  GpuArea weights, keys, values;
  int32_t scratch = -1, stepInputs = -1, logitMemory = -1, likeliestMemory = -1, likelyMemory = -1;
  std::vector<Calls> program;
  std::vector<GpuDispatch> dispatches; ///< of a step
  /// After the program; without kernels the host does it.
  std::array<Call, logitKernels> argmaxCalls, candidateCalls;
  StepOutput lastOutput = StepOutput::Logits;
  std::vector<float> logitRowsRead;
  std::vector<int32_t> likeliestRead;
  std::vector<uint32_t> candidatesRead;
  std::vector<std::vector<LikelyToken>> likelyRead; ///< by row
  std::vector<std::byte> cachePiece;                ///< for visit

  bool givesLogits() const { return layers == shared->config().layers; }
  GpuOperand cacheAt(const CachePiece &piece) const;

  Result<int32_t> reserve(uint64_t bytes, const std::string &what,
                          GpuTransfer transfer = GpuTransfer::Asked);
  GpuOperand place(const Operand &operand);
  using LogitOperands = std::array<std::array<GpuOperand, operandCount>, logitKernels>;
  Status loadLogitKernels(SectionKind section, std::span<const GpuNamedKernel> table,
                          const LogitOperands &operands, std::array<Call, logitKernels> &calls);
  Status loadArgmax();
  Status loadCandidates();
  Result<StepOutput> readOutput(size_t rows, StepOutput made);
  Status readLogits(size_t rows);
  uint32_t blocksOf(std::span<const Token> tokens) const;
  void addDispatch(const Call &call, size_t rows, uint32_t blocks, bool waits);
};

Result<int32_t> GpuBackend::reserve(uint64_t bytes, const std::string &what, GpuTransfer transfer) {
  // How far its operands go is not known: any of them may be the whole of it.
  SMELT_TRY(checkOperandBytes(*device, bytes, what));
  reserved += bytes;
  return device->allocate(bytes, what, transfer);
}

Status GpuBackend::allocate() {
  const ModelConfig &config = shared->config();
  SMELT_TRY(weights.allocate(*device, weightParts(*shared, layers), "the weights"));
  SMELT_TRY(weights.write(*device, shared->artifact().weights()));
  SMELT_ASSIGN(auto caches, cacheParts(*shared, slots, capacity, layers));
  SMELT_TRY(keys.allocate(*device, std::move(caches.keys), "the key cache"));
  SMELT_TRY(values.allocate(*device, std::move(caches.values), "the value cache"));
  reserved = weights.bytes() + keys.bytes() + values.bytes();
  SMELT_ASSIGN(scratch, reserve(config.scratchBytes, "scratch"));
  SMELT_ASSIGN(stepInputs,
               reserve(inputs.all().size_bytes(), "the inputs of a step", GpuTransfer::BeforeRun));
  if (!givesLogits())
    return {};
  const uint64_t logits = uint64_t(config.maxLogitRows) * config.vocabSize;
  SMELT_ASSIGN(logitMemory, reserve(logits * sizeof(float), "logits"));
  logitRowsRead.resize(logits);
  return {};
}

GpuOperand GpuBackend::place(const Operand &operand) {
  auto input = [&](const int32_t *at) {
    return GpuOperand{stepInputs, uint64_t(at - inputs.all().data()) * sizeof(int32_t)};
  };
  switch (operand.kind) {
  case OperandKind::Weights:
    return weights.at(operand.value);
  case OperandKind::Scratch:
    return {scratch, operand.value};
  case OperandKind::KeyCache:
    return keys.at(operand.value);
  case OperandKind::ValueCache:
    return values.at(operand.value);
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

Status GpuBackend::load() {
  const Artifact &artifact = shared->artifact();
  std::span<const std::byte> code = artifact.section(SectionKind::GpuCode, uint32_t(kind));
  std::span<const GpuProgramKernel> table = artifact.gpuKernels(kind);
  std::vector<std::pair<uint32_t, uint32_t>> kernels; // the usual one and the wide one
  auto add = [&](const GpuKernel &kernel, const std::string &name) {
    return device->addKernel(code.subspan(kernel.offset, kernel.bytes), name, kernel.threads);
  };
  for (size_t i = 0; i < table.size(); ++i) {
    const std::string name = artifact.divisibleProgram().kernelNames[i];
    SMELT_ASSIGN(uint32_t usual, add(table[i].usual, name));
    uint32_t wide = noKernel;
    if (table[i].wide.bytes) {
      SMELT_ASSIGN(wide, add(table[i].wide, name + std::string(gpuWideSuffix)));
    }
    kernels.emplace_back(usual, wide);
  }
  for (const Instruction &instruction : instructionsOf(*shared, layers)) {
    std::array<GpuOperand, operandCount> operands;
    for (size_t i = 0; i < operandCount; ++i)
      operands[i] = place(instruction.operands[i]);
    Calls calls{{},
                {},
                {},
                instruction.domain,
                waitsForOthers(instruction, true),
                waitsForOthers(instruction, false)};
    auto make = [&](Call &call, uint32_t kernel, const GpuKernel &launch) -> Status {
      SMELT_ASSIGN(call.call, device->addCall(kernel, operands));
      call.kernel = &launch;
      return {};
    };
    if (const uint32_t one = instruction.kernelOne; one != noKernel)
      SMELT_TRY(make(calls.one, kernels[one].first, table[one].usual));
    if (const uint32_t many = instruction.kernelMany; many != noKernel) {
      SMELT_TRY(make(calls.many, kernels[many].first, table[many].usual));
      if (kernels[many].second != noKernel)
        SMELT_TRY(make(calls.wide, kernels[many].second, table[many].wide));
    }
    program.push_back(calls);
  }
  dispatches.reserve(program.size() + logitKernels);
  if (!givesLogits())
    return {};
  SMELT_TRY(loadArgmax());
  return loadCandidates();
}

Status GpuBackend::loadLogitKernels(SectionKind section, std::span<const GpuNamedKernel> table,
                                    const LogitOperands &operands,
                                    std::array<Call, logitKernels> &calls) {
  std::span<const std::byte> code = shared->artifact().section(section, uint32_t(kind));
  for (size_t i = 0; i < logitKernels; ++i) {
    const GpuKernel &kernel = table[i].kernel;
    SMELT_ASSIGN(uint32_t added, device->addKernel(code.subspan(kernel.offset, kernel.bytes),
                                                   table[i].name, kernel.threads));
    SMELT_ASSIGN(calls[i].call, device->addCall(added, operands[i]));
    calls[i].kernel = &kernel;
  }
  return {};
}

Status GpuBackend::loadArgmax() {
  std::span<const GpuNamedKernel> table = shared->artifact().gpuArgmax(kind);
  if (table.empty())
    return {};
  const uint64_t rows = shared->config().maxLogitRows;
  SMELT_ASSIGN(int32_t parts,
               reserve(rows * 2 * table[0].kernel.groups * sizeof(float), "the likeliest tokens"));
  SMELT_ASSIGN(likeliestMemory,
               reserve(rows * sizeof(int32_t), "the likeliest tokens", GpuTransfer::AfterRun));
  likeliestRead.resize(rows);
  LogitOperands operands;
  operands[0][0] = {logitMemory, 0};
  operands[0][1] = operands[1][0] = {parts, 0};
  operands[1][1] = {likeliestMemory, 0};
  return loadLogitKernels(SectionKind::GpuArgmax, table, operands, argmaxCalls);
}

Status GpuBackend::loadCandidates() {
  std::span<const GpuNamedKernel> table = shared->artifact().gpuCandidates(kind);
  if (table.empty())
    return {};
  const uint64_t rows = shared->config().maxLogitRows;
  const uint64_t maximaBytes =
      uint64_t(table[0].kernel.groups) * table[0].kernel.threads * sizeof(float);
  SMELT_ASSIGN(int32_t maxima, reserve(rows * maximaBytes, "the likely tokens"));
  SMELT_ASSIGN(likelyMemory, reserve(rows * candidateWords * sizeof(uint32_t), "the likely tokens",
                                     GpuTransfer::AfterRun));
  candidatesRead.resize(rows * candidateWords);
  likelyRead.resize(rows);
  for (std::vector<LikelyToken> &row : likelyRead)
    row.reserve(candidatesAtMost);
  LogitOperands operands;
  operands[0][0] = operands[1][0] = {logitMemory, 0};
  operands[0][1] = operands[1][1] = {maxima, 0};
  operands[0][2] = operands[1][2] = {likelyMemory, 0};
  return loadLogitKernels(SectionKind::GpuCandidates, table, operands, candidateCalls);
}

/// Blocks of positions that attention sees.
uint32_t GpuBackend::blocksOf(std::span<const Token> tokens) const {
  int32_t lastPosition = 0;
  for (const Token &token : tokens)
    lastPosition = std::max(lastPosition, token.position);
  return uint32_t(lastPosition) / shared->config().positionBlock + 1;
}

void GpuBackend::addDispatch(const Call &call, size_t rows, uint32_t blocks, bool waits) {
  const GpuKernel &kernel = *call.kernel;
  const uint32_t rowGroups = uint32_t((rows + kernel.rowsPerGroup - 1) / kernel.rowsPerGroup);
  dispatches.push_back(
      {call.call, {kernel.groups, rowGroups, kernel.overPositions ? blocks : 1}, waits});
}

Status GpuBackend::step(std::span<const Token> tokens, std::span<const int32_t> logitRows,
                        StepOutput output, std::span<const std::vector<int32_t>>) {
  inputs.set(tokens, logitRows);
  SMELT_TRY(device->write(stepInputs, 0, std::as_bytes(inputs.all())));
  const uint32_t blocks = blocksOf(tokens);
  dispatches.clear();
  bool waits = false; // an instruction that does not run leaves its barrier to the next one
  for (const Calls &calls : program) {
    const size_t rows = calls.domain == Domain::Tokens ? tokens.size() : logitRows.size();
    const bool isWide = rows >= gpuWideRows && calls.wide.kernel;
    const Call &call = rows == 1 ? calls.one : isWide ? calls.wide : calls.many;
    waits |= rows == 1 ? calls.oneWaits : calls.manyWait;
    if (rows == 0 || !call.kernel)
      continue;
    addDispatch(call, rows, blocks, waits);
    waits = false;
  }
  lastOutput = StepOutput::Logits;
  for (auto [asked, memory] :
       {std::pair(StepOutput::Likeliest, likeliestMemory), {StepOutput::Likely, likelyMemory}})
    if (output == asked && memory >= 0)
      lastOutput = asked;
  if (lastOutput != StepOutput::Logits && !logitRows.empty())
    for (const Call &call : lastOutput == StepOutput::Likely ? candidateCalls : argmaxCalls)
      addDispatch(call, logitRows.size(), blocks, true);
  std::array<int32_t, FieldCount> fields{};
  fields[FieldThreads] = 1;
  fields[FieldTokens] = int32_t(tokens.size());
  fields[FieldLogitRows] = int32_t(logitRows.size());
  fields[FieldCapacity] = int32_t(capacity);
  fields[FieldSlots] = int32_t(slots);
  SMELT_TRY(device->run(fields, dispatches));
  if (!givesLogits())
    return {};
  SMELT_ASSIGN(lastOutput, readOutput(logitRows.size(), lastOutput));
  return {};
}

Status GpuBackend::readLogits(size_t rows) {
  auto read = std::span(logitRowsRead).first(rows * shared->config().vocabSize);
  return device->read(logitMemory, 0, std::as_writable_bytes(read));
}

/// Brings what a step has made of the logits; returns what there is.
Result<StepOutput> GpuBackend::readOutput(size_t rows, StepOutput made) {
  if (made == StepOutput::Likeliest) {
    SMELT_TRY(device->read(likeliestMemory, 0,
                           std::as_writable_bytes(std::span(likeliestRead).first(rows))));
    return made;
  }
  if (made == StepOutput::Likely) {
    auto read = std::span(candidatesRead).first(rows * candidateWords);
    SMELT_TRY(device->read(likelyMemory, 0, std::as_writable_bytes(read)));
    bool areAll = true;
    for (size_t row = 0; row < rows; ++row) {
      const uint32_t *words = read.data() + row * candidateWords, count = words[0];
      likelyRead[row].clear();
      areAll &= count > 0 && count <= candidatesAtMost;
      for (uint32_t i = 0; i < std::min(count, candidatesAtMost); ++i)
        likelyRead[row].push_back(
            {std::bit_cast<float>(words[1 + candidatesAtMost + i]), int32_t(words[1 + i])});
    }
    if (areAll)
      return made;
  }
  SMELT_TRY(readLogits(rows));
  return StepOutput::Logits;
}

std::span<const float> GpuBackend::logits(size_t row) const {
  const size_t vocabulary = shared->config().vocabSize;
  if (row >= inputs.rowCount() || lastOutput != StepOutput::Logits)
    return {};
  return std::span(logitRowsRead).subspan(row * vocabulary, vocabulary);
}

std::span<const LikelyToken> GpuBackend::likely(size_t row) const {
  return row < inputs.rowCount() && lastOutput == StepOutput::Likely
             ? std::span<const LikelyToken>(likelyRead[row])
             : std::span<const LikelyToken>();
}

int64_t GpuBackend::likeliest(size_t row) const {
  if (lastOutput != StepOutput::Likeliest)
    return argmax(logits(row));
  return row < inputs.rowCount() ? likeliestRead[row] : -1;
}

//===--- Caches and rows that others see ------------------------------------------------------===//

GpuOperand GpuBackend::cacheAt(const CachePiece &piece) const {
  GpuOperand place = (piece.isValues ? values : keys).at(piece.layer);
  place.offset += piece.offset;
  return place;
}

Status GpuBackend::visit(int32_t slot, uint32_t length, CacheAccess access,
                         const PieceVisitor &piece) {
  Status status;
  visitCache(shared->artifact(), {0, layers}, capacity, slot, length, [&](const CachePiece &p) {
    const GpuOperand place = cacheAt(p);
    cachePiece.resize(p.bytes);
    if (access == CacheAccess::Read)
      status = device->read(place.memory, place.offset, cachePiece);
    const bool goesOn = status.ok() && piece(cachePiece);
    if (goesOn && access == CacheAccess::Write)
      status = device->write(place.memory, place.offset, cachePiece);
    return goesOn && status.ok();
  });
  return status;
}

Status GpuBackend::copy(int32_t from, int32_t to, uint32_t length) {
  std::vector<GpuCopy> copies;
  visitCache(shared->artifact(), {0, layers}, capacity, from, length, [&](const CachePiece &p) {
    const GpuOperand place = cacheAt(p);
    copies.push_back({place.memory, place.offset, 0, 0, p.bytes});
    return true;
  });
  auto next = copies.begin();
  visitCache(shared->artifact(), {0, layers}, capacity, to, length, [&](const CachePiece &p) {
    const GpuOperand place = cacheAt(p);
    next->to = place.memory;
    next->toOffset = place.offset;
    ++next;
    return true;
  });
  return device->copy(copies);
}

Status GpuBackend::takeRows(std::span<std::byte> rows) {
  return device->read(scratch, shared->artifact().layerStarts()[layers].scratch, rows);
}

} // namespace

Result<std::unique_ptr<FirstLayers>> createGpuBackend(std::shared_ptr<const Model> model,
                                                      ChosenDevice chosen, uint32_t context,
                                                      uint32_t slots, uint32_t layers) {
  auto backend =
      std::make_unique<GpuBackend>(std::move(model), std::move(chosen), context, slots, layers);
  SMELT_TRY(backend->allocate());
  SMELT_TRY(backend->load());
  return std::unique_ptr<FirstLayers>(std::move(backend));
}

Result<uint32_t> layersThatFit(const Model &model, const GpuDevice &device, uint32_t context,
                               uint32_t slots) {
  // The driver has memory of its own, for code and command buffers.
  const uint64_t free = device.freeBytes(), usable = free - free / 16;
  const ModelConfig &config = model.config();
  const auto capacity = uint32_t(roundUp(context, config.positionBlock));
  auto sumOf = [](const std::vector<GpuArea::Part> &parts) {
    uint64_t sum = 0;
    for (const GpuArea::Part &part : parts)
      sum += part.bytes;
    return sum;
  };
  for (uint32_t layers = config.layers; layers > 0; --layers) {
    if (!canEndAt(model, layers))
      continue;
    SMELT_ASSIGN(CacheParts caches, cacheParts(model, slots, capacity, layers));
    uint64_t bytes = sumOf(weightParts(model, layers)) + sumOf(caches.keys) + sumOf(caches.values) +
                     config.scratchBytes;
    if (layers == config.layers)
      bytes += uint64_t(config.maxLogitRows) * config.vocabSize * sizeof(float);
    if (bytes <= usable)
      return layers;
  }
  return uint32_t(0);
}

} // namespace smelt
