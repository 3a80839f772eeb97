// Rounding that makes up for errors between the rows of a linear as well as between its columns.
//
// The divergence of a linear's error D is about 1/2 tr(G D H D^T), with H = E[x x^T] of its input
// and G = E[g g^T] of the gradients by its output (K-FAC: Martens and Grosse, arXiv 1503.05671; for
// quantization: Tseng et al., arXiv 2505.22988). With G = R R^T, R upper triangular, it is
//   sum_i R_ii^2 |d_i + sum_{j<i} (R_ji / R_ii) d_j|_H^2,  |v|_H^2 = v^T H v
// over the rows d_i of D, as GPTQ's loss is for columns (error_feedback.h): each row in turn is the
// problem of one row (gptq.cpp, polish.cpp) with the weights w_i - sum_{j<i} (R_ji / R_ii) d_j.
#pragma once

#include "calibration/output_moments.h"
#include "calibration/parallel.h"
#include "calibration/tile_quantizer.h"

#include <span>
#include <vector>

namespace smelt {

/// tr(G D H D^T) over the linear, G damped, and H as error feedback has it.
struct CoupledLosses {
  double before = 0; ///< of the codes that were given
  double after = 0;  ///< of those returned, never more
};

/// Quantizes a linear anew, starting from `packed`, the bytes of all its tiles as polish left them,
/// of which `errors` [rows, cols] are what is stored less the weights; changes `packed` where the
/// loss falls. InvalidArgument if the moments do not fit the linear. Results do not depend on the
/// number of workers.
Result<CoupledLosses> quantizeCoupled(const LinearWeights &linear, const TileQuantizer &quantizer,
                                      const ErrorFeedback &feedback, const OutputMoments &outputs,
                                      std::vector<float> errors, std::vector<std::byte> &packed,
                                      WorkerPool &pool);

} // namespace smelt
