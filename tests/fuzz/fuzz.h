// What a fuzz target defines, for libFuzzer and for the test that mutates seeds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/// A valid input; mutations start from it.
std::vector<uint8_t> fuzzSeed();
