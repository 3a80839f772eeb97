// How attention is dealt to workgroups on a GPU.
#pragma once

#include "passes/lower/kernel_spec.h"

#include <algorithm>

namespace smelt {

/// Query heads of one kv head that a workgroup computes together.
inline int64_t pairsTogether(const KernelSpec &spec) {
  return std::min<int64_t>(spec.heads / spec.kvHeads, 8);
}
/// Workgroups for the query heads of one kv head.
inline int64_t pairGroups(const KernelSpec &spec) {
  const int64_t group = spec.heads / spec.kvHeads;
  return (group + pairsTogether(spec) - 1) / pairsTogether(spec);
}

} // namespace smelt
