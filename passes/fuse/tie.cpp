// One weight where an exporter wrote the same matrix twice.
#include "passes/fuse/fuse.h"

#include "compiler/dialect/slm.h"

#include "mlir/IR/Builders.h"

#include <algorithm>

using namespace mlir;

namespace smelt {

namespace {

bool isSameMatrix(const WeightView &a, const WeightView &b) {
  // Few rows at a time: matrices that differ do so at once, and equal ones need not be in memory.
  constexpr int64_t piece = 64;
  std::vector<float> first(size_t(piece * a.cols)), second(first.size());
  for (int64_t row = 0; row < a.rows; row += piece) {
    int64_t count = std::min(piece, a.rows - row);
    readRows(a, row, count, first.data());
    readRows(b, row, count, second.data());
    if (!std::equal(first.begin(), first.begin() + count * a.cols, second.begin()))
      return false;
  }
  return true;
}

} // namespace

Result<int64_t> tieWeights(ModuleOp module, const WeightResolver &resolve) {
  SmallVector<slm::EmbeddingOp> embeddings;
  SmallVector<slm::LinearOp> linears;
  module.walk([&](slm::EmbeddingOp op) { embeddings.push_back(op); });
  module.walk([&](slm::LinearOp op) { linears.push_back(op); });
  int64_t tied = 0;
  for (slm::LinearOp linear : linears)
    for (slm::EmbeddingOp embedding : embeddings) {
      if (linear.getWeights().size() != 1 ||
          linear.getWeights()[0].getType() != embedding.getTable().getType() ||
          linear.getWeights()[0] == embedding.getTable())
        continue;
      SMELT_ASSIGN(WeightView table, resolve(embedding.getTable()));
      SMELT_ASSIGN(WeightView weight, resolve(linear.getWeights()[0]));
      bool isSameView = table.data == weight.data && table.rowStride == weight.rowStride &&
                        table.colStride == weight.colStride;
      if (isSameView || !isSameMatrix(table, weight))
        continue;
      OpBuilder builder(linear);
      Operation *copy = builder.clone(*embedding.getTable().getDefiningOp());
      linear.getWeightsMutable()[0].set(copy->getResult(0));
      ++tied;
      break;
    }
  return tied;
}

} // namespace smelt
