// Fuzz target: any bytes as the tokenizer section of an artifact, then a text through whatever
// opens.
#include "fuzz.h"

#include "runtime/tokenizer/tokenizer.h"
#include "tiny_blob.h"

#include <cstring>

using namespace smelt;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  auto tokenizer = Tokenizer::open(std::as_bytes(std::span(data, size)));
  if (!tokenizer.ok())
    return 0;
  auto ids = tokenizer->encode("the <tag>  caf\u00E9 <e>1 \U0001F600\n\xFF");
  if (ids.ok())
    tokenizer->decode(*ids, false);
  StreamDecoder stream(*tokenizer);
  for (int32_t id = 0; id < 300; ++id)
    stream.push(id);
  stream.finish();
  return 0;
}

std::vector<uint8_t> fuzzSeed() {
  std::vector<std::byte> blob = TinyBlob().bytes();
  std::vector<uint8_t> seed(blob.size());
  std::memcpy(seed.data(), blob.data(), seed.size());
  return seed;
}
