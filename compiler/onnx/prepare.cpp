// ONNX's checker, inliner and shape inference on a model without its weights; their exceptions end
// here.
#include "compiler/onnx/prepare.h"

#include <onnx/checker.h>
#include <onnx/defs/schema.h>
#include <onnx/inliner/inliner.h>
#include <onnx/shape_inference/implementation.h>

#include <map>
#include <queue>
#include <set>

namespace smelt {
namespace {

/// Where nodes of the standard domain go while ONNX's library looks, if it has no schema for them.
constexpr const char *uncheckedDomain = "smelt.unchecked";

int opsetOf(const onnx::ModelProto &model) {
  for (const auto &import : model.opset_import())
    if (import.domain().empty() || import.domain() == "ai.onnx")
      return int(import.version());
  return 0;
}

/// Moves unknown ops of the default domain to `uncheckedDomain`, in sub-graphs too.
bool hideUnknownOps(onnx::GraphProto &graph, int opset, const std::set<std::string> &functions) {
  bool hidden = false;
  for (auto &node : *graph.mutable_node()) {
    for (auto &attribute : *node.mutable_attribute())
      if (attribute.has_g())
        hidden |= hideUnknownOps(*attribute.mutable_g(), opset, functions);
    if (!node.domain().empty() && node.domain() != "ai.onnx")
      continue;
    if (functions.count(node.op_type()) ||
        onnx::OpSchemaRegistry::Schema(node.op_type(), opset, ""))
      continue;
    node.set_domain(uncheckedDomain);
    hidden = true;
  }
  return hidden;
}

void showHiddenOps(onnx::GraphProto &graph) {
  for (auto &node : *graph.mutable_node()) {
    for (auto &attribute : *node.mutable_attribute())
      if (attribute.has_g())
        showHiddenOps(*attribute.mutable_g());
    if (node.domain() == uncheckedDomain)
      node.clear_domain();
  }
}

/// Declares the stored initializers as inputs, so that the checker and the inference know their
/// types.
void declareStored(PreparedModel &model) {
  onnx::GraphProto &graph = *model.proto.mutable_graph();
  std::set<std::string> declared;
  for (const auto &input : graph.input())
    declared.insert(input.name());
  for (const auto &stored : model.stored) {
    if (!declared.insert(stored.header.name()).second)
      continue;
    auto *input = graph.add_input();
    input->set_name(stored.header.name());
    auto *tensor = input->mutable_type()->mutable_tensor_type();
    tensor->set_elem_type(stored.header.data_type());
    tensor->mutable_shape();
    for (int64_t dim : stored.header.dims())
      tensor->mutable_shape()->add_dim()->set_dim_value(dim);
  }
}

/// Names that a node reads from around it: its inputs, and what its sub-graphs read but do not
/// make.
void addReads(const onnx::NodeProto &node, std::set<std::string> &names) {
  for (const std::string &input : node.input())
    names.insert(input);
  for (const auto &attribute : node.attribute()) {
    if (!attribute.has_g())
      continue;
    std::set<std::string> inner;
    for (const auto &innerNode : attribute.g().node())
      addReads(innerNode, inner);
    for (const auto &output : attribute.g().output())
      inner.insert(output.name());
    for (const auto &input : attribute.g().input())
      inner.erase(input.name());
    for (const auto &tensor : attribute.g().initializer())
      inner.erase(tensor.name());
    for (const auto &innerNode : attribute.g().node())
      for (const std::string &output : innerNode.output())
        inner.erase(output);
    names.merge(inner);
  }
}

/// Puts nodes behind those whose results they read; some quantizers append theirs at the end. Nodes
/// that already stand so keep their order.
Status sortNodes(onnx::GraphProto &graph) {
  std::map<std::string, int> makers;
  for (int i = 0; i < graph.node_size(); ++i)
    for (const std::string &output : graph.node(i).output())
      if (!output.empty())
        makers.emplace(output, i);
  std::vector<int> missing(size_t(graph.node_size()), 0);
  std::vector<std::vector<int>> readers(size_t(graph.node_size()));
  bool isSorted = true;
  for (int i = 0; i < graph.node_size(); ++i) {
    std::set<std::string> names;
    addReads(graph.node(i), names);
    for (const std::string &name : names)
      if (auto maker = makers.find(name); maker != makers.end()) {
        readers[size_t(maker->second)].push_back(i);
        ++missing[size_t(i)];
        isSorted &= maker->second < i;
      }
  }
  if (isSorted)
    return {};
  std::priority_queue<int, std::vector<int>, std::greater<>> ready;
  for (int i = 0; i < graph.node_size(); ++i)
    if (missing[size_t(i)] == 0)
      ready.push(i);
  google::protobuf::RepeatedPtrField<onnx::NodeProto> sorted;
  while (!ready.empty()) {
    int next = ready.top();
    ready.pop();
    sorted.Add()->Swap(graph.mutable_node(next));
    for (int reader : readers[size_t(next)])
      if (--missing[size_t(reader)] == 0)
        ready.push(reader);
  }
  for (int i = 0; i < graph.node_size(); ++i)
    if (missing[size_t(i)] > 0)
      return corrupt("the graph has a cycle: node \"" + graph.node(i).name() +
                     "\" reads, directly or not, what it makes itself");
  graph.mutable_node()->Swap(&sorted);
  return {};
}

/// The first line of a library's message: the rest repeats the protobuf.
std::string firstLine(const std::string &text) { return text.substr(0, text.find('\n')); }

Status checkAndInline(onnx::ModelProto &model) {
  try {
    onnx::checker::check_model(model, false, true);
  } catch (const std::exception &error) {
    return corrupt("the ONNX checker refuses the model: " + firstLine(error.what()));
  }
  try {
    if (model.functions_size() != 0)
      onnx::inliner::InlineLocalFunctions(model, false);
  } catch (const std::exception &error) {
    return corrupt("the model's functions cannot be inlined: " + firstLine(error.what()));
  }
  return {};
}

} // namespace

Result<PreparedModel> prepareModel(ScannedModel scanned) {
  PreparedModel model;
  if (scanned.skeleton.size() > INT32_MAX || !model.proto.ParseFromString(scanned.skeleton))
    return corrupt("not an ONNX file: its bytes are not a ModelProto");
  if (!model.proto.has_graph() || model.proto.graph().node_size() == 0 ||
      model.proto.ir_version() == 0)
    return corrupt("not an ONNX file: no graph with nodes in it");
  std::set<std::string> names;
  for (ScannedTensor &tensor : scanned.tensors) {
    PreparedModel::Stored stored{{}, tensor.dataOffset, tensor.dataBytes, tensor.isExternal};
    if (!stored.header.ParseFromString(tensor.header) || stored.header.name().empty())
      return corrupt("an initializer is not a TensorProto with a name");
    if (!names.insert(stored.header.name()).second)
      return corrupt("initializer \"" + stored.header.name() + "\" is given twice");
    model.stored.push_back(std::move(stored));
  }
  for (const auto &tensor : model.proto.graph().initializer())
    if (!names.insert(tensor.name()).second)
      return corrupt("initializer \"" + tensor.name() + "\" is given twice");
  declareStored(model);
  SMELT_TRY(sortNodes(*model.proto.mutable_graph()));

  std::set<std::string> functions;
  for (const auto &function : model.proto.functions())
    if (function.domain().empty())
      functions.insert(function.name());
  if (hideUnknownOps(*model.proto.mutable_graph(), opsetOf(model.proto), functions)) {
    auto *import = model.proto.add_opset_import();
    import->set_domain(uncheckedDomain);
    import->set_version(1);
  }
  SMELT_TRY(checkAndInline(model.proto));
  onnx::ModelProto inferred = model.proto;
  try {
    onnx::shape_inference::InferShapes(inferred);
    model.proto = std::move(inferred);
  } catch (const std::exception &) {
    // Shapes only make messages better: what raising needs, it works out itself.
  }
  showHiddenOps(*model.proto.mutable_graph());
  auto *imports = model.proto.mutable_opset_import();
  if (imports->size() != 0 && imports->rbegin()->domain() == uncheckedDomain)
    imports->RemoveLast();
  return model;
}

} // namespace smelt
