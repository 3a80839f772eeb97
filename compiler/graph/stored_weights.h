// The weight store as the tensor passes see it.
#pragma once

#include "compiler/weights/weight_store.h"
#include "passes/tensor/tensor.h"

#include <cstring>

namespace smelt {

class StoredWeights : public TensorWeights {
public:
  explicit StoredWeights(WeightStore &store) : store(store) {}

  std::span<const std::byte> bytesOf(int64_t id) const override {
    return id >= 0 && id < store.size() ? store.bytesOf(id) : std::span<const std::byte>();
  }
  Result<std::vector<float>> floatsOf(int64_t id) const override {
    const std::vector<int64_t> &shape = store.row(id).shape;
    int64_t count = 1, rows = shape.empty() ? 1 : shape[0];
    for (int64_t dim : shape)
      count *= dim;
    std::vector<float> values(size_t(count), 0.0f);
    if (count == 0)
      return values;
    int64_t cols = count / rows;
    SMELT_ASSIGN(WeightView view, store.view(id, 0, rows, cols, cols, 1));
    readRows(view, 0, rows, values.data());
    return values;
  }
  Result<int64_t> add(std::string name, std::vector<float> values,
                      std::vector<int64_t> shape) override {
    std::vector<std::byte> bytes(values.size() * sizeof(float));
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return store.addOwned(std::move(name), std::move(bytes), StoredType::F32, std::move(shape));
  }

private:
  WeightStore &store;
};

} // namespace smelt
