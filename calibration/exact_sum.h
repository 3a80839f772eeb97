// Sums that do not depend on the order of their terms, so that shards merge to the bytes of one
// run.
//
// A term is first rounded to a multiple of 2^-40 (roundTerm). A sum is kept as a double and, where
// that double had to round, what it lost (Knuth, The Art of Computer Programming 2, 4.2.2, theorem
// B: TwoSum); what is lost is again a multiple of 2^-40 and adds up without rounding as long as it
// stays below 2^13: n terms of a sum below 2^66 / n lose less. In settled form the double is the
// exact sum rounded to nearest, so that equal sums are equal bytes. Below 2^13 nothing is ever
// lost, and residues are rare beyond.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <vector>

namespace smelt {

/// What the doubles of a vector of sums have lost: element i is exactly sums[i] + residues[i];
/// elements that are not named lost nothing.
using Residues = std::map<uint64_t, double>;

/// The multiple of 2^-40 nearest to a float (from 2^11 on every float is one).
inline double roundTerm(float term) {
  constexpr double shift = 1.5 * 4096; // in [2^12, 2^13) doubles are 2^-40 apart
  double x = term;
  return std::fabs(x) < 2048 ? (x + shift) - shift : x;
}

/// Adds x to sum; returns what that lost: sum before + x = sum after + result, exactly.
inline double addExactly(double &sum, double x) {
  double before = sum, after = before + x, part = after - before;
  sum = after;
  return (before - (after - part)) + (x - part);
}

/// Brings sums to their settled form: each the nearest double, no residue that is zero.
inline void settle(std::vector<double> &sums, Residues &residues) {
  for (auto at = residues.begin(); at != residues.end();) {
    at->second = addExactly(sums[at->first], at->second);
    at = at->second == 0 ? residues.erase(at) : std::next(at);
  }
}

/// Adds settled sums to settled sums of the same size; the result is settled.
inline void addSums(std::vector<double> &into, Residues &intoLost, const std::vector<double> &from,
                    const Residues &fromLost) {
  for (size_t i = 0; i < into.size(); ++i)
    if (double lost = addExactly(into[i], from[i]); lost != 0)
      intoLost[i] += lost;
  for (auto [index, lost] : fromLost)
    intoLost[index] += lost;
  settle(into, intoLost);
}

} // namespace smelt
