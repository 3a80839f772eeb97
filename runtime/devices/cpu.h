// CPU targets: which rows of targets.def this machine can run, and loading of their code sections.
#pragma once

#include "runtime/artifact/reader.h"
#include "runtime/base/status.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace smelt {

/// One row of targets.def.
struct CpuTarget {
  std::string_view name;
  uint32_t row; ///< SectionEntry::target
  std::string_view triple, cpu, features, needs;
};
std::span<const CpuTarget> cpuTargets();
/// Finds a row by name; the error lists the names there are.
Result<const CpuTarget *> findCpuTarget(std::string_view name);

/// What of the target's needs this machine lacks (CPU features and those that the system has not
/// switched on); empty: it can run the target. For a target with tiles it asks the system's
/// permission to use them, if nothing else lacks.
std::vector<std::string> missingFeatures(const CpuTarget &target);

/// The best target that the artifact holds and this machine can run; `forced` takes the one of that
/// name instead. Unsupported names what the artifact holds and what the machine lacks for each.
Result<const CpuTarget *> chooseTarget(const Artifact &artifact, std::string_view forced = {});

/// Processors that compute-bound threads should use: physical cores that this process may run on,
/// no more than its cgroup's share of time allows. At least 1.
unsigned defaultThreads();

/// A loaded code section.
class LoadedCode {
public:
  static Result<std::unique_ptr<LoadedCode>> load(std::span<const std::byte> sharedObject);
  ~LoadedCode();
  LoadedCode(const LoadedCode &) = delete;
  LoadedCode &operator=(const LoadedCode &) = delete;
  /// The kernel of that name; null when there is none.
  format::KernelFunction kernel(const char *name) const;

private:
  LoadedCode() = default;
  void *handle = nullptr;
  int file = -1;
};

} // namespace smelt
