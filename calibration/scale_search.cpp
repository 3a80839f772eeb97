// Choice of the scales: minimum and maximum, or the search of least weighted error.
//
// Search (llama.cpp's make_qkx3/make_qx quantizers; research/quantization.md, 3.1): candidate
// ranges are factors of the group's own; for the codes that each gives, step (and offset) are
// refitted by weighted least squares; the least of sum omega (w - step q + offset)^2 wins. Then
// scales are rounded to what can be stored, their neighbours competing with codes rounded anew.
#include "calibration/lanes.h"

namespace smelt::SMELT_LEVEL {
namespace {

/// One group being fitted. Its omega sums to about 1; a group that counts nothing counts evenly.
struct Group {
  const float *weights; ///< [count, 16]
  int64_t count;
  Lanes omega[largestGroup];
  Lanes w{}, ww{}, all{}; ///< sums of omega w, omega w^2, omega

  Group(const TileProblem &problem, int64_t first, int64_t count)
      : weights(problem.weights + first * lanes), count(count) {
    Lanes sum{};
    for (int64_t k = 0; k < count; ++k)
      sum += load(problem.omega + (first + k) * lanes);
    const Lanes inverse = sum > 0 ? 1.0f / (sum > 0 ? sum : splat(1.0f)) : Lanes{};
    for (int64_t k = 0; k < count; ++k) {
      const Lanes given = load(problem.omega + (first + k) * lanes);
      omega[k] = sum > 0 ? given * inverse + 1e-6f : splat(1.0f);
      const Lanes w_k = load(weights + k * lanes), weighted = omega[k] * w_k;
      w += weighted;
      ww += weighted * w_k;
      all += omega[k];
    }
  }
};

/// Weighted sums for given codes: what a least-squares fit of step and offset needs.
struct FitSums {
  Lanes u, uu, wu;
};

template <typename Levels>
inline FitSums fitSums(const Group &group, const Levels &levels, Lanes inverse, Lanes shift) {
  FitSums sums{};
  for (int64_t k = 0; k < group.count; ++k) {
    const Lanes w = load(group.weights + k * lanes);
    const Lanes u = levels(w * inverse + shift), weighted = group.omega[k] * u;
    sums.u += weighted;
    sums.uu += weighted * u;
    sums.wu += weighted * w;
  }
  return sums;
}

/// Weighted error of one group on the grid (step, offset) with codes rounded to nearest.
template <typename Levels>
inline Lanes groupError(const Group &group, const Levels &levels, Lanes step, Lanes offset) {
  const Lanes inverse = reciprocal(step), shift = offset * inverse;
  Lanes error{};
  for (int64_t k = 0; k < group.count; ++k) {
    const Lanes w = load(group.weights + k * lanes);
    const Lanes d = step * levels(w * inverse + shift) - offset - w;
    error += group.omega[k] * (d * d);
  }
  return error;
}

constexpr int candidates = 20, rangeCandidates = 12;
constexpr float candidateFactor(float first, float last, int i, int count) {
  return first + (last - first) * float(i) / float(count - 1);
}

/// Step and offset that minimise sum omega (w - step u + offset)^2 with offset >= 0 and step >= 0,
/// and that error:
///   step = (all wu - w u) / (all uu - u^2), offset = (step u - w) / all; where the offset would be
///   negative it is zero and step = wu / uu; where all codes are equal (no determinant) the given
///   step stays.
inline Lanes refit(const Group &group, const FitSums &fit, Lanes &step, Lanes &offset) {
  Lanes determinant = group.all * fit.uu - fit.u * fit.u;
  Ints usable = determinant > 1e-6f * (group.all * fit.uu);
  Lanes safe = usable ? determinant : splat(1.0f);
  Lanes fitted = usable ? (group.all * fit.wu - group.w * fit.u) / safe : step;
  fitted = larger(fitted, Lanes{});
  Lanes shifted = (fitted * fit.u - group.w) / group.all;
  Ints negative = shifted < 0;
  Lanes alone = fit.uu > 0 ? fit.wu / (fit.uu > 0 ? fit.uu : splat(1.0f)) : fitted;
  step = negative ? larger(alone, Lanes{}) : fitted;
  offset = negative ? Lanes{} : shifted;
  return group.ww - 2.0f * step * fit.wu + 2.0f * offset * group.w + step * step * fit.uu -
         2.0f * step * offset * fit.u + offset * offset * group.all;
}

void fitAsymmetric(const TileProblem &problem, bool search, const TileGrid &grid) {
  const UniformLevels levels(grid.kind);
  const float highest = grid.kind.highest;
  for (int64_t g = 0; g < problem.cols / grid.groupCols; ++g) {
    const Group group(problem, g * grid.groupCols, grid.groupCols);
    Lanes least{}, most{}; // zero is always within
    for (int64_t k = 0; k < group.count; ++k) {
      least = smaller(least, load(group.weights + k * lanes));
      most = larger(most, load(group.weights + k * lanes));
    }
    const Lanes range = most - least;
    Lanes bestStep = range / highest, bestOffset = -least;
    if (search) {
      Lanes bestError = splat(__builtin_inff());
      auto consider = [&](Lanes step, Lanes offset) {
        const Lanes inverse = reciprocal(step);
        const FitSums fit = fitSums(group, levels, inverse, offset * inverse);
        const Lanes error = refit(group, fit, step, offset);
        const Ints better = error < bestError;
        bestError = better ? error : bestError;
        bestStep = better ? step : bestStep;
        bestOffset = better ? offset : bestOffset;
      };
      // A range factor of the group's own, its lower end moved by parts of a step: the refit alone
      // does not get out of the codes that the ends give.
      for (int i = 0; i < rangeCandidates; ++i)
        for (int j = -2; j <= 2; ++j) {
          const float factor = candidateFactor(0.75f, 1.10f, i, rangeCandidates);
          const Lanes step = factor * range / highest;
          consider(step, larger(0.2f * float(j) * step - factor * least, Lanes{}));
        }
      // Codes nearest to the best fit differ from those that it was fitted to: fit again.
      for (int round = 0; round < 3; ++round)
        consider(bestStep, bestOffset);
    }
    const Ints zero = range < tiny;
    store(grid.steps + g * lanes, zero ? Lanes{} : bestStep);
    store(grid.offsets + g * lanes, zero ? Lanes{} : bestOffset);
  }
}

/// Steps without offsets, of either sign where levels or codes allow it: the weight of largest
/// magnitude lies on the lowest level or the highest.
template <typename Levels>
void fitSymmetric(const TileProblem &problem, bool search, const Levels &levels,
                  const TileGrid &grid) {
  const float lowest = grid.kind.lowest, highest = grid.kind.highest;
  const bool bothSigns = grid.kind.scales == ScaleStorage::Half || grid.kind.lowestStep < 0;
  for (int64_t g = 0; g < problem.cols / grid.groupCols; ++g) {
    const Group group(problem, g * grid.groupCols, grid.groupCols);
    Lanes extreme{};
    for (int64_t k = 0; k < group.count; ++k) {
      const Lanes w = load(group.weights + k * lanes);
      extreme = magnitude(w) > magnitude(extreme) ? w : extreme;
    }
    const Ints zero = magnitude(extreme) < tiny;
    if (!bothSigns)
      extreme = -magnitude(extreme);
    Lanes best = extreme / lowest;
    if (search) {
      Lanes bestError = splat(__builtin_inff());
      auto consider = [&](Lanes step) {
        const FitSums fit = fitSums(group, levels, reciprocal(step), Lanes{});
        const Lanes fitted = fit.uu > 0 ? fit.wu / (fit.uu > 0 ? fit.uu : splat(1.0f)) : step;
        const Lanes error = group.ww - fitted * fit.wu;
        const Ints better = error < bestError;
        bestError = better ? error : bestError;
        best = better ? fitted : best;
      };
      for (int i = 0; i < candidates; ++i) {
        const float factor = candidateFactor(0.75f, 1.12f, i, candidates);
        consider(extreme * (factor / lowest));
        if (bothSigns)
          consider(extreme * (factor / highest));
      }
      for (int round = 0; round < 2; ++round)
        consider(best);
    }
    store(grid.steps + g * lanes, zero ? Lanes{} : best);
    store(grid.offsets + g * lanes, Lanes{});
  }
}

/// The row's factor: its largest value on the largest code.
inline Lanes rowFactor(Lanes largest, float codes) {
  const Lanes factor = roundToBfloat16(largest / codes);
  return factor < tiny ? Lanes{} : factor;
}

/// Rounds steps and offsets to codes of the row's factors. With `search` the neighbours of the
/// rounded values compete by weighted error.
template <typename Levels>
void storeAsCodes(const TileProblem &problem, bool search, const Levels &levels,
                  const TileGrid &grid) {
  const int64_t groups = problem.cols / grid.groupCols;
  const Lanes low = splat(grid.kind.lowestStep), high = splat(grid.kind.highestStep);
  const Lanes most = splat(255.0f);
  Lanes largestStep{}, largestOffset{};
  for (int64_t g = 0; g < groups; ++g) {
    largestStep = larger(largestStep, magnitude(load(grid.steps + g * lanes)));
    largestOffset = larger(largestOffset, load(grid.offsets + g * lanes));
  }
  const Lanes rowStep = rowFactor(largestStep, grid.kind.highestStep);
  const Lanes rowOffset = rowFactor(largestOffset, 255.0f);
  store(grid.rowSteps, rowStep);
  store(grid.rowOffsets, rowOffset);
  const Lanes inverseStep = reciprocal(rowStep), inverseOffset = reciprocal(rowOffset);
  const int offsetTries = grid.kind.grid == Grid::Asymmetric ? 3 : 1;
  for (int64_t g = 0; g < groups; ++g) {
    Lanes step = clamped(nearest(load(grid.steps + g * lanes) * inverseStep), low, high);
    Lanes offset = clamped(nearest(load(grid.offsets + g * lanes) * inverseOffset), Lanes{}, most);
    if (search) {
      const Group group(problem, g * grid.groupCols, grid.groupCols);
      const Lanes nearStep = step, nearOffset = offset;
      Lanes bestError = splat(__builtin_inff());
      // In the order 0, +1, -1, so that the rounded values win where all are alike.
      for (int i = 0; i < 3 * offsetTries; ++i) {
        const Lanes tryStep = clamped(nearStep + float((i % 3 + 1) % 3 - 1), low, high);
        const Lanes tryOffset = clamped(
            nearOffset + float((i / 3 + 1) % 3 - 1) * float(offsetTries > 1), Lanes{}, most);
        const Lanes error = groupError(group, levels, rowStep * tryStep, rowOffset * tryOffset);
        const Ints better = error < bestError;
        bestError = better ? error : bestError;
        step = better ? tryStep : step;
        offset = better ? tryOffset : offset;
      }
    }
    storeCodes(grid.stepCodes + g * lanes, step);
    storeCodes(grid.offsetCodes + g * lanes, offset);
    store(grid.steps + g * lanes, rowStep * step);
    store(grid.offsets + g * lanes, rowOffset * offset);
  }
}

/// Weighted error and refit sums of whole rows for one step; chunks are summed in float, the row in
/// double.
struct RowFit {
  Doubles error, uu, wu;
};
inline RowFit rowFit(const TileProblem &problem, const UniformLevels &levels, Lanes step) {
  const Lanes inverse = reciprocal(step);
  RowFit total{};
  for (int64_t k0 = 0; k0 < problem.cols; k0 += blockInputs) {
    Lanes error{}, uu{}, wu{};
    for (int64_t k = k0; k < k0 + blockInputs; ++k) {
      const Lanes w = load(problem.weights + k * lanes), omega = load(problem.omega + k * lanes);
      const Lanes u = levels(w * inverse), d = step * u - w, weighted = omega * u;
      error += omega * (d * d);
      uu += weighted * u;
      wu += weighted * w;
    }
    total.error += toDoubles(error);
    total.uu += toDoubles(uu);
    total.wu += toDoubles(wu);
  }
  return total;
}

/// One step for all inputs of a row.
void fitRow(const TileProblem &problem, bool search, const TileGrid &grid) {
  const UniformLevels levels(grid.kind);
  Lanes extreme{};
  for (int64_t k = 0; k < problem.cols; ++k)
    extreme = larger(extreme, magnitude(load(problem.weights + k * lanes)));
  Lanes best = extreme / grid.kind.highest;
  best = best < tiny ? Lanes{} : best;
  if (search) {
    float bestError[lanes], steps[lanes];
    store(steps, best);
    const RowFit start = rowFit(problem, levels, best);
    for (int64_t row = 0; row < lanes; ++row)
      bestError[row] = float(start.error[row]);
    auto consider = [&](Lanes step) {
      const RowFit fit = rowFit(problem, levels, step);
      Lanes refitted;
      for (int64_t row = 0; row < lanes; ++row)
        refitted[row] = fit.uu[row] > 0 ? float(fit.wu[row] / fit.uu[row]) : step[row];
      const RowFit again = rowFit(problem, levels, refitted);
      for (int64_t row = 0; row < lanes; ++row)
        if (refitted[row] > tiny && float(again.error[row]) < bestError[row]) {
          bestError[row] = float(again.error[row]);
          steps[row] = refitted[row];
        }
    };
    constexpr int rowCandidates = 12;
    for (int i = 0; i < rowCandidates; ++i)
      consider(best * (0.56f + 0.04f * float(i)));
    best = load(steps);
  }
  store(grid.steps, best);
  store(grid.offsets, Lanes{});
}

void storeAsHalf(const TileProblem &problem, const TileGrid &grid) {
  for (int64_t g = 0; g < problem.cols / grid.groupCols; ++g)
    store(grid.steps + g * lanes, roundToHalf(load(grid.steps + g * lanes)));
}

} // namespace

void searchScales(const TileProblem &problem, bool search, const TileGrid &grid) {
  if (grid.kind.scales == ScaleStorage::Row)
    return fitRow(problem, search, grid);
  withLevels(grid.kind, [&](const auto &levels) {
    if (grid.kind.grid == Grid::Asymmetric)
      fitAsymmetric(problem, search, grid);
    else
      fitSymmetric(problem, search, levels, grid);
    if (grid.kind.scales == ScaleStorage::Code)
      storeAsCodes(problem, search, levels, grid);
    else
      storeAsHalf(problem, grid);
  });
}

} // namespace smelt::SMELT_LEVEL
