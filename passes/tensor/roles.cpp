// What the inputs and outputs of a graph are: ids, masks, states, logits, classes.
#include "passes/tensor/lower.h"

#include "passes/raise/samples.h"

#include "compiler/dialect/slm.h"

using namespace mlir;
using smelt::format::noTensor;
using smelt::format::PortRole;

namespace smelt {

namespace {

/// The input whose next value an output is, by the exporters' names: past_key_values.0.key and
/// present.0.key, past.0.conv and present.0.conv, input.x and output.x, cache_x and new_cache_x;
/// empty if the name says no such thing.
SmallVector<std::string> stateInputs(StringRef output) {
  SmallVector<std::string> names;
  auto renamed = [&](StringRef from, StringRef to) {
    if (output.starts_with(from))
      names.push_back((to + output.drop_front(from.size())).str());
  };
  renamed("present_key_values", "past_key_values");
  renamed("present_key_values", "past");
  renamed("present.", "past_key_values.");
  renamed("present.", "past.");
  renamed("present_", "past_");
  renamed("present", "past");
  renamed("output.", "input.");
  renamed("output_", "input_");
  renamed("new_", "");
  renamed("updated_", "");
  renamed("next_", "");
  if (output.ends_with("_out"))
    names.push_back((output.drop_back(4) + "_in").str()),
        names.push_back(output.drop_back(4).str());
  return names;
}

/// The embedding table that is read by the graph's ids: looks through what only moves them.
slm::EmbeddingOp embeddingOf(Value ids) {
  SmallVector<Value> work{ids};
  llvm::DenseSet<Value> seen;
  while (!work.empty()) {
    Value value = work.pop_back_val();
    if (!seen.insert(value).second)
      continue;
    for (OpOperand &use : value.getUses()) {
      if (auto embedding = dyn_cast<slm::EmbeddingOp>(use.getOwner()))
        return embedding;
      auto node = dyn_cast<onnx_ir::NodeOp>(use.getOwner());
      if (!node || node->getNumResults() != 1)
        continue;
      bool isMoved = node.getType() == "Reshape" || node.getType() == "Cast" ||
                     node.getType() == "Squeeze" || node.getType() == "Unsqueeze" ||
                     (node.getType() == "Gather" && use.getOperandNumber() == 1);
      if (isMoved && (use.getOperandNumber() == 0 || node.getType() == "Gather"))
        work.push_back(node->getResult(0));
    }
  }
  return {};
}

/// What an output of floats is, by its name and shape. `isDecoder`: it keeps states.
PortRole floatRole(StringRef name, const format::TensorEntry &tensor, int64_t vocabulary,
                   bool isDecoder) {
  int64_t last = tensor.rank ? tensor.dims[tensor.rank - 1] : -1;
  bool isHidden = name.contains("hidden_state") || name.contains("token_embeddings");
  if (tensor.rank == 3) {
    if (name.contains("logits"))
      return isDecoder || vocabulary < 0 || last < 0 || last >= vocabulary ? PortRole::Logits
                                                                           : PortRole::TokenClasses;
    return isHidden ? PortRole::HiddenState : PortRole::Other;
  }
  if (tensor.rank == 2) {
    if (name.contains("logits"))
      return PortRole::Classes;
    if (name.contains("sentence_embedding") || name.contains("pooler") || name.contains("pooled") ||
        name.contains("text_embeds") || name == "embeddings")
      return PortRole::Embedding;
  }
  return PortRole::Other;
}

/// The axis of a state that grows from step to step: the only one but the batch that is not known,
/// of caches [batch, heads, past, size] the third.
int32_t growAxisOf(StringRef name, const format::TensorEntry &tensor) {
  if (name.contains("conv") || name.contains("recurrent") || name.contains("ssm"))
    return -1;
  if (tensor.rank == 4 && tensor.dims[2] < 0)
    return 2;
  for (uint32_t axis = 1; axis < tensor.rank; ++axis)
    if (tensor.dims[axis] < 0)
      return int32_t(axis);
  return -1;
}

/// Heads and head sizes that only the new state tells, as where the input names them by symbols.
void completeShape(format::TensorEntry &input, const format::TensorEntry &output, int32_t grows) {
  for (uint32_t axis = 1; axis < input.rank; ++axis)
    if (int32_t(axis) != grows && input.dims[axis] < 0)
      input.dims[axis] = output.dims[axis];
}

} // namespace

void assignRoles(func::FuncOp main, LoweredTensors &lowered) {
  TensorProgramImage &image = lowered.image;
  auto tensorOf = [&](const TensorProgramImage::Port &port) -> format::TensorEntry & {
    return image.tensors[port.port.tensor];
  };
  int64_t vocabulary = -1, width = 1;
  for (auto [i, port] : llvm::enumerate(image.inputs)) {
    StringRef name = port.name;
    format::ElementType type = tensorOf(port).type;
    if (type != format::ElementType::I64 && type != format::ElementType::I32)
      continue;
    switch (roleOf(main, unsigned(i))) {
    case Role::Ids: {
      port.port.role = PortRole::Ids;
      if (slm::EmbeddingOp table = embeddingOf(main.getArgument(unsigned(i)))) {
        vocabulary = slm::rowsOf(table.getTable());
        width = slm::widthOf(table.getTable());
      }
      break;
    }
    case Role::Mask:
      port.port.role = PortRole::Mask;
      break;
    case Role::Positions:
      port.port.role = PortRole::Positions;
      break;
    default:
      if (name.contains("token_type") && tensorOf(port).rank == 2)
        port.port.role = PortRole::TokenTypes;
    }
  }
  // States: pairs by name, of one type and rank.
  bool isDecoder = false;
  for (auto [o, output] : llvm::enumerate(image.outputs))
    for (const std::string &name : stateInputs(output.name)) {
      auto input = llvm::find_if(image.inputs, [&](const auto &port) { return port.name == name; });
      if (input == image.inputs.end() || input->port.role != PortRole::Other)
        continue;
      format::TensorEntry &before = tensorOf(*input), &after = tensorOf(output);
      if (before.type != after.type || before.rank != after.rank)
        continue;
      input->port.role = output.port.role = PortRole::State;
      input->port.partner = uint32_t(o);
      output.port.partner = uint32_t(input - image.inputs.begin());
      input->port.growAxis = growAxisOf(input->name, before);
      completeShape(before, after, input->port.growAxis);
      isDecoder = true;
      break;
    }
  for (auto &output : image.outputs)
    if (output.port.role == PortRole::Other && tensorOf(output).type == format::ElementType::F32 &&
        !tensorOf(output).isConstant)
      output.port.role = floatRole(output.name, tensorOf(output), vocabulary, isDecoder);
  for (const auto &output : image.outputs)
    if (output.port.role == PortRole::Logits && tensorOf(output).dims[2] > 0)
      vocabulary = tensorOf(output).dims[2];
  lowered.config.vocabSize = uint32_t(std::max<int64_t>(vocabulary, 1));
  lowered.config.hiddenSize = uint32_t(width);
}

} // namespace smelt
