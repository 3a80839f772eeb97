// The tokens of a model.
#include "runtime/tokenizer/vocabulary.h"

#include <bit>
#include <cstring>

namespace smelt {

uint64_t hashBytes(std::string_view bytes) {
  uint64_t h = bytes.size() * 0x9E3779B97F4A7C15;
  while (!bytes.empty()) {
    uint64_t word = 0;
    size_t n = bytes.size() < 8 ? bytes.size() : 8;
    std::memcpy(&word, bytes.data(), n);
    h = (h ^ word) * 0xD6E8FEB86659FD93;
    h ^= h >> 32;
    bytes.remove_prefix(n);
  }
  return h;
}

Result<Vocabulary> Vocabulary::read(ByteReader &reader) {
  Vocabulary vocabulary;
  uint32_t count = reader.count(2);
  if (count > INT32_MAX / 2)
    return corrupt("the vocabulary has " + std::to_string(count) + " tokens");
  vocabulary.offsets.reserve(count + 1);
  uint64_t total = 0;
  vocabulary.offsets.push_back(0);
  for (uint32_t i = 0; i < count; ++i) {
    total += reader.u16();
    if (total > UINT32_MAX)
      return corrupt("the vocabulary has more than 4 GiB of text");
    vocabulary.offsets.push_back(uint32_t(total));
  }
  vocabulary.bytes = reader.text(total);
  SMELT_TRY(reader.finish("the vocabulary section"));
  return vocabulary;
}

Status Vocabulary::index(const std::vector<bool> &hidden) {
  constexpr unsigned maxProbes = 4096;
  slots.assign(std::bit_ceil(size_t(size()) * 3 / 2 + 1), 0);
  size_t mask = slots.size() - 1;
  for (uint32_t id = 0; id < size(); ++id) {
    std::string_view token = text(id);
    if (token.empty() || hidden[id])
      continue;
    size_t slot = hashBytes(token) & mask;
    unsigned probes = 0;
    while (slots[slot] != 0 && text(slots[slot] - 1) != token) {
      slot = (slot + 1) & mask;
      if (++probes > maxProbes)
        return corrupt("the vocabulary collides too much to be a real one");
    }
    if (slots[slot] == 0)
      slots[slot] = id + 1;
  }
  return {};
}

int32_t Vocabulary::find(std::string_view token) const {
  if (token.empty() || slots.empty())
    return -1;
  size_t mask = slots.size() - 1;
  for (size_t slot = hashBytes(token) & mask; slots[slot] != 0; slot = (slot + 1) & mask)
    if (text(slots[slot] - 1) == token)
      return int32_t(slots[slot] - 1);
  return -1;
}

} // namespace smelt
