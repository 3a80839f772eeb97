// Opens `model.smelt`: maps the file, checks every byte and every bound, and gives its parts in
// place.
#pragma once

#include "runtime/artifact/format.h"
#include "runtime/artifact/tensor_program.h"
#include "runtime/base/status.h"

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace smelt {

std::string_view sectionName(format::SectionKind kind);
std::string_view opLabelName(format::OpLabel label);
inline constexpr size_t opLabelCount = 8;
/// The name that --target and --device have for the GPUs that run this code.
std::string_view gpuCodeName(format::GpuCodeKind kind);

/// Whether the file begins like an artifact, of whatever version.
bool isArtifact(const std::string &path);

/// Kernels by name, and instructions that refer to them by index.
struct TokenProgram {
  std::vector<const char *> kernelNames;
  std::span<const format::Instruction> instructions;
};

/// A checked artifact. Everything it gives points into the mapping and lives as long as this
/// object. After open() succeeds these hold: checksums of all sections match; operands of all
/// instructions are inside their sections, scratch or layers; kernel indices, domains and labels
/// are known; layers fit the cache sizes; what TensorProgram says.
class Artifact {
public:
  /// Maps and checks a file. NotFound: no such file; Corrupt: truncated, changed or not an
  /// artifact; Unsupported: another major version.
  static Result<std::unique_ptr<const Artifact>> open(const std::string &path);
  /// The same over bytes in memory, which must outlive the artifact and be aligned to 64 bytes.
  static Result<std::unique_ptr<const Artifact>> fromMemory(std::span<const std::byte> bytes);
  ~Artifact();
  Artifact(const Artifact &) = delete;
  Artifact &operator=(const Artifact &) = delete;

  const format::ModelConfig &config() const { return *modelConfig; }
  std::span<const format::SectionEntry> sections() const { return table; }
  /// The bytes of a section; empty when there is none.
  std::span<const std::byte> section(format::SectionKind kind, uint32_t target = 0) const;
  std::string_view text(format::SectionKind kind) const;
  std::span<const std::byte> weights() const { return weightBytes; }
  uint64_t fileBytes() const { return bytes.size(); }
  /// Checksum of all sections' checksums: artifacts that differ anywhere differ in it.
  uint64_t identity() const;

  /// What the CPU runs.
  const TokenProgram &program() const { return whole; }
  /// What GPUs run, and the CPU behind layers that a GPU has run.
  const TokenProgram &divisibleProgram() const { return divisible ? *divisible : whole; }
  /// Whether the two differ.
  bool isDivided() const { return divisible.has_value(); }
  std::span<const format::CacheLayer> cacheLayers() const { return layers; }
  /// Per layer, of the divisible program; empty: the artifact does not say.
  std::span<const format::LayerStart> layerStarts() const;
  /// How the kernels of the divisible program are started on GPUs of a kind; empty: there is no
  /// code for it.
  std::span<const format::GpuProgramKernel> gpuKernels(format::GpuCodeKind kind) const;
  /// The kernels that find the likeliest token, two or none.
  std::span<const format::GpuNamedKernel> gpuArgmax(format::GpuCodeKind kind) const {
    return logitKernelsOf(format::SectionKind::GpuArgmax, kind);
  }
  /// Those that find the few likeliest.
  std::span<const format::GpuNamedKernel> gpuCandidates(format::GpuCodeKind kind) const {
    return logitKernelsOf(format::SectionKind::GpuCandidates, kind);
  }
  /// The GPUs that there is code for, as gpuCodeName() says, with commas; empty: none.
  std::string gpuNames() const;

  /// Null for an artifact that runs tokens; else its instructions are only called by Rows.
  const TensorProgram *tensorProgram() const { return tensors ? &*tensors : nullptr; }

private:
  Artifact() = default;
  std::span<const format::GpuNamedKernel> logitKernelsOf(format::SectionKind of,
                                                         format::GpuCodeKind kind) const;
  Status check();
  Status checkHeader();
  Status checkTable();
  Status checkSums() const;
  Status checkConfig();
  Status readPrograms();
  Result<TokenProgram> readProgram(std::span<const std::byte> found);
  Status checkLayers() const;
  Status checkLayerStarts() const;
  Status checkGpuCode() const;
  bool runsTensors() const;
  Status readTensorProgram();
  Status checkInstruction(const format::Instruction &instruction, size_t kernels) const;
  Status checkOperand(const format::Operand &operand) const;

  std::span<const std::byte> bytes;
  bool mapped = false;
  bool knowsMinor = true; ///< the file's minor version is not newer than ours
  std::span<const format::SectionEntry> table;
  const format::ModelConfig *modelConfig = nullptr;
  std::span<const std::byte> weightBytes;
  TokenProgram whole;
  std::optional<TokenProgram> divisible;
  std::span<const format::CacheLayer> layers;
  std::optional<TensorProgram> tensors;
};

} // namespace smelt
