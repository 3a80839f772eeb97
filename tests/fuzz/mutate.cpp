// Runs a fuzz target on its seed and on some thousands of mutations of it, always the same.
#include "fuzz.h"

#include <cstdio>
#include <random>

int main() {
  constexpr int mutations = 3000;
  std::vector<uint8_t> seed = fuzzSeed();
  if (seed.empty()) {
    std::fputs("the fuzz target has no seed\n", stderr);
    return 1;
  }
  LLVMFuzzerTestOneInput(seed.data(), seed.size());
  std::mt19937 random(1);
  constexpr uint64_t special[] = {0,          1,          7,          0x7f,  0x80,      0xff,
                                  0x7fffffff, 0x80000000, 0xffffffff, ~0ull, ~0ull >> 1};
  for (int i = 0; i < mutations; ++i) {
    std::vector<uint8_t> input = seed;
    for (unsigned change = random() % 4 + 1; change != 0; --change) {
      size_t at = random() % input.size();
      switch (random() % 4) {
      case 0:
        input[at] ^= uint8_t(1u << random() % 8);
        break;
      case 1: // a number that is likely to overflow
        for (size_t byte = 0, width = size_t(1) << random() % 4;
             byte < width && at + byte < input.size(); ++byte)
          input[at + byte] = uint8_t(special[random() % std::size(special)] >> 8 * byte);
        break;
      case 2:
        input.resize(at + 1);
        break;
      default:
        input.insert(input.begin() + std::ptrdiff_t(at), random() % 16, uint8_t(random()));
      }
    }
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  return 0;
}
