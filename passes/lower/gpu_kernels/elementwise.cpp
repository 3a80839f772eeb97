// Embed and Elementwise on a GPU: a thread takes 8 inputs of a table row, or one column. Operands
// and formulas: kernels/embed.cpp, kernels/elementwise.cpp.
#include "passes/lower/gpu_kernels/weight_words.h"
#include "passes/lower/kernels/formulas.h"

using namespace mlir;

namespace smelt {

namespace {

/// Calls `body(item)` with this thread's item of the `count` that the workgroups of a row share.
void forItemOfRow(GpuBuilder &k, int64_t count, const std::function<void(Value)> &body) {
  Value item = k.add(k.mul(k.group(), k.launch.threads), k.thread());
  if (count == k.launch.groups * k.launch.threads)
    body(item);
  else
    k.ifThen(k.less(item, k.idx(count)), [&] { body(item); });
}

/// Decodes as unpackTile does.
class TableRow {
public:
  TableRow(GpuBuilder &k, Value row)
      : k(k), weights(k, k.operand(0), k.rem(row, tileRows)),
        tile(k.mul(k.div(row, tileRows), tileBytes(k.spec.format, k.spec.cols) / 4)) {}

  /// The values of inputs 8 run .. 8 run + 7, `run` counted along the row.
  Values values(Value run) {
    constexpr int64_t runsOfBlock = blockInputs / 8;
    const FormatInfo &info = weights.info;
    Value block = k.add(k.add(tile, info.rowHeaderBytes / 4),
                        k.mul(k.div(run, runsOfBlock), info.blockBytes / 4));
    Value inBlock = k.rem(run, runsOfBlock), dot = k.div(k.mul(inBlock, 8), weights.dotInputs);
    Values values;
    if (info.grid == Grid::Float) {
      for (int64_t i = 0; i < 8; ++i)
        values.push_back(weights.number(block, k.add(k.mul(inBlock, 8), i)));
      return values;
    }
    Value scale = weights.scale(block, dot), rowScale = weights.rowScale(tile);
    Value zero = weights.given ? weights.zeroPoint(block, dot) : Value(), minimum;
    if (weights.asymmetric)
      minimum = k.fneg(k.fmul(weights.rowMinimum(tile), weights.minimum(block, dot)));
    auto [low, high] = weights.run(block, inBlock);
    for (int64_t i = 0; i < 8; ++i) {
      Value v = weights.codeValue(i < 4 ? low : high, i % 4, zero);
      if (scale)
        v = k.fmul(scale, v);
      if (minimum)
        v = k.fma(rowScale, v, minimum);
      else if (rowScale)
        v = k.fmul(rowScale, v);
      values.push_back(v);
    }
    return values;
  }

private:
  GpuBuilder &k;
  WeightWords weights;
  Value tile;
};

} // namespace

void emitGpuEmbed(GpuBuilder &k) {
  forItemOfRow(k, roundUp(k.spec.cols, blockInputs) / 8, [&](Value run) {
    Value row = k.rowGroup();
    Value token = k.toIndex(k.word(k.operand(1), k.add(row, k.spec.firstIndex)));
    token = k.add(token, k.spec.firstRow);
    token = k.min(k.max(token, k.idx(0)), k.idx(k.spec.rows - 1));
    Values values = TableRow(k, token).values(run);
    for (auto [i, value] : llvm::enumerate(values)) {
      Value column = k.add(k.mul(run, 8), int64_t(i));
      if (k.spec.scalar != 1)
        value = k.fmul(value, k.f32Const(k.spec.scalar));
      Value at = k.add(k.mul(row, k.spec.outStride), column);
      k.ifThen(k.less(column, k.idx(k.spec.cols)), [&] { k.setNumber(k.operand(2), at, value); });
    }
  });
}

void emitGpuElementwise(GpuBuilder &k) {
  forItemOfRow(k, k.spec.cols, [&](Value column) {
    Value row = k.rowGroup(), source = k.sourceRow(3, row);
    Value x = k.number(k.operand(0), k.add(k.mul(source, k.spec.inStride), column));
    Value y = combined(k, k.spec, x, [&] {
      return k.number(k.operand(1), k.add(k.mul(row, k.spec.keyStride), column));
    });
    k.setNumber(k.operand(2), k.add(k.mul(row, k.spec.outStride), column), y);
  });
}

} // namespace smelt
