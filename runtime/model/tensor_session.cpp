// The walk over the instructions of a tensor program.
#include "runtime/model/tensor_session.h"
#include "runtime/model/resolve.h"

#include <algorithm>
#include <cstring>

#include <unistd.h>

namespace smelt {

using namespace format;

namespace {

using Clock = std::chrono::steady_clock;

/// Waking the other threads costs 1 us on an idle machine and 12 us on a busy one (measured with
/// two threads); a kernel handles this many elements in 4 (addition) to 60 us (scalar code).
constexpr int64_t elementsWorthTheTeam = 32768;
/// Inputs beyond this many elements for one of the output are not all read (Shape, Gather).
constexpr int64_t mostReadPerOutput = 1024;
/// Kernels of rows may touch this far beyond their last row.
constexpr uint64_t rowMargin = 256;

uint64_t machineBytes() {
  long pages = ::sysconf(_SC_PHYS_PAGES), bytes = ::sysconf(_SC_PAGESIZE);
  return pages > 0 && bytes > 0 ? uint64_t(pages) * uint64_t(bytes) : uint64_t(1) << 40;
}

/// Index of the port of that name.
std::optional<size_t> findPort(const TensorProgram &program, std::span<const TensorPort> ports,
                               std::string_view name) {
  for (size_t i = 0; i < ports.size(); ++i)
    if (program.name(ports[i].nameOffset) == name)
      return i;
  return {};
}

} // namespace

/// Operands of one call as kernels want them.
struct TensorSession::Call {
  alignas(64) int64_t frame[1 + tensorOperandCount * maxRank] = {};
  void *data[tensorOperandCount] = {};
  KernelFunction function = nullptr;
  unsigned threads = 1;

  int64_t *dims(uint32_t operand) { return frame + 1 + size_t(operand) * maxRank; }
  void operator()(unsigned thread) {
    int64_t info[FieldCount] = {};
    info[FieldThread] = thread;
    info[FieldThreads] = threads;
    function(info, frame, data[0], data[1], data[2], data[3], data[4], data[5], data[6]);
  }
};

Result<std::unique_ptr<TensorSession>> TensorSession::create(std::shared_ptr<const Model> model,
                                                             std::shared_ptr<ThreadTeam> team,
                                                             uint64_t memoryLimit) {
  const TensorProgram *program = model->artifact().tensorProgram();
  if (!program)
    return unsupported("the artifact runs tokens, not tensors; open a session for text instead");
  std::unique_ptr<TensorSession> session(
      new TensorSession(memoryLimit != 0 ? memoryLimit : machineBytes()));
  session->shared = std::move(model);
  session->team = std::move(team);
  session->code = program;
  SMELT_TRY(session->allocateRows());
  session->resolve();

  std::span<const std::byte> weights = session->shared->artifact().weights();
  session->values.resize(program->tensors.size());
  for (size_t i = 0; i < program->tensors.size(); ++i)
    if (const TensorEntry &entry = program->tensors[i]; entry.isConstant)
      session->values[i] =
          TensorValue::view(entry.type, {entry.dims, entry.rank}, weights.data() + entry.offset);
  return session;
}

Status TensorSession::allocateRows() {
  const ModelConfig &config = shared->config();
  uint64_t in = 0, out = 0;
  for (const TensorInstruction &i : code->instructions) {
    if (i.action != TensorAction::Rows)
      continue;
    const TensorEntry &input = code->tensors[i.operands[1]];
    in = std::max(in, input.rank == 2 ? uint64_t(input.dims[1]) : 1);
    out = std::max(out, uint64_t(code->tensors[i.operands[0]].dims[1]));
  }
  uint64_t rows = uint64_t(config.maxTokens) * sizeof(float);
  SMELT_ASSIGN(scratch, Pages::allocate(config.scratchBytes + rowMargin, "scratch"));
  SMELT_ASSIGN(rowsIn, Pages::allocate(rows * in + rowMargin, "rows"));
  SMELT_ASSIGN(rowsOut, Pages::allocate(rows * out + rowMargin, "rows"));
  rowBytes = config.scratchBytes + rows * (in + out);
  return {};
}

void TensorSession::resolve() {
  const Artifact &artifact = shared->artifact();
  auto address = [&](const Operand &operand) -> void * {
    switch (operand.kind) {
    case OperandKind::Weights:
      return const_cast<std::byte *>(artifact.weights().data()) + operand.value;
    case OperandKind::Scratch:
      return scratch.data() + operand.value;
    case OperandKind::RowsIn:
      return rowsIn.data();
    case OperandKind::RowsOut:
      return rowsOut.data();
    default: // the reader lets nothing else through
      return nullptr;
    }
  };
  rowProgram = resolveProgram(*shared, shared->artifact().program().instructions, shared->kernels(),
                              address);
}

std::optional<size_t> TensorSession::findInput(std::string_view name) const {
  return findPort(*code, code->inputs, name);
}

std::optional<size_t> TensorSession::findOutput(std::string_view name) const {
  return findPort(*code, code->outputs, name);
}

void TensorSession::setProfile(StepProfile *perLabel, TensorProfile *perInstruction) {
  labelProfile = perLabel;
  instructionProfile = perInstruction;
  if (perInstruction)
    perInstruction->resize(code->instructions.size());
}

Status TensorSession::run(std::span<const TensorValue> inputs) {
  SMELT_TRY(bind(inputs));
  Status status = execute();
  if (status.ok())
    status = finish();
  for (size_t i = 0; i < values.size(); ++i)
    if (!code->tensors[i].isConstant)
      values[i] = {};
  pool.trim();
  return status;
}

Status TensorSession::bind(std::span<const TensorValue> inputs) {
  if (inputs.size() != code->inputs.size())
    return invalidArgument(std::to_string(inputs.size()) + " inputs found, the graph has " +
                           std::to_string(code->inputs.size()));
  for (size_t i = 0; i < inputs.size(); ++i) {
    const TensorPort &port = code->inputs[i];
    const TensorEntry &entry = code->tensors[port.tensor];
    TensorValue expected = TensorValue::view(entry.type, {entry.dims, entry.rank}, nullptr);
    const TensorValue &given = inputs[i];
    bool fits = given.type == entry.type && given.rank == entry.rank && given.data;
    for (uint32_t axis = 0; fits && axis < entry.rank; ++axis)
      fits =
          given.dims[axis] >= 0 && (entry.dims[axis] < 0 || entry.dims[axis] == given.dims[axis]);
    uint64_t bytes = 0;
    if (!fits || !tensorBytes(given.shape(), elementBytes(given.type), bytes))
      return invalidArgument("input '" + std::string(code->name(port.nameOffset)) + "' is " +
                             given.text() + ", expected " + expected.text() + " (-1: any length)");
  }
  for (size_t i = 0; i < inputs.size(); ++i)
    values[code->inputs[i].tensor] = inputs[i];
  return {};
}

Status TensorSession::execute() {
  Clock::time_point before = Clock::now();
  bool isProfiled = labelProfile || instructionProfile;
  for (size_t at = 0; at < code->instructions.size();) {
    const TensorInstruction &instruction = code->instructions[at];
    size_t next = at + 1;
    SMELT_TRY(this->instruction(at, next));
    for (uint32_t tensor : instruction.release)
      if (tensor != noTensor && !code->tensors[tensor].isConstant)
        values[tensor] = {};
    if (isProfiled) {
      Clock::time_point now = Clock::now();
      auto time = uint64_t((now - before) / std::chrono::nanoseconds(1));
      before = now;
      if (instructionProfile)
        (*instructionProfile)[at] += time;
      // Rows count by the labels of the instructions that they run.
      if (labelProfile && instruction.action != TensorAction::Rows) {
        labelProfile->nanoseconds[instruction.label] += time;
        labelProfile->calls[instruction.label] += 1;
      }
    }
    at = next;
  }
  return {};
}

Status TensorSession::instruction(size_t index, size_t &next) {
  const TensorInstruction &i = code->instructions[index];
  switch (i.action) {
  case TensorAction::Kernel:
  case TensorAction::Alias:
    return kernel(index, i.action == TensorAction::Alias);
  case TensorAction::Rows:
    return rows(i);
  case TensorAction::Jump:
    next = i.target;
    return {};
  case TensorAction::JumpIfFalse: {
    const TensorValue &condition = values[i.operands[0]];
    if (!condition.data || condition.elements() != 1)
      return blame(
          i, invalidArgument("its condition is " + condition.text() + ", expected one value"));
    if (condition.data[0] == std::byte(0))
      next = i.target;
    return {};
  }
  case TensorAction::Take:
    if (!values[i.operands[1]].data)
      return blame(i, corrupt("it reads a value before it is made"));
    values[i.operands[0]] = values[i.operands[1]];
    return {};
  }
  return {};
}

Status TensorSession::fetch(const TensorInstruction &i, Call &call) const {
  for (uint32_t k = i.outputs; k < i.operandCount; ++k) {
    if (i.operands[k] == noTensor)
      continue;
    const TensorValue &value = values[i.operands[k]];
    if (!value.data)
      return blame(i, corrupt("it reads a value before it is made"));
    std::copy_n(value.dims.data(), value.rank, call.dims(k));
    call.data[k] = value.data;
  }
  return {};
}

Status TensorSession::kernel(size_t index, bool isAlias) {
  const TensorInstruction &i = code->instructions[index];
  const TensorKernels &kernels = shared->tensorKernels()[index];
  Call call;
  SMELT_TRY(fetch(i, call));
  call.function = kernels.shape;
  call(0);
  if (call.frame[0] != FaultNone)
    return fault(i, call.frame[0]);

  int64_t work = 0, read = 0;
  for (uint32_t k = 0; k < i.outputs; ++k) {
    const TensorEntry &entry = code->tensors[i.operands[k]];
    std::span<const int64_t> shape(call.dims(k), entry.rank);
    TensorValue made;
    if (isAlias) {
      const TensorValue &source = values[i.operands[1]];
      uint64_t here = 0, there = 0;
      if (!tensorBytes(shape, 1, here) || !tensorBytes(source.shape(), 1, there) || here != there)
        return fault(i, FaultShape);
      made = TensorValue::view(entry.type, shape, source.data);
      made.owner = source.owner;
    } else {
      Result<TensorValue> allocated = pool.allocate(entry.type, shape);
      if (!allocated.ok())
        return blame(i, allocated.status());
      made = *std::move(allocated);
    }
    work = std::max(work, made.elements());
    call.data[k] = made.data;
    values[i.operands[k]] = std::move(made);
  }
  if (isAlias || work == 0)
    return {};

  for (uint32_t k = i.outputs; k < i.operandCount; ++k)
    if (i.operands[k] != noTensor)
      read = std::max(read, values[i.operands[k]].elements());
  call.function = kernels.compute;
  bool isLarge = std::max(work, std::min(read, work * mostReadPerOutput)) > elementsWorthTheTeam;
  if (isLarge && team->size() > 1) {
    call.threads = team->size();
    team->run([](void *context, unsigned thread) { (*static_cast<Call *>(context))(thread); },
              &call);
  } else {
    call(0);
  }
  return call.frame[0] == FaultNone ? Status() : fault(i, call.frame[0]);
}

Status TensorSession::rows(const TensorInstruction &i) {
  const TensorValue &in = values[i.operands[1]];
  if (!in.data)
    return blame(i, corrupt("it reads a value before it is made"));
  const TensorEntry &entry = code->tensors[i.operands[1]];
  bool isIds = entry.rank == 1;
  if (!isIds && in.dims[1] != entry.dims[1])
    return fault(i, FaultShape);
  int64_t outWidth = code->tensors[i.operands[0]].dims[1];
  int64_t shape[] = {in.dims[0], outWidth};
  Result<TensorValue> allocated = pool.allocate(ElementType::F32, shape);
  if (!allocated.ok())
    return blame(i, allocated.status());
  TensorValue out = *std::move(allocated);

  uint64_t inBytes = (isIds ? 1 : uint64_t(in.dims[1])) * sizeof(float);
  uint64_t outBytes = uint64_t(outWidth) * sizeof(float);
  int64_t most = shared->config().maxTokens;
  for (int64_t row = 0; row < in.dims[0]; row += most) {
    int64_t count = std::min(most, in.dims[0] - row);
    std::memcpy(rowsIn.data(), in.data + uint64_t(row) * inBytes, uint64_t(count) * inBytes);
    // Kernels may look up ids beyond the last.
    if (isIds)
      std::memset(rowsIn.data() + uint64_t(count) * inBytes, 0, uint64_t(most - count) * inBytes);
    int64_t info[FieldCount] = {};
    info[FieldTokens] = count;
    team->run(std::span(rowProgram).subspan(i.first, i.count), info, labelProfile);
    std::memcpy(out.data + uint64_t(row) * outBytes, rowsOut.data(), uint64_t(count) * outBytes);
  }
  values[i.operands[0]] = std::move(out);
  return {};
}

Status TensorSession::finish() {
  std::vector<TensorValue> made;
  for (const TensorPort &port : code->outputs) {
    const TensorValue &value = values[port.tensor];
    if (!value.data)
      return corrupt("output '" + std::string(code->name(port.nameOffset)) + "' was never made");
    // What passes through from the caller's memory must outlive the call.
    if (!value.owner && !code->tensors[port.tensor].isConstant) {
      SMELT_ASSIGN(TensorValue copy, pool.allocate(value.type, value.shape()));
      std::memcpy(copy.data, value.data, uint64_t(value.elements()) * elementBytes(value.type));
      made.push_back(std::move(copy));
    } else {
      made.push_back(value);
    }
  }
  results = std::move(made);
  return {};
}

Status TensorSession::blame(const TensorInstruction &i, Status why) const {
  return std::move(why).withContext("node '" + std::string(code->name(i.nodeName)) + "'");
}

Status TensorSession::fault(const TensorInstruction &i, int64_t fault) const {
  std::string text = fault == FaultShape   ? "the shapes of its operands do not fit together"
                     : fault == FaultIndex ? "an index is out of range"
                                           : "fault " + std::to_string(fault);
  const char *separator = ": ";
  for (uint32_t k = i.outputs; k < i.operandCount; ++k) {
    text += separator + (i.operands[k] == noTensor ? "none" : values[i.operands[k]].text());
    separator = ", ";
  }
  return blame(i, invalidArgument(text));
}

} // namespace smelt
