// GPTQ with static groups (arXiv 2210.17323) in the form of LDLQ (arXiv 2307.13304, theorem 6):
// columns are rounded in turn, each weight first corrected by the errors made before.
//
// With H = R R^T (error_feedback.h) the loss of an error d = w - w_q of one row is
//   d^T H d = sum_i R_ii^2 (d_i + c_i)^2,  c_i = sum_{j<i} (R_ji / R_ii) d_j
// and rounding w_i + c_i to the nearest grid point makes term i least, given the ones before.
#include "calibration/lanes.h"

namespace smelt::SMELT_LEVEL {
namespace {

/// Steps whose sums over the errors before them are made together, while runs of those errors are
/// in the cache.
constexpr int64_t blockSteps = 128, errorRun = 256;

/// Goes through the steps in order: error = choose(tile, step, column, carried), and sums up the
/// losses. The errors are kept in the tiles' scratch.
template <int64_t tiles, typename Choose>
void forwardErrors(const TileWork *work, const FeedbackOrder &feedback, const Choose &choose) {
  const int64_t count = feedback.count;
  const float *errors[tiles];
  Doubles totals[tiles] = {};
  for (int64_t t = 0; t < tiles; ++t)
    errors[t] = work[t].scratch;
  Lanes carried[blockSteps / 4][tiles][4];
  for (int64_t block = 0; block < count; block += blockSteps) {
    const int64_t end = block + blockSteps < count ? block + blockSteps : count;
    for (auto &quad : carried)
      for (int64_t t = 0; t < tiles; ++t)
        for (int64_t i = 0; i < 4; ++i)
          quad[t][i] = Lanes{};
    auto addBefore = [&](int64_t i0, int64_t from, int64_t to) {
      const float *factors = feedback.factors + i0 * count;
      Lanes(*sums)[4] = carried[(i0 - block) / 4];
      if (i0 + 4 <= count)
        return addFourProducts<tiles>(factors, count, from, to, errors, sums);
      for (int64_t t = 0; t < tiles; ++t)
        for (int64_t i = i0; i < count; ++i)
          for (int64_t j = from; j < to; ++j)
            sums[t][i - i0] += factors[(i - i0) * count + j] * load(errors[t] + j * lanes);
    };
    for (int64_t from = 0; from < block; from += errorRun)
      for (int64_t i0 = block; i0 < end; i0 += 4)
        addBefore(i0, from, from + errorRun < block ? from + errorRun : block);
    for (int64_t i0 = block; i0 < end; i0 += 4) {
      addBefore(i0, block, i0);
      const float *factors = feedback.factors + i0 * count;
      for (int64_t i = 0; i < (i0 + 4 <= count ? 4 : count - i0); ++i)
        for (int64_t t = 0; t < tiles; ++t) {
          const Lanes all =
              carried[(i0 - block) / 4][t][i] + product(factors + i * count, i0, i0 + i, errors[t]);
          const Lanes error = choose(work[t], feedback.order[i0 + i], all);
          store(work[t].scratch + (i0 + i) * lanes, error);
          const Doubles rest = toDoubles(error + all);
          totals[t] += double(feedback.diagonal[i0 + i]) * (rest * rest);
        }
    }
  }
  for (int64_t t = 0; t < tiles; ++t)
    for (int64_t row = 0; row < lanes; ++row)
      work[t].losses[row] = totals[t][row];
}

} // namespace

void roundFeedback(const TileWork *tiles, int64_t count, const FeedbackOrder &feedback) {
  byTilesTogether(tiles, count, [&](auto together, const TileWork *work) {
    withLevels(work->grid->kind, [&](const auto &levels) {
      forwardErrors<together.value>(
          work, feedback, [&](const TileWork &tile, int64_t k, Lanes carried) {
            const int64_t g = k / tile.grid->groupCols;
            const Lanes step = load(tile.grid->steps + g * lanes),
                        offset = load(tile.grid->offsets + g * lanes);
            const Lanes w = load(tile.problem->weights + k * lanes);
            const Lanes level = levels((w + carried + offset) * reciprocal(step));
            storeCodes(tile.codes + k * lanes, level);
            return w - (step * level - offset);
          });
    });
  });
}

void feedbackLoss(const TileWork *tiles, int64_t count, const FeedbackOrder &feedback) {
  byTilesTogether(tiles, count, [&](auto together, const TileWork *work) {
    forwardErrors<together.value>(work, feedback, [&](const TileWork &tile, int64_t k, Lanes) {
      const int64_t g = k / tile.grid->groupCols;
      return load(tile.problem->weights + k * lanes) -
             (load(tile.grid->steps + g * lanes) * loadCodes(tile.codes + k * lanes) -
              load(tile.grid->offsets + g * lanes));
    });
  });
}

} // namespace smelt::SMELT_LEVEL
