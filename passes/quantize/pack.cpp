// Packs the weights of every linear and embedding into the artifact's weights section.
#include "passes/quantize/quantize.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;

namespace smelt {

namespace {

/// The algorithm for a matrix of which there are no statistics: the best of those that need none.
Algorithm withoutStatistics(Algorithm algorithm) {
  return needsStatistics(algorithm) ? Algorithm::Mse : algorithm;
}

/// Packs one matrix after the other and keeps count.
class Packer {
public:
  Packer(const WeightResolver &resolve, WeightSink &sink, const PackOptions &options, double total)
      : resolve(resolve), sink(sink), options(options), total(total) {}

  /// Quantizes one matrix, or takes what was kept of it, and fills in where it lies.
  Status pack(const LinearWeights &weights, Algorithm algorithm, const InputStatistics *statistics,
              PackedMatrix &matrix);
  Status packLinear(slm::LinearOp linear);
  Status packEmbedding(slm::EmbeddingOp embedding);

  std::vector<PackedMatrix> packed;

private:
  Result<std::shared_ptr<const InputStatistics>> findStatistics(slm::LinearOp linear,
                                                                WeightFormat format) const;

  const WeightResolver &resolve;
  WeightSink &sink;
  const PackOptions &options;
  FeedbackCache factors;
  double total, done = 0; ///< weights
};

Result<std::shared_ptr<const InputStatistics>> Packer::findStatistics(slm::LinearOp linear,
                                                                      WeightFormat format) const {
  if (!needsStatistics(options.algorithm) || format == WeightFormat::F32 ||
      formatInfo(format).grid == Grid::Given)
    return std::shared_ptr<const InputStatistics>();
  std::string name = linear.getName().str();
  std::string what = "the statistics do not fit linear '" + name + "': ";
  std::string todo = "; collect them again with 'smelt calibrate'";
  if (!options.statistics)
    return invalidArgument(what + "none were given" + todo);
  SMELT_ASSIGN(std::shared_ptr<const InputStatistics> found, options.statistics(name));
  if (!found)
    return invalidArgument(what + "it is not among them" + todo);
  int64_t cols = slm::widthOf(linear.getInput());
  if (found->cols() != cols)
    return invalidArgument(what + "found " + std::to_string(found->cols()) + " columns, expected " +
                           std::to_string(cols) + todo);
  return found;
}

Status Packer::pack(const LinearWeights &weights, Algorithm algorithm,
                    const InputStatistics *statistics, PackedMatrix &matrix) {
  for (const WeightView &part : weights.parts)
    matrix.rows += part.rows;
  matrix.cols = weights.parts.front().cols;
  matrix.bytes = packedBytes(matrix.format, packedRows(weights), matrix.cols);
  const double share = double(matrix.rows) * double(matrix.cols);
  SMELT_ASSIGN(matrix.offset, sink.begin());

  std::optional<PackedKeeper::Kept> kept;
  if (options.keeper)
    kept = options.keeper->find(weights.name, matrix.format);
  if (kept && int64_t(kept->bytes.size()) == matrix.bytes) {
    matrix.error = std::move(kept->report);
    SMELT_TRY(sink.write(kept->bytes));
  } else {
    kept.emplace();
    int64_t written = 0;
    ByteSink counted = [&](std::span<const std::byte> bytes) -> Status {
      written += int64_t(bytes.size());
      if (options.progress &&
          !options.progress((done + share * double(written) / double(matrix.bytes)) / total))
        return cancelled("stopped while packing '" + weights.name + "'");
      if (options.keeper)
        kept->bytes.insert(kept->bytes.end(), bytes.begin(), bytes.end());
      return sink.write(bytes);
    };
    std::shared_ptr<const OutputMoments> outputs;
    if (options.outputs && statistics) {
      SMELT_ASSIGN(outputs, options.outputs(weights.name));
    }
    SMELT_ASSIGN(matrix.error, quantizeLinear(weights, matrix.format, algorithm, statistics,
                                              options.threads, counted, &factors, outputs.get()));
    if (written != matrix.bytes)
      return internalError("packing '" + weights.name + "' gave " + std::to_string(written) +
                           " bytes, expected " + std::to_string(matrix.bytes));
    if (options.keeper) {
      kept->report = matrix.error;
      SMELT_TRY(options.keeper->keep(weights.name, matrix.format, *kept));
    }
  }
  done += share;
  if (options.release)
    for (const WeightView &part : weights.parts)
      options.release(part);
  return {};
}

Status Packer::packLinear(slm::LinearOp linear) {
  PackedMatrix matrix;
  matrix.name = linear.getName().str();
  matrix.role = isHead(linear) ? "head" : "decoder";
  SMELT_ASSIGN(matrix.format, findFormat(linear.getFormat().value_or("")));
  SMELT_ASSIGN(matrix.activation, findActivation(linear.getActivation().value_or("")));
  SMELT_ASSIGN(LinearWeights weights, linearWeights(linear, resolve));
  SMELT_ASSIGN(std::shared_ptr<const InputStatistics> statistics,
               findStatistics(linear, matrix.format));
  SMELT_TRY(pack(weights, statistics ? options.algorithm : withoutStatistics(options.algorithm),
                 statistics.get(), matrix));
  linear.setPackedOffset(uint64_t(matrix.offset));
  packed.push_back(std::move(matrix));
  return {};
}

Status Packer::packEmbedding(slm::EmbeddingOp embedding) {
  PackedMatrix matrix;
  matrix.name = embedding.getName().str();
  matrix.role = "embedding";
  SMELT_ASSIGN(matrix.format, findFormat(embedding.getFormat().value_or("")));
  SMELT_ASSIGN(WeightView view, resolve(embedding.getTable()));
  LinearWeights weights{matrix.name, {std::move(view)}, false};
  // Its inputs are ids, of which no statistics could say anything.
  SMELT_TRY(pack(weights, withoutStatistics(options.algorithm), nullptr, matrix));
  embedding.setPackedOffset(uint64_t(matrix.offset));
  packed.push_back(std::move(matrix));
  return {};
}

} // namespace

Result<std::vector<PackedMatrix>> packWeights(ModuleOp module, const WeightResolver &resolve,
                                              WeightSink &sink, const PackOptions &options) {
  SmallVector<slm::LinearOp> linears;
  SmallVector<std::pair<slm::EmbeddingOp, size_t>>
      embeddings; // and the linear that shares its table
  module.walk([&](slm::LinearOp op) { linears.push_back(op); });
  module.walk([&](slm::EmbeddingOp op) {
    auto tied = llvm::find_if(linears, [&](slm::LinearOp linear) {
      return isTied(op, linear) && linear.getFormat() == op.getFormat();
    });
    embeddings.emplace_back(op, size_t(tied - linears.begin()));
  });
  double total = 0;
  auto count = [&](Value weight) {
    total += double(slm::rowsOf(weight)) * double(slm::widthOf(weight));
  };
  for (slm::LinearOp linear : linears)
    llvm::for_each(linear.getWeights(), count);
  for (auto &[embedding, tied] : embeddings)
    if (tied == linears.size())
      count(embedding.getTable());

  Packer packer(resolve, sink, options, total);
  for (slm::LinearOp linear : linears)
    SMELT_TRY(packer.packLinear(linear));
  for (auto &[embedding, tied] : embeddings)
    if (tied == linears.size())
      SMELT_TRY(packer.packEmbedding(embedding));
  for (auto &[embedding, tied] : embeddings) {
    if (tied == linears.size())
      continue;
    embedding.setPackedOffset(*linears[tied].getPackedOffset());
    packer.packed[tied].shared = true;
  }
  return std::move(packer.packed);
}

} // namespace smelt
