// Plots of a report as SVG text: no scripts, colours by the page's style sheet, so that they follow
// light and dark. All are 360 units wide, the width of a phone, and grow no larger than their card.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace smelt::plot {

/// Text for HTML: &, <, > and quotes written out.
std::string escaped(std::string_view text);
/// A number with about three digits that count: "0.0123", "12.3", "1.2e-05".
std::string shortNumber(double value);
/// The same without zeros at the end, for axes: "90", "0.02".
std::string tickNumber(double value);
/// "2⁻³": an integer power as text.
std::string power(int base, int64_t exponent);
/// "94.1 MB", decimal units.
std::string bytesText(double bytes);

/// Bars over bins; `ticks` names some edges between bins, 0 .. counts.size().
struct Tick {
  size_t edge;
  std::string label;
};
std::string histogram(const std::vector<double> &counts, const std::vector<Tick> &ticks,
                      const std::string &axis);

/// A table of cells, rows of layers by columns of kinds. A cell's shade is 0 .. 1; below 0: there
/// is none. `tone` names a colour class of the style sheet per cell, empty: the shaded one.
struct Cell {
  double shade = -1;
  std::string tone;
  std::string title; ///< shown when pointed at
};
std::string grid(const std::vector<std::string> &rows, const std::vector<std::string> &columns,
                 const std::vector<std::vector<Cell>> &cells);

/// Points of two measures, both from zero; `main` ones are filled and named.
struct Point {
  double x = 0, y = 0;
  std::string name;
  bool main = false;
};
std::string scatter(const std::vector<Point> &points, const std::string &xAxis,
                    const std::string &yAxis);

} // namespace smelt::plot
