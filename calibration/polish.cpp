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
  float moments[largestGroup][largestGroup]; ///< H restricted to them
  Lanes errors[largestGroup];                ///< d of these columns
  Lanes gradients[largestGroup];             ///< H d of these columns, all columns' errors counted
};

/// H restricted to the part times `vector`.
inline void multiply(const Part &part, const Lanes *vector, Lanes *out) {
  for (int64_t k = 0; k < part.count; ++k) {
    const float *row = part.moments[k];
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
    const float *row = part.moments[k];
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
    const float *row = part.moments[k];
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

/// Columns of one panel of H that are changed, of `tiles` tiles.
template <int64_t tiles> struct Changes {
  int64_t count = 0;
  int64_t columns[momentPanel];                         ///< of the panel
  alignas(64) float changes[momentPanel][tiles][lanes]; ///< of their errors
};

/// gradients += H[:, columns] * changes, for all columns of H; each sum in the order of columns.
template <int64_t tiles>
void addChanges(const float *panel, int64_t inputs, const Changes<tiles> &changes,
                float *const *gradients) {
  auto run = [&](auto width, int64_t j) {
    constexpr int64_t rows = decltype(width)::value;
    Lanes sums[tiles][rows];
    for (int64_t t = 0; t < tiles; ++t)
      for (int64_t i = 0; i < rows; ++i)
        sums[t][i] = load(gradients[t] + (j + i) * lanes);
    for (int64_t c = 0; c < changes.count; ++c) {
      const float *row = panel + j * momentPanel + changes.columns[c];
      for (int64_t t = 0; t < tiles; ++t) {
        const Lanes change = load(changes.changes[c][t]);
        for (int64_t i = 0; i < rows; ++i)
          sums[t][i] += row[i * momentPanel] * change;
      }
    }
    for (int64_t t = 0; t < tiles; ++t)
      for (int64_t i = 0; i < rows; ++i)
        store(gradients[t] + (j + i) * lanes, sums[t][i]);
  };
  int64_t j = 0;
  for (; j + 4 <= inputs; j += 4)
    run(TileCount<4>(), j);
  for (; j < inputs; ++j)
    run(TileCount<1>(), j);
}

/// The tiles that descend side by side, their errors d and gradients H d [inputs, 16].
template <int64_t tiles> struct Descent {
  const TileWork *work;
  const float *moments; ///< H in panels
  int64_t inputs;
  float *errors[tiles], *gradients[tiles];

  const float *panel(int64_t column) const {
    return moments + column / momentPanel * inputs * momentPanel;
  }

  /// Adds what changes [count, tiles, 16] of the columns from `first` on do to all gradients.
  void spread(int64_t first, int64_t count, const float (*changes)[tiles][lanes]) const {
    for (int64_t k = 0; k < count;) {
      const int64_t at = (first + k) % momentPanel, rest = momentPanel - at,
                    width = count - k < rest ? count - k : rest;
      spreadPanel(panel(first + k), at, width, changes + k);
      k += width;
    }
  }

  /// Columns that no row changes are left out, tile by tile if that saves more than working at all
  /// tiles together.
  void spreadPanel(const float *panel, int64_t at, int64_t width,
                   const float (*changes)[tiles][lanes]) const {
    Changes<tiles> together;
    Changes<1> alone[tiles];
    int64_t all = 0;
    for (int64_t k = 0; k < width; ++k) {
      bool any = false;
      for (int64_t t = 0; t < tiles; ++t) {
        const Lanes change = load(changes[k][t]);
        if (!anySet(change != 0))
          continue;
        any = true;
        Changes<1> &own = alone[t];
        own.columns[own.count] = at + k;
        store(own.changes[own.count++][0], change);
        ++all;
      }
      if (!any)
        continue;
      together.columns[together.count] = at + k;
      __builtin_memcpy(together.changes[together.count++], changes[k], sizeof changes[k]);
    }
    if (4 * all > 3 * tiles * together.count)
      return addChanges(panel, inputs, together, gradients);
    for (int64_t t = 0; t < tiles; ++t)
      if (alone[t].count)
        addChanges(panel, inputs, alone[t], gradients + t);
  }

  void start() const {
    alignas(64) float changes[momentPanel][tiles][lanes];
    for (int64_t t = 0; t < tiles; ++t)
      for (int64_t k = 0; k < inputs; ++k) {
        const TileGrid &grid = *work[t].grid;
        const int64_t g = k / grid.groupCols;
        store(errors[t] + k * lanes,
              load(grid.steps + g * lanes) * loadCodes(work[t].codes + k * lanes) -
                  load(grid.offsets + g * lanes) - load(work[t].problem->weights + k * lanes));
        store(gradients[t] + k * lanes, Lanes{});
      }
    for (int64_t first = 0; first < inputs; first += momentPanel) {
      const int64_t count = first + momentPanel <= inputs ? momentPanel : inputs - first;
      for (int64_t k = 0; k < count; ++k)
        for (int64_t t = 0; t < tiles; ++t)
          store(changes[k][t], load(errors[t] + (first + k) * lanes));
      spread(first, count, changes);
    }
  }

  template <typename Levels> void descend(const Levels &levels, bool scales) const {
    const TileGrid &any = *work->grid;
    const bool row = any.kind.scales == ScaleStorage::Row;
    const int64_t width = row ? rowChunk : any.groupCols;
    Part part;
    for (int64_t first = 0; first < inputs; first += width) {
      part.first = first;
      part.count = first + width <= inputs ? width : inputs - first;
      part.group = row ? 0 : first / width;
      for (int64_t j = 0; j < part.count; ++j) {
        const float *column = panel(first + j) + (first + j) % momentPanel;
        for (int64_t k = 0; k < part.count; ++k)
          part.moments[k][j] = column[(first + k) * momentPanel];
      }
      alignas(64) float changes[largestGroup][tiles][lanes];
      for (int64_t t = 0; t < tiles; ++t) {
        for (int64_t k = 0; k < part.count; ++k) {
          part.errors[k] = load(errors[t] + (first + k) * lanes);
          part.gradients[k] = load(gradients[t] + (first + k) * lanes);
        }
        moveCodes(*work[t].grid, levels, part, work[t].codes);
        if (scales && !row)
          moveScales(*work[t].grid, part, work[t].codes);
        for (int64_t k = 0; k < part.count; ++k) {
          store(changes[k][t], part.errors[k] - load(errors[t] + (first + k) * lanes));
          store(errors[t] + (first + k) * lanes, part.errors[k]);
        }
      }
      spread(first, part.count, changes);
    }
  }

  void finish() const {
    for (int64_t t = 0; t < tiles; ++t) {
      Doubles loss{};
      for (int64_t k = 0; k < inputs; ++k)
        loss += toDoubles(load(errors[t] + k * lanes)) * toDoubles(load(gradients[t] + k * lanes));
      for (int64_t row = 0; row < lanes; ++row)
        work[t].losses[row] = loss[row];
    }
  }
};

} // namespace

void polish(const TileWork *tiles, int64_t count, const float *moments) {
  byTilesTogether(tiles, count, [&](auto together, const TileWork *work) {
    Descent<together.value> descent{work, moments, work->problem->inputs, {}, {}};
    for (int64_t t = 0; t < together.value; ++t) {
      descent.errors[t] = work[t].scratch;
      descent.gradients[t] = work[t].scratch + work[t].problem->cols * lanes;
    }
    descent.start();
    withLevels(work->grid->kind, [&](const auto &levels) {
      for (bool scales : {true, true, false})
        descent.descend(levels, scales);
    });
    descent.finish();
  });
}

} // namespace smelt::SMELT_LEVEL
