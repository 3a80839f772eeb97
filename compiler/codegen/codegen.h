// From a module of kernels (vector, memref, scf, arith) to a linked shared object for one CPU
// target.
#pragma once

#include "passes/lower/target.h"
#include "runtime/base/status.h"

#include "mlir/IR/BuiltinOps.h"

#include <cstddef>
#include <vector>

namespace smelt {

struct CodegenOptions {
  int optLevel = 3;
  std::string dumpAssembly; ///< path to write the assembly to; empty: none
};

/// Lowers `kernels` in place to the LLVM dialect, translates, optimizes and links in process (lld).
/// The shared object has no undefined symbols and needs no library.
Result<std::vector<std::byte>> compileKernels(mlir::ModuleOp kernels, const KernelTarget &target,
                                              const CodegenOptions &options);

} // namespace smelt
