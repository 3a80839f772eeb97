// What every way through LLVM shares: the machine, the optimizer, the emitted file.
#pragma once

#include "runtime/base/status.h"

#include "llvm/Support/CodeGen.h"
#include "llvm/Target/TargetMachine.h"

#include <memory>
#include <string>
#include <string_view>

namespace llvm {
class Module;
}

namespace smelt {

/// Floats are contracted to fma only where that is written. Unsupported: no such back end.
Result<std::unique_ptr<llvm::TargetMachine>>
createMachine(std::string_view triple, std::string_view cpu, std::string_view features);

/// LLVM's O1, without vectorizing or unrolling: kernels are written as they shall run.
void optimize(llvm::Module &module, llvm::TargetMachine &machine);

/// Appends `module` as an object or as assembly; the module is changed by it.
Status emitFile(llvm::Module &module, llvm::TargetMachine &machine, llvm::CodeGenFileType type,
                std::string &out);

} // namespace smelt
