// Problem lines, random data and the plain definitions that the problems share.
#include "tests/conformance/problem.h"

#include "passes/lower/kernels/layout.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
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

std::vector<std::string> problemLines(const std::string &path) {
  std::vector<std::string> lines;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);)
    if (!line.empty() && line[0] != '#')
      lines.push_back(line);
  return lines;
}

std::string testName(const std::string &line) {
  std::string name = line;
  for (char &c : name)
    if (!std::isalnum(static_cast<unsigned char>(c)))
      c = '_';
  return name;
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
  const ActivationInfo &info = activationInfo(format);
  const float largest = float(info.largestCode());
  Activations a;
  a.codes.resize(rows * layout.paddedCols);
  for (auto *field : {&a.scale, &a.sum, &a.scaledSum})
    field->resize(rows * layout.groups);
  for (auto *field : {&a.halfSum, &a.halfScaledSum})
    field->resize(rows * 2 * layout.groups);
  for (int64_t row = 0; row < rows; ++row) {
    const float *in = &x[row * cols];
    for (int64_t g = 0; g < layout.groups; ++g) {
      const int64_t first = g * groupInputs, last = std::min(cols, first + groupInputs);
      const int64_t from = info.group ? first / info.group * info.group : 0;
      const int64_t end = info.group ? std::min(cols, from + info.group) : cols;
      float amax = 0;
      for (int64_t i = from; i < end; ++i)
        amax = std::max(amax, std::fabs(in[i]));
      const bool some = amax > 0x1p-100f;
      const float scale = some ? amax / largest : 0, inverse = some ? largest / amax : 0;
      float sum = 0, halves[2] = {};
      for (int64_t i = first; i < last; ++i) {
        float code = layout.quantized ? std::nearbyint(in[i] * inverse) : in[i];
        a.codes[row * layout.paddedCols + i] = code;
        sum += code;
        halves[(i - first) / 16] += code;
      }
      const int64_t at = row * layout.groups + g;
      const float offset = layout.quantized ? -128 : 1;
      if (layout.quantized)
        a.scale[at] = scale;
      a.sum[at] = offset * sum;
      a.scaledSum[at] = scale * sum;
      for (int64_t half = 0; half < 2; ++half) {
        a.halfSum[2 * at + half] = offset * halves[half];
        a.halfScaledSum[2 * at + half] = scale * halves[half];
      }
    }
  }
  return a;
}

namespace {

/// What an item of the layout is.
enum class Item { Code, Scale, Sum, ScaledSum, HalfSum, HalfScaledSum };

/// Calls `visit(byte offset, item, row, index)` for everything of `count` rows; codes by their
/// first plane.
template <typename Visit>
void walkActivations(const ActivationLayout &layout, int64_t count, Visit visit) {
  for (int64_t row = 0; row < count; ++row) {
    int64_t block = row / layout.interleave * layout.blockBytes, lane = row % layout.interleave;
    const int64_t width = interleaveOf(layout, row, count);
    auto place = [&](int64_t i) { return block + (i * width + lane) * 4; };
    for (int64_t i = 0; i < layout.paddedCols; ++i)
      visit(layout.quantized ? block + layout.codeAt(i, lane, width) : place(i), Item::Code, row,
            i);
    for (int64_t g = 0; g < layout.groups; ++g) {
      visit(place(g) + layout.sumOffset, Item::Sum, row, g);
      if (layout.quantized) {
        visit(place(g) + layout.scaleOffset, Item::Scale, row, g);
        visit(place(g) + layout.scaledSumOffset, Item::ScaledSum, row, g);
      }
      for (int64_t half = 2 * g; half < 2 * g + 2; ++half) {
        visit(place(half) + layout.halfSumOffset, Item::HalfSum, row, half);
        if (layout.quantized)
          visit(place(half) + layout.halfScaledSumOffset, Item::HalfScaledSum, row, half);
      }
    }
  }
}

bool isInteger(const ActivationLayout &layout, Item item) {
  return layout.quantized && (item == Item::Sum || item == Item::HalfSum);
}

} // namespace

std::vector<std::byte> layoutActivations(const ActivationLayout &layout, const Activations &a,
                                         int64_t first, int64_t count) {
  std::vector<std::byte> out(roundUp(count, layout.interleave) / layout.interleave *
                             layout.blockBytes);
  walkActivations(layout, count, [&](int64_t at, Item item, int64_t row, int64_t i) {
    const std::vector<float> *fields[] = {&a.codes,     &a.scale,   &a.sum,
                                          &a.scaledSum, &a.halfSum, &a.halfScaledSum};
    const std::vector<float> &field = *fields[int(item)];
    const float value =
        field[(first + row) * int64_t(field.size() / (a.scale.size() / layout.groups)) + i];
    const int32_t integer = int32_t(layout.quantized ? value : 0);
    if (layout.quantized && item == Item::Code) {
      const int32_t high = int32_t(std::nearbyint(double(integer) / highFactor));
      if (layout.planes == 2)
        out[at + layout.planeBytes] = std::byte(int8_t(integer - highFactor * high));
      out[at] = std::byte(int8_t(layout.planes == 2 ? high : integer));
    } else if (isInteger(layout, item)) {
      std::memcpy(&out[at], &integer, 4);
    } else {
      std::memcpy(&out[at], &value, 4);
    }
  });
  return out;
}

std::vector<float> readActivations(const ActivationLayout &layout, const std::byte *memory,
                                   int64_t rows) {
  std::vector<float> out;
  walkActivations(layout, rows, [&](int64_t at, Item item, int64_t, int64_t) {
    float value = 0;
    if (layout.quantized && item == Item::Code) {
      value = float(int8_t(memory[at]));
      if (layout.planes == 2)
        value = value * highFactor + float(int8_t(memory[at + layout.planeBytes]));
    } else if (isInteger(layout, item)) {
      int32_t word;
      std::memcpy(&word, memory + at, 4);
      value = float(word);
    } else {
      std::memcpy(&value, memory + at, 4);
    }
    out.push_back(value);
  });
  return out;
}

Weights makeWeights(WeightFormat format, int64_t rows, int64_t cols, std::mt19937 &random,
                    bool extreme) {
  const FormatInfo &info = formatInfo(format);
  const int64_t padded = roundUp(rows, tileRows),
                groups = info.group ? roundUp(cols, info.group) / info.group : 0;
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
      c = uint8_t(extreme ? (1 << std::min(info.bits, 8)) - 1
                          : uniform(info.bits == 8 ? 1 : 0, (1 << std::min(info.bits, 8)) - 1));
    for (auto *factors : {&scales, &minimums})
      for (float &s : *factors)
        s = positive();
    for (auto *bytes : {&groupScales, &groupMinimums})
      for (uint8_t &b : *bytes)
        b = uint8_t(uniform(0, 255)); // of the table signed
    for (uint8_t &z : zeros)
      z = uint8_t(uniform(0, (int64_t(1) << std::min(info.bits, 8)) - 1));
    // float16 scales hold what they are given only after rounding; unpackTile tells the outcome.
    std::span<std::byte> bytes =
        std::span(w.packed).subspan(tile * tileBytes(format, cols), tileBytes(format, cols));
    packTile(format, {cols, values, codes, scales, minimums, groupScales, groupMinimums, zeros},
             bytes);
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

Expected expectedActivations(const ActivationLayout &layout, ActivationFormat format,
                             const std::vector<double> &y, const std::vector<double> &bound,
                             int64_t rows) {
  const int64_t cols = int64_t(y.size()) / rows;
  std::vector<float> rounded(y.begin(), y.end());
  Activations a = makeActivations(format, rounded, rows, cols);
  std::vector<std::byte> bytes = layoutActivations(layout, a, 0, rows);
  std::vector<float> fields = readActivations(layout, bytes.data(), rows);
  Expected e{{fields.begin(), fields.end()}, {}};
  // A code may be off by one where the exact value lies within the bound of a rounding edge; sums
  // follow.
  for (int64_t row = 0; row < rows; ++row) {
    double most = 0, rowBound = 0;
    for (int64_t i = 0; i < cols; ++i) {
      most = std::max(most, std::fabs(y[row * cols + i]));
      rowBound = std::max(rowBound, bound[row * cols + i]);
    }
    for (int64_t i = 0; i < layout.paddedCols; ++i) {
      if (i >= cols)
        e.tolerance.push_back(0);
      else
        e.tolerance.push_back(layout.quantized ? (rowBound > 0 ? 1 : 0) : bound[row * cols + i]);
    }
    // Of INT16 codes, whose steps are fine, any may be off by one; of INT8 few lie so near an
    // edge.
    const double largest = double(activationInfo(format).largestCode());
    const double sumBound = !layout.quantized    ? 32 * (rowBound + 32 * roundoff * most)
                            : rowBound == 0      ? 0
                            : layout.planes == 2 ? 32
                                                 : 4;
    for (int64_t g = 0; g < layout.groups; ++g) {
      const double scale = layout.quantized ? a.scale[row * layout.groups + g] : 0;
      const double scaledBound =
          sumBound * scale * 1.01 + 32 * rowBound + roundoff * 32 * largest * scale;
      const double integerBound = layout.quantized ? 128 * sumBound : sumBound;
      e.tolerance.push_back(integerBound);
      if (layout.quantized) {
        e.tolerance.push_back((rowBound + 2 * roundoff * most) / largest);
        e.tolerance.push_back(scaledBound);
      }
      for (int64_t half = 0; half < 2; ++half) {
        e.tolerance.push_back(integerBound);
        if (layout.quantized)
          e.tolerance.push_back(scaledBound);
      }
    }
  }
  return e;
}

} // namespace smelt::conformance
