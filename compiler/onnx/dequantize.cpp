// Rewriting of quantized weights: one function per form, all ending in a row of the weight store.
#include "compiler/onnx/dequantize.h"

#include "compiler/dialect/onnx.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"

#include <cstring>
#include <map>

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {

namespace {

constexpr char microsoft[] = "com.microsoft";

class Dequantizer {
public:
  Dequantizer(ModuleOp module, WeightStore &weights, IntegerProducts products)
      : module(module), weights(weights), products(products), builder(module.getContext()) {}

  Status run();

private:
  // --- One function a form; they leave nodes alone that they do not understand
  Status matMulBits(NodeOp node);
  Status gatherBlocks(NodeOp node);
  Status dequantizeLinear(NodeOp node);
  Status integerMatMul(NodeOp node);
  Status fusedMatMul(NodeOp node, unsigned weight, unsigned scale, unsigned zero, unsigned bias);

  // --- Stored tensors behind values
  struct Tensor {
    int64_t id = -1;
    SmallVector<int64_t> shape; ///< as the node sees it
    StoredType type = StoredType::F32;
    int64_t elements() const {
      int64_t count = 1;
      for (int64_t dim : shape)
        count *= dim;
      return count;
    }
  };
  std::optional<Tensor> stored(Value value) const;
  static bool isGiven(NodeOp node, unsigned index) {
    return index < node.getInputs().size() && !node.getInputs()[index].getDefiningOp<NoneOp>();
  }
  static int64_t integer(NodeOp node, StringRef name, int64_t otherwise) {
    auto value = node.getNodeAttributes().getAs<IntegerAttr>(name);
    return value ? value.getInt() : otherwise;
  }

  // --- Layouts
  /// Codes and groups of a matrix of whole elements with a scale for all, a scale per row or
  /// column, or blocks along an axis; nothing if the shapes say something else.
  std::optional<WeightStore::GivenRow> plainLayout(const Tensor &codes, const Tensor &scales,
                                                   std::optional<Tensor> zeros, int64_t axis,
                                                   int64_t block) const;
  Result<Value> floatWeight(NodeOp node, std::string name, const WeightStore::GivenRow &given);
  std::optional<std::vector<float>> smallDequantized(NodeOp node) const;

  // --- New nodes, before `node`
  Value makeNode(NodeOp node, StringRef type, const Twine &name, ValueRange inputs, Type result,
                 ArrayRef<NamedAttribute> attributes = {});
  Value transposed(NodeOp node, Value matrix);
  void replace(NodeOp node, unsigned result, Value value);

  ModuleOp module;
  WeightStore &weights;
  IntegerProducts products;
  OpBuilder builder;
  std::map<std::string, int64_t> counts;
};

//===--- Values and nodes ---------------------------------------------------------------------===//

std::optional<Dequantizer::Tensor> Dequantizer::stored(Value value) const {
  // Views of the same bytes: one initializer may serve as [N, blocks, bytes] and as [N, bytes].
  auto type = dyn_cast<RankedTensorType>(value.getType());
  Value base = value;
  while (auto node = base.getDefiningOp<NodeOp>()) {
    if (!node.getDomain().empty() || (node.getType() != "Reshape" && node.getType() != "Identity"))
      return std::nullopt;
    base = node.getInputs()[0];
  }
  Tensor tensor;
  if (auto weight = base.getDefiningOp<WeightOp>())
    tensor.id = int64_t(weight.getId());
  else if (auto constant = base.getDefiningOp<ConstantOp>(); constant && constant.getId())
    tensor.id = int64_t(*constant.getId());
  else
    return std::nullopt;
  tensor.type = weights.row(tensor.id).type;
  auto baseType = cast<RankedTensorType>(base.getType());
  if (!type || !type.hasStaticShape()) {
    if (base != value)
      return std::nullopt;
    type = baseType;
  }
  if (type.getNumElements() != baseType.getNumElements())
    return std::nullopt;
  tensor.shape.assign(type.getShape().begin(), type.getShape().end());
  return tensor;
}

Value Dequantizer::makeNode(NodeOp node, StringRef type, const Twine &name, ValueRange inputs,
                            Type result, ArrayRef<NamedAttribute> attributes) {
  builder.setInsertionPoint(node);
  return NodeOp::create(builder, node.getLoc(), TypeRange{result}, inputs, type, "", name.str(),
                        builder.getDictionaryAttr(attributes), 0u)
      .getResult(0);
}

Value Dequantizer::transposed(NodeOp node, Value matrix) {
  auto type = cast<RankedTensorType>(matrix.getType());
  auto turned =
      RankedTensorType::get({type.getDimSize(1), type.getDimSize(0)}, type.getElementType());
  return makeNode(node, "Transpose", node.getName() + "/weight", {matrix}, turned,
                  builder.getNamedAttr("perm", builder.getDenseI64ArrayAttr({1, 0})));
}

void Dequantizer::replace(NodeOp node, unsigned result, Value value) {
  node.getResult(result).replaceAllUsesWith(value);
}

Result<Value> Dequantizer::floatWeight(NodeOp node, std::string name,
                                       const WeightStore::GivenRow &given) {
  SMELT_ASSIGN(int64_t id, weights.addGiven(name, given));
  const GivenCodes &layout = given.layout;
  int64_t group = layout.colGroup < layout.cols ? layout.colGroup : layout.rowGroup;
  std::string form = std::to_string(layout.bits) + " bits, ";
  if (layout.colGroup >= layout.cols && layout.rowGroup >= layout.rows)
    form += "one scale";
  else if (group == 1)
    form += "a scale for each channel";
  else if (layout.colGroup >= layout.cols || layout.rowGroup >= layout.rows)
    form += "groups of " + std::to_string(group);
  else
    form += "groups of " + std::to_string(std::max(layout.colGroup, layout.rowGroup));
  ++counts[form];
  builder.setInsertionPoint(node);
  auto type = RankedTensorType::get({layout.rows, layout.cols}, builder.getF32Type());
  return WeightOp::create(builder, node.getLoc(), type, builder.getI64IntegerAttr(id),
                          builder.getStringAttr(name))
      .getResult();
}

//===--- com.microsoft block forms
//-------------------------------------------------------------===//

/// Y = A W^T + bias, W [N, K] as uint8 [N, blocks, block_size * bits / 8], scales [N, blocks].
Status Dequantizer::matMulBits(NodeOp node) {
  std::optional<Tensor> codes = stored(node.getInputs()[1]), scales = stored(node.getInputs()[2]);
  int64_t k = integer(node, "K", 0), n = integer(node, "N", 0);
  int64_t bits = integer(node, "bits", 4), block = integer(node, "block_size", 0);
  // An order of the columns (input 4, g_idx) is left to who knows it.
  if (!codes || !scales || k <= 0 || n <= 0 || block <= 0 || block > k * 64 || isGiven(node, 4) ||
      (bits != 2 && bits != 4 && bits != 8) || codes->type != StoredType::U8)
    return {};
  const int64_t blocks = (k + block - 1) / block, perByte = 8 / bits;
  WeightStore::GivenRow given;
  given.codes = codes->id;
  given.scales = scales->id;
  GivenCodes &g = given.layout;
  g.rows = n;
  g.cols = k;
  g.bits = int(bits);
  g.codeRowStride = blocks * block;
  g.colGroup = block;
  g.scaleRowStride = blocks;
  g.scaleColStride = g.zeroColStride = 1;
  g.zeroPoint = 1 << (bits - 1);
  if (isGiven(node, 3)) {
    std::optional<Tensor> zeros = stored(node.getInputs()[3]);
    if (!zeros)
      return {};
    given.zeros = zeros->id;
    g.floatZeros = zeros->type != StoredType::U8;
    g.zeroRowStride = g.floatZeros ? blocks : (blocks + perByte - 1) / perByte * perByte;
  }
  SMELT_ASSIGN(Value weight, floatWeight(node, weights.row(codes->id).name, given));
  Value product =
      makeNode(node, "MatMul", node.getName(), {node.getInputs()[0], transposed(node, weight)},
               node.getResult(0).getType());
  if (isGiven(node, 5))
    product = makeNode(node, "Add", node.getName() + "/bias", {product, node.getInputs()[5]},
                       node.getResult(0).getType());
  replace(node, 0, product);
  return {};
}

/// Rows of a table [V, H] with a scale for each block of columns.
Status Dequantizer::gatherBlocks(NodeOp node) {
  std::optional<Tensor> codes = stored(node.getInputs()[0]), scales = stored(node.getInputs()[2]);
  int64_t block = integer(node, "block_size", 128), bits = integer(node, "bits", 4);
  if (!codes || !scales || codes->shape.size() != 2 || block <= 0 ||
      integer(node, "gather_axis", 0) != 0 || (bits != 2 && bits != 4 && bits != 8))
    return {};
  int64_t axis = integer(node, "quantize_axis", 1);
  if (axis != 1 && axis != -1)
    return {};
  bool isPacked = codes->type == StoredType::U8;
  if (!isPacked && codes->type != StoredType::I4 && codes->type != StoredType::U4)
    return {};
  if (!isPacked)
    bits = 4;
  WeightStore::GivenRow given;
  given.codes = codes->id;
  given.scales = scales->id;
  GivenCodes &g = given.layout;
  g.rows = codes->shape[0];
  g.cols = codes->shape[1] * (isPacked ? 8 / bits : 1);
  g.bits = int(bits);
  g.isSigned = codes->type == StoredType::I4;
  g.codeRowStride = g.cols;
  g.colGroup = block;
  const int64_t blocks = (g.cols + block - 1) / block, perByte = 8 / bits;
  g.scaleRowStride = blocks;
  g.scaleColStride = g.zeroColStride = 1;
  g.zeroPoint = isPacked ? 1 << (bits - 1) : 0;
  if (isGiven(node, 3)) {
    std::optional<Tensor> zeros = stored(node.getInputs()[3]);
    if (!zeros)
      return {};
    given.zeros = zeros->id;
    g.zeroRowStride = isPacked ? (blocks + perByte - 1) / perByte * perByte : blocks;
  }
  SMELT_ASSIGN(Value table, floatWeight(node, weights.row(codes->id).name, given));
  replace(node, 0,
          makeNode(node, "Gather", node.getName(), {table, node.getInputs()[1]},
                   node.getResult(0).getType(),
                   builder.getNamedAttr("axis", builder.getI64IntegerAttr(0))));
  return {};
}

//===--- Whole elements
//------------------------------------------------------------------------===//

std::optional<WeightStore::GivenRow> Dequantizer::plainLayout(const Tensor &codes,
                                                              const Tensor &scales,
                                                              std::optional<Tensor> zeros,
                                                              int64_t axis, int64_t block) const {
  const bool isByte = codes.type == StoredType::I8 || codes.type == StoredType::U8;
  const bool isNibble = codes.type == StoredType::I4 || codes.type == StoredType::U4;
  if (codes.shape.size() != 2 || (!isByte && !isNibble) || axis < -2 || axis > 1)
    return std::nullopt;
  if (zeros && (zeros->type != codes.type || zeros->elements() != scales.elements()))
    return std::nullopt;
  const int64_t rows = codes.shape[0], cols = codes.shape[1];
  axis = axis < 0 ? axis + 2 : axis;
  WeightStore::GivenRow given;
  given.codes = codes.id;
  given.scales = scales.id;
  given.zeros = zeros ? zeros->id : -1;
  GivenCodes &g = given.layout;
  g.rows = rows;
  g.cols = g.codeRowStride = cols;
  g.bits = isByte ? 8 : 4;
  g.isSigned = codes.type == StoredType::I8 || codes.type == StoredType::I4;
  g.rowGroup = rows;
  g.colGroup = cols;
  if (block > 0) {
    if (scales.shape.size() != 2)
      return std::nullopt;
    (axis == 0 ? g.rowGroup : g.colGroup) = block;
    (axis == 0 ? g.colGroup : g.rowGroup) = 1;
    g.scaleRowStride = axis == 0 ? cols : (cols + block - 1) / block;
    g.scaleColStride = 1;
  } else if (scales.elements() != 1) {
    if (scales.elements() != (axis == 0 ? rows : cols))
      return std::nullopt;
    (axis == 0 ? g.rowGroup : g.colGroup) = 1;
    (axis == 0 ? g.scaleRowStride : g.scaleColStride) = 1;
  }
  g.zeroRowStride = g.scaleRowStride;
  g.zeroColStride = g.scaleColStride;
  return given;
}

/// A short vector of whole numbers with one scale for all or one each: a bias.
std::optional<std::vector<float>> Dequantizer::smallDequantized(NodeOp node) const {
  auto codes = node.getInputs()[0].getDefiningOp<ConstantOp>();
  auto scales = node.getInputs()[1].getDefiningOp<ConstantOp>();
  auto zeros = isGiven(node, 2) ? node.getInputs()[2].getDefiningOp<ConstantOp>() : ConstantOp();
  if (!codes || !scales || (isGiven(node, 2) && !zeros))
    return std::nullopt;
  auto values = dyn_cast<DenseElementsAttr>(codes.getValue());
  auto factors = dyn_cast<DenseElementsAttr>(scales.getValue());
  auto points = zeros ? dyn_cast<DenseElementsAttr>(zeros.getValue()) : DenseElementsAttr();
  if (!values || !factors || (zeros && !points) || values.getType().getRank() > 1 ||
      !isa<IntegerType>(values.getElementType()) || !isa<FloatType>(factors.getElementType()))
    return std::nullopt;
  auto whole = [](DenseElementsAttr attribute) {
    bool isUnsigned = cast<IntegerType>(attribute.getElementType()).isUnsigned();
    std::vector<double> list;
    for (const APInt &value : attribute.getValues<APInt>())
      list.push_back(isUnsigned ? double(value.getZExtValue()) : double(value.getSExtValue()));
    return list;
  };
  std::vector<double> numbers = whole(values),
                      offsets = points ? whole(points) : std::vector<double>{0};
  std::vector<double> steps;
  for (APFloat value : factors.getValues<APFloat>()) {
    bool inexact = false;
    value.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &inexact);
    steps.push_back(value.convertToDouble());
  }
  auto fits = [&](size_t count) { return count == 1 || count == numbers.size(); };
  if (!fits(steps.size()) || !fits(offsets.size()))
    return std::nullopt;
  std::vector<float> result;
  for (size_t i = 0; i < numbers.size(); ++i)
    result.push_back(float((numbers[i] - offsets[offsets.size() == 1 ? 0 : i]) *
                           steps[steps.size() == 1 ? 0 : i]));
  return result;
}

/// y = (x - zero_point) * scale of an initializer, or of rows gathered from one.
Status Dequantizer::dequantizeLinear(NodeOp node) {
  if (std::optional<std::vector<float>> values = smallDequantized(node)) {
    auto shape = cast<RankedTensorType>(node.getInputs()[0].getType()).getShape();
    auto type = RankedTensorType::get(shape, builder.getF32Type());
    std::vector<std::byte> bytes(values->size() * sizeof(float));
    std::memcpy(bytes.data(), values->data(), bytes.size());
    SMELT_ASSIGN(int64_t id, weights.addOwned(node.getName().str(), std::move(bytes),
                                              StoredType::F32, shape.vec()));
    builder.setInsertionPoint(node);
    replace(node, 0,
            ConstantOp::create(builder, node.getLoc(), type,
                               DenseElementsAttr::get(type, ArrayRef<float>(*values)),
                               node.getNameAttr(), builder.getI64IntegerAttr(id)));
    return {};
  }
  auto gather = node.getInputs()[0].getDefiningOp<NodeOp>();
  bool isGather = gather && gather.getDomain().empty() && gather.getType() == "Gather" &&
                  integer(gather, "axis", 0) == 0;
  std::optional<Tensor> codes = stored(isGather ? gather.getInputs()[0] : node.getInputs()[0]);
  std::optional<Tensor> scales = stored(node.getInputs()[1]), zeros;
  if (!codes || !scales)
    return {};
  if (isGiven(node, 2) && !(zeros = stored(node.getInputs()[2])))
    return {};
  std::optional<WeightStore::GivenRow> given =
      plainLayout(*codes, *scales, zeros, integer(node, "axis", 1), integer(node, "block_size", 0));
  if (!given || (isGather && scales->elements() != 1))
    return {};
  SMELT_ASSIGN(Value weight, floatWeight(node, weights.row(codes->id).name, *given));
  if (isGather)
    weight = makeNode(node, "Gather", gather.getName(), {weight, gather.getInputs()[1]},
                      node.getResult(0).getType(),
                      builder.getNamedAttr("axis", builder.getI64IntegerAttr(0)));
  replace(node, 0, weight);
  return {};
}

//===--- Products of integers
//------------------------------------------------------------------===//

/// xq, xs, xz = DynamicQuantizeLinear(x); y = float(MatMulInteger(xq, wq, xz, wz)) * (xs * ws)
///   -> y = x ((wq - wz) * ws)
Status Dequantizer::integerMatMul(NodeOp node) {
  auto dynamic = node.getInputs()[0].getDefiningOp<NodeOp>();
  if (!dynamic || dynamic.getType() != "DynamicQuantizeLinear" ||
      node.getInputs()[0] != dynamic.getResult(0) || !isGiven(node, 2) ||
      node.getInputs()[2] != dynamic.getResult(2) || !node.getResult(0).hasOneUse())
    return {};
  auto cast = dyn_cast<NodeOp>(*node.getResult(0).getUsers().begin());
  if (!cast || cast.getType() != "Cast" || !cast.getResult(0).hasOneUse())
    return {};
  auto product = dyn_cast<NodeOp>(*cast.getResult(0).getUsers().begin());
  if (!product || product.getType() != "Mul" || !product.getDomain().empty())
    return {};
  Value other = product.getInputs()[product.getInputs()[0] == cast.getResult(0) ? 1 : 0];
  auto both = other.getDefiningOp<NodeOp>();
  if (!both || both.getType() != "Mul" || both.getInputs().size() != 2)
    return {};
  Value scale;
  for (unsigned i = 0; i < 2; ++i)
    if (both.getInputs()[i] == dynamic.getResult(1))
      scale = both.getInputs()[1 - i];
  // A tied head: the embedding's table turned.
  Value matrix = node.getInputs()[1];
  auto turn = matrix.getDefiningOp<NodeOp>();
  bool isTurned = turn && turn.getType() == "Transpose" && turn.getDomain().empty();
  if (isTurned) {
    auto order = turn.getNodeAttributes().getAs<DenseI64ArrayAttr>("perm");
    if (order && order.asArrayRef() != ArrayRef<int64_t>{1, 0})
      return {};
    matrix = turn.getInputs()[0];
  }
  std::optional<Tensor> codes = stored(matrix), zeros;
  std::optional<Tensor> scales = scale ? stored(scale) : std::nullopt;
  if (!codes || codes->shape.size() != 2 || !scales ||
      (isGiven(node, 3) && !(zeros = stored(node.getInputs()[3]))))
    return {};
  std::optional<WeightStore::GivenRow> given =
      plainLayout(*codes, *scales, zeros, isTurned ? 0 : 1, 0);
  if (!given)
    return {};
  // Where its scale is made, all inputs are there.
  SMELT_ASSIGN(Value weight, floatWeight(product, weights.row(codes->id).name, *given));
  if (isTurned)
    weight = transposed(product, weight);
  replace(product, 0,
          makeNode(product, "MatMul", node.getName(), {dynamic.getInputs()[0], weight},
                   product.getResult(0).getType()));
  return {};
}

/// The same as one node; `weight`, ... are the places of its inputs. The input is A, or what
/// DynamicQuantizeLinear was given.
Status Dequantizer::fusedMatMul(NodeOp node, unsigned weight, unsigned scale, unsigned zero,
                                unsigned bias) {
  Value input = node.getInputs()[0];
  if (node.getType() == "MatMulIntegerToFloat") {
    auto dynamic = input.getDefiningOp<NodeOp>();
    if (!dynamic || dynamic.getType() != "DynamicQuantizeLinear")
      return {};
    input = dynamic.getInputs()[0];
  }
  std::optional<Tensor> codes = stored(node.getInputs()[weight]), zeros;
  std::optional<Tensor> scales = stored(node.getInputs()[scale]);
  if (!codes || !scales || (isGiven(node, zero) && !(zeros = stored(node.getInputs()[zero]))))
    return {};
  std::optional<WeightStore::GivenRow> given = plainLayout(*codes, *scales, zeros, 1, 0);
  if (!given)
    return {};
  SMELT_ASSIGN(Value matrix, floatWeight(node, weights.row(codes->id).name, *given));
  Value product =
      makeNode(node, "MatMul", node.getName(), {input, matrix}, node.getResult(0).getType());
  if (isGiven(node, bias))
    product = makeNode(node, "Add", node.getName() + "/bias", {product, node.getInputs()[bias]},
                       node.getResult(0).getType());
  replace(node, 0, product);
  return {};
}

//===--- The whole
//-----------------------------------------------------------------------------===//

Status Dequantizer::run() {
  SmallVector<NodeOp> nodes;
  module.walk([&](NodeOp node) { nodes.push_back(node); });
  for (NodeOp node : nodes) {
    const StringRef type = node.getType();
    const size_t inputs = node.getInputs().size();
    const bool isMicrosoft = node.getDomain() == microsoft, isStandard = node.getDomain().empty();
    if (node->getNumResults() == 0)
      continue;
    Status status;
    if (isMicrosoft && type == "MatMulNBits" && inputs >= 3)
      status = matMulBits(node);
    else if (isMicrosoft && type == "GatherBlockQuantized" && inputs >= 3)
      status = gatherBlocks(node);
    else if (isStandard && type == "DequantizeLinear" && inputs >= 2)
      status = dequantizeLinear(node);
    else if (products == IntegerProducts::Keep)
      continue;
    else if (isStandard && type == "MatMulInteger" && inputs >= 2)
      status = integerMatMul(node);
    else if (isMicrosoft && type == "DynamicQuantizeMatMul" && inputs >= 3)
      status = fusedMatMul(node, 1, 2, 3, 4);
    else if (isMicrosoft && type == "MatMulIntegerToFloat" && inputs >= 4)
      status = fusedMatMul(node, 1, 3, 5, 6);
    SMELT_TRY(std::move(status).withContext("node \"" + node.getName().str() + "\""));
  }
  if (counts.empty())
    return {};
  // What served the replaced nodes alone goes with them.
  for (NodeOp node : llvm::reverse(nodes))
    if (node->use_empty() && node->getNumResults() != 0)
      node.erase();
  NamedAttrList forms;
  for (const auto &[form, count] : counts)
    forms.append(form, builder.getI64IntegerAttr(count));
  module->setAttr(quantizedAttribute, forms.getDictionary(module.getContext()));
  return {};
}

} // namespace

Status dequantizeWeights(ModuleOp module, WeightStore &weights, IntegerProducts products) {
  return Dequantizer(module, weights, products).run();
}

} // namespace smelt
