// Rotary tables in two small parts, where a table holds the angles position * frequency.
#pragma once

#include "calibration/graph.h"

#include <optional>
#include <vector>

namespace smelt {

/// Positions between two coarse rows of a compact table, and how many fine rows there are.
inline constexpr int64_t rotaryStep = 64;

/// Rows that RopeAppend combines: [rotaryStep + ceil(positions / rotaryStep)][2 * half], in each
/// row the cosines, then the sines. Row b < rotaryStep: angle b * f; row rotaryStep + a: m times
/// the cosine and sine of rotaryStep * a * f. The row of position p = rotaryStep * a + b is, in
/// float,
///   cos = fma(cosA, cosB, -(sinA * sinB)),  sin = fma(sinA, cosB, cosA * sinB).
///
/// Nothing if that needs as many rows as the table has, or if any of the first `positions` rows of
/// `cos` and `sin` (of one shape) is further from its combination than
///   m (|p f| 2^-23 + 2e-7 + r),
/// f of each column being recovered from the table and m = cos[0]: if the table is anything but
/// angles, rounded as exporters in float round them. |p f| 2^-23: the angle is rounded twice on its
/// way there (a scaled frequency or position, the product), 2^-24 of it each time. 2e-7: a stored
/// value is off by an ulp of a float library, 2^-24; the combination by 2^-25 (|cosA| + |sinA| +
/// |cosB| + |sinB|) <= 2^-25 2 sqrt(2) for the rounding of its four factors and 2^-25 each for the
/// product's and the sum's: (4 + 2 sqrt(2)) 2^-25 = 2.0e-7 in all. r: half an ulp of the
/// half-precision type that the table is stored in, else 0.
std::optional<std::vector<float>> compactRotaryTable(const WeightView &cos, const WeightView &sin,
                                                     int64_t positions);

} // namespace smelt
