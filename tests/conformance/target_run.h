// Where the kernels of a target run, and running jobs there.
#pragma once

#include "passes/lower/kernel_spec.h"
#include "passes/lower/target.h"
#include "passes/lower/tensor_spec.h"
#include "tests/conformance/job.h"

#include <span>
#include <string>

namespace smelt::conformance {

/// A private folder that goes away.
struct Folder {
  Folder();
  ~Folder();
  std::string path;
};

enum class Where { Here, Emulator, Nowhere };
Where whereRuns(const KernelTarget &target);

/// Compiles kernels to a shared object in `folder`; its path, or a test failure and nothing.
std::string compileToFile(std::span<const KernelSpec> specs,
                          std::span<const TensorSpec> tensorSpecs, const KernelTarget &target,
                          const std::string &folder);

/// Whether the target takes problem `number`: portable targets take all, the others every tenth,
/// each another one. All of them on all problems would take LLVM and the emulators three times as
/// long.
inline bool takesTurn(const KernelTarget &target, int64_t number) {
  return target.portable || (number + target.row) % 10 == 0;
}

/// Runs the job here or in the emulator; empty, or what went wrong.
std::string runJob(Job &job, const KernelTarget &target, const std::string &library,
                   const std::string &folder);

} // namespace smelt::conformance
