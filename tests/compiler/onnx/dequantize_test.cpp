// Quantized weights of every form decode to (code - zero point) * scale, whatever node held them.
#include "compiler/onnx/importer.h"

#include "compiler/dialect/onnx.h"

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

using T = onnx::TensorProto;

class DequantizeTest : public testing::Test {
protected:
  void SetUp() override {
    std::string name = "/tmp/smelt_dequantize_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder = name;
  }
  void TearDown() override { fs::remove_all(folder); }

  void parse(const std::string &text) {
    ASSERT_TRUE(onnx::OnnxParser(text.c_str()).Parse(model).IsOK());
  }
  template <typename Element>
  void add(const char *name, int type, std::vector<int64_t> dims,
           const std::vector<Element> &values) {
    T &tensor = *model.mutable_graph()->add_initializer();
    tensor.set_name(name);
    tensor.set_data_type(type);
    for (int64_t dim : dims)
      tensor.add_dims(dim);
    tensor.set_raw_data(values.data(), values.size() * sizeof(Element));
  }
  Result<ImportedModel> import(IntegerProducts products = IntegerProducts::Float) {
    fs::path path = folder / "model.onnx";
    std::ofstream(path, std::ios::binary) << model.SerializeAsString();
    return importOnnx(context, path, products);
  }
  std::vector<std::string> nodes(ImportedModel &imported) {
    std::vector<std::string> types;
    imported.module->walk([&](NodeOp node) { types.push_back(node.getType().str()); });
    return types;
  }
  /// The elements of the only weight that decodes.
  std::vector<float> decoded(ImportedModel &imported) {
    std::vector<float> values;
    imported.module->walk([&](WeightOp op) {
      const WeightRow &row = imported.weights->row(int64_t(op.getId()));
      if (row.type != StoredType::Given)
        return;
      EXPECT_TRUE(values.empty());
      int64_t rows = row.shape[0], cols = row.shape[1];
      auto view = imported.weights->view(int64_t(op.getId()), 0, rows, cols, cols, 1);
      ASSERT_TRUE(view.ok()) << view.status().message();
      values.resize(size_t(rows * cols));
      readRows(*view, 0, rows, values.data());
    });
    return values;
  }

  onnx::ModelProto model;
  mlir::MLIRContext context{mlir::MLIRContext::Threading::DISABLED};
  fs::path folder;
};

constexpr char contrib[] = R"(<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]> )";

TEST_F(DequantizeTest, MatMulNBitsWithPackedZeroPoints) {
  // N = 2, K = 40, blocks of 16: three a row, the last one padded; zero points of a row fill 2
  // bytes.
  parse(std::string(contrib) + R"(main (float[b, s, 40] x) => (float[b, s, 2] y)
      { y = com.microsoft.MatMulNBits<K = 40, N = 2, bits = 4, block_size = 16>(x, B, S, Z) })");
  std::vector<uint8_t> codes(2 * 3 * 8);
  for (size_t i = 0; i < codes.size(); ++i)
    codes[i] = uint8_t(i * 37 + 11);
  std::vector<float> scales = {0.5f, 0.25f, 2, 1, -1, 0.125f};
  std::vector<uint8_t> zeros = {0x3a, 0x07, 0x81, 0x0f};
  add("B", T::UINT8, {2, 3, 8}, codes);
  add("S", T::FLOAT, {6}, scales);
  add("Z", T::UINT8, {4}, zeros);
  Result<ImportedModel> imported = import();
  ASSERT_TRUE(imported.ok()) << imported.status().message();
  EXPECT_EQ(nodes(*imported), (std::vector<std::string>{"Transpose", "MatMul"}));
  std::vector<float> values = decoded(*imported);
  ASSERT_EQ(values.size(), 80u);
  auto nibble = [](const std::vector<uint8_t> &bytes, int64_t i) {
    return bytes[size_t(i / 2)] >> (i % 2 * 4) & 15;
  };
  for (int64_t n = 0; n < 2; ++n)
    for (int64_t k = 0; k < 40; ++k) {
      int64_t block = k / 16;
      EXPECT_EQ(values[size_t(n * 40 + k)],
                scales[size_t(n * 3 + block)] *
                    float(nibble(codes, n * 48 + k) - nibble(zeros, n * 4 + block)));
    }
}

TEST_F(DequantizeTest, AnOrderOfColumnsIsLeftAlone) {
  parse(std::string(contrib) + R"(main (float[b, s, 16] x) => (float[b, s, 1] y)
      { y = com.microsoft.MatMulNBits<K = 16, N = 1, bits = 4, block_size = 16>(x, B, S, , G) })");
  add("B", T::UINT8, {1, 1, 8}, std::vector<uint8_t>(8, 1));
  add("S", T::FLOAT, {1}, std::vector<float>{1});
  add("G", T::INT32, {16}, std::vector<int32_t>(16, 0));
  Result<ImportedModel> imported = import();
  ASSERT_TRUE(imported.ok()) << imported.status().message();
  EXPECT_EQ(nodes(*imported), (std::vector<std::string>{"MatMulNBits"}));
}

TEST_F(DequantizeTest, BlocksAlongTheFirstAxis) {
  parse(R"(<ir_version: 10, opset_import: ["" : 21]> main (float[s, 4] x) => (float[s, 3] y)
      { w = DequantizeLinear<axis = 0, block_size = 2>(Q, S, Z)  y = MatMul(x, w) })");
  std::vector<int8_t> codes = {1, -2, 3, -4, 5, -6, 7, -8, 9, -10, 11, -12};
  std::vector<float> scales = {1, 2, 3, 0.5f, 0.25f, 0.125f};
  std::vector<int8_t> zeros = {0, 1, -1, 2, -2, 3};
  add("Q", T::INT8, {4, 3}, codes);
  add("S", T::FLOAT, {2, 3}, scales);
  add("Z", T::INT8, {2, 3}, zeros);
  Result<ImportedModel> imported = import();
  ASSERT_TRUE(imported.ok()) << imported.status().message();
  EXPECT_EQ(nodes(*imported), (std::vector<std::string>{"MatMul"}));
  std::vector<float> values = decoded(*imported);
  ASSERT_EQ(values.size(), 12u);
  for (size_t k = 0; k < 4; ++k)
    for (size_t n = 0; n < 3; ++n)
      EXPECT_EQ(values[k * 3 + n],
                scales[k / 2 * 3 + n] * float(codes[k * 3 + n] - zeros[k / 2 * 3 + n]));
}

class DynamicTest : public DequantizeTest {
protected:
  void make() {
    parse(R"(<ir_version: 10, opset_import: ["" : 21]> main (float[s, 4] x) => (float[s, 2] y)
        { q, qs, qz = DynamicQuantizeLinear(x)
          i = MatMulInteger(q, W, qz, Z)
          f = Cast<to = 1>(i)
          s = Mul(qs, S)
          y = Mul(f, s) })");
    add("W", T::UINT8, {4, 2}, std::vector<uint8_t>{1, 2, 3, 4, 5, 6, 7, 200});
    add("Z", T::UINT8, {}, std::vector<uint8_t>{100});
    add("S", T::FLOAT, {}, std::vector<float>{0.5f});
  }
};

TEST_F(DynamicTest, ProductsOfIntegersBecomeFloat) {
  make();
  Result<ImportedModel> imported = import();
  ASSERT_TRUE(imported.ok()) << imported.status().message();
  EXPECT_EQ(nodes(*imported), (std::vector<std::string>{"MatMul"}));
  EXPECT_EQ(decoded(*imported),
            (std::vector<float>{-49.5f, -49, -48.5f, -48, -47.5f, -47, -46.5f, 50}));
}

TEST_F(DynamicTest, OrAreKept) {
  make();
  Result<ImportedModel> imported = import(IntegerProducts::Keep);
  ASSERT_TRUE(imported.ok()) << imported.status().message();
  EXPECT_EQ(nodes(*imported).size(), 5u);
}

TEST_F(DequantizeTest, ScalesThatDoNotFitAreRefused) {
  parse(std::string(contrib) + R"(main (float[b, s, 64] x) => (float[b, s, 4] y)
      { y = com.microsoft.MatMulNBits<K = 64, N = 4, bits = 4, block_size = 32>(x, B, S) })");
  add("B", T::UINT8, {4, 2, 16}, std::vector<uint8_t>(128, 0x77));
  add("S", T::FLOAT, {7}, std::vector<float>(7, 1));
  Result<ImportedModel> imported = import();
  ASSERT_FALSE(imported.ok());
  EXPECT_NE(imported.status().message().find("scales do not fit"), std::string::npos)
      << imported.status().message();
}

} // namespace
