// Recovers the frequencies of a rotary table, and proves that two small tables say the same.
#include "passes/lower/rotary_table.h"

#include <cmath>
#include <numbers>

namespace smelt {

namespace {

/// Rows of both tables, one at a time.
class TableRows {
public:
  TableRows(const WeightView &cosView, const WeightView &sinView)
      : cos(size_t(cosView.cols)), sin(size_t(cosView.cols)), cosView(cosView), sinView(sinView) {}

  std::vector<float> cos, sin; ///< of the position read last

  void read(int64_t position) {
    readRows(cosView, position, 1, cos.data());
    readRows(sinView, position, 1, sin.data());
  }
  /// How far the angle of column i of the row is from `expected`, in [-pi, pi].
  double angleFrom(size_t i, double expected) const {
    return std::remainder(std::atan2(double(sin[i]), double(cos[i])) - expected,
                          2 * std::numbers::pi);
  }

private:
  const WeightView &cosView, &sinView;
};

/// The frequency of every column. Row p tells p f up to whole turns: rows 1, 2, 4, ... each halve
/// the error that row 1 has, which keeps the turns known; then all rows together, by least squares,
/// as every angle was rounded.
std::vector<double> frequencies(TableRows &rows, int64_t positions) {
  std::vector<double> f(rows.cos.size());
  for (int64_t p = 1; p < positions; p *= 2) {
    rows.read(p);
    for (size_t i = 0; i < f.size(); ++i)
      f[i] += rows.angleFrom(i, double(p) * f[i]) / double(p);
  }
  std::vector<double> product(f.size());
  double squares = 0;
  for (int64_t p = 1; p < positions; ++p) {
    rows.read(p);
    squares += double(p) * double(p);
    for (size_t i = 0; i < f.size(); ++i)
      product[i] += double(p) * rows.angleFrom(i, double(p) * f[i]);
  }
  for (size_t i = 0; i < f.size(); ++i)
    f[i] += product[i] / squares;
  return f;
}

double halfUlp(DataType type) {
  switch (type) {
  case DataType::F16:
    return 0x1p-12;
  case DataType::BF16:
    return 0x1p-9;
  default:
    return 0;
  }
}

} // namespace

std::optional<std::vector<float>> compactRotaryTable(const WeightView &cosView,
                                                     const WeightView &sinView, int64_t positions) {
  const int64_t coarse = (positions + rotaryStep - 1) / rotaryStep, half = cosView.cols;
  if (rotaryStep + coarse >= positions)
    return std::nullopt;
  TableRows rows(cosView, sinView);
  const std::vector<double> f = frequencies(rows, positions);
  rows.read(0);
  const std::vector<float> factor = rows.cos;

  std::vector<float> table(size_t((rotaryStep + coarse) * 2 * half));
  for (int64_t row = 0; row < rotaryStep + coarse; ++row)
    for (int64_t i = 0; i < half; ++i) {
      const bool fine = row < rotaryStep;
      const double angle = double(fine ? row : (row - rotaryStep) * rotaryStep) * f[size_t(i)];
      const double m = fine ? 1 : factor[size_t(i)];
      table[size_t(row * 2 * half + i)] = float(m * std::cos(angle));
      table[size_t((row * 2 + 1) * half + i)] = float(m * std::sin(angle));
    }

  const double stored = 2e-7 + halfUlp(cosView.type) + halfUlp(sinView.type);
  for (int64_t p = 0; p < positions; ++p) {
    rows.read(p);
    const float *a = &table[size_t((rotaryStep + p / rotaryStep) * 2 * half)];
    const float *b = &table[size_t(p % rotaryStep * 2 * half)];
    for (int64_t i = 0; i < half; ++i) {
      const float cos = std::fma(a[i], b[i], -(a[half + i] * b[half + i]));
      const float sin = std::fma(a[half + i], b[i], a[i] * b[half + i]);
      const double bound =
          double(factor[size_t(i)]) * (std::fabs(double(p) * f[size_t(i)]) * 0x1p-23 + stored);
      // Negated, so that what is no number is refused.
      if (!(std::fabs(double(cos) - rows.cos[size_t(i)]) <= bound) ||
          !(std::fabs(double(sin) - rows.sin[size_t(i)]) <= bound))
        return std::nullopt;
    }
  }
  return table;
}

} // namespace smelt
