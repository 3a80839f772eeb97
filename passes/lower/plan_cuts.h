// Where the layers of a program can be divided between two devices.
#pragma once

#include "passes/lower/plan_memory.h"
#include "runtime/artifact/format.h"

#include <span>
#include <vector>

namespace smelt {

/// For every layer the last place before it where nothing but one buffer of rows
/// (PlannedBuffer::rowBytes) is taken over from the instructions before. `attention`: per layer the
/// first instruction that touches its cache; `buffers`: after planMemory.
std::vector<format::LayerStart> planCuts(std::span<const int64_t> attention,
                                         std::span<const PlannedBuffer> buffers);

} // namespace smelt
