// SVG by hand.
#include "compiler/driver/report_plots.h"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace smelt::plot {

namespace {

constexpr double width = 360;

__attribute__((format(printf, 1, 2))) std::string print(const char *format, ...) {
  char buffer[512];
  va_list values;
  va_start(values, format);
  std::vsnprintf(buffer, sizeof buffer, format, values);
  va_end(values);
  return buffer;
}

std::string openSvg(double height, const std::string &label) {
  return print("<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"", width, height) +
         escaped(label) + "\">";
}

std::string text(double x, double y, const char *style, const std::string &content) {
  return print("<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, style) + escaped(content) +
         "</text>";
}

std::string line(double x1, double y1, double x2, double y2, const char *style) {
  return print("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"%s\"/>", x1, y1, x2,
               y2, style);
}

/// A round step so that about `count` of them reach `largest`.
double roundStep(double largest, int count) {
  const double raw = std::max(largest, 1e-300) / count;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  for (double factor : {1.0, 2.0, 2.5, 5.0})
    if (factor * power >= raw)
      return factor * power;
  return 10 * power;
}

} // namespace

std::string escaped(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
    case '&':
      out += "&amp;";
      break;
    case '<':
      out += "&lt;";
      break;
    case '>':
      out += "&gt;";
      break;
    case '"':
      out += "&quot;";
      break;
    case '\'':
      out += "&#39;";
      break;
    default:
      out += c;
    }
  }
  return out;
}

std::string shortNumber(double value) {
  const double size = std::fabs(value);
  if (size == 0)
    return "0";
  if (size < 1e-4)
    return print("%.1e", value);
  const int digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : size >= 0.1 ? 3 : 4;
  return print("%.*f", digits, value);
}

std::string tickNumber(double value) { return print("%.4g", value); }

std::string power(int base, int64_t exponent) {
  static constexpr const char *raised[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string text = std::to_string(base) + (exponent < 0 ? "⁻" : "");
  for (char digit : std::to_string(std::abs(exponent)))
    text += raised[digit - '0'];
  return text;
}

std::string bytesText(double bytes) {
  for (auto [unit, name] : {std::pair{1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}})
    if (bytes >= unit)
      return print("%.*f %s", bytes >= 100 * unit ? 0 : 1, bytes / unit, name);
  return print("%.0f B", bytes);
}

std::string histogram(const std::vector<double> &counts, const std::vector<Tick> &ticks,
                      const std::string &axis) {
  constexpr double height = 190, left = 8, right = 352, top = 10, bottom = 146;
  std::string svg = openSvg(height, axis);
  const double largest =
      counts.empty() ? 1 : std::max(1.0, *std::max_element(counts.begin(), counts.end()));
  double all = 0;
  for (double count : counts)
    all += count;
  const double step = (right - left) / double(std::max<size_t>(1, counts.size()));
  for (double share : {0.25, 0.5, 0.75, 1.0}) {
    const double y = bottom - share * (bottom - top);
    svg += line(left, y, right, y, "rule");
  }
  for (size_t i = 0; i < counts.size(); ++i) {
    const double size = counts[i] / largest * (bottom - top);
    const double gap = std::min(2.0, step / 5);
    svg += print("<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" rx=\"1.5\" "
                 "class=\"bar\"><title>%s %%</title></rect>",
                 left + double(i) * step + gap / 2, bottom - size, step - gap, size,
                 shortNumber(100 * counts[i] / std::max(1.0, all)).c_str());
  }
  svg += line(left, bottom, right, bottom, "axis");
  for (const Tick &tick : ticks) {
    const double x = left + double(tick.edge) * step;
    svg += line(x, bottom, x, bottom + 4, "axis");
    const char *style = x < left + 8 ? "tick first" : x > right - 8 ? "tick last" : "tick";
    svg += text(x, bottom + 17, style, tick.label);
  }
  svg += text((left + right) / 2, height - 8, "name", axis);
  return svg + "</svg>";
}

std::string grid(const std::vector<std::string> &rows, const std::vector<std::string> &columns,
                 const std::vector<std::vector<Cell>> &cells) {
  constexpr double left = 34, right = 356, sine = 0.62, letter = 6.2; // of slanted names
  size_t longest = 0;
  for (const std::string &column : columns)
    longest = std::max(longest, std::min<size_t>(column.size(), 13));
  const double top = 16 + sine * letter * double(longest);
  const double rowHeight = std::clamp(420 / double(std::max<size_t>(1, rows.size())), 5.0, 18.0);
  const double height = top + rowHeight * double(rows.size()) + 4;
  const double step = (right - left) / double(std::max<size_t>(1, columns.size()));
  std::string svg = openSvg(height, "by layer and kind");
  for (size_t c = 0; c < columns.size(); ++c) {
    const double x = left + (double(c) + 0.5) * step - 3;
    // Names of kinds are longer than their columns are wide.
    svg += print("<text x=\"%.1f\" y=\"%.1f\" class=\"slanted\" transform=\"rotate(-38 %.1f "
                 "%.1f)\">",
                 x, top - 7, x, top - 7) +
           escaped(columns[c].size() > 13 ? columns[c].substr(0, 12) + "…" : columns[c]) +
           "</text>";
  }
  // As many names of rows as have room.
  const size_t each = size_t(std::ceil(12 / rowHeight));
  for (size_t r = 0; r < rows.size(); ++r) {
    const double y = top + double(r) * rowHeight;
    if (r % each == 0)
      svg += text(left - 6, y + rowHeight / 2 + 3.5, "tick last", rows[r]);
    for (size_t c = 0; c < columns.size(); ++c) {
      const Cell &cell = cells[r][c];
      if (cell.shade < 0 && cell.tone.empty())
        continue;
      svg += print("<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" rx=\"1.5\" ",
                   left + double(c) * step + 0.75, y + 0.75, step - 1.5, rowHeight - 1.5);
      svg += cell.tone.empty()
                 ? print("class=\"shade\" fill-opacity=\"%.3f\">", 0.06 + 0.94 * cell.shade)
                 : "class=\"" + cell.tone + "\">";
      svg += "<title>" + escaped(cell.title) + "</title></rect>";
    }
  }
  return svg + "</svg>";
}

std::string scatter(const std::vector<Point> &points, const std::string &xAxis,
                    const std::string &yAxis) {
  constexpr double height = 270, left = 46, right = 350, top = 24, bottom = 222;
  double xLow = 1e300, xHigh = 0, yHigh = 0;
  for (const Point &point : points) {
    xLow = std::min(xLow, point.x);
    xHigh = std::max(xHigh, point.x);
    yHigh = std::max(yHigh, point.y);
  }
  // Sizes differ little beside their distance from zero: the axis starts near the smallest.
  const double spread = std::max(xHigh - xLow, 0.1 * xHigh);
  const double xFrom = std::max(0.0, xLow - 0.15 * spread), xTo = xHigh + 0.2 * spread;
  const double yTo = std::max(yHigh, 1e-12) * 1.15;
  auto xOf = [&](double x) { return left + (x - xFrom) / (xTo - xFrom) * (right - left); };
  auto yOf = [&](double y) { return bottom - y / yTo * (bottom - top); };
  std::string svg = openSvg(height, yAxis + " against " + xAxis);
  const double yStep = roundStep(yTo, 4), xStep = roundStep(xTo - xFrom, 4);
  for (double y = 0; y <= yTo; y += yStep) {
    svg += line(left, yOf(y), right, yOf(y), y == 0 ? "axis" : "rule");
    svg += text(left - 6, yOf(y) + 3.5, "tick last", tickNumber(y));
  }
  for (double x = std::ceil(xFrom / xStep) * xStep; x <= xTo; x += xStep)
    svg += text(xOf(x), bottom + 16, "tick", tickNumber(x));
  svg += text((left + right) / 2, height - 10, "name", xAxis);
  svg += text(left - 38, top - 10, "name first", yAxis);
  // The front of points that no other beats in both.
  std::vector<Point> sorted = points;
  std::sort(sorted.begin(), sorted.end(),
            [](const Point &a, const Point &b) { return a.x != b.x ? a.x < b.x : a.y < b.y; });
  std::string front;
  double best = 1e300;
  for (const Point &point : sorted)
    if (point.y < best) {
      best = point.y;
      front += print("%.1f,%.1f ", xOf(point.x), yOf(point.y));
    }
  svg += "<polyline class=\"front\" points=\"" + front + "\"/>";
  for (const Point &point : sorted) {
    const std::string title =
        point.name + ": " + shortNumber(point.x) + ", " + shortNumber(point.y);
    svg += print("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" class=\"%s\"><title>", xOf(point.x),
                 yOf(point.y), point.main ? 5.0 : 3.5, point.main ? "dot main" : "dot") +
           escaped(title) + "</title></circle>";
    const bool isLeft = xOf(point.x) > right - 90;
    if (!point.name.empty())
      svg += text(xOf(point.x) + (isLeft ? -9 : 9), yOf(point.y) - 6,
                  point.main ? (isLeft ? "mark last" : "mark first")
                             : (isLeft ? "tick last" : "tick first"),
                  point.name);
  }
  return svg + "</svg>";
}

} // namespace smelt::plot
