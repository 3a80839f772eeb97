// Statistics of the inputs of a folded model, from those of the model as it was.
#include "calibration/fold.h"
#include "calibration/hadamard.h"

#include <cmath>
#include <map>
#include <utility>

namespace smelt {

namespace {

/// H'_ij = H_ij / (s_i s_j), upper triangle by rows.
std::vector<double> scaledMoments(const std::vector<double> &moments, const Fold &fold) {
  const int64_t cols = fold.place.width;
  std::vector<double> inverse(size_t(cols), 0.0), result(moments.size());
  for (int64_t k = 0; k < cols; ++k)
    inverse[size_t(k)] = 1.0 / double(fold.scales[size_t(fold.place.channelOf(k))]);
  for (int64_t i = 0, at = 0; i < cols; ++i)
    for (int64_t j = i; j < cols; ++j, ++at)
      result[size_t(at)] = moments[size_t(at)] * inverse[size_t(i)] * inverse[size_t(j)];
  return result;
}

/// R H R block by block: block (b, c) of the result is R_b H_bc R_c.
std::vector<double> rotatedMoments(const std::vector<double> &moments, int64_t cols,
                                   int64_t block) {
  std::vector<double> result(moments.size()), piece(size_t(block * block)),
      column(size_t(block), 0);
  auto at = [&](int64_t i, int64_t j) {
    return size_t(triangleRow(std::min(i, j), cols) + std::max(i, j) - std::min(i, j));
  };
  for (int64_t b = 0; b < cols; b += block)
    for (int64_t c = b; c < cols; c += block) {
      for (int64_t i = 0; i < block; ++i) {
        for (int64_t j = 0; j < block; ++j)
          piece[size_t(i * block + j)] = moments[at(b + i, c + j)];
      }
      rotateBlocks(piece.data(), block * block, block);
      for (int64_t j = 0; j < block; ++j) {
        for (int64_t i = 0; i < block; ++i)
          column[size_t(i)] = piece[size_t(i * block + j)];
        rotateBlocks(column.data(), block, block);
        for (int64_t i = 0; i < block; ++i)
          if (b + i <= c + j)
            result[at(b + i, c + j)] = column[size_t(i)];
      }
    }
  return result;
}

void scaleSums(InputStatistics &sums, const Fold &fold) {
  for (int64_t k = 0; k < sums.cols(); ++k) {
    const double scale = double(fold.scales[size_t(fold.place.channelOf(k))]);
    sums.sumSquares[size_t(k)] /= scale * scale;
    sums.sumAbsolute[size_t(k)] /= scale;
    sums.maxAbsolute[size_t(k)] = float(double(sums.maxAbsolute[size_t(k)]) / scale);
  }
}

/// |x'_k| <= sum_j |x_j| / sqrt(block) bounds sums and maxima. Without products of inputs their
/// squares are spread evenly, as if inputs were independent.
void rotateSums(InputStatistics &sums, int64_t block) {
  const double norm = 1 / std::sqrt(double(block));
  for (int64_t b = 0; b < sums.cols(); b += block) {
    double squares = 0, absolute = 0, largest = 0;
    for (int64_t k = b; k < b + block; ++k) {
      squares += sums.sumSquares[size_t(k)] / double(block);
      absolute += sums.sumAbsolute[size_t(k)] * norm;
      largest += double(sums.maxAbsolute[size_t(k)]) * norm;
    }
    for (int64_t k = b; k < b + block; ++k) {
      sums.sumSquares[size_t(k)] = squares;
      sums.sumAbsolute[size_t(k)] = absolute;
      sums.maxAbsolute[size_t(k)] = float(largest);
    }
  }
}

/// Sums of one input after a fold, without its second moments.
InputStatistics foldSums(const InputStatistics &statistics, const Fold &fold) {
  InputStatistics sums;
  sums.tokens = statistics.tokens;
  sums.sumSquares = statistics.sumSquares;
  sums.sumAbsolute = statistics.sumAbsolute;
  sums.maxAbsolute = statistics.maxAbsolute;
  if (fold.scales.empty())
    rotateSums(sums, fold.block);
  else
    scaleSums(sums, fold);
  return sums;
}

std::shared_ptr<const std::vector<double>> foldMoments(const std::vector<double> &moments,
                                                       const Fold &fold) {
  return std::make_shared<const std::vector<double>>(
      fold.scales.empty() ? rotatedMoments(moments, fold.place.width, fold.block)
                          : scaledMoments(moments, fold));
}

/// The squares are the diagonal.
void takeDiagonal(InputStatistics &statistics) {
  for (int64_t k = 0; k < statistics.cols(); ++k)
    statistics.sumSquares[size_t(k)] =
        std::max(0.0, (*statistics.secondMoments)[size_t(triangleRow(k, statistics.cols()))]);
}

} // namespace

InputStatistics foldStatistics(const InputStatistics &statistics, const Fold &fold) {
  InputStatistics folded = foldSums(statistics, fold);
  if (statistics.secondMoments) {
    folded.secondMoments = foldMoments(*statistics.secondMoments, fold);
    takeDiagonal(folded);
  }
  return folded;
}

StatisticsLookup lookUpFolded(const Graph &graph, const StatisticsLookup &statistics,
                              std::vector<Fold> folds) {
  struct State {
    std::vector<Fold> folds;
    std::map<std::string, size_t> foldOf; ///< by linear
    // What was asked for last: linears of one input come one after the other.
    std::shared_ptr<const std::vector<double>> from, moments;
    size_t momentsOf = 0;
  };
  auto state = std::make_shared<State>();
  state->folds = std::move(folds);
  for (size_t i = 0; i < state->folds.size(); ++i)
    for (int32_t consumer : state->folds[i].place.consumers)
      state->foldOf[graph.nodes[size_t(consumer)].name] = i;
  return [statistics,
          state](const std::string &linear) -> Result<std::shared_ptr<const InputStatistics>> {
    SMELT_ASSIGN(std::shared_ptr<const InputStatistics> found, statistics(linear));
    auto fold = state->foldOf.find(linear);
    if (!found || fold == state->foldOf.end())
      return found;
    const Fold &chosen = state->folds[fold->second];
    if (found->cols() != chosen.place.width)
      return found; // whoever asked says that they do not fit
    auto folded = std::make_shared<InputStatistics>(foldSums(*found, chosen));
    if (found->secondMoments) {
      if (state->from != found->secondMoments || state->momentsOf != fold->second) {
        state->moments = foldMoments(*found->secondMoments, chosen);
        state->from = found->secondMoments;
        state->momentsOf = fold->second;
      }
      folded->secondMoments = state->moments;
      takeDiagonal(*folded);
    }
    return std::shared_ptr<const InputStatistics>(std::move(folded));
  };
}

} // namespace smelt
