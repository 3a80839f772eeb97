// Opening of models: artifact, target, kernels, tokenizer and chat template.
#include "runtime/model/model.h"

#include <algorithm>

namespace smelt {

using namespace format;

Result<std::shared_ptr<const Model>> Model::open(const std::string &path,
                                                 const std::string &target) {
  std::shared_ptr<Model> model(new Model);
  SMELT_ASSIGN(model->file, Artifact::open(path));
  SMELT_TRY(model->load(target).withContext(path));
  return std::shared_ptr<const Model>(std::move(model));
}

Status Model::load(const std::string &target) {
  cpuStatus = loadCode(target);
  if (cpuStatus.code() != StatusCode::Unsupported || !target.empty() || file->gpuNames().empty())
    SMELT_TRY(Status(cpuStatus));
  if (auto blob = file->section(SectionKind::Tokenizer); !blob.empty()) {
    SMELT_ASSIGN(words, Tokenizer::open(blob));
  }
  if (auto source = file->text(SectionKind::Template); !source.empty()) {
    SMELT_ASSIGN(chat, ChatTemplate::parse(source));
  }
  return {};
}

Status Model::loadCode(const std::string &target) {
  SMELT_ASSIGN(chosen, chooseTarget(*file, target));
  SMELT_ASSIGN(code, LoadedCode::load(file->section(SectionKind::Code, chosen->row)));
  return resolveKernels();
}

Result<std::vector<KernelFunction>>
Model::findKernels(const std::vector<const char *> &names) const {
  std::vector<KernelFunction> found;
  for (const char *name : names) {
    found.push_back(code->kernel(name));
    if (!found.back())
      return corrupt("the code for " + std::string(chosen->name) + " has no kernel '" + name + "'");
  }
  return found;
}

Result<std::vector<InstructionKernels>> Model::findKernels(const TokenProgram &program) const {
  SMELT_ASSIGN(std::vector<KernelFunction> found, findKernels(program.kernelNames));
  auto at = [&](uint32_t kernel) { return kernel == noKernel ? nullptr : found[kernel]; };
  std::vector<InstructionKernels> kernels;
  for (const Instruction &instruction : program.instructions)
    kernels.push_back({at(instruction.kernelOne), at(instruction.kernelMany)});
  return kernels;
}

Status Model::resolveKernels() {
  SMELT_ASSIGN(instructionKernels, findKernels(file->program()));
  if (file->isDivided()) {
    SMELT_ASSIGN(divisible, findKernels(file->divisibleProgram()));
  }
  const TensorProgram *tensors = file->tensorProgram();
  if (!tensors)
    return {};
  SMELT_ASSIGN(std::vector<KernelFunction> found, findKernels(tensors->kernelNames));
  for (const TensorInstruction &i : tensors->instructions) {
    bool isKernel = i.action == TensorAction::Kernel;
    bool hasShape = isKernel || i.action == TensorAction::Alias;
    tensorInstructionKernels.push_back(
        {hasShape ? found[i.shapeKernel] : nullptr, isKernel ? found[i.computeKernel] : nullptr});
  }
  return {};
}

bool Model::isEndToken(int32_t token) const {
  const int32_t (&ends)[8] = config().eosTokens;
  return token >= 0 && std::find(std::begin(ends), std::end(ends), token) != std::end(ends);
}

Result<std::vector<int32_t>> Model::encode(std::string_view text, bool addBos,
                                           bool parseSpecial) const {
  if (!words)
    return unsupported("the artifact has no tokenizer; give token ids instead of text");
  SMELT_ASSIGN(std::vector<int32_t> ids,
               words->encode(text, {.addSpecial = addBos, .parseSpecial = parseSpecial}));
  // Some models want a first token that their tokenizer does not add.
  if (addBos && config().addBos != 0 && (ids.empty() || ids.front() != config().bosToken))
    ids.insert(ids.begin(), config().bosToken);
  return ids;
}

Result<std::string> Model::renderChat(std::span<const ChatMessage> messages,
                                      bool addGenerationPrompt) const {
  if (!chat)
    return unsupported("the artifact has no chat template; give plain text instead of messages");
  ChatContext context;
  if (words) {
    context.bosToken = words->tokenText(config().bosToken);
    context.eosToken = words->tokenText(config().eosTokens[0]);
  }
  return chat->renderMessages(messages, addGenerationPrompt, context);
}

Result<std::vector<int32_t>> Model::encodeChat(std::span<const ChatMessage> messages) const {
  SMELT_ASSIGN(std::string text, renderChat(messages));
  // Templates write the special tokens themselves.
  return encode(text, false);
}

} // namespace smelt
