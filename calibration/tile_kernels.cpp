// Scale search, rounding and error feedback over tiles of 16 rows.
//
// Compiled once per level (SMELT_LEVEL names the namespace): nothing here may instantiate a shared
// inline function of the standard library. A vector of 16 floats is one lane per row; the compiler
// splits it to what the level has.
#include "calibration/tile_kernels.h"

namespace smelt::SMELT_LEVEL {
namespace {

using Lanes = float __attribute__((vector_size(64)));
using Ints = int __attribute__((vector_size(64)));
using Bytes = int8_t __attribute__((vector_size(16)));
using Doubles = double __attribute__((vector_size(128)));

constexpr int64_t lanes = tileRows, group = groupInputs;
/// Weights below this are taken for zero: their steps and reciprocals would leave the range of
/// normal floats.
constexpr float tiny = 1e-30f;

inline Lanes load(const float *at) {
  Lanes value;
  __builtin_memcpy(&value, at, sizeof value);
  return value;
}
inline void store(float *at, Lanes value) { __builtin_memcpy(at, &value, sizeof value); }
inline Lanes splat(float value) { return value - Lanes{}; }
inline Lanes smaller(Lanes a, Lanes b) { return a < b ? a : b; }
inline Lanes larger(Lanes a, Lanes b) { return a > b ? a : b; }
inline Lanes magnitude(Lanes a) { return a < 0 ? -a : a; }
/// To the nearest integer, ties to even, for |a| < 2^22: the sum has no fraction bits.
inline Lanes nearest(Lanes a) {
  const Lanes shift = splat(12582912.0f);
  return (a + shift) - shift;
}
inline Lanes clamped(Lanes a, Lanes low, Lanes high) { return larger(smaller(a, high), low); }
/// 1 / a, and 0 where a is zero or too small to divide by.
inline Lanes reciprocal(Lanes a) {
  Lanes safe = magnitude(a) < tiny ? splat(1.0f) : a;
  return magnitude(a) < tiny ? Lanes{} : 1.0f / safe;
}
inline Bytes toBytes(Lanes a) {
  return __builtin_convertvector(__builtin_convertvector(a, Ints), Bytes);
}
inline Lanes fromBytes(const int8_t *at) {
  Bytes bytes;
  __builtin_memcpy(&bytes, at, sizeof bytes);
  return __builtin_convertvector(__builtin_convertvector(bytes, Ints), Lanes);
}

/// Weighted sums of one group for given codes u: what a least-squares fit of step and offset needs.
struct FitSums {
  Lanes u, uu, wu;
};
/// Sums that do not depend on the codes.
struct GroupSums {
  Lanes w, ww;
  float all;
};

inline GroupSums groupSums(const float *weights, const float *importance) {
  GroupSums sums{{}, {}, 0};
  for (int64_t k = 0; k < group; ++k) {
    Lanes w = load(weights + k * lanes), weighted = importance[k] * w;
    sums.w += weighted;
    sums.ww += weighted * w;
    sums.all += importance[k];
  }
  return sums;
}

inline FitSums fitSums(const float *weights, const float *importance, Lanes inverse, Lanes shift,
                       Lanes low, Lanes high) {
  FitSums sums{};
  for (int64_t k = 0; k < group; ++k) {
    Lanes w = load(weights + k * lanes);
    Lanes u = clamped(nearest(w * inverse + shift), low, high);
    Lanes weighted = importance[k] * u;
    sums.u += weighted;
    sums.uu += weighted * u;
    sums.wu += weighted * w;
  }
  return sums;
}

/// Step and offset that minimise sum omega (w - step u + offset)^2 with offset >= 0 and step >= 0,
/// and that error:
///   step = (all wu - w u) / (all uu - u^2), offset = (step u - w) / all; where the offset would be
///   negative it is zero and step = wu / uu; where all codes are equal (no determinant) the given
///   step stays.
inline Lanes refit(const GroupSums &group, const FitSums &fit, Lanes &step, Lanes &offset) {
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

/// Importance of a group, made safe: a group that no token excites is weighted evenly.
inline void groupImportance(const float *importance, float *out) {
  float sum = 0;
  for (int64_t k = 0; k < group; ++k)
    sum += importance[k];
  for (int64_t k = 0; k < group; ++k)
    out[k] = sum > 0 ? importance[k] / sum + 1e-6f : 1.0f;
}

void fitAsymmetric(const TileProblem &problem, bool search, const TileGrid &grid) {
  const Lanes low{}, high = splat(15.0f);
  for (int64_t g = 0; g < problem.cols / group; ++g) {
    const float *weights = problem.weights + g * group * lanes;
    float importance[group];
    groupImportance(problem.importance + g * group, importance);
    Lanes least{}, most{}; // zero is always within
    for (int64_t k = 0; k < group; ++k) {
      least = smaller(least, load(weights + k * lanes));
      most = larger(most, load(weights + k * lanes));
    }
    Lanes range = most - least;
    Lanes bestStep = range / 15.0f, bestOffset = -least;
    if (search) {
      const GroupSums sums = groupSums(weights, importance);
      Lanes bestError = splat(__builtin_inff());
      constexpr int candidates = 20;
      auto consider = [&](Lanes step, Lanes offset) {
        Lanes inverse = reciprocal(step);
        FitSums fit = fitSums(weights, importance, inverse, offset * inverse, low, high);
        Lanes error = refit(sums, fit, step, offset);
        Ints better = error < bestError;
        bestError = better ? error : bestError;
        bestStep = better ? step : bestStep;
        bestOffset = better ? offset : bestOffset;
      };
      for (int i = 0; i < candidates; ++i) {
        float factor = 0.70f + 0.35f * float(i) / float(candidates - 1);
        consider(factor * range / 15.0f, factor * -least);
      }
      // Codes nearest to the best fit differ from those that it was fitted to: fit again.
      for (int round = 0; round < 3; ++round)
        consider(bestStep, bestOffset);
    }
    Ints zero = range < tiny;
    store(grid.steps + g * lanes, zero ? Lanes{} : bestStep);
    store(grid.offsets + g * lanes, zero ? Lanes{} : bestOffset);
  }
}

/// Weighted error of one group on the grid (step, offset) with codes rounded to nearest.
inline Lanes groupError(const float *weights, const float *importance, Lanes step, Lanes offset,
                        Lanes low, Lanes high) {
  Lanes inverse = reciprocal(step), shift = offset * inverse, error{};
  for (int64_t k = 0; k < group; ++k) {
    Lanes w = load(weights + k * lanes);
    Lanes d = step * clamped(nearest(w * inverse + shift), low, high) - offset - w;
    error += importance[k] * (d * d);
  }
  return error;
}

/// Row factors are stored as bfloat16: codes are chosen for what will be read.
inline Lanes roundToBfloat16(Lanes a) {
  for (int64_t row = 0; row < lanes; ++row)
    a[row] = bfloat16ToFloat(floatToBfloat16(a[row]));
  return a;
}

void quantizeAsymmetric(const TileProblem &problem, bool search, const TileGrid &grid,
                        const AsymmetricCodes &codes) {
  const int64_t groups = problem.cols / group;
  const Lanes low{}, high = splat(15.0f), most = splat(255.0f);
  Lanes largestStep{}, largestOffset{};
  for (int64_t g = 0; g < groups; ++g) {
    largestStep = larger(largestStep, load(grid.steps + g * lanes));
    largestOffset = larger(largestOffset, load(grid.offsets + g * lanes));
  }
  Lanes rowStep = largestStep / 255.0f, rowOffset = largestOffset / 255.0f;
  rowStep = rowStep < tiny ? Lanes{} : roundToBfloat16(rowStep);
  rowOffset = rowOffset < tiny ? Lanes{} : roundToBfloat16(rowOffset);
  store(codes.rowSteps, rowStep);
  store(codes.rowOffsets, rowOffset);
  const Lanes inverseStep = reciprocal(rowStep), inverseOffset = reciprocal(rowOffset);
  for (int64_t g = 0; g < groups; ++g) {
    const float *weights = problem.weights + g * group * lanes;
    Lanes step = clamped(nearest(load(grid.steps + g * lanes) * inverseStep), low, most);
    Lanes offset = clamped(nearest(load(grid.offsets + g * lanes) * inverseOffset), low, most);
    if (search) {
      float importance[group];
      groupImportance(problem.importance + g * group, importance);
      Lanes nearStep = step, nearOffset = offset;
      Lanes bestError = splat(__builtin_inff());
      for (int i = 0; i < 9; ++i) {
        Lanes tryStep = clamped(nearStep + float((i % 3 + 1) % 3 - 1), low, most);
        Lanes tryOffset = clamped(nearOffset + float((i / 3 + 1) % 3 - 1), low, most);
        Lanes error =
            groupError(weights, importance, rowStep * tryStep, rowOffset * tryOffset, low, high);
        Ints better = error < bestError;
        bestError = better ? error : bestError;
        step = better ? tryStep : step;
        offset = better ? tryOffset : offset;
      }
    }
    for (int64_t row = 0; row < lanes; ++row) {
      codes.groupSteps[g * lanes + row] = uint8_t(step[row]);
      codes.groupOffsets[g * lanes + row] = uint8_t(offset[row]);
    }
    store(grid.steps + g * lanes, rowStep * step);
    store(grid.offsets + g * lanes, rowOffset * offset);
  }
}

inline Lanes roundToHalf(Lanes a) {
  for (int64_t row = 0; row < lanes; ++row)
    a[row] = halfToFloat(floatToHalf(a[row]));
  return a;
}

void fitSymmetric4(const TileProblem &problem, bool search, const TileGrid &grid) {
  const Lanes low = splat(-8.0f), high = splat(7.0f);
  for (int64_t g = 0; g < problem.cols / group; ++g) {
    const float *weights = problem.weights + g * group * lanes;
    float importance[group];
    groupImportance(problem.importance + g * group, importance);
    Lanes extreme{};
    for (int64_t k = 0; k < group; ++k) {
      Lanes w = load(weights + k * lanes);
      extreme = magnitude(w) > magnitude(extreme) ? w : extreme;
    }
    Ints zero = magnitude(extreme) < tiny;
    Lanes best = roundToHalf(extreme / -8.0f);
    if (search) {
      Lanes bestError = groupError(weights, importance, best, Lanes{}, low, high);
      constexpr int candidates = 20;
      auto consider = [&](Lanes step) {
        FitSums fit = fitSums(weights, importance, reciprocal(step), Lanes{}, low, high);
        Lanes fitted =
            roundToHalf(fit.uu > 0 ? fit.wu / (fit.uu > 0 ? fit.uu : splat(1.0f)) : step);
        Lanes error = groupError(weights, importance, fitted, Lanes{}, low, high);
        Ints better = error < bestError;
        bestError = better ? error : bestError;
        best = better ? fitted : best;
      };
      for (int i = 0; i < candidates; ++i) {
        float factor = 0.75f + 0.37f * float(i) / float(candidates - 1);
        consider(extreme * (factor / -8.0f));
        consider(extreme * (factor / 8.0f));
      }
      consider(best);
    }
    store(grid.steps + g * lanes, zero ? Lanes{} : best);
    store(grid.offsets + g * lanes, Lanes{});
  }
}

/// Weighted error and refit sums of whole rows for one step; groups are summed in float, the row in
/// double.
struct RowFit {
  Doubles error, uu, wu;
};
inline RowFit rowFit(const TileProblem &problem, const float *importance, Lanes step) {
  const Lanes low = splat(-127.0f), high = splat(127.0f), inverse = reciprocal(step);
  RowFit total{};
  for (int64_t k0 = 0; k0 < problem.cols; k0 += group) {
    Lanes error{}, uu{}, wu{};
    for (int64_t k = k0; k < k0 + group; ++k) {
      Lanes w = load(problem.weights + k * lanes);
      Lanes u = clamped(nearest(w * inverse), low, high);
      Lanes d = step * u - w, weighted = importance[k] * u;
      error += importance[k] * (d * d);
      uu += weighted * u;
      wu += weighted * w;
    }
    total.error += __builtin_convertvector(error, Doubles);
    total.uu += __builtin_convertvector(uu, Doubles);
    total.wu += __builtin_convertvector(wu, Doubles);
  }
  return total;
}

void fitSymmetric8(const TileProblem &problem, bool search, const TileGrid &grid) {
  Lanes extreme{};
  for (int64_t k = 0; k < problem.cols; ++k)
    extreme = larger(extreme, magnitude(load(problem.weights + k * lanes)));
  Lanes best = extreme / 127.0f;
  best = best < tiny ? Lanes{} : best;
  if (search) {
    float bestError[lanes], steps[lanes];
    store(steps, best);
    RowFit start = rowFit(problem, problem.importance, best);
    for (int64_t row = 0; row < lanes; ++row)
      bestError[row] = float(start.error[row]);
    auto consider = [&](Lanes step) {
      RowFit fit = rowFit(problem, problem.importance, step);
      Lanes refitted;
      for (int64_t row = 0; row < lanes; ++row)
        refitted[row] = fit.uu[row] > 0 ? float(fit.wu[row] / fit.uu[row]) : step[row];
      RowFit again = rowFit(problem, problem.importance, refitted);
      for (int64_t row = 0; row < lanes; ++row)
        if (refitted[row] > tiny && float(again.error[row]) < bestError[row]) {
          bestError[row] = float(again.error[row]);
          steps[row] = refitted[row];
        }
    };
    constexpr int candidates = 12;
    for (int i = 0; i < candidates; ++i)
      consider(best * (0.56f + 0.04f * float(i)));
    best = load(steps);
  }
  store(grid.steps, best);
  store(grid.offsets, Lanes{});
}

void roundNearest(const TileProblem &problem, const TileGrid &grid, int8_t *codes) {
  const Lanes low = splat(grid.lowest), high = splat(grid.highest);
  for (int64_t k0 = 0, g = 0; k0 < problem.cols; k0 += grid.groupCols, ++g) {
    const Lanes inverse = reciprocal(load(grid.steps + g * lanes));
    const Lanes shift = load(grid.offsets + g * lanes) * inverse;
    for (int64_t k = k0; k < k0 + grid.groupCols; ++k) {
      Lanes w = load(problem.weights + k * lanes);
      Bytes bytes = toBytes(clamped(nearest(w * inverse + shift), low, high));
      __builtin_memcpy(codes + k * lanes, &bytes, sizeof bytes);
    }
  }
}

void roundFeedback(const TileProblem &problem, const TileGrid &grid, const FeedbackOrder &feedback,
                   const int8_t *nearestCodes, int8_t *codes, float *errors, double *nearestLoss,
                   double *loss) {
  const Lanes low = splat(grid.lowest), high = splat(grid.highest);
  Doubles nearestTotal{}, total{};
  for (int64_t i = 0; i < feedback.count; ++i) {
    const float *factors = feedback.factors + i * feedback.count;
    // Four chains each hide the latency of the sums.
    Lanes nearestPartial[4] = {}, partial[4] = {};
    int64_t j = 0;
    for (; j + 4 <= i; j += 4)
      for (int64_t c = 0; c < 4; ++c) {
        nearestPartial[c] += factors[j + c] * load(errors + (j + c) * 2 * lanes);
        partial[c] += factors[j + c] * load(errors + ((j + c) * 2 + 1) * lanes);
      }
    for (; j < i; ++j) {
      nearestPartial[0] += factors[j] * load(errors + j * 2 * lanes);
      partial[0] += factors[j] * load(errors + (j * 2 + 1) * lanes);
    }
    const Lanes nearestCarried =
        (nearestPartial[0] + nearestPartial[1]) + (nearestPartial[2] + nearestPartial[3]);
    const Lanes carried = (partial[0] + partial[1]) + (partial[2] + partial[3]);

    const int64_t k = feedback.order[i], g = k / grid.groupCols;
    const Lanes step = load(grid.steps + g * lanes), offset = load(grid.offsets + g * lanes);
    const Lanes w = load(problem.weights + k * lanes);
    const Bytes bytes =
        toBytes(clamped(nearest((w + carried + offset) * reciprocal(step)), low, high));
    __builtin_memcpy(codes + k * lanes, &bytes, sizeof bytes);
    const Lanes nearestError = w - (step * fromBytes(nearestCodes + k * lanes) - offset);
    const Lanes error = w - (step * fromBytes(codes + k * lanes) - offset);
    store(errors + i * 2 * lanes, nearestError);
    store(errors + (i * 2 + 1) * lanes, error);
    const Doubles nearestRest = __builtin_convertvector(nearestError + nearestCarried, Doubles);
    const Doubles rest = __builtin_convertvector(error + carried, Doubles);
    nearestTotal += double(feedback.diagonal[i]) * (nearestRest * nearestRest);
    total += double(feedback.diagonal[i]) * (rest * rest);
  }
  for (int64_t row = 0; row < lanes; ++row) {
    nearestLoss[row] = nearestTotal[row];
    loss[row] = total[row];
  }
}

TileErrors measure(const TileProblem &problem, const TileGrid &grid, const int8_t *codes,
                   int64_t rows) {
  Doubles squares{}, weightSquares{}, weighted{}, weightedSquares{};
  for (int64_t k = 0; k < problem.inputs; ++k) {
    const int64_t g = k / grid.groupCols;
    Lanes w = load(problem.weights + k * lanes);
    Lanes d = load(grid.steps + g * lanes) * fromBytes(codes + k * lanes) -
              load(grid.offsets + g * lanes) - w;
    Doubles error = __builtin_convertvector(d * d, Doubles);
    Doubles power = __builtin_convertvector(w * w, Doubles);
    squares += error;
    weightSquares += power;
    weighted += double(problem.importance[k]) * error;
    weightedSquares += double(problem.importance[k]) * power;
  }
  TileErrors total{};
  for (int64_t row = 0; row < rows; ++row) {
    total.squares += squares[row];
    total.weightSquares += weightSquares[row];
    total.weighted += weighted[row];
    total.weightedSquares += weightedSquares[row];
  }
  return total;
}

} // namespace

extern const TileKernels tileKernelTable;
const TileKernels tileKernelTable = {fitAsymmetric, quantizeAsymmetric, fitSymmetric4,
                                     fitSymmetric8, roundNearest,       roundFeedback,
                                     measure};

} // namespace smelt::SMELT_LEVEL
