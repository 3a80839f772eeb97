// Codes that the model file gives: which format carries them over, and their tiles.
#pragma once

#include "calibration/quantizer.h"

namespace smelt {

/// Packs tile `index` of a linear with given codes (givenFormat) to the bit, codes made unsigned
/// with their zero points; `rows` becomes the number of real rows.
[[nodiscard]] Status carryTile(const LinearWeights &linear, WeightFormat format, int64_t index,
                               int64_t &rows, std::span<std::byte> out);

} // namespace smelt
