// What of a model lies on a GPU that runs its first layers.
#pragma once

#include "runtime/model/gpu_area.h"
#include "runtime/model/model.h"

namespace smelt {

/// Whether the program can go on elsewhere behind so many layers (at most all).
bool canEndAt(const Model &model, uint32_t layers);

/// The instructions up to layer `layers`, which canEndAt(); with all layers, the whole program.
std::span<const format::Instruction> instructionsOf(const Model &model, uint32_t layers);

/// The weights that they read, each by its offset in the weights section and up to the next one.
std::vector<GpuArea::Part> weightParts(const Model &model, uint32_t layers);

/// The keys and the values of each layer, by its number.
struct CacheParts {
  std::vector<GpuArea::Part> keys, values;
};
Result<CacheParts> cacheParts(const Model &model, uint32_t slots, uint32_t capacity,
                              uint32_t layers);

} // namespace smelt
