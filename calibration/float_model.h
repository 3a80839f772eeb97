// Runs a Graph in float over whole sequences, node by node, with every value of the batch in memory
// only while it is needed.
#pragma once

#include "calibration/graph.h"
#include "calibration/parallel.h"

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

namespace smelt {

/// A value of the batch, [rows, cols] floats, row-major and contiguous.
struct Matrix {
  int64_t rows = 0, cols = 0;
  std::unique_ptr<float[]> data;

  float *row(int64_t i) { return data.get() + i * cols; }
  const float *row(int64_t i) const { return data.get() + i * cols; }
};

/// Whole sequences run side by side, each from position 0; token i of the batch belongs to the
/// sequence that spans it.
struct SequenceBatch {
  std::vector<int32_t> tokens;
  std::vector<int64_t> starts; ///< first token of every sequence, and one past the last token
  std::vector<int32_t> wanted; ///< tokens that SelectRows keeps
  int64_t size() const { return int64_t(tokens.size()); }
  int64_t position(int64_t token) const;
};

/// Operands of the linears' products: float, or rounded to bfloat16 (2^-9 of each operand's size),
/// twice as fast where the CPU has such products.
enum class ProductPrecision { Float, Bfloat16 };

/// Bytes of rounded matrices that are kept while all tiles pass a segment, at most.
constexpr int64_t mostKeptBytes = int64_t(1) << 29;

/// Executor of one graph that checkGraph accepted. Results do not depend on the number of workers.
class FloatModel {
public:
  /// Keeps up to `mostSpares` buffers of values that are gone.
  FloatModel(const Graph &graph, WorkerPool &pool, ProductPrecision precision,
             size_t mostSpares = 6);

  /// Values by node; those that nothing needs any more are empty.
  using Values = std::vector<Matrix>;
  /// Called for a linear before it runs, with its input.
  using LinearHook = std::function<Status(int32_t node, const Matrix &input)>;

  /// Which values are left after a run.
  enum class Keep { Needed, All };

  /// Runs the nodes [first, last) marked in `wanted`, reading earlier values from `values` and
  /// leaving there what a later wanted node reads, and the last node's value; or all of them.
  Status run(const SequenceBatch &batch, const std::vector<bool> &wanted, int32_t first,
             int32_t last, Values &values, const LinearHook &hook = {}, Keep keep = Keep::Needed);

  /// From now on weights that linears round are kept, `mostKeptBytes` of them, for further runs of
  /// the same nodes; dropWeights() forgets those kept so far.
  void keepWeights() { keepsWeights = precision == ProductPrecision::Bfloat16; }
  void dropWeights();
  /// The weights of a linear [width, cols] as bfloat16, kept from an earlier run or from now on;
  /// null where they are not kept.
  const uint16_t *keptWeights(const Node &node, int64_t cols);

  /// A buffer [rows, cols] with no particular content, and the way back for one that is not needed
  /// any more; empty ones are ignored.
  Matrix take(int64_t rows, int64_t cols);
  void release(Matrix &matrix);

private:
  Status runNode(const SequenceBatch &batch, const Node &node, Values &values);
  Status embed(const SequenceBatch &batch, const Node &node, Matrix &out);
  void linear(const Node &node, const Matrix &in, Matrix &out);
  Status rope(const SequenceBatch &batch, const Node &node, const Matrix &in, Matrix &out);
  void attention(const SequenceBatch &batch, const Node &node, const Values &values, Matrix &out);
  void rowwise(const Node &node, const Values &values, Matrix &out);

  const Graph &graph;
  WorkerPool &pool;
  const ProductPrecision precision;
  const size_t mostSpares;
  std::vector<uint16_t> rounded; ///< input of the running linear as bfloat16
  bool keepsWeights = false;
  int64_t keptBytes = 0;
  std::map<const Node *, std::vector<uint16_t>> kept; ///< [width, cols] as bfloat16
  struct Spare {
    int64_t size;
    std::unique_ptr<float[]> data;
  };
  std::vector<Spare> spares; ///< buffers of finished values, kept because fresh pages cost more
                             ///< than small products
};

/// Marks the nodes that `targets` are computed from, the targets included.
std::vector<bool> ancestors(const Graph &graph, std::span<const int32_t> targets);

} // namespace smelt
