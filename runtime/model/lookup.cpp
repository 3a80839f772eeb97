// The hash chains of the prompt lookup.
#include "runtime/model/lookup.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <utility>

namespace smelt {

namespace {

constexpr size_t mostLinks = 8;     ///< places of a chain that are compared
constexpr size_t longestMatch = 32; ///< no more is compared: longer ones are as good

} // namespace

PromptLookup::PromptLookup(size_t mostTokens) : most(mostTokens) {
  text.reserve(most);
  for (Chains &chain : chains) {
    chain.latest.assign(std::bit_ceil(std::max<size_t>(16, most)), none);
    chain.earlier.reserve(most + 1);
  }
}

/// Bucket of the n-gram that ends before `end` (multiplicative hashing; Knuth, volume 3, 6.4).
size_t PromptLookup::bucket(size_t order, size_t end) const {
  uint64_t hash = 0;
  for (size_t i = end - order; i < end; ++i)
    hash = (hash + uint32_t(text[i]) + 1) * 0x9e3779b97f4a7c15;
  return size_t(hash >> 32) & (chains[0].latest.size() - 1);
}

void PromptLookup::push(int32_t token) {
  if (text.size() == most)
    return;
  // The place before the new token gets its first follower, so now it can be found.
  const size_t place = text.size();
  text.push_back(token);
  for (size_t k = 0; k < std::size(orders); ++k) {
    uint32_t before = none;
    if (place >= orders[k]) {
      uint32_t &latest = chains[k].latest[bucket(orders[k], place)];
      before = std::exchange(latest, uint32_t(place));
    }
    chains[k].earlier.push_back(before);
  }
}

PromptLookup::Match PromptLookup::find() const {
  Match best;
  for (size_t k = 0; k < std::size(orders) && best.length == 0; ++k) {
    if (text.size() <= orders[k])
      continue;
    uint32_t place = chains[k].latest[bucket(orders[k], text.size())];
    for (size_t links = 0; place != none && links < mostLinks; ++links) {
      size_t length = 0, limit = std::min<size_t>(place, longestMatch);
      while (length < limit && text[place - 1 - length] == text[text.size() - 1 - length])
        ++length;
      // Shorter: another n-gram of the same hash.
      if (length >= orders[k] && length > best.length)
        best = {length, place};
      place = chains[k].earlier[place];
    }
  }
  return best;
}

} // namespace smelt
