// The operands of the first layers, with how far each goes.
#include "runtime/model/gpu_parts.h"

#include "runtime/model/cache_layout.h"
#include "runtime/model/weight_parts.h"

namespace smelt {

using namespace format;

bool canEndAt(const Model &model, uint32_t layers) {
  const std::span<const LayerStart> starts = model.artifact().layerStarts();
  return layers == model.config().layers || (layers < starts.size() && starts[layers].rowBytes);
}

std::span<const Instruction> instructionsOf(const Model &model, uint32_t layers) {
  const std::span<const Instruction> all = model.artifact().divisibleProgram().instructions;
  return layers == model.config().layers
             ? all
             : all.first(model.artifact().layerStarts()[layers].instruction);
}

std::vector<GpuArea::Part> weightParts(const Model &model, uint32_t layers) {
  const size_t ours = instructionsOf(model, layers).size();
  std::vector<GpuArea::Part> parts;
  // Words: operands begin at multiples of 64, only the last one may end between.
  for (const WeightPart &part : weightPartsOf(model.artifact().divisibleProgram().instructions,
                                              model.artifact().weights().size()))
    if (part.firstReader < ours)
      parts.push_back({part.offset, (part.bytes + 3) / 4 * 4,
                       "weights of one operation (" + std::string(opLabelName(part.label)) + ")"});
  return parts;
}

Result<CacheParts> cacheParts(const Model &model, uint32_t slots, uint32_t capacity,
                              uint32_t layers) {
  const ModelConfig &config = model.config();
  const std::span<const CacheLayer> all = model.artifact().cacheLayers();
  CacheParts parts;
  for (uint32_t i = 0; i < layers; ++i) {
    const bool isLast = i + 1 == all.size();
    const uint64_t keyEnd = isLast ? config.keyBytesPerPosition : all[i + 1].keyOffsetPerPosition;
    const uint64_t valueEnd =
        isLast ? config.valueBytesPerPosition : all[i + 1].valueOffsetPerPosition;
    SMELT_ASSIGN(uint64_t keys, cacheBytes(slots, capacity, keyEnd - all[i].keyOffsetPerPosition));
    SMELT_ASSIGN(uint64_t values,
                 cacheBytes(slots, capacity, valueEnd - all[i].valueOffsetPerPosition));
    parts.keys.push_back({i, keys, "keys of one layer"});
    parts.values.push_back({i, values, "values of one layer"});
  }
  return parts;
}

} // namespace smelt
