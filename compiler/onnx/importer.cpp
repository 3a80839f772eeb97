// From ModelProto to func.func @main: names become SSA values, sub-graphs become regions.
#include "compiler/onnx/importer.h"

#include "compiler/dialect/onnx.h"
#include "compiler/onnx/prepare.h"
#include "compiler/onnx/tensors.h"
#include "compiler/onnx/wire.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/Verifier.h"

#include <map>

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt {
namespace {

/// Initializers up to this size take part in folding as constants; whole numbers (shapes, indices,
/// masks) up to the second size.
constexpr uint64_t constantBytes = 1024;
constexpr uint64_t integerConstantBytes = 64 * 1024;

bool isWhole(StoredType type) {
  return type == StoredType::I64 || type == StoredType::I32 || type == StoredType::Bool;
}

class Importer {
public:
  Importer(MLIRContext &context, PreparedModel &model, WeightStore &weights)
      : builder(&context), model(model), weights(weights) {}

  Result<OwningOpRef<ModuleOp>> run();

private:
  using Scope = std::map<std::string, Value, std::less<>>;

  Status importStored();
  Status importTensor(const onnx::TensorProto &tensor, const std::string &name);
  Status importExternal(const onnx::TensorProto &tensor, const std::string &name, StoredType type);
  Status importNode(const onnx::NodeProto &node);
  Status importConstantNode(const onnx::NodeProto &node, bool &done);
  Status importSubGraph(const onnx::GraphProto &graph, Region &region);
  Result<Attribute> importAttribute(const onnx::AttributeProto &attribute);
  Result<Value> lookUp(const std::string &name, const std::string &user);
  void readTypes(const onnx::GraphProto &graph);
  Type typeOf(const std::string &name);
  void describe(func::FuncOp function, int index, bool isResult, const onnx::ValueInfoProto &info);
  void addConstant(const std::string &name, StoredType type, ArrayRef<int64_t> shape,
                   std::span<const std::byte> bytes, std::optional<int64_t> id);

  OpBuilder builder;
  PreparedModel &model;
  WeightStore &weights;
  Scope values;
  std::map<std::string, const onnx::TypeProto *> types;
};

std::string nodeName(const onnx::NodeProto &node) {
  if (!node.name().empty())
    return node.name();
  for (const std::string &output : node.output())
    if (!output.empty())
      return output;
  return node.op_type();
}

void Importer::readTypes(const onnx::GraphProto &graph) {
  for (const auto *list : {&graph.value_info(), &graph.input(), &graph.output()})
    for (const auto &info : *list)
      if (info.has_type())
        types[info.name()] = &info.type();
}

Type Importer::typeOf(const std::string &name) {
  auto at = types.find(name);
  if (at == types.end())
    return UnrankedTensorType::get(elementType(builder.getContext(), 0));
  return valueType(builder.getContext(), *at->second);
}

Result<Value> Importer::lookUp(const std::string &name, const std::string &user) {
  auto at = values.find(name);
  if (at == values.end())
    return corrupt("node \"" + user + "\" reads \"" + name + "\", which nothing defines before it");
  return at->second;
}

// --- tensors
// ---------------------------------------------------------------------------------------------------------

void Importer::addConstant(const std::string &name, StoredType type, ArrayRef<int64_t> shape,
                           std::span<const std::byte> bytes, std::optional<int64_t> id) {
  Type element = elementType(builder.getContext(), onnx::TensorProto::FLOAT);
  for (int code = 1; code <= onnx::TensorProto::DataType_MAX; ++code)
    if (storedType(code) == type)
      element = elementType(builder.getContext(), code);
  auto tensorType = RankedTensorType::get(shape, element);
  values[name] = ConstantOp::create(
      builder, builder.getUnknownLoc(), tensorType, denseElements(tensorType, type, bytes),
      builder.getStringAttr(name), id ? builder.getI64IntegerAttr(*id) : IntegerAttr());
}

Status Importer::importExternal(const onnx::TensorProto &tensor, const std::string &name,
                                StoredType type) {
  std::string location;
  uint64_t offset = 0, bytes = 0;
  for (const auto &entry : tensor.external_data()) {
    if (entry.key() == "location") {
      location = entry.value();
    } else if (entry.key() == "offset" || entry.key() == "length") {
      uint64_t &number = entry.key() == "offset" ? offset : bytes;
      if (StringRef(entry.value()).getAsInteger(10, number))
        return corrupt("tensor \"" + name + "\" has the external " + entry.key() + " \"" +
                       entry.value() + "\", which is not a number");
    }
  }
  std::vector<int64_t> shape(tensor.dims().begin(), tensor.dims().end());
  SMELT_ASSIGN(int64_t id, weights.addExternal(name, location, offset, bytes, type, shape));
  std::span<const std::byte> data = weights.bytesOf(id);
  if (data.size() <= constantBytes || (isWhole(type) && data.size() <= integerConstantBytes))
    addConstant(name, type, shape, data, id);
  else
    values[name] = WeightOp::create(
        builder, builder.getUnknownLoc(),
        RankedTensorType::get(shape, elementType(builder.getContext(), tensor.data_type())),
        builder.getI64IntegerAttr(id), builder.getStringAttr(name));
  return {};
}

Status Importer::importTensor(const onnx::TensorProto &tensor, const std::string &name) {
  std::optional<StoredType> type = storedType(tensor.data_type());
  if (!type)
    return unsupported("tensor \"" + name + "\" has ONNX element type " +
                       std::to_string(tensor.data_type()) +
                       ", which no language model's weights or shapes need");
  if (tensor.data_location() == onnx::TensorProto::EXTERNAL)
    return importExternal(tensor, name, *type);
  SMELT_ASSIGN(std::vector<std::byte> bytes, bytesOf(tensor, *type));
  std::vector<int64_t> shape(tensor.dims().begin(), tensor.dims().end());
  bool isConstant =
      bytes.size() <= constantBytes || (isWhole(*type) && bytes.size() <= integerConstantBytes);
  if (isConstant && isWhole(*type)) {
    addConstant(name, *type, shape, bytes, std::nullopt);
    return {};
  }
  SMELT_ASSIGN(int64_t id, weights.addOwned(name, std::move(bytes), *type, shape));
  if (isConstant)
    addConstant(name, *type, shape, weights.bytesOf(id), id);
  else
    values[name] = WeightOp::create(
        builder, builder.getUnknownLoc(),
        RankedTensorType::get(shape, elementType(builder.getContext(), tensor.data_type())),
        builder.getI64IntegerAttr(id), builder.getStringAttr(name));
  return {};
}

Status Importer::importStored() {
  for (const PreparedModel::Stored &stored : model.stored) {
    const onnx::TensorProto &header = stored.header;
    std::optional<StoredType> type = storedType(header.data_type());
    if (!type)
      return unsupported("initializer \"" + header.name() + "\" has ONNX element type " +
                         std::to_string(header.data_type()) +
                         ", which no language model's weights need");
    if (stored.isExternal) {
      SMELT_TRY(importExternal(header, header.name(), *type));
      continue;
    }
    std::vector<int64_t> shape(header.dims().begin(), header.dims().end());
    SMELT_ASSIGN(int64_t id,
                 weights.addEmbedded(header.name(), stored.offset, stored.bytes, *type, shape));
    if (isWhole(*type) && stored.bytes <= integerConstantBytes)
      addConstant(header.name(), *type, shape, weights.bytesOf(id), id);
    else
      values[header.name()] = WeightOp::create(
          builder, builder.getUnknownLoc(),
          RankedTensorType::get(shape, elementType(builder.getContext(), header.data_type())),
          builder.getI64IntegerAttr(id), builder.getStringAttr(header.name()));
  }
  return {};
}

// --- nodes
// -----------------------------------------------------------------------------------------------------------

Result<Attribute> Importer::importAttribute(const onnx::AttributeProto &attribute) {
  using A = onnx::AttributeProto;
  switch (attribute.type()) {
  case A::FLOAT:
    return Attribute(builder.getF32FloatAttr(attribute.f()));
  case A::INT:
    return Attribute(builder.getI64IntegerAttr(attribute.i()));
  case A::STRING:
    return Attribute(builder.getStringAttr(attribute.s()));
  case A::FLOATS:
    return Attribute(builder.getDenseF32ArrayAttr(
        SmallVector<float>(attribute.floats().begin(), attribute.floats().end())));
  case A::INTS:
    return Attribute(builder.getDenseI64ArrayAttr(
        SmallVector<int64_t>(attribute.ints().begin(), attribute.ints().end())));
  case A::STRINGS: {
    SmallVector<Attribute> strings;
    for (const std::string &text : attribute.strings())
      strings.push_back(builder.getStringAttr(text));
    return Attribute(builder.getArrayAttr(strings));
  }
  case A::TENSOR: {
    std::optional<StoredType> type = storedType(attribute.t().data_type());
    if (!type || attribute.t().data_location() == onnx::TensorProto::EXTERNAL)
      break;
    SMELT_ASSIGN(std::vector<std::byte> bytes, bytesOf(attribute.t(), *type));
    if (bytes.size() > integerConstantBytes)
      break;
    SmallVector<int64_t> shape(attribute.t().dims().begin(), attribute.t().dims().end());
    auto tensorType =
        RankedTensorType::get(shape, elementType(builder.getContext(), attribute.t().data_type()));
    return Attribute(denseElements(tensorType, *type, bytes));
  }
  default:
    break;
  }
  // Kept as a mark: a pattern that meets it cannot match, so the node is reported, not mistaken.
  return Attribute(OpaqueAttr::get(StringAttr::get(builder.getContext(), "onnx"),
                                   onnx::AttributeProto::AttributeType_Name(attribute.type()),
                                   NoneType::get(builder.getContext())));
}

/// Constant nodes become onnx.constant or onnx.weight, whichever form their value has.
Status Importer::importConstantNode(const onnx::NodeProto &node, bool &done) {
  if (node.op_type() != "Constant" || !(node.domain().empty() || node.domain() == "ai.onnx") ||
      node.attribute_size() != 1 || node.output_size() != 1)
    return {};
  const onnx::AttributeProto &value = node.attribute(0);
  onnx::TensorProto tensor;
  if (value.name() == "value" && value.has_t()) {
    if (!storedType(value.t().data_type()))
      return {};
    tensor = value.t();
  } else if (value.name() == "value_int" || value.name() == "value_ints") {
    tensor.set_data_type(onnx::TensorProto::INT64);
    if (value.name() == "value_int")
      tensor.add_int64_data(value.i());
    else
      *tensor.mutable_int64_data() = value.ints();
    if (value.name() == "value_ints")
      tensor.add_dims(value.ints_size());
  } else if (value.name() == "value_float" || value.name() == "value_floats") {
    tensor.set_data_type(onnx::TensorProto::FLOAT);
    if (value.name() == "value_float")
      tensor.add_float_data(value.f());
    else
      *tensor.mutable_float_data() = value.floats();
    if (value.name() == "value_floats")
      tensor.add_dims(value.floats_size());
  } else {
    return {};
  }
  done = true;
  return importTensor(tensor, node.output(0));
}

Status Importer::importSubGraph(const onnx::GraphProto &graph, Region &region) {
  OpBuilder::InsertionGuard guard(builder);
  Scope outer = values;
  readTypes(graph);
  Block *block = builder.createBlock(&region);
  for (const auto &input : graph.input())
    values[input.name()] = block->addArgument(typeOf(input.name()), builder.getUnknownLoc());
  for (const auto &tensor : graph.initializer())
    SMELT_TRY(importTensor(tensor, tensor.name()));
  for (const auto &node : graph.node())
    SMELT_TRY(importNode(node));
  SmallVector<Value> results;
  for (const auto &output : graph.output()) {
    SMELT_ASSIGN(Value value, lookUp(output.name(), "the end of a sub-graph"));
    results.push_back(value);
  }
  YieldOp::create(builder, builder.getUnknownLoc(), results);
  values = std::move(outer);
  return {};
}

Status Importer::importNode(const onnx::NodeProto &node) {
  bool isConstant = false;
  SMELT_TRY(importConstantNode(node, isConstant));
  if (isConstant)
    return {};
  std::string name = nodeName(node);
  Location location = NameLoc::get(builder.getStringAttr(name));
  SmallVector<Value> inputs;
  for (const std::string &input : node.input()) {
    if (input.empty()) {
      inputs.push_back(NoneOp::create(builder, location, builder.getNoneType()));
      continue;
    }
    SMELT_ASSIGN(Value value, lookUp(input, name));
    inputs.push_back(value);
  }
  NamedAttrList attributes;
  SmallVector<const onnx::GraphProto *> bodies;
  for (const auto &attribute : node.attribute()) {
    if (attribute.type() == onnx::AttributeProto::GRAPH) {
      attributes.set(attribute.name(), builder.getI64IntegerAttr(int64_t(bodies.size())));
      bodies.push_back(&attribute.g());
      continue;
    }
    SMELT_ASSIGN(Attribute value, importAttribute(attribute));
    attributes.set(attribute.name(), value);
  }
  SmallVector<Type> resultTypes;
  for (const std::string &output : node.output())
    resultTypes.push_back(output.empty() ? Type(builder.getNoneType()) : typeOf(output));
  auto op = NodeOp::create(builder, location, resultTypes, inputs, node.op_type(),
                           node.domain() == "ai.onnx" ? "" : node.domain(), name,
                           attributes.getDictionary(builder.getContext()), unsigned(bodies.size()));
  for (auto [index, body] : llvm::enumerate(bodies))
    SMELT_TRY(importSubGraph(*body, op->getRegion(unsigned(index))));
  for (auto [index, output] : llvm::enumerate(node.output()))
    if (!output.empty())
      values[output] = op->getResult(unsigned(index));
  return {};
}

// --- the whole
// ---------------------------------------------------------------------------------------------------------

void Importer::describe(func::FuncOp function, int index, bool isResult,
                        const onnx::ValueInfoProto &info) {
  SmallVector<Attribute> dims;
  for (const auto &dim : info.type().tensor_type().shape().dim())
    dims.push_back(builder.getStringAttr(dim.has_dim_value() ? std::to_string(dim.dim_value())
                                                             : dim.dim_param()));
  Attribute name = builder.getStringAttr(info.name()), shape = builder.getArrayAttr(dims);
  if (isResult) {
    function.setResultAttr(unsigned(index), "onnx.name", name);
    function.setResultAttr(unsigned(index), "onnx.dims", shape);
  } else {
    function.setArgAttr(unsigned(index), "onnx.name", name);
    function.setArgAttr(unsigned(index), "onnx.dims", shape);
  }
}

Result<OwningOpRef<ModuleOp>> Importer::run() {
  Location unknown = builder.getUnknownLoc();
  const onnx::GraphProto &graph = model.proto.graph();
  OwningOpRef<ModuleOp> module = ModuleOp::create(unknown);
  (*module)->setAttr("onnx.producer", builder.getStringAttr(model.proto.producer_name() + " " +
                                                            model.proto.producer_version()));
  (*module)->setAttr("onnx.ir_version", builder.getI64IntegerAttr(model.proto.ir_version()));
  NamedAttrList opsets;
  for (const auto &import : model.proto.opset_import())
    opsets.set(import.domain().empty() ? "ai.onnx" : import.domain(),
               builder.getI64IntegerAttr(import.version()));
  (*module)->setAttr("onnx.opsets", opsets.getDictionary(builder.getContext()));

  readTypes(graph);
  std::map<std::string, bool> isInitializer;
  for (const PreparedModel::Stored &stored : model.stored)
    isInitializer[stored.header.name()] = true;
  for (const auto &tensor : graph.initializer())
    isInitializer[tensor.name()] = true;
  SmallVector<const onnx::ValueInfoProto *> inputs;
  SmallVector<Type> inputTypes, outputTypes;
  for (const auto &input : graph.input()) {
    if (isInitializer.count(input.name()))
      continue;
    inputs.push_back(&input);
    inputTypes.push_back(typeOf(input.name()));
  }
  for (const auto &output : graph.output())
    outputTypes.push_back(typeOf(output.name()));

  builder.setInsertionPointToEnd(module->getBody());
  auto function = func::FuncOp::create(builder, unknown, "main",
                                       builder.getFunctionType(inputTypes, outputTypes));
  Block *block = function.addEntryBlock();
  builder.setInsertionPointToEnd(block);
  for (auto [index, input] : llvm::enumerate(inputs)) {
    values[input->name()] = block->getArgument(unsigned(index));
    describe(function, int(index), false, *input);
  }
  SMELT_TRY(importStored());
  for (const auto &tensor : graph.initializer())
    SMELT_TRY(importTensor(tensor, tensor.name()));
  for (const auto &node : graph.node())
    SMELT_TRY(importNode(node));
  SmallVector<Value> results;
  for (auto [index, output] : llvm::enumerate(graph.output())) {
    SMELT_ASSIGN(Value value, lookUp(output.name(), "the graph's outputs"));
    results.push_back(value);
    describe(function, int(index), true, output);
  }
  func::ReturnOp::create(builder, unknown, results);
  // The declared type of an output may be coarser than its definition's.
  function.setFunctionType(builder.getFunctionType(inputTypes, TypeRange(ValueRange(results))));
  return module;
}

} // namespace

Result<ImportedModel> importOnnx(MLIRContext &context, const std::string &path,
                                 IntegerProducts products) {
  context.loadDialect<ONNXDialect, func::FuncDialect>();
  Result<std::unique_ptr<WeightStore>> store = WeightStore::open(path);
  if (!store.ok())
    return std::move(store).status();
  std::shared_ptr<WeightStore> weights = *std::move(store);
  Result<ScannedModel> scanned = scanModel(weights->modelBytes(), constantBytes);
  if (!scanned.ok())
    return std::move(scanned).status().withContext(path);
  Result<PreparedModel> model = prepareModel(*std::move(scanned));
  if (!model.ok())
    return std::move(model).status().withContext(path);
  Result<OwningOpRef<ModuleOp>> module = Importer(context, *model, *weights).run();
  if (!module.ok())
    return std::move(module).status().withContext(path);
  SMELT_TRY(dequantizeWeights(**module, *weights, products).withContext(path));
  if (failed(verify(**module)))
    return internalError(path + ": the imported module does not verify");
  return ImportedModel{*std::move(module), std::move(weights)};
}

} // namespace smelt
