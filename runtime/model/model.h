// An opened model: the artifact, its loaded code and what it needs to read and write text. Shared
// by all sessions.
#pragma once

#include "runtime/artifact/reader.h"
#include "runtime/base/status.h"
#include "runtime/devices/cpu.h"
#include "runtime/tokenizer/chat_template.h"
#include "runtime/tokenizer/tokenizer.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace smelt {

/// The kernels of one instruction, found in the loaded code.
struct InstructionKernels {
  format::KernelFunction one = nullptr, many = nullptr;
};

/// The kernels of one instruction of a tensor program; null where its action has none.
struct TensorKernels {
  format::KernelFunction shape = nullptr, compute = nullptr;
};

/// Immutable after open(): any number of sessions on any number of threads may use it at once.
class Model {
public:
  /// Opens an artifact and loads the best code for this CPU, or the code of the target named
  /// `target`. One with code for GPUs opens without code for this CPU, too: see onCpu().
  static Result<std::shared_ptr<const Model>> open(const std::string &path,
                                                   const std::string &target = {});

  const Artifact &artifact() const { return *file; }
  const format::ModelConfig &config() const { return file->config(); }
  /// Of the CPU code in use, as in targets.def; "none" where there is none.
  std::string_view target() const { return chosen ? chosen->name : "none"; }
  /// Why the CPU cannot run it; ok: it can, and kernels() are there.
  const Status &onCpu() const { return cpuStatus; }
  /// One entry per instruction of the program.
  const std::vector<InstructionKernels> &kernels() const { return instructionKernels; }
  /// The same of the divisible program.
  const std::vector<InstructionKernels> &divisibleKernels() const {
    return file->isDivided() ? divisible : instructionKernels;
  }
  /// One entry per instruction of the tensor program, if there is one.
  const std::vector<TensorKernels> &tensorKernels() const { return tensorInstructionKernels; }

  /// Null when the artifact has none: then the model takes and gives token ids only.
  const Tokenizer *tokenizer() const { return words ? &*words : nullptr; }
  const ChatTemplate *chatTemplate() const { return chat ? &*chat : nullptr; }
  bool isEndToken(int32_t token) const;

  /// Token ids of a text. `addBos`: with what the tokenizer puts around a prompt; `parseSpecial`:
  /// special tokens written in the text are found. Unsupported when the artifact has no tokenizer.
  Result<std::vector<int32_t>> encode(std::string_view text, bool addBos = true,
                                      bool parseSpecial = true) const;
  /// The prompt text of a conversation. Unsupported when the artifact has no chat template.
  Result<std::string> renderChat(std::span<const ChatMessage> messages,
                                 bool addGenerationPrompt = true) const;
  /// Both: token ids of a conversation, ready for the assistant's answer.
  Result<std::vector<int32_t>> encodeChat(std::span<const ChatMessage> messages) const;

private:
  Model() = default;
  Status load(const std::string &target);
  Status loadCode(const std::string &target);
  Status resolveKernels();
  Result<std::vector<format::KernelFunction>>
  findKernels(const std::vector<const char *> &names) const;
  Result<std::vector<InstructionKernels>> findKernels(const TokenProgram &program) const;

  std::unique_ptr<const Artifact> file;
  std::unique_ptr<LoadedCode> code;
  const CpuTarget *chosen = nullptr;
  Status cpuStatus;
  std::vector<InstructionKernels> instructionKernels, divisible;
  std::vector<TensorKernels> tensorInstructionKernels;
  std::optional<Tokenizer> words;
  std::optional<ChatTemplate> chat;
};

} // namespace smelt
