// Problem lines, random data and the plain definitions that the problems share.
#include "tests/conformance/problem.h"

#include "passes/lower/kernels/layout.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>
#include <stdexcept>

namespace smelt::conformance {

Fields::Fields(const std::string &line) {
  std::istringstream in(line);
  in >> kind;
  for (std::string word; in >> word;) {
    size_t equals = word.find('=');
    std::string key = word.substr(0, equals);
    values[key] = equals == std::string::npos ? "1" : word.substr(equals + 1);
    used[key] = false;
  }
}

std::string Fields::text(const std::string &key, const std::string &usual) {
  auto found = values.find(key);
  if (found == values.end())
    return usual;
  used[key] = true;
  return found->second;
}

int64_t Fields::integer(const std::string &key, int64_t usual) {
  return std::stoll(text(key, std::to_string(usual)));
}

double Fields::real(const std::string &key, double usual) {
  std::string given = text(key, "");
  return given.empty() ? usual : std::stod(given);
}

void Fields::finish() const {
  for (auto &[key, seen] : used)
    if (!seen)
      throw std::invalid_argument("problem kind '" + kind + "' has no key '" + key + "'");
}

std::vector<float> Problem::normal(int64_t count, double deviation) {
  std::normal_distribution<float> distribution(0, float(deviation));
  std::vector<float> values(count);
  for (float &v : values)
    v = distribution(random);
  return values;
}

std::unique_ptr<Problem> makeProblem(const std::string &line) {
  Fields fields(line);
  std::unique_ptr<Problem> problem;
  if (fields.kind == "linear")
    problem = makeLinearProblem(fields);
  else if (fields.kind == "rope" || fields.kind == "attention")
    problem = makeAttentionProblem(fields);
  else
    problem = makeRowsProblem(fields);
  fields.finish();
  return problem;
}

Activations makeActivations(ActivationFormat format, const std::vector<float> &x, int64_t rows,
                            int64_t cols) {
  const ActivationLayout layout = activationLayout(format, cols, true);
  Activations a;
  a.codes.resize(rows * layout.paddedCols);
  for (auto *field : {&a.scale, &a.sum, &a.scaledSum})
    field->resize(rows * layout.groups);
  for (int64_t row = 0; row < rows; ++row) {
    const float *in = &x[row * cols];
    for (int64_t g = 0; g < layout.groups; ++g) {
      int64_t first = g * groupInputs, last = std::min(cols, first + groupInputs);
      int64_t begin = format == ActivationFormat::A8T ? 0 : first,
              end = format == ActivationFormat::A8T ? cols : last;
      float amax = 0;
      for (int64_t i = begin; i < end; ++i)
        amax = std::max(amax, std::fabs(in[i]));
      bool some = amax > 0x1p-100f;
      float scale = some ? amax / 127.0f : 0, inverse = some ? 127.0f / amax : 0, sum = 0;
      for (int64_t i = first; i < last; ++i) {
        float code = layout.quantized ? std::nearbyint(in[i] * inverse) : in[i];
        a.codes[row * layout.paddedCols + i] = code;
        sum += code;
      }
      a.sum[row * layout.groups + g] = sum;
      if (layout.quantized) {
        a.scale[row * layout.groups + g] = scale;
        a.scaledSum[row * layout.groups + g] = scale * sum;
      }
    }
  }
  return a;
}

namespace {

/// Calls `visit(byte offset, kind, row, index)` for every item of `count` rows; kind 0: code, 1:
/// scale, 2: sum, 3: scaledSum.
template <typename Visit>
void walkActivations(const ActivationLayout &layout, int64_t count, Visit visit) {
  for (int64_t row = 0; row < count; ++row) {
    int64_t block = row / layout.interleave * layout.blockBytes, lane = row % layout.interleave;
    for (int64_t i = 0; i < layout.paddedCols; ++i)
      visit(block + (layout.quantized ? (i / 4 * layout.interleave + lane) * 4 + i % 4
                                      : (i * layout.interleave + lane) * 4),
            0, row, i);
    for (int64_t g = 0; g < layout.groups; ++g) {
      int64_t at = block + (g * layout.interleave + lane) * 4;
      visit(at + layout.sumOffset, 2, row, g);
      if (layout.quantized) {
        visit(at + layout.scaleOffset, 1, row, g);
        visit(at + layout.scaledSumOffset, 3, row, g);
      }
    }
  }
}

} // namespace

std::vector<std::byte> layoutActivations(ActivationFormat format, const Activations &a,
                                         int64_t cols, bool one, int64_t first, int64_t count) {
  const ActivationLayout layout = activationLayout(format, cols, one);
  std::vector<std::byte> out(roundUp(count, layout.interleave) / layout.interleave *
                             layout.blockBytes);
  walkActivations(layout, count, [&](int64_t at, int kind, int64_t row, int64_t i) {
    int64_t g = (first + row) * layout.groups + i;
    float value = kind == 0   ? a.codes[(first + row) * layout.paddedCols + i]
                  : kind == 1 ? a.scale[g]
                  : kind == 2 ? a.sum[g]
                              : a.scaledSum[g];
    if (layout.quantized && kind == 0) {
      out[at] = std::byte(int8_t(value));
    } else if (layout.quantized && kind == 2) {
      int32_t sum = int32_t(value);
      std::memcpy(&out[at], &sum, 4);
    } else {
      std::memcpy(&out[at], &value, 4);
    }
  });
  return out;
}

std::vector<float> readActivations(ActivationFormat format, const std::byte *memory, int64_t cols,
                                   bool one, int64_t rows) {
  const ActivationLayout layout = activationLayout(format, cols, one);
  std::vector<float> out;
  walkActivations(layout, rows, [&](int64_t at, int kind, int64_t, int64_t) {
    float value;
    int32_t word;
    std::memcpy(&value, memory + at, layout.quantized && kind == 0 ? 1 : 4);
    std::memcpy(&word, memory + at, layout.quantized && kind == 0 ? 1 : 4);
    if (layout.quantized && kind == 0)
      value = float(int8_t(memory[at]));
    else if (layout.quantized && kind == 2)
      value = float(word);
    out.push_back(value);
  });
  return out;
}

Weights makeWeights(WeightFormat format, int64_t rows, int64_t cols, std::mt19937 &random) {
  const FormatInfo &info = formatInfo(format);
  const int64_t padded = roundUp(rows, tileRows), groups = info.group ? roundUp(cols, info.group) / info.group : 0;
  auto uniform = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  auto positive = [&] { return 0.001f * float(uniform(1, 40)); };
  Weights w;
  w.packed.resize(packedBytes(format, rows, cols));
  w.values.resize(padded * cols);
  for (int64_t tile = 0; tile < padded / tileRows; ++tile) {
    std::vector<float> values(tileRows * cols), scales, minimums(tileRows);
    std::vector<uint8_t> codes(tileRows * cols), groupScales(tileRows * groups),
        groupMinimums(tileRows * groups), zeros(tileRows * groups);
    scales.resize(info.group && info.scales != ScaleStorage::Code ? tileRows * groups : tileRows);
    for (float &v : values)
      v = 0.001f * float(uniform(-1000, 1000));
    for (uint8_t &c : codes)
      c = uint8_t(uniform(info.bits == 8 ? 1 : 0, (int64_t(1) << std::min(info.bits, 8)) - 1));
    for (auto *factors : {&scales, &minimums})
      for (float &s : *factors)
        s = positive();
    for (auto *bytes : {&groupScales, &groupMinimums})
      for (uint8_t &b : *bytes)
        b = uint8_t(uniform(0, 255));
    for (uint8_t &z : zeros)
      z = uint8_t(uniform(0, (int64_t(1) << std::min(info.bits, 8)) - 1));
    // float16 scales hold what they are given only after rounding; unpackTile tells the outcome.
    std::span<std::byte> bytes =
        std::span(w.packed).subspan(tile * tileBytes(format, cols), tileBytes(format, cols));
    packTile(format, {cols, values, codes, scales, minimums, groupScales, groupMinimums, zeros}, bytes);
    unpackTile(format, bytes, cols,
               std::span(w.values).subspan(tile * tileRows * cols, tileRows * cols));
  }
  return w;
}

uint32_t activationKindOf(const std::string &name) {
  const char *names[] = {"identity", "relu", "relu2", "silu", "gelu_tanh", "gelu_erf"};
  for (uint32_t i = 0; i < std::size(names); ++i)
    if (name == names[i])
      return i;
  throw std::invalid_argument("unknown activation '" + name + "'");
}

double activateReference(uint32_t kind, double x) {
  double positive = std::max(x, 0.0);
  switch (kind) {
  case 1:
    return positive;
  case 2:
    return positive * positive;
  case 3:
    return x / (1 + std::exp(-x));
  case 4:
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  case 5:
    return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
  default:
    return x;
  }
}

} // namespace smelt::conformance
