// GPTQ with static groups (arXiv 2210.17323) in the form of LDLQ (arXiv 2307.13304, theorem 6):
// columns are rounded in turn, each weight first corrected by the errors made before.
//
// With H = R R^T (error_feedback.h) the loss of an error d = w - w_q of one row is
//   d^T H d = sum_i R_ii^2 (d_i + c_i)^2,  c_i = sum_{j<i} (R_ji / R_ii) d_j
// and rounding w_i + c_i to the nearest grid point makes term i least, given the ones before.
#include "calibration/lanes.h"

namespace smelt::SMELT_LEVEL {
namespace {

/// Goes through the steps in order: error = choose(step, column, carried), and sums up the loss.
template <typename Choose>
void forwardErrors(const FeedbackOrder &feedback, float *errors, double *loss,
                   const Choose &choose) {
  Doubles total{};
  const int64_t count = feedback.count;
  for (int64_t i0 = 0; i0 < count; i0 += 4) {
    const int64_t width = i0 + 4 <= count ? 4 : count - i0;
    const float *factors = feedback.factors + i0 * count;
    Lanes carried[4] = {};
    if (width == 4)
      addFourProducts(factors, count, 0, i0, errors, carried);
    else
      for (int64_t i = 0; i < width; ++i)
        carried[i] = product(factors + i * count, 0, i0, errors);
    for (int64_t i = 0; i < width; ++i) {
      const Lanes all = carried[i] + product(factors + i * count, i0, i0 + i, errors);
      const Lanes error = choose(feedback.order[i0 + i], all);
      store(errors + (i0 + i) * lanes, error);
      const Doubles rest = toDoubles(error + all);
      total += double(feedback.diagonal[i0 + i]) * (rest * rest);
    }
  }
  for (int64_t row = 0; row < lanes; ++row)
    loss[row] = total[row];
}

} // namespace

void roundFeedback(const TileProblem &problem, const TileGrid &grid, const FeedbackOrder &feedback,
                   int8_t *codes, float *errors, double *loss) {
  withLevels(grid.kind, [&](const auto &levels) {
    forwardErrors(feedback, errors, loss, [&](int64_t k, Lanes carried) {
      const int64_t g = k / grid.groupCols;
      const Lanes step = load(grid.steps + g * lanes), offset = load(grid.offsets + g * lanes);
      const Lanes w = load(problem.weights + k * lanes);
      const Lanes level = levels((w + carried + offset) * reciprocal(step));
      storeCodes(codes + k * lanes, level);
      return w - (step * level - offset);
    });
  });
}

void feedbackLoss(const TileProblem &problem, const TileGrid &grid, const FeedbackOrder &feedback,
                  const int8_t *codes, float *errors, double *loss) {
  forwardErrors(feedback, errors, loss, [&](int64_t k, Lanes) {
    const int64_t g = k / grid.groupCols;
    return load(problem.weights + k * lanes) -
           (load(grid.steps + g * lanes) * loadCodes(codes + k * lanes) -
            load(grid.offsets + g * lanes));
  });
}

} // namespace smelt::SMELT_LEVEL
