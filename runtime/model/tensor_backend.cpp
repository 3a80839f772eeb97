// Text through a tensor program: inputs made by their roles, states kept per slot.
#include "runtime/model/backend.h"
#include "runtime/model/tensor_session.h"

#include <algorithm>
#include <cstring>

namespace smelt {

using namespace format;

namespace {

/// Tokens that run at once at most where states allow to go on: attention scores grow with the
/// square of it. Up to there a prompt runs whole, as exporters test their graphs.
constexpr size_t mostAtOnce = 2048;

class TensorBackend final : public Backend {
public:
  static Result<std::unique_ptr<Backend>> create(std::shared_ptr<const Model> model,
                                                 std::shared_ptr<ThreadTeam> team, uint32_t slots);
  Status step(std::span<const Token> tokens, std::span<const int32_t> logitRows, StepOutput output,
              std::span<const std::vector<int32_t>> histories) override;
  std::span<const float> logits(size_t row) const override;
  void setProfile(StepProfile *perLabel, std::vector<uint64_t> *perInstruction) override {
    session->setProfile(perLabel, perInstruction);
  }
  uint64_t reservedBytes() const override { return session->peakBytes(); }
  bool rewinds() const override { return false; }
  Status visit(int32_t, uint32_t, CacheAccess, const PieceVisitor &) override {
    return unsupported("the states of a graph cannot be taken apart");
  }
  Status copy(int32_t from, int32_t to, uint32_t length) override {
    return visit(from, length, CacheAccess::Read, {}); // the same refusal
  }

private:
  /// States after the first `length` tokens of the slot's history; later ones have not run yet.
  struct Slot {
    std::vector<TensorValue> states; ///< in the order of `stateInputs`
    size_t length = 0;
  };
  Status plan();
  Status makeInitialStates();
  Status runSlot(int32_t slot, std::span<const Token> tokens, std::span<const int32_t> logitRows,
                 std::span<const int32_t> history);
  Status run(Slot &slot, size_t end);
  Status makeInput(size_t index, std::span<const int32_t> ids, size_t past);
  Status checkLogits(size_t count) const;

  std::unique_ptr<TensorSession> session;
  std::vector<size_t> stateInputs;
  std::vector<TensorValue> initialStates;
  std::vector<TensorValue> inputs;
  size_t logitOutput = 0;
  bool givesLastOnly = false; ///< logits are [1, 1, vocabulary], of the last token
  std::vector<Slot> slots, after;
  std::vector<int32_t> sequence; ///< of the slot that runs: what it held and what the step adds
  TensorPool pool{uint64_t(1) << 40};
  std::vector<float> rowLogits, nextLogits;
};

Result<std::unique_ptr<Backend>> TensorBackend::create(std::shared_ptr<const Model> model,
                                                       std::shared_ptr<ThreadTeam> team,
                                                       uint32_t slots) {
  auto backend = std::make_unique<TensorBackend>();
  SMELT_ASSIGN(backend->session, TensorSession::create(std::move(model), std::move(team)));
  SMELT_TRY(backend->plan());
  SMELT_TRY(backend->makeInitialStates());
  backend->slots.assign(slots, {backend->initialStates, 0});
  return std::unique_ptr<Backend>(std::move(backend));
}

Status TensorBackend::plan() {
  const TensorProgram &program = session->program();
  bool hasIds = false;
  for (size_t i = 0; i < program.inputs.size(); ++i) {
    const TensorPort &port = program.inputs[i];
    hasIds |= port.role == PortRole::Ids;
    if (port.role == PortRole::State)
      stateInputs.push_back(i);
    if (port.role == PortRole::Other)
      return unsupported("text cannot be run through this graph: nobody knows what to feed its "
                         "input '" +
                         std::string(program.name(port.nameOffset)) + "'; run it with tensors");
  }
  auto found = std::find_if(program.outputs.begin(), program.outputs.end(),
                            [](const TensorPort &port) { return port.role == PortRole::Logits; });
  if (!hasIds || found == program.outputs.end())
    return unsupported(std::string("text cannot be run through this graph: it has no ") +
                       (hasIds ? "logits" : "token ids") + "; run it with tensors");
  logitOutput = size_t(found - program.outputs.begin());
  givesLastOnly = program.tensors[found->tensor].dims[1] == 1;
  inputs.resize(program.inputs.size());
  return {};
}

Status TensorBackend::makeInitialStates() {
  const TensorProgram &program = session->program();
  for (size_t index : stateInputs) {
    const TensorPort &port = program.inputs[index];
    const TensorEntry &entry = program.tensors[port.tensor];
    std::vector<int64_t> shape(entry.dims, entry.dims + entry.rank);
    for (size_t axis = 0; axis < shape.size(); ++axis) {
      if (int64_t(axis) == port.growAxis)
        shape[axis] = 0;
      else if (shape[axis] < 0 && axis == 0)
        shape[axis] = 1; // the batch
      else if (shape[axis] < 0)
        return unsupported("text cannot be run through this graph: axis " + std::to_string(axis) +
                           " of its state '" + std::string(program.name(port.nameOffset)) +
                           "' has no known length; run it with tensors");
    }
    SMELT_ASSIGN(TensorValue state, pool.allocate(entry.type, shape));
    std::memset(state.data, 0, uint64_t(state.elements()) * elementBytes(entry.type));
    initialStates.push_back(std::move(state));
  }
  return {};
}

Status TensorBackend::step(std::span<const Token> tokens, std::span<const int32_t> logitRows,
                           StepOutput, std::span<const std::vector<int32_t>> histories) {
  size_t vocabulary = session->model().config().vocabSize;
  nextLogits.resize(logitRows.size() * vocabulary);
  after = slots;
  for (size_t i = 0; i < tokens.size(); ++i) {
    bool isFirst = std::none_of(tokens.begin(), tokens.begin() + std::ptrdiff_t(i),
                                [&](const Token &t) { return t.slot == tokens[i].slot; });
    if (isFirst)
      SMELT_TRY(runSlot(tokens[i].slot, tokens, logitRows, histories[size_t(tokens[i].slot)]));
  }
  slots = std::move(after);
  rowLogits.swap(nextLogits);
  return {};
}

Status TensorBackend::runSlot(int32_t slot, std::span<const Token> tokens,
                              std::span<const int32_t> logitRows,
                              std::span<const int32_t> history) {
  Slot &state = after[size_t(slot)];
  sequence.clear();
  for (const Token &token : tokens) {
    if (token.slot != slot)
      continue;
    if (sequence.empty()) {
      sequence.assign(history.begin(), history.begin() + token.position);
      // What was forgotten cannot be taken out of a state: the rest runs again.
      if (size_t(token.position) < state.length)
        state = {initialStates, 0};
    }
    sequence.push_back(token.id);
  }

  // In the order of positions, so that states go forward; what nobody wants the logits of waits.
  std::vector<size_t> wanted; // indices into logitRows
  for (size_t row = 0; row < logitRows.size(); ++row)
    if (tokens[size_t(logitRows[row])].slot == slot)
      wanted.push_back(row);
  auto positionOf = [&](size_t row) { return size_t(tokens[size_t(logitRows[row])].position); };
  std::sort(wanted.begin(), wanted.end(),
            [&](size_t a, size_t b) { return positionOf(a) < positionOf(b); });
  if (wanted.empty() && (stateInputs.empty() || sequence.size() - state.length < mostAtOnce))
    return {};

  Slot before = state;
  size_t vocabulary = session->model().config().vocabSize, next = 0;
  while (next < wanted.size() || (!stateInputs.empty() && state.length < sequence.size())) {
    size_t first = state.length, end = sequence.size();
    if (!stateInputs.empty())
      end = std::min(end, first + mostAtOnce);
    if (givesLastOnly && next < wanted.size())
      end = std::min(end, positionOf(wanted[next]) + 1);
    SMELT_TRY(run(state, end));
    SMELT_TRY(checkLogits(end - first));
    const TensorValue &logits = session->outputs()[logitOutput];
    bool isLast = logits.dims[1] == 1;
    if (isLast && end - first != 1 && !givesLastOnly) {
      givesLastOnly = true;
      state = before;
      continue;
    }
    for (; next < wanted.size() && positionOf(wanted[next]) < end; ++next) {
      size_t row = isLast ? 0 : positionOf(wanted[next]) - first;
      std::memcpy(nextLogits.data() + wanted[next] * vocabulary,
                  logits.data + row * vocabulary * sizeof(float), vocabulary * sizeof(float));
    }
  }
  return {};
}

/// Runs tokens [slot.length, end) of the sequence, or all before `end` where there is no state.
Status TensorBackend::run(Slot &slot, size_t end) {
  const TensorProgram &program = session->program();
  std::span<const int32_t> ids(sequence);
  ids = ids.subspan(slot.length, end - slot.length);
  for (size_t i = 0; i < inputs.size(); ++i)
    if (program.inputs[i].role != PortRole::State)
      SMELT_TRY(makeInput(i, ids, slot.length));
  for (size_t k = 0; k < stateInputs.size(); ++k)
    inputs[stateInputs[k]] = slot.states[k];
  Status status = session->run(inputs);
  for (TensorValue &input : inputs)
    input = {}; // its memory is free for the next run
  SMELT_TRY(std::move(status));
  for (size_t k = 0; k < stateInputs.size(); ++k)
    slot.states[k] = session->outputs()[program.inputs[stateInputs[k]].partner];
  if (!stateInputs.empty())
    slot.length = end;
  return {};
}

/// Fills inputs[index], whose shape is [1, ids.size()] or, for a mask, [1, past + ids.size()].
Status TensorBackend::makeInput(size_t index, std::span<const int32_t> ids, size_t past) {
  const TensorProgram &program = session->program();
  const TensorPort &port = program.inputs[index];
  const TensorEntry &entry = program.tensors[port.tensor];
  size_t count = ids.size() + (port.role == PortRole::Mask ? past : 0);
  int64_t shape[] = {1, int64_t(count)};
  SMELT_ASSIGN(TensorValue tensor, pool.allocate(entry.type, shape));
  auto value = [&](size_t i) -> int64_t {
    switch (port.role) {
    case PortRole::Ids:
      return ids[i];
    case PortRole::Mask:
      return 1;
    case PortRole::Positions:
      return int64_t(past + i);
    default:
      return 0;
    }
  };
  auto fill = [&](auto *out) {
    for (size_t i = 0; i < count; ++i)
      out[i] = std::remove_reference_t<decltype(*out)>(value(i));
  };
  switch (entry.type) {
  case ElementType::F32:
    fill(reinterpret_cast<float *>(tensor.data));
    break;
  case ElementType::F64:
    fill(reinterpret_cast<double *>(tensor.data));
    break;
  case ElementType::I64:
    fill(reinterpret_cast<int64_t *>(tensor.data));
    break;
  case ElementType::I32:
    fill(reinterpret_cast<int32_t *>(tensor.data));
    break;
  case ElementType::I8:
  case ElementType::U8:
  case ElementType::Bool:
    fill(reinterpret_cast<int8_t *>(tensor.data));
    break;
  }
  inputs[index] = std::move(tensor);
  return {};
}

Status TensorBackend::checkLogits(size_t count) const {
  const TensorValue &logits = session->outputs()[logitOutput];
  uint32_t vocabulary = session->model().config().vocabSize;
  if (logits.dims[0] == 1 && logits.dims[2] == int64_t(vocabulary) &&
      (logits.dims[1] == 1 || logits.dims[1] == int64_t(count)))
    return {};
  return invalidArgument("the graph gives logits " + logits.text() + " for " +
                         std::to_string(count) + " tokens, expected a vocabulary of " +
                         std::to_string(vocabulary));
}

std::span<const float> TensorBackend::logits(size_t row) const {
  size_t vocabulary = session->model().config().vocabSize;
  if (row >= rowLogits.size() / vocabulary)
    return {};
  return std::span(rowLogits).subspan(row * vocabulary, vocabulary);
}

} // namespace

Result<std::unique_ptr<Backend>> createTensorBackend(std::shared_ptr<const Model> model,
                                                     std::shared_ptr<ThreadTeam> team,
                                                     uint32_t slots) {
  return TensorBackend::create(std::move(model), std::move(team), slots);
}

} // namespace smelt
