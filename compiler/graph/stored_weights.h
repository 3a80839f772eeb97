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
