// The description of an ONNX model: collected from the module before and after raising.
#include "compiler/driver/inspect_model.h"

#include "compiler/dialect/onnx.h"
#include "compiler/dialect/slm.h"
#include "compiler/driver/pipeline.h"
#include "compiler/graph/to_graph.h"
#include "compiler/onnx/importer.h"
#include "passes/fuse/fuse.h"
#include "passes/quantize/quantize.h"
#include "passes/raise/raise.h"
#include "runtime/formats/caches.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <cmath>
#include <filesystem>
#include <map>
#include <set>

using namespace mlir;

namespace smelt {

namespace {

//===--- Before raising
//------------------------------------------------------------------------===//

Json portsJson(func::FuncOp function, bool areResults) {
  Json::Array ports;
  unsigned count = areResults ? function.getNumResults() : function.getNumArguments();
  for (unsigned i = 0; i < count; ++i) {
    auto attribute = [&](StringRef name) {
      return areResults ? function.getResultAttr(i, name) : function.getArgAttr(i, name);
    };
    auto name = dyn_cast_or_null<StringAttr>(attribute("onnx.name"));
    auto dims = dyn_cast_or_null<ArrayAttr>(attribute("onnx.dims"));
    std::string shape;
    for (Attribute dim : dims ? dims.getValue() : ArrayRef<Attribute>())
      shape += (shape.empty() ? "" : ", ") + cast<StringAttr>(dim).getValue().str();
    std::string element;
    Type type = areResults ? function.getResultTypes()[i] : function.getArgumentTypes()[i];
    if (auto shaped = dyn_cast<ShapedType>(type))
      llvm::raw_string_ostream(element) << shaped.getElementType();
    Json port;
    port.set("name", name ? name.getValue().str() : "");
    port.set("shape", "[" + shape + "]");
    port.set("type", element);
    ports.push_back(std::move(port));
  }
  return ports;
}

Json exporterJson(ModuleOp module) {
  Json row;
  if (auto producer = module->getAttrOfType<StringAttr>("onnx.producer"))
    row.set("producer", producer.getValue().str());
  if (auto version = module->getAttrOfType<IntegerAttr>("onnx.ir_version"))
    row.set("ir_version", version.getInt());
  std::string opsets;
  if (auto table = module->getAttrOfType<DictionaryAttr>("onnx.opsets"))
    for (NamedAttribute entry : table)
      opsets += (opsets.empty() ? "" : ", ") +
                (entry.getName().empty() ? std::string("ai.onnx") : entry.getName().str()) + " " +
                std::to_string(cast<IntegerAttr>(entry.getValue()).getInt());
  row.set("opsets", opsets);
  return row;
}

/// Nodes by op, and bytes of the initializers by element type.
void addGraph(Json &row, ModuleOp module, const WeightStore &weights) {
  std::map<std::string, int64_t> ops;
  int64_t nodes = 0;
  module.walk([&](onnx_ir::NodeOp node) {
    ++nodes;
    ++ops[(node.getDomain().empty() ? "" : node.getDomain().str() + "::") + node.getType().str()];
  });
  std::map<std::string, uint64_t> types;
  std::set<int32_t> files;
  for (int64_t id = 0; id < weights.size(); ++id) {
    types[nameOf(weights.row(id).type)] += weights.row(id).bytes;
    if (weights.row(id).file > 0)
      files.insert(weights.row(id).file);
  }
  row.set("nodes", nodes);
  Json counts, bytes;
  for (const auto &[name, count] : ops)
    counts.set(name, count);
  for (const auto &[name, count] : types)
    bytes.set(name, count);
  row.set("ops", std::move(counts));
  row.set("initializer_bytes", std::move(bytes));
  row.set("data_files", files.size());
}

//===--- After raising
//-------------------------------------------------------------------------===//

/// "9" if all values are alike, "9 (3 layers), 1 (2 layers)" otherwise.
template <typename T> std::string byLayer(const std::vector<T> &values) {
  auto text = [](T value) {
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, "%.7g", double(value));
    return std::string(buffer);
  };
  std::map<T, int> counts;
  for (T value : values)
    ++counts[value];
  std::string all;
  for (auto [value, count] : counts)
    all +=
        (all.empty() ? "" : ", ") + text(value) +
        (counts.size() == 1 ? ""
                            : " (" + std::to_string(count) + (count == 1 ? " layer)" : " layers)"));
  return all;
}

/// Whether the value reaches an attention op without passing another linear.
bool feedsAttention(Value value, int depth = 0) {
  for (Operation *user : value.getUsers()) {
    if (isa<slm::AttentionOp>(user))
      return true;
    if (depth < 8 && isa_and_nonnull<slm::SLMDialect>(user->getDialect()) &&
        !isa<slm::LinearOp>(user) && user->getNumResults() == 1 &&
        feedsAttention(user->getResult(0), depth + 1))
      return true;
  }
  return false;
}

/// Whether nothing but slices and scales stands between an attention op and the linear.
bool readsAttention(slm::LinearOp linear) {
  Operation *before = linear.getInput().getDefiningOp();
  while (before && isa<slm::SliceOp, slm::ScaleOp, slm::SelectRowsOp>(before))
    before = before->getOperand(0).getDefiningOp();
  return isa_and_nonnull<slm::AttentionOp>(before);
}

/// One weight matrix of the raised part.
struct Matrix {
  std::string part;
  int64_t rows = 0, cols = 0;
};

class Raised {
public:
  explicit Raised(ModuleOp module) : module(module) { collect(); }

  Json architecture();
  Json parameters() const;
  Json sizes() const;
  bool isComplete = false;

private:
  void collect();
  void collectMatrices();
  void collectUnraised();
  std::string position(slm::AttentionOp attention) const;

  ModuleOp module;
  SmallVector<slm::AttentionOp> attentions;
  SmallVector<slm::LinearOp> linears;
  SmallVector<slm::EmbeddingOp> embeddings;
  std::vector<Matrix> matrices;
  int64_t vectors = 0; ///< elements of norm weights and biases
  bool isTiedModel = false;
};

void Raised::collect() {
  isComplete = true;
  module.walk([&](Operation *op) {
    if (auto attention = dyn_cast<slm::AttentionOp>(op))
      attentions.push_back(attention);
    else if (auto linear = dyn_cast<slm::LinearOp>(op))
      linears.push_back(linear);
    else if (auto embedding = dyn_cast<slm::EmbeddingOp>(op))
      embeddings.push_back(embedding);
    else if (isa<onnx_ir::NodeOp>(op))
      isComplete = false;
  });
  collectMatrices();
  collectUnraised();
}

/// Matrices that nodes still read as they are in the file.
void Raised::collectUnraised() {
  llvm::DenseSet<Value> seen;
  module.walk([&](onnx_ir::NodeOp node) {
    for (Value input : node.getInputs()) {
      auto weight = input.getDefiningOp<onnx_ir::WeightOp>();
      auto type = weight ? cast<RankedTensorType>(weight.getType()) : RankedTensorType();
      if (!type || !seen.insert(input).second)
        continue;
      if (type.getRank() == 2 && type.hasStaticShape())
        matrices.push_back({node.getType() == "Gather" ? "embedding" : "matrices as they stand",
                            type.getDimSize(1), type.getDimSize(0)});
      else if (type.hasStaticShape())
        vectors += type.getNumElements();
    }
  });
}

void Raised::collectMatrices() {
  for (slm::LinearOp linear : linears) {
    bool head = isHead(linear);
    for (Value weight : linear.getWeights())
      matrices.push_back({head ? "head"
                          : feedsAttention(linear.getResult()) || readsAttention(linear)
                              ? "attention"
                              : "feed-forward",
                          slm::rowsOf(weight), slm::widthOf(weight)});
    if (linear.getBias())
      vectors += slm::widthOf(linear.getBias());
  }
  for (slm::EmbeddingOp embedding : embeddings) {
    bool tied = llvm::any_of(linears, [&](slm::LinearOp l) { return isTied(embedding, l); });
    isTiedModel |= tied;
    if (!tied)
      matrices.push_back(
          {"embedding", slm::rowsOf(embedding.getTable()), slm::widthOf(embedding.getTable())});
  }
  llvm::DenseSet<Value> seen;
  module.walk([&](Operation *op) {
    if (isa<slm::RmsNormOp, slm::LayerNormOp, slm::HeadNormOp>(op))
      for (Value operand : llvm::drop_begin(op->getOperands()))
        if (seen.insert(operand).second)
          vectors += slm::widthOf(operand);
  });
}

/// "rotary 64 of base 10000", "rotary 32 interleaved", "none".
std::string Raised::position(slm::AttentionOp attention) const {
  Operation *before = attention.getQuery().getDefiningOp();
  while (before && isa<slm::ScaleOp, slm::HeadNormOp, slm::SliceOp>(before))
    before = before->getOperand(0).getDefiningOp();
  auto rope = dyn_cast_or_null<slm::RopeOp>(before);
  if (!rope)
    return "none";
  std::string text = "rotary " + std::to_string(rope.getRotaryDim());
  if (rope.getInterleaved())
    text += " interleaved";
  if (auto table = rope.getCos().getDefiningOp<slm::RotaryTableOp>()) {
    ArrayRef<double> frequencies = table.getInvFreq();
    if (frequencies.size() > 1 && frequencies[1] > 0)
      text += ", base " + byLayer(std::vector<double>{
                              std::round(std::pow(frequencies[1], -double(frequencies.size())))});
  } else {
    text += ", table of " + std::to_string(slm::rowsOf(rope.getCos())) + " positions";
  }
  return text;
}

Json Raised::architecture() {
  std::vector<int64_t> heads, kvHeads, headDims, windows;
  std::vector<double> softcaps, scales;
  std::map<std::string, int> positions, norms, activations;
  for (slm::AttentionOp attention : attentions) {
    heads.push_back(int64_t(attention.getHeads()));
    kvHeads.push_back(int64_t(attention.getKvHeads()));
    headDims.push_back(int64_t(attention.getHeadDim()));
    windows.push_back(int64_t(attention.getWindow()));
    softcaps.push_back(attention.getSoftcap().convertToDouble());
    scales.push_back(attention.getScale().convertToDouble());
    ++positions[position(attention)];
  }
  auto norm = [&](const char *kind, double epsilon) {
    char text[64];
    std::snprintf(text, sizeof text, "%s, epsilon %g", kind, epsilon);
    ++norms[text];
  };
  module.walk([&](Operation *op) {
    if (auto n = dyn_cast<slm::RmsNormOp>(op))
      norm("rms norm", n.getEpsilon().convertToDouble());
    else if (auto n = dyn_cast<slm::LayerNormOp>(op))
      norm("layer norm", n.getEpsilon().convertToDouble());
    else if (auto n = dyn_cast<slm::HeadNormOp>(op))
      norm("rms norm of each head", n.getEpsilon().convertToDouble());
    else if (auto gated = dyn_cast<slm::GatedOp>(op))
      ++activations["gated " + slm::stringifyActivation(gated.getKind()).str()];
    else if (auto plain = dyn_cast<slm::ActivationOp>(op))
      ++activations[slm::stringifyActivation(plain.getKind()).str()];
  });
  auto counted = [](const std::map<std::string, int> &counts) {
    std::string text;
    for (const auto &[name, count] : counts)
      text += (text.empty() ? "" : "; ") + std::to_string(count) + " x " + name;
    return text;
  };
  Json row;
  row.set("layers", attentions.size());
  if (!embeddings.empty()) {
    row.set("vocabulary", slm::rowsOf(embeddings[0].getTable()));
    row.set("hidden_size", slm::widthOf(embeddings[0].getTable()));
  }
  if (!attentions.empty()) {
    row.set("heads", byLayer(heads));
    row.set("kv_heads", byLayer(kvHeads));
    row.set("head_size", byLayer(headDims));
    row.set("score_scale", byLayer(scales));
    row.set("window", byLayer(windows) == "0" ? "none" : byLayer(windows) + " (0: none)");
    if (byLayer(softcaps) != "0")
      row.set("score_softcap", byLayer(softcaps));
    row.set("positions", counted(positions));
  }
  row.set("norms", counted(norms));
  row.set("activations", counted(activations));
  row.set("embedding_tied_to_head", isTiedModel);
  return row;
}

Json Raised::parameters() const {
  std::map<std::string, int64_t> parts;
  int64_t total = vectors;
  for (const Matrix &matrix : matrices) {
    parts[matrix.part] += matrix.rows * matrix.cols;
    total += matrix.rows * matrix.cols;
  }
  Json row;
  for (const auto &[part, count] : parts)
    row.set(isTiedModel && part == "head" ? "embedding and head" : part, count);
  row.set("vectors", vectors);
  row.set("total", total);
  return row;
}

/// Weight bytes of the compiler's three main choices, and cache bytes of a position.
Json Raised::sizes() const {
  struct Choice {
    const char *name;
    WeightFormat decoder, others;
    CacheFormat cache;
  };
  constexpr Choice choices[] = {{"int4", WeightFormat::A4G32, WeightFormat::S8C, CacheFormat::Int8},
                                {"int8", WeightFormat::S8C, WeightFormat::S8C, CacheFormat::Int8},
                                {"f32", WeightFormat::F32, WeightFormat::F32, CacheFormat::F32}};
  auto cacheBytes = [&](CacheFormat cache) {
    int64_t bytes = 0;
    for (slm::AttentionOp attention : attentions) {
      const auto headDim = int64_t(attention.getHeadDim());
      bytes +=
          int64_t(attention.getKvHeads()) * (keyBytes(cache, headDim) + valueBytes(cache, headDim));
    }
    return bytes;
  };
  Json row;
  for (const Choice &choice : choices) {
    int64_t bytes = vectors * 4;
    for (const Matrix &matrix : matrices) {
      bool isDecoder = matrix.part != "head" && matrix.part != "embedding";
      bytes += packedBytes(isDecoder ? choice.decoder : choice.others, matrix.rows, matrix.cols);
    }
    Json cell;
    cell.set("weight_bytes", bytes);
    cell.set("cache_bytes_per_position", cacheBytes(choice.cache));
    row.set(choice.name, std::move(cell));
  }
  return row;
}

/// Nodes that were not raised for a reason of their own, alike ones together.
Json unraisedJson(ModuleOp module, int64_t &count) {
  struct Group {
    std::string example;
    int64_t count = 0;
  };
  std::map<std::array<std::string, 3>, Group> groups;
  count = 0;
  module.walk([&](onnx_ir::NodeOp node) {
    ++count;
    auto why = node->getAttrOfType<StringAttr>(whyAttribute);
    if (!why)
      return;
    auto closest = node->getAttrOfType<StringAttr>(closestAttribute);
    Group &group = groups[{(node.getDomain().empty() ? "" : node.getDomain().str() + "::") +
                               node.getType().str(),
                           why.getValue().str(), closest ? closest.getValue().str() : "none"}];
    if (group.count++ == 0)
      group.example = node.getName().str();
  });
  Json::Array list;
  for (const auto &[key, group] : groups) {
    Json row;
    row.set("op", key[0]);
    row.set("count", group.count);
    row.set("first", group.example);
    row.set("why", key[1]);
    row.set("closest_pattern", key[2]);
    list.push_back(std::move(row));
  }
  return list;
}

//===--- Text
//----------------------------------------------------------------------------------===//

std::string megabytes(double bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MB", bytes / 1e6);
  return text;
}

/// A count with a space between groups of three digits.
std::string grouped(int64_t value) {
  std::string text = std::to_string(value);
  for (int64_t at = int64_t(text.size()) - 3; at > 0; at -= 3)
    text.insert(size_t(at), " ");
  return text;
}

std::string scalarText(const Json &value) {
  return value.string() ? *value.string() : value.dump();
}

class TextReport {
public:
  std::string text;

  void line(const std::string &name, const std::string &value) {
    text += "  " + name + std::string(name.size() < 22 ? 22 - name.size() : 1, ' ') + value + "\n";
  }
  void object(const char *title, const Json *object) {
    if (!object || !object->object() || object->object()->empty())
      return;
    text += std::string(title) + "\n";
    for (const auto &[key, value] : *object->object())
      line(key, scalarText(value));
  }
};

/// Inputs and outputs; caches, of which there are many alike, as one line.
void addPorts(TextReport &report, const char *title, const Json &ports) {
  report.text += std::string(title) + "\n";
  size_t shown = 0;
  constexpr size_t most = 6;
  for (const Json &port : *ports.array()) {
    if (shown++ == most)
      break;
    report.line(*port.find("name")->string(),
                *port.find("type")->string() + " " + *port.find("shape")->string());
  }
  if (ports.array()->size() > most)
    report.line("...", std::to_string(ports.array()->size() - most) + " more");
}

} // namespace

Result<Json> describeModel(const std::string &path) {
  PipelineOptions options;
  options.quiet = true;
  Pipeline pipeline(std::move(options));
  Json out;
  std::shared_ptr<WeightStore> weights;
  SMELT_TRY(pipeline.collectDiagnostics([&]() -> Status {
    SMELT_ASSIGN(ImportedModel imported, importOnnx(pipeline.context(), path));
    pipeline.module = std::move(imported.module);
    weights = std::move(imported.weights);
    return {};
  }));
  ModuleOp module = *pipeline.module;
  out.set("exporter", exporterJson(module));
  Json graph;
  addGraph(graph, module, *weights);
  out.set("graph", std::move(graph));
  auto function = module.lookupSymbol<func::FuncOp>("main");
  out.set("inputs", portsJson(function, false));
  out.set("outputs", portsJson(function, true));

  std::vector<std::unique_ptr<Pass>> passes;
  passes.push_back(createRaisePass());
  passes.push_back(
      createCheckConfigPass(std::filesystem::path(path).replace_filename("config.json")));
  SMELT_TRY(pipeline.runPasses(std::move(passes)));
  SMELT_TRY(tieWeights(module, makeResolver(weights)).status());
  Raised raised(module);
  out.set("raised", raised.isComplete);
  Json patterns;
  if (auto counts = module->getAttrOfType<DictionaryAttr>(patternCountsAttribute))
    for (NamedAttribute entry : counts)
      patterns.set(entry.getName().str(), cast<IntegerAttr>(entry.getValue()).getInt());
  out.set("patterns", std::move(patterns));
  out.set("architecture", raised.architecture());
  out.set("parameters", raised.parameters());
  out.set("sizes", raised.sizes());
  int64_t count = 0;
  Json unraised = unraisedJson(module, count);
  out.set("unraised_nodes", count);
  out.set("unraised", std::move(unraised));
  Json::Array warnings;
  for (const std::string &warning : pipeline.takeWarnings())
    warnings.push_back(warning);
  out.set("warnings", std::move(warnings));
  return out;
}

std::string describeText(const std::string &path, const Json &description) {
  TextReport report;
  report.text = path + ": ONNX model\n";
  report.object("exporter", description.find("exporter"));
  const Json &graph = *description.find("graph");
  report.text += "graph\n";
  report.line("nodes", scalarText(*graph.find("nodes")));
  if (const Json *bytes = graph.find("initializer_bytes"); bytes->object())
    for (const auto &[type, count] : *bytes->object())
      report.line("weights in " + type, megabytes(count.number()));
  addPorts(report, "inputs", *description.find("inputs"));
  addPorts(report, "outputs", *description.find("outputs"));
  bool isComplete = description.find("raised")->dump() == "true";
  report.object(isComplete ? "architecture" : "architecture (of the part that was raised)",
                description.find("architecture"));
  report.text += "parameters\n";
  for (const auto &[part, count] : *description.find("parameters")->object())
    report.line(part, grouped(int64_t(count.number())));
  report.text += "expected size and memory\n";
  for (const auto &[format, size] : *description.find("sizes")->object())
    report.line(format, megabytes(size.find("weight_bytes")->number()) + " of weights, " +
                            grouped(int64_t(size.find("cache_bytes_per_position")->number())) +
                            " bytes of cache for each position");
  report.object("nodes raised, by pattern", description.find("patterns"));
  if (!isComplete) {
    report.text +=
        "not raised: " + scalarText(*description.find("unraised_nodes")) + " nodes; causes:\n";
    for (const Json &row : *description.find("unraised")->array())
      report.text += "  " + scalarText(*row.find("count")) + " x " + scalarText(*row.find("op")) +
                     ", first \"" + scalarText(*row.find("first")) +
                     "\": " + scalarText(*row.find("why")) +
                     "; closest pattern: " + scalarText(*row.find("closest_pattern")) + "\n";
  }
  for (const Json &warning : *description.find("warnings")->array())
    report.text += "warning: " + scalarText(warning) + "\n";
  return report.text;
}

} // namespace smelt
