// Coordinate descent after GPTQ: single codes and the stored scales of single groups move to where
// the loss d^T H d of their row is least, everything else held (research/ladder.md, "refit2 cd1").
//
// With r = H d, d = w_q - w:
//   a code: the least of a parabola, at the value w_q,k - r_k / H_kk, rounded to the nearest level;
//   a group's step and offset, changed by s and o, so that d changes by s q - o on its columns:
//     change = 2 s p - 2 o t + s^2 a - 2 s o b + o^2 c,
//     p = q^T r, t = 1^T r, a = q^T H q, b = q^T H 1, c = 1^T H 1 over the group;
//   scales are 8-bit codes, so the best code of the step and its neighbours are tried, each with
//   the offset code that is best beside it: what is accepted is what will be stored, and every move
//   lowers the loss.
#include "calibration/lanes.h"

namespace smelt::SMELT_LEVEL {
namespace {

/// Columns that are worked on together when whole rows share a step.
constexpr int64_t rowChunk = 32;

/// Columns [first, first + count) of a tile while their codes and scales move.
struct Part {
  int64_t first, count, group;
  const float *moments; ///< H[first, first]
  int64_t stride;
  Lanes errors[largestGroup];    ///< d of these columns
  Lanes gradients[largestGroup]; ///< H d of these columns, all columns' errors counted
};

/// H restricted to the part times `vector`.
inline void multiply(const Part &part, const Lanes *vector, Lanes *out) {
  for (int64_t k = 0; k < part.count; ++k) {
    const float *row = part.moments + k * part.stride;
    Lanes sum{};
    for (int64_t j = 0; j < part.count; ++j)
      sum += row[j] * vector[j];
    out[k] = sum;
  }
}

template <typename Levels>
void moveCodes(const TileGrid &grid, const Levels &levels, Part &part, int8_t *codes) {
  const Lanes step = load(grid.steps + part.group * lanes);
  const Lanes inverse = reciprocal(step);
  for (int64_t k = 0; k < part.count; ++k) {
    const float *row = part.moments + k * part.stride;
    int8_t *code = codes + (part.first + k) * lanes;
    const Lanes level = loadCodes(code);
    const Lanes best = levels(level - part.gradients[k] / row[k] * inverse);
    if (!anySet(best != level))
      continue;
    storeCodes(code, best);
    const Lanes change = step * (best - level);
    part.errors[k] += change;
    for (int64_t j = 0; j < part.count; ++j)
      part.gradients[j] += row[j] * change;
  }
}

/// The sums over a group that decide how its scales move.
struct ScaleSums {
  Lanes p{}, t{}, a{}, b{};
  float c = 0;
};

/// Adds what a change of step and offset does to errors and gradients, lanes of `better` only.
inline void applyScales(Part &part, const Lanes *level, const Lanes *product, const float *ones,
                        Lanes stepChange, Lanes offsetChange) {
  for (int64_t k = 0; k < part.count; ++k) {
    part.errors[k] += stepChange * level[k] - offsetChange;
    part.gradients[k] += stepChange * product[k] - offsetChange * ones[k];
  }
}

void moveCodedScales(const TileGrid &grid, const ScaleSums &sums, int64_t group, Lanes &stepChange,
                     Lanes &offsetChange) {
  const Lanes rowStep = load(grid.rowSteps), rowOffset = load(grid.rowOffsets);
  const Lanes step = load(grid.steps + group * lanes), offset = load(grid.offsets + group * lanes);
  const Lanes low = splat(grid.kind.lowestStep), high = splat(grid.kind.highestStep);
  // The unconstrained least: a s - b o = -p, c o - b s = t.
  const Lanes determinant = sums.a * sums.c - sums.b * sums.b;
  Lanes wanted;
  if (grid.kind.grid == Grid::Asymmetric) {
    const Ints usable = determinant > 1e-6f * (sums.a * sums.c);
    wanted = usable ? (sums.b * sums.t - sums.p * sums.c) / (usable ? determinant : splat(1.0f))
                    : Lanes{};
  } else {
    wanted = sums.a > 0 ? -sums.p / (sums.a > 0 ? sums.a : splat(1.0f)) : Lanes{};
  }
  const Lanes inverseStep = reciprocal(rowStep), inverseOffset = reciprocal(rowOffset);
  const Lanes middle = clamped(nearest((step + wanted) * inverseStep), low, high);
  Lanes bestStep = loadCodes(grid.stepCodes + group * lanes);
  Lanes bestOffset = loadCodes(grid.offsetCodes + group * lanes);
  Lanes bestChange{};
  for (int i = -1; i <= 1; ++i) {
    const Lanes tryStep = clamped(middle + float(i), low, high);
    const Lanes s = rowStep * tryStep - step;
    Lanes tryOffset{}, o{};
    if (grid.kind.grid == Grid::Asymmetric) {
      tryOffset = clamped(nearest((offset + (sums.t + s * sums.b) / sums.c) * inverseOffset),
                          Lanes{}, splat(255.0f));
      o = rowOffset * tryOffset - offset;
    }
    const Lanes change = 2.0f * (s * sums.p - o * sums.t) + s * s * sums.a -
                         2.0f * (s * o * sums.b) + o * o * sums.c;
    const Ints better = change < bestChange;
    bestChange = better ? change : bestChange;
    bestStep = better ? tryStep : bestStep;
    bestOffset = better ? tryOffset : bestOffset;
  }
  storeCodes(grid.stepCodes + group * lanes, bestStep);
  storeCodes(grid.offsetCodes + group * lanes, bestOffset);
  const Lanes newStep = rowStep * bestStep, newOffset = rowOffset * bestOffset;
  stepChange = newStep - step;
  offsetChange = newOffset - offset;
  store(grid.steps + group * lanes, newStep);
  store(grid.offsets + group * lanes, newOffset);
}

void moveHalfStep(const TileGrid &grid, const ScaleSums &sums, int64_t group, Lanes &stepChange) {
  const Lanes step = load(grid.steps + group * lanes);
  const Lanes wanted = sums.a > 0 ? -sums.p / (sums.a > 0 ? sums.a : splat(1.0f)) : Lanes{};
  const Lanes newStep = roundToHalf(step + wanted), s = newStep - step;
  const Ints better = 2.0f * s * sums.p + s * s * sums.a < 0;
  stepChange = better ? s : Lanes{};
  store(grid.steps + group * lanes, better ? newStep : step);
}

void moveScales(const TileGrid &grid, Part &part, const int8_t *codes) {
  Lanes level[largestGroup], product[largestGroup];
  float ones[largestGroup]; // H restricted to the group times a vector of ones
  for (int64_t k = 0; k < part.count; ++k) {
    level[k] = loadCodes(codes + (part.first + k) * lanes);
    const float *row = part.moments + k * part.stride;
    ones[k] = 0;
    for (int64_t j = 0; j < part.count; ++j)
      ones[k] += row[j];
  }
  multiply(part, level, product);
  ScaleSums sums;
  for (int64_t k = 0; k < part.count; ++k) {
    sums.p += level[k] * part.gradients[k];
    sums.t += part.gradients[k];
    sums.a += level[k] * product[k];
    sums.b += level[k] * ones[k];
    sums.c += ones[k];
  }
  Lanes stepChange{}, offsetChange{};
  if (grid.kind.scales == ScaleStorage::Code)
    moveCodedScales(grid, sums, part.group, stepChange, offsetChange);
  else
    moveHalfStep(grid, sums, part.group, stepChange);
  applyScales(part, level, product, ones, stepChange, offsetChange);
}

/// gradients += H[:, first .. first + count) * changes, for all columns. H is symmetric: its rows
/// are read instead of its columns, each in order, since columns of a wide H lie on a page each.
void addChanges(const float *moments, int64_t inputs, int64_t first, int64_t count,
                const float *changes, float *gradients) {
  const float *rows = moments + first * inputs;
  int64_t j = 0;
  for (; j + 4 <= inputs; j += 4) {
    float *at = gradients + j * lanes;
    Lanes a = load(at), b = load(at + lanes), c = load(at + 2 * lanes), d = load(at + 3 * lanes);
    for (int64_t k = 0; k < count; ++k) {
      const float *row = rows + k * inputs + j;
      const Lanes change = load(changes + k * lanes);
      a += row[0] * change;
      b += row[1] * change;
      c += row[2] * change;
      d += row[3] * change;
    }
    store(at, a);
    store(at + lanes, b);
    store(at + 2 * lanes, c);
    store(at + 3 * lanes, d);
  }
  for (; j < inputs; ++j) {
    Lanes sum = load(gradients + j * lanes);
    for (int64_t k = 0; k < count; ++k)
      sum += rows[k * inputs + j] * load(changes + k * lanes);
    store(gradients + j * lanes, sum);
  }
}

template <typename Levels>
void descend(const TileProblem &problem, const TileGrid &grid, const Levels &levels, bool scales,
             const float *moments, int8_t *codes, float *errors, float *gradients) {
  const int64_t inputs = problem.inputs;
  const bool row = grid.kind.scales == ScaleStorage::Row;
  const int64_t width = row ? rowChunk : grid.groupCols;
  for (int64_t first = 0; first < inputs; first += width) {
    Part part;
    part.first = first;
    part.count = first + width <= inputs ? width : inputs - first;
    part.group = row ? 0 : first / width;
    part.moments = moments + first * inputs + first;
    part.stride = inputs;
    for (int64_t k = 0; k < part.count; ++k) {
      part.errors[k] = load(errors + (first + k) * lanes);
      part.gradients[k] = load(gradients + (first + k) * lanes);
    }
    moveCodes(grid, levels, part, codes);
    if (scales && !row)
      moveScales(grid, part, codes);
    float changes[largestGroup * lanes];
    Ints moved{};
    for (int64_t k = 0; k < part.count; ++k) {
      const Lanes change = part.errors[k] - load(errors + (first + k) * lanes);
      moved |= change != 0;
      store(changes + k * lanes, change);
      store(errors + (first + k) * lanes, part.errors[k]);
    }
    if (anySet(moved))
      addChanges(moments, inputs, first, part.count, changes, gradients);
  }
}

} // namespace

void polish(const TileProblem &problem, const TileGrid &grid, const float *moments, int8_t *codes,
            float *scratch) {
  float *errors = scratch, *gradients = scratch + problem.cols * lanes;
  for (int64_t k = 0; k < problem.inputs; ++k) {
    const int64_t g = k / grid.groupCols;
    store(errors + k * lanes, load(grid.steps + g * lanes) * loadCodes(codes + k * lanes) -
                                  load(grid.offsets + g * lanes) -
                                  load(problem.weights + k * lanes));
    store(gradients + k * lanes, Lanes{});
  }
  for (int64_t first = 0; first < problem.inputs; first += rowChunk)
    addChanges(moments, problem.inputs, first,
               first + rowChunk <= problem.inputs ? rowChunk : problem.inputs - first,
               errors + first * lanes, gradients);
  withLevels(grid.kind, [&](const auto &levels) {
    for (bool scales : {true, true, false})
      descend(problem, grid, levels, scales, moments, codes, errors, gradients);
  });
}

} // namespace smelt::SMELT_LEVEL
