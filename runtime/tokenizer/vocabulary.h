// The tokens of a model: id to text, text to id.
#pragma once

#include "runtime/tokenizer/byte_reader.h"

#include <cstdint>
#include <string_view>
#include <vector>

namespace smelt {

/// A 64-bit hash of bytes, good for tables (not against an adversary: the tables bound their
/// probes).
uint64_t hashBytes(std::string_view bytes);

/// Token texts, viewed where they lie in the blob, and a hash table over those that the model may
/// produce.
class Vocabulary {
public:
  /// Reads the Vocabulary section; the bytes behind `reader` must outlive the result.
  static Result<Vocabulary> read(ByteReader &reader);

  /// Builds the table that find() uses from all tokens but those marked in `hidden` [size()]: added
  /// tokens that the model's own vocabulary lacks.
  Status index(const std::vector<bool> &hidden);

  uint32_t size() const { return uint32_t(offsets.size() - 1); }
  /// The text of `id`; empty when there is no such token.
  std::string_view text(uint32_t id) const {
    return id < size() ? bytes.substr(offsets[id], offsets[id + 1] - offsets[id])
                       : std::string_view();
  }
  /// The id of `token`, or -1.
  int32_t find(std::string_view token) const;

private:
  std::string_view bytes;
  std::vector<uint32_t> offsets; ///< [tokens + 1]
  std::vector<uint32_t> slots;   ///< id + 1, 0: free; a power of two of them
};

} // namespace smelt
