// A tokenizer blob small enough to read, written by hand: what the tests and fuzz targets of the
// runtime start from.
#pragma once

#include "runtime/tokenizer/blob.h"

#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace smelt {

/// The bytes of each section, to be changed by a test and then put together.
struct TinyBlob {
  /// A byte-level tokenizer: tokens 0 to 3 are "<s>" (special, put before every text), "<e>"
  /// (special), "<tag>" (takes the white space after it) and "<unk>"; 4 to 259 the byte characters;
  /// 260 "th", 261 "the", 262 " the" (with the GPT-2 space), 263 "é" made of its two bytes. Words
  /// are split as " ?letters | other characters one by one".
  TinyBlob();

  std::vector<std::byte> bytes() const;

  static void number(std::string &out, uint64_t value, unsigned width);

  std::map<BlobSection, std::string> sections;
  uint32_t version = tokenizerBlobVersion;
};

} // namespace smelt
