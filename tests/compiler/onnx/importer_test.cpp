// Import of good files and refusal of bad ones: truncated, flipped, missing or escaping data, bytes
// that do not fit.
#include "compiler/onnx/importer.h"

#include "compiler/dialect/onnx.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <gtest/gtest.h>
#include <onnx/defs/parser.h>
#include <onnx/onnx_pb.h>

#include <filesystem>
#include <fstream>
#include <unistd.h>

namespace fs = std::filesystem;
using namespace smelt;
using namespace smelt::onnx_ir;

namespace {

class ImporterTest : public testing::Test {
protected:
  void SetUp() override {
    std::string name = "/tmp/smelt_importer_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    outer = name;
    folder = outer / "model";
    fs::create_directory(folder);
  }
  void TearDown() override { fs::remove_all(outer); }

  /// y = x W, W [8, 64] of floats 0, 1, 2, ..., as protobuf.
  onnx::ModelProto linear() {
    onnx::ModelProto model;
    EXPECT_TRUE(onnx::OnnxParser(R"(<ir_version: 10, opset_import: ["" : 21]>
      main (float[batch, seq, 8] x) => (float[batch, seq, 64] y) { y = MatMul(x, W) })")
                    .Parse(model)
                    .IsOK());
    onnx::TensorProto *weight = model.mutable_graph()->add_initializer();
    weight->set_name("W");
    weight->set_data_type(onnx::TensorProto::FLOAT);
    weight->add_dims(8);
    weight->add_dims(64);
    std::vector<float> values(8 * 64);
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = float(i);
    weight->set_raw_data(values.data(), values.size() * sizeof(float));
    return model;
  }
  /// The same with W in `location`.
  onnx::ModelProto externalLinear(const std::string &location, const std::string &offset = "0") {
    onnx::ModelProto model = linear();
    onnx::TensorProto *weight = model.mutable_graph()->mutable_initializer(0);
    weight->clear_raw_data();
    weight->set_data_location(onnx::TensorProto::EXTERNAL);
    for (auto [key, value] :
         {std::pair<std::string, std::string>("location", location), {"offset", offset}}) {
      auto *entry = weight->add_external_data();
      entry->set_key(key);
      entry->set_value(value);
    }
    return model;
  }

  std::string save(const onnx::ModelProto &model) { return save(model.SerializeAsString()); }
  std::string save(const std::string &bytes) {
    fs::path path = folder / "model.onnx";
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }
  void saveData(const fs::path &path, size_t bytes) {
    std::ofstream(path, std::ios::binary) << std::string(bytes, '\1');
  }
  Result<ImportedModel> import(const std::string &path) { return importOnnx(context, path); }
  /// The message of a refusal.
  std::string refusal(const std::string &path) {
    Result<ImportedModel> model = import(path);
    EXPECT_FALSE(model.ok());
    return model.ok() ? "" : model.status().message();
  }

  template <typename Op> std::vector<Op> all(ImportedModel &model) {
    std::vector<Op> found;
    model.module->walk([&](Op op) { found.push_back(op); });
    return found;
  }

  mlir::MLIRContext context{mlir::MLIRContext::Threading::DISABLED};
  fs::path outer, folder;
};

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST_F(ImporterTest, KeepsNodesNamesAndDims) {
  Result<ImportedModel> model = import(save(linear()));
  ASSERT_TRUE(model.ok()) << model.status().message();
  auto function = model->module->lookupSymbol<mlir::func::FuncOp>("main");
  ASSERT_TRUE(function);
  EXPECT_EQ(function.getArgAttrOfType<mlir::StringAttr>(0, "onnx.name").getValue(), "x");
  auto dims = function.getArgAttrOfType<mlir::ArrayAttr>(0, "onnx.dims");
  ASSERT_EQ(dims.size(), 3u);
  EXPECT_EQ(mlir::cast<mlir::StringAttr>(dims[1]).getValue(), "seq");
  EXPECT_EQ(mlir::cast<mlir::StringAttr>(dims[2]).getValue(), "8");
  EXPECT_EQ(function.getResultAttrOfType<mlir::StringAttr>(0, "onnx.name").getValue(), "y");
  std::vector<NodeOp> nodes = all<NodeOp>(*model);
  ASSERT_EQ(nodes.size(), 1u);
  EXPECT_EQ(nodes[0].getType(), "MatMul");
  EXPECT_EQ(nodes[0].getName(), "y");
}

TEST_F(ImporterTest, WeightsStayInTheFile) {
  std::string path = save(linear());
  Result<ImportedModel> model = import(path);
  ASSERT_TRUE(model.ok()) << model.status().message();
  std::vector<WeightOp> weights = all<WeightOp>(*model);
  ASSERT_EQ(weights.size(), 1u);
  const WeightRow &row = model->weights->row(int64_t(weights[0].getId()));
  EXPECT_EQ(row.name, "W");
  EXPECT_EQ(row.file, 0);
  EXPECT_EQ(row.shape, (std::vector<int64_t>{8, 64}));
  // The transposed view: element (r, c) is W[c][r] = 64 c + r.
  Result<WeightView> view = model->weights->view(int64_t(weights[0].getId()), 0, 64, 8, 1, 64);
  ASSERT_TRUE(view.ok());
  float value = 0;
  std::memcpy(&value, view->data + (5 * view->rowStride + 3 * view->colStride) * 4, sizeof value);
  EXPECT_EQ(value, 64 * 3 + 5);
}

TEST_F(ImporterTest, PackedFloatsAreMappedToo) {
  onnx::ModelProto model = linear();
  onnx::TensorProto *weight = model.mutable_graph()->mutable_initializer(0);
  weight->clear_raw_data();
  for (int i = 0; i < 512; ++i)
    weight->add_float_data(float(i));
  Result<ImportedModel> imported = import(save(model));
  ASSERT_TRUE(imported.ok()) << imported.status().message();
  const WeightRow &row = imported->weights->row(0);
  EXPECT_EQ(row.file, 0);
  float last = 0;
  std::memcpy(&last, imported->weights->bytesOf(0).data() + 511 * 4, sizeof last);
  EXPECT_EQ(last, 511);
}

TEST_F(ImporterTest, ExternalDataIsMapped) {
  saveData(folder / "w.data", 100 + 2048);
  Result<ImportedModel> model = import(save(externalLinear("w.data", "100")));
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ(model->weights->row(0).offset, 100u);
  EXPECT_EQ(model->weights->row(0).bytes, 2048u);
}

TEST_F(ImporterTest, SmallAndWholeTensorsAreConstants) {
  onnx::ModelProto model;
  ASSERT_TRUE(onnx::OnnxParser(R"(<ir_version: 10, opset_import: ["" : 21]>
    main (float[2, 3] x) => (float[a, b] y) <int64[2] shape = {3, 2}, float[1] s = {0.5}>
    { z = Mul(x, s) y = Reshape(z, shape) })")
                  .Parse(model)
                  .IsOK());
  Result<ImportedModel> imported = import(save(model));
  ASSERT_TRUE(imported.ok()) << imported.status().message();
  EXPECT_EQ(all<WeightOp>(*imported).size(), 0u);
  std::vector<ConstantOp> constants = all<ConstantOp>(*imported);
  ASSERT_EQ(constants.size(), 2u);
  for (ConstantOp constant : constants)
    EXPECT_EQ(constant.getId().has_value(), constant.getName() == "s");
}

TEST_F(ImporterTest, UnknownOpsAndDomainsAreKept) {
  onnx::ModelProto model;
  ASSERT_TRUE(onnx::OnnxParser(R"(<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
    main (float[2, 3] x) => (float[a, b] y) { z = SimplifiedLayerNormalization(x, x) y = com.microsoft.Unheard(z) })")
                  .Parse(model)
                  .IsOK());
  Result<ImportedModel> imported = import(save(model));
  ASSERT_TRUE(imported.ok()) << imported.status().message();
  std::vector<NodeOp> nodes = all<NodeOp>(*imported);
  ASSERT_EQ(nodes.size(), 2u);
  EXPECT_EQ(nodes[0].getDomain(), "");
  EXPECT_EQ(nodes[1].getDomain(), "com.microsoft");
}

TEST_F(ImporterTest, FunctionsAreInlined) {
  onnx::ModelProto model;
  ASSERT_TRUE(onnx::OnnxParser(R"(<ir_version: 10, opset_import: ["" : 21, "local" : 1]>
    main (float[2, 3] x) => (float[2, 3] y) { y = local.twice(x) }
    <opset_import: ["" : 21], domain: "local"> twice (a) => (b) { b = Add(a, a) })")
                  .Parse(model)
                  .IsOK());
  Result<ImportedModel> imported = import(save(model));
  ASSERT_TRUE(imported.ok()) << imported.status().message();
  std::vector<NodeOp> nodes = all<NodeOp>(*imported);
  ASSERT_EQ(nodes.size(), 1u);
  EXPECT_EQ(nodes[0].getType(), "Add");
}

TEST_F(ImporterTest, SubGraphsAreRegions) {
  onnx::ModelProto model;
  ASSERT_TRUE(onnx::OnnxParser(R"(<ir_version: 10, opset_import: ["" : 21]>
    main (bool c, float[2] x) => (float[2] y) {
      y = If (c) <then_branch = g1 () => (float[2] a) { a = Neg(x) }, else_branch = g2 () => (float[2] b) { b = Abs(x) }>
    })")
                  .Parse(model)
                  .IsOK());
  Result<ImportedModel> imported = import(save(model));
  ASSERT_TRUE(imported.ok()) << imported.status().message();
  auto function = imported->module->lookupSymbol<mlir::func::FuncOp>("main");
  auto branch = mlir::cast<NodeOp>(function.front().front());
  EXPECT_EQ(branch.getType(), "If");
  ASSERT_EQ(branch->getNumRegions(), 2u);
  EXPECT_EQ(mlir::cast<NodeOp>(branch->getRegion(1).front().front()).getType(), "Abs");
}

// --- refusals

TEST_F(ImporterTest, NodesAreSorted) {
  onnx::ModelProto model;
  ASSERT_TRUE(onnx::OnnxParser(R"(<ir_version: 10, opset_import: ["" : 21]>
      main (float[4] x) => (float[4] y) { a = Neg(x)  b = Abs(a)  y = Add(a, b) })")
                  .Parse(model)
                  .IsOK());
  model.mutable_graph()->mutable_node()->SwapElements(0, 2);
  Result<ImportedModel> imported = import(save(model));
  ASSERT_TRUE(imported.ok()) << imported.status().message();
  std::vector<NodeOp> nodes = all<NodeOp>(*imported);
  ASSERT_EQ(nodes.size(), 3u);
  EXPECT_EQ(nodes[0].getType(), "Neg");
  EXPECT_EQ(nodes[2].getType(), "Add");

  model.mutable_graph()->mutable_node(2)->set_input(0, "y"); // Neg reads what depends on it
  EXPECT_CONTAINS(refusal(save(model)), "the graph has a cycle");
}

TEST_F(ImporterTest, SubGraphsMayNameTheirValuesAsTheIf) {
  onnx::ModelProto model;
  ASSERT_TRUE(onnx::OnnxParser(R"(<ir_version: 10, opset_import: ["" : 21]>
      main (bool c, float[4] x) => (float[4] y) {
        y = If (c) <then_branch = a () => (float[4] y) { y = Neg(x) },
                    else_branch = b () => (float[4] y) { z = Abs(x)  y = Identity(z) }>
      })")
                  .Parse(model)
                  .IsOK());
  Result<ImportedModel> imported = import(save(model));
  EXPECT_TRUE(imported.ok()) << imported.status().message();
}

TEST_F(ImporterTest, RefusesWhatIsNoModel) {
  EXPECT_CONTAINS(refusal((folder / "absent.onnx").string()), "cannot open");
  EXPECT_CONTAINS(refusal(folder.string()), "not a regular file");
  EXPECT_CONTAINS(refusal(save(std::string())), "empty");
  EXPECT_CONTAINS(refusal(save("just a text file, nothing else\n")), "protobuf");
  EXPECT_CONTAINS(refusal(save(onnx::ModelProto())), "empty");
  onnx::ModelProto noGraph;
  noGraph.set_ir_version(10);
  EXPECT_CONTAINS(refusal(save(noGraph)), "not an ONNX file");
}

TEST_F(ImporterTest, RefusesEveryTruncation) {
  std::string bytes = linear().SerializeAsString();
  for (size_t length = 1; length < bytes.size(); length += length < 200 ? 1 : 97) {
    Result<ImportedModel> model = import(save(bytes.substr(0, length)));
    EXPECT_FALSE(model.ok()) << length << " of " << bytes.size() << " bytes were accepted";
  }
}

TEST_F(ImporterTest, SurvivesFlippedBytes) {
  std::string bytes = linear().SerializeAsString();
  int refused = 0;
  for (size_t at = 0; at < bytes.size(); at += at < 160 ? 1 : 61) {
    std::string flipped = bytes;
    flipped[at] = char(flipped[at] ^ (1 << at % 8));
    refused += !import(save(flipped)).ok();
  }
  EXPECT_GT(refused, 20);
}

TEST_F(ImporterTest, RefusesMissingData) {
  std::string message = refusal(save(externalLinear("absent.data")));
  EXPECT_CONTAINS(message, "\"W\"");
  EXPECT_CONTAINS(message, "\"absent.data\" not found");
}

TEST_F(ImporterTest, RefusesDataOutsideTheFolder) {
  saveData(outer / "w.data", 2048);
  EXPECT_CONTAINS(refusal(save(externalLinear("../w.data"))), "leaves the model's folder");
  EXPECT_CONTAINS(refusal(save(externalLinear("sub/../../w.data"))), "leaves the model's folder");
  EXPECT_CONTAINS(refusal(save(externalLinear((outer / "w.data").string()))), "is absolute");
  fs::create_symlink(outer / "w.data", folder / "link.data");
  EXPECT_CONTAINS(refusal(save(externalLinear("link.data"))), "outside the model's folder");
  fs::create_directory_symlink(outer, folder / "sub");
  EXPECT_CONTAINS(refusal(save(externalLinear("sub/w.data"))), "outside the model's folder");
}

TEST_F(ImporterTest, RefusesBytesThatDoNotFit) {
  onnx::ModelProto model = linear();
  model.mutable_graph()->mutable_initializer(0)->set_dims(0, 9);
  EXPECT_CONTAINS(refusal(save(model)), "needs 2304 bytes, found 2048");
  model.mutable_graph()->mutable_initializer(0)->set_dims(0, -8);
  EXPECT_CONTAINS(refusal(save(model)), "impossible shape");
  model.mutable_graph()->mutable_initializer(0)->set_dims(0, int64_t(1) << 62);
  EXPECT_CONTAINS(refusal(save(model)), "impossible shape");
  saveData(folder / "short.data", 2047);
  EXPECT_CONTAINS(refusal(save(externalLinear("short.data"))), "which has only 2047");
  saveData(folder / "w.data", 2048);
  EXPECT_CONTAINS(refusal(save(externalLinear("w.data", "18446744073709551615"))), "w.data");
  EXPECT_CONTAINS(refusal(save(externalLinear("w.data", "-4"))), "not a number");
}

TEST_F(ImporterTest, RefusesDanglingNames) {
  onnx::ModelProto model = linear();
  model.mutable_graph()->mutable_node(0)->set_input(0, "nowhere");
  EXPECT_CONTAINS(refusal(save(model)), "ONNX checker");
  model = linear();
  *model.mutable_graph()->add_initializer() = model.graph().initializer(0);
  EXPECT_CONTAINS(refusal(save(model)), "given twice");
}

} // namespace
