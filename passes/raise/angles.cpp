// Rotation angles that a graph computes itself, recognised by their values at sample positions.
#include "passes/raise/patterns/patterns.h"

#include <cmath>

using namespace mlir;

namespace smelt {
namespace {

/// cos and sin of one binding with the position of each row.
struct Table {
  std::vector<double> positions;
  int64_t columns;
  const Tensor *cos, *sin;
  int64_t rows() const { return int64_t(positions.size()); }
};

/// Positions the rows may stand for: those given to the graph, or past + index.
enum class Meaning { Given, Index };

std::optional<Table> tableAt(Samples &samples, Value cos, Value sin, Meaning meaning) {
  const Binding &binding = samples.inputs();
  Table table{{}, 0, samples.get(cos), samples.get(sin)};
  if (!table.cos || !table.sin || !table.cos->hasData() || !table.sin->hasData() ||
      table.cos->shape != table.sin->shape || table.cos->shape.empty())
    return std::nullopt;
  // Leading axes are [batch or 1, (1), sequence] in this order: the rows lie batch-major.
  table.columns = table.cos->shape.back();
  int64_t rows = table.columns ? table.cos->elements() / table.columns : 0;
  int64_t batch = rows == binding.batch * binding.sequence ? binding.batch
                  : rows == binding.sequence               ? 1
                                                           : 0;
  if (batch == 0 || (meaning == Meaning::Given && batch != binding.batch))
    return std::nullopt;
  for (int64_t i = 0; i < rows; ++i)
    table.positions.push_back(meaning == Meaning::Given
                                  ? binding.positions[size_t(i)]
                                  : double(binding.past + i % binding.sequence));
  return table;
}

double nearestFloat(double value) {
  double rounded = double(float(value));
  return std::fabs(value - rounded) <= 1e-12 ? rounded : value;
}

/// Reads the frequencies where the position is 1: angle = inverse frequency.
bool readFrequencies(const Table &table, int64_t half,
                     llvm::function_ref<int64_t(int64_t)> columnOf, Angles &angles) {
  for (int64_t row = 0; row < table.rows(); ++row) {
    if (table.positions[size_t(row)] != 1)
      continue;
    angles.factor = nearestFloat(
        std::hypot(table.cos->at(row * table.columns), table.sin->at(row * table.columns)));
    for (int64_t i = 0; i < half; ++i) {
      int64_t at = row * table.columns + columnOf(i);
      angles.inverseFrequency.push_back(
          nearestFloat(std::atan2(table.sin->at(at), table.cos->at(at))));
    }
    return true;
  }
  return false;
}

bool agrees(const Table &table, const Angles &angles,
            llvm::function_ref<int64_t(int64_t)> frequencyOf) {
  for (int64_t row = 0; row < table.rows(); ++row)
    for (int64_t c = 0; c < table.columns; ++c) {
      double angle = table.positions[size_t(row)] * angles.inverseFrequency[size_t(frequencyOf(c))];
      int64_t at = row * table.columns + c;
      if (!(std::fabs(table.cos->at(at) - angles.factor * std::cos(angle)) < 1e-6) ||
          !(std::fabs(table.sin->at(at) - angles.factor * std::sin(angle)) < 1e-6))
        return false;
    }
  return true;
}

} // namespace

std::optional<Angles> anglesOf(RaiseContext &context, Value cos, Value sin, bool isDoubled,
                               bool isInterleaved, std::string &why) {
  why = "cos and sin are not computed from the positions";
  for (Meaning meaning : {Meaning::Given, Meaning::Index}) {
    // Binding 2 starts at position 0 with four tokens: position 1 is among them.
    std::optional<Table> first = tableAt(context.samplesAt(2), cos, sin, meaning);
    if (!first)
      continue;
    int64_t half = isDoubled ? first->columns / 2 : first->columns;
    auto columnOf = [&](int64_t i) { return isDoubled && isInterleaved ? 2 * i : i; };
    auto frequencyOf = [&](int64_t c) { return !isDoubled ? c : isInterleaved ? c / 2 : c % half; };
    Angles angles;
    if (half == 0 || (isDoubled && first->columns % 2) ||
        !readFrequencies(*first, half, columnOf, angles))
      continue;
    bool isLinear = true;
    for (size_t i = 0; i <= context.bindings() && isLinear; ++i) {
      Samples &samples = i < context.bindings() ? context.samplesAt(i) : context.longSample();
      std::optional<Table> table = tableAt(samples, cos, sin, meaning);
      isLinear = table && table->columns == first->columns && agrees(*table, angles, frequencyOf);
    }
    if (isLinear)
      return angles;
    why = "cos and sin are not those of position * frequency for every position (frequencies that "
          "change with the "
          "context length are not supported)";
  }
  return std::nullopt;
}

Value makeRope(RaiseContext &context, Value rows, const Angles &angles, int64_t headDim,
               bool isInterleaved) {
  OpBuilder &builder = context.builder;
  int64_t half = int64_t(angles.inverseFrequency.size());
  auto type = RankedTensorType::get({ShapedType::kDynamic, half}, builder.getF32Type());
  auto table = [&](bool isSin) -> Value {
    return slm::RotaryTableOp::create(builder, builder.getUnknownLoc(), type,
                                      ArrayRef<double>(angles.inverseFrequency), isSin,
                                      APFloat(angles.factor));
  };
  return slm::RopeOp::create(builder, rows.getLoc(), rows.getType(), rows, table(false),
                             table(true), uint64_t(headDim), uint64_t(2 * half), isInterleaved);
}

} // namespace smelt
