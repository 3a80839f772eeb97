// The pool: blocks by size, the smallest that fits is taken.
#include "runtime/model/tensor.h"

#include <algorithm>
#include <bit>
#include <new>

namespace smelt {

using namespace format;

namespace {

constexpr uint64_t blockAlignment = 64;
/// Larger blocks are not wasted on tensors that need less than half of them.
constexpr uint64_t mostWaste = 2;

alignas(blockAlignment) std::byte nothing[blockAlignment];

struct FreeBlock {
  std::byte *memory;
  uint64_t lastUse; ///< in calls of trim()
};

void releaseBlock(std::byte *memory) {
  ::operator delete(memory, std::align_val_t(blockAlignment));
}

} // namespace

int64_t TensorValue::elements() const {
  // Unsigned: beside a zero the others may be of any length.
  uint64_t count = 1;
  for (int64_t dim : shape())
    count *= uint64_t(dim);
  return int64_t(count);
}

TensorValue TensorValue::view(ElementType type, std::span<const int64_t> shape, const void *data) {
  TensorValue tensor;
  tensor.type = type;
  tensor.rank = uint32_t(std::min<size_t>(shape.size(), maxRank));
  std::copy_n(shape.begin(), tensor.rank, tensor.dims.begin());
  tensor.data = data ? static_cast<std::byte *>(const_cast<void *>(data)) : nothing;
  return tensor;
}

std::string TensorValue::text() const {
  std::string out = std::string(elementTypeName(type)) + "[";
  for (uint32_t axis = 0; axis < rank; ++axis)
    out += (axis == 0 ? "" : ",") + std::to_string(dims[axis]);
  return out + "]";
}

struct TensorPool::Store {
  uint64_t limit = 0, used = 0, free = 0, peak = 0, clock = 0;
  std::multimap<uint64_t, FreeBlock> blocks; ///< by size

  ~Store() { drop(~uint64_t(0)); }
  void drop(uint64_t usedBefore) {
    for (auto at = blocks.begin(); at != blocks.end();) {
      if (at->second.lastUse < usedBefore) {
        free -= at->first;
        releaseBlock(at->second.memory);
        at = blocks.erase(at);
      } else {
        ++at;
      }
    }
  }
};

TensorPool::TensorPool(uint64_t limit) : store(std::make_shared<Store>()) { store->limit = limit; }

Result<TensorValue> TensorPool::allocate(ElementType type, std::span<const int64_t> shape) {
  TensorValue tensor = TensorValue::view(type, shape, nullptr);
  if (std::any_of(shape.begin(), shape.end(), [](int64_t dim) { return dim < 0; }))
    return invalidArgument("a tensor would have the shape " + tensor.text());
  uint64_t bytes = 0;
  if (!tensorBytes(shape, elementBytes(type), bytes) ||
      bytes > store->limit - std::min(store->used, store->limit))
    return exhausted("a tensor " + tensor.text() + " does not fit the memory limit of " +
                     std::to_string(store->limit) + " bytes, of which " +
                     std::to_string(store->used) + " are in use");
  if (bytes == 0)
    return tensor;

  // Classes of size, so that a sequence that grows finds the blocks of the step before.
  uint64_t step = std::max<uint64_t>(blockAlignment, std::bit_floor(bytes) / 8);
  bytes = (bytes + step - 1) / step * step;
  auto found = store->blocks.lower_bound(bytes);
  std::byte *memory = nullptr;
  if (found != store->blocks.end() && found->first / mostWaste <= bytes) {
    bytes = found->first;
    memory = found->second.memory;
    store->free -= bytes;
    store->blocks.erase(found);
  } else {
    if (bytes + store->free > store->limit - std::min(store->used, store->limit))
      store->drop(~uint64_t(0));
    memory = static_cast<std::byte *>(
        ::operator new(bytes, std::align_val_t(blockAlignment), std::nothrow));
    if (!memory)
      return exhausted("out of memory for a tensor " + tensor.text());
  }
  store->used += bytes;
  store->peak = std::max(store->peak, store->used);
  tensor.data = memory;
  tensor.owner = std::shared_ptr<std::byte>(memory, [keep = store, bytes](std::byte *block) {
    keep->used -= bytes;
    keep->free += bytes;
    keep->blocks.insert({bytes, {block, keep->clock}});
  });
  return tensor;
}

void TensorPool::trim() {
  store->drop(store->clock);
  ++store->clock;
}

uint64_t TensorPool::peakBytes() const { return store->peak; }

} // namespace smelt
