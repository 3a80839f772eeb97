// Machine code of single kernels: the state that one thread keeps for one CPU target.
#pragma once

#include "passes/lower/kernel_spec.h"
#include "passes/lower/target.h"
#include "passes/lower/tensor_spec.h"
#include "runtime/base/status.h"

#include <memory>
#include <string>

namespace smelt {

/// Compiles one kernel at a time. An emitter and what it holds (MLIR context, LLVM target machine)
/// belong to one thread.
class ObjectEmitter {
public:
  static Result<std::unique_ptr<ObjectEmitter>> create(const KernelTarget &target);
  ~ObjectEmitter();
  ObjectEmitter(const ObjectEmitter &) = delete;
  ObjectEmitter &operator=(const ObjectEmitter &) = delete;

  /// A relocatable ELF object with one function, named by the spec. `assembly`, if not null, gets
  /// the same for people to read appended. Tensor specs have passed TensorSpec::check().
  Result<std::string> emit(const KernelSpec &spec, std::string *assembly);
  Result<std::string> emit(const TensorSpec &spec, std::string *assembly);

private:
  struct State;
  explicit ObjectEmitter(std::unique_ptr<State> state);
  std::unique_ptr<State> state;
};

} // namespace smelt
