// A small tensor with as much of its value as is known: what the raise passes evaluate shape, mask
// and angle arithmetic on.
#pragma once

#include "llvm/ADT/SmallVector.h"

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

namespace smelt {

/// How arithmetic on a tensor rounds: floats are kept in double without rounding, whole numbers and
/// booleans exactly.
enum class TensorKind { Float, Integer, Boolean };

/// Shape known, elements perhaps. Elements are doubles whatever the kind: whole numbers that models
/// compute with fit 53 bits, and INT64_MAX ("to the end") stays larger than every dimension.
struct Tensor {
  TensorKind kind = TensorKind::Float;
  llvm::SmallVector<int64_t, 5> shape;
  std::shared_ptr<const std::vector<double>> data; ///< null: elements unknown

  int64_t elements() const; ///< saturated
  bool isSingle() const { return hasData() && elements() == 1; }
  bool hasData() const { return data != nullptr; }
  /// NaN beyond the end: a hostile graph gives fewer elements than its other inputs ask for.
  double at(int64_t index) const {
    return size_t(index) < data->size() ? (*data)[size_t(index)]
                                        : std::numeric_limits<double>::quiet_NaN();
  }
  /// Element `index` as a whole number, saturated.
  int64_t integer(int64_t index) const;
  /// All elements as whole numbers.
  llvm::SmallVector<int64_t> integers() const;

  static Tensor make(TensorKind kind, llvm::ArrayRef<int64_t> shape, std::vector<double> values);
  static Tensor scalar(TensorKind kind, double value) { return make(kind, {}, {value}); }
};

} // namespace smelt
