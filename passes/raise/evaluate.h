// Evaluation of one ONNX node on small tensors.
#pragma once

#include "passes/raise/tensor.h"

#include "mlir/IR/BuiltinAttributes.h"

#include <optional>

namespace smelt {

/// Tensors with more elements than this keep their shape but lose their value.
constexpr int64_t evaluationLimit = int64_t(1) << 23;

/// The results of a node of the default domain, or nothing if the op or its inputs are not
/// understood. An input is null if it is omitted or unknown. A result may know its shape alone.
/// Semantics: https://onnx.ai/onnx/operators; floats are not rounded to single precision, so that
/// angles and constants come out as the formula means them.
std::optional<llvm::SmallVector<Tensor>> evaluateNode(llvm::StringRef type,
                                                      mlir::DictionaryAttr attributes,
                                                      llvm::ArrayRef<const Tensor *> inputs,
                                                      size_t resultCount);

/// The value of a constant.
std::optional<Tensor> tensorOf(mlir::ElementsAttr value);

} // namespace smelt
