// TensorValue programs of the fake kernels: every action, checks of inputs, faults and limits.
#include "runtime/model/tensor_session.h"
#include "support/fake_tensors.h"

#include <gtest/gtest.h>

#include <limits>

using namespace smelt;
using namespace smelt::format;
using namespace smelt::test;
using enum ElementType;

namespace {

class TensorSessionTest : public testing::Test {
protected:
  void open(const std::function<void(TensorBuilder &)> &build, uint64_t limit = 0,
            unsigned threads = 2) {
    auto model =
        Model::open(writeFake(folder, [&](FakeModel &fake) { makeTensorModel(fake, build); }));
    ASSERT_TRUE(model.ok()) << model.status().message();
    auto team = ThreadTeam::create(threads);
    ASSERT_TRUE(team.ok());
    auto created = TensorSession::create(*model, *std::move(team), limit);
    ASSERT_TRUE(created.ok()) << created.status().message();
    session = *std::move(created);
  }
  /// A tensor over values that live as long as the test.
  template <typename T>
  TensorValue give(ElementType type, std::vector<int64_t> shape, std::vector<T> v) {
    auto kept = std::make_shared<std::vector<T>>(std::move(v));
    memory.push_back(kept);
    return TensorValue::view(type, shape, kept->data());
  }
  TensorValue floats(std::vector<int64_t> shape, std::vector<float> v) {
    return give(F32, std::move(shape), std::move(v));
  }
  template <typename T = float> std::vector<T> out(size_t index = 0) {
    auto values = session->outputs()[index].as<T>();
    return {values.begin(), values.end()};
  }
  Status run(std::vector<TensorValue> inputs) { return session->run(inputs); }

  TemporaryFolder folder;
  std::unique_ptr<TensorSession> session;
  std::vector<std::shared_ptr<void>> memory;
};

/// sum = a + b; double = sum + sum
void buildAdds(TensorBuilder &b) {
  uint32_t x = b.tensor(F32, {-1, 2}), y = b.tensor(F32, {-1, 2}), sum = b.tensor(F32, {-1, 2}),
           twice = b.tensor(F32, {-1, 2});
  b.input("a", x);
  b.input("b", y);
  b.output("sum", sum);
  b.output("twice", twice);
  b.kernel("add_1", "fake_add_shape", "fake_add", 1, {sum, x, y});
  b.kernel("add_2", "fake_add_shape", "fake_add", 1, {twice, sum, sum});
}

TEST_F(TensorSessionTest, KernelsRunInOrder) {
  open(buildAdds);
  EXPECT_TRUE(session->outputs().empty());
  ASSERT_TRUE(run({floats({2, 2}, {1, 2, 3, 4}), floats({2, 2}, {10, 20, 30, 40})}).ok());
  EXPECT_EQ(out(0), (std::vector<float>{11, 22, 33, 44}));
  EXPECT_EQ(out(1), (std::vector<float>{22, 44, 66, 88}));
  EXPECT_EQ(session->findInput("b"), 1u);
  EXPECT_EQ(session->findInput("sum"), std::nullopt);
  EXPECT_EQ(session->findOutput("twice"), 1u);
  // Outputs may be fed back, and empty tensors are tensors.
  TensorValue sum = session->outputs()[0];
  ASSERT_TRUE(run({sum, sum}).ok());
  EXPECT_EQ(out(0), (std::vector<float>{22, 44, 66, 88}));
  EXPECT_EQ(sum.as<float>()[0], 11);
  ASSERT_TRUE(run({floats({0, 2}, {}), floats({0, 2}, {})}).ok());
  EXPECT_EQ(session->outputs()[1].text(), "f32[0,2]");
}

TEST_F(TensorSessionTest, InputsAreChecked) {
  open(buildAdds);
  TensorValue good = floats({1, 2}, {1, 2});
  ASSERT_TRUE(run({good, good}).ok());
  auto message = [&](std::vector<TensorValue> inputs) {
    Status status = run(std::move(inputs));
    EXPECT_EQ(status.code(), StatusCode::InvalidArgument);
    EXPECT_EQ(out(0), (std::vector<float>{2, 4})) << "outputs stay those of the run before";
    return status.message();
  };
  EXPECT_EQ(message({good}), "1 inputs found, the graph has 2");
  EXPECT_EQ(message({good, give<int64_t>(I64, {1, 2}, {1, 2})}),
            "input 'b' is i64[1,2], expected f32[-1,2] (-1: any length)");
  EXPECT_NE(message({floats({2}, {1, 2}), good}).find("f32[2]"), std::string::npos);
  EXPECT_NE(message({floats({1, 3}, {1, 2, 3}), good}).find("f32[1,3]"), std::string::npos);
  EXPECT_NE(message({TensorValue(), good}).find("'a'"), std::string::npos);
  int64_t absurd[] = {std::numeric_limits<int64_t>::max(), 2}, negative[] = {-5, 2};
  EXPECT_NE(message({TensorValue::view(F32, absurd, &absurd), good}).find("'a'"),
            std::string::npos);
  EXPECT_NE(message({TensorValue::view(F32, negative, &absurd), good}).find("'a'"),
            std::string::npos);
}

TEST_F(TensorSessionTest, FaultsNameTheNode) {
  open(buildAdds);
  Status status = run({floats({1, 2}, {1, 2}), floats({2, 2}, {1, 2, 3, 4})});
  EXPECT_EQ(status.code(), StatusCode::InvalidArgument);
  EXPECT_EQ(status.message(), "node 'add_1': the shapes of its operands do not fit together: "
                              "f32[1,2], f32[2,2]");
  open([](TensorBuilder &b) {
    uint32_t x = b.tensor(F32, {-1, -1}), y = b.tensor(F32, {-1, -1});
    b.input("x", x);
    b.output("y", y);
    b.kernel("gather", "fake_same_shape", "fake_index_fault", 1, {y, x, noTensor});
  });
  EXPECT_EQ(run({floats({1, 1}, {1})}).message(),
            "node 'gather': an index is out of range: f32[1,1], none");
}

TEST_F(TensorSessionTest, AbsurdShapesAreExhausted) {
  auto build = [](TensorBuilder &b) {
    uint32_t x = b.tensor(F32, {-1, -1}), shape = b.tensor(I64, {2}), y = b.tensor(F32, {-1, -1});
    b.input("x", x);
    b.input("shape", shape);
    b.output("y", y);
    b.kernel("expand", "fake_reshape", "fake_threads", 1, {y, x, shape});
  };
  open(build, 1 << 20);
  constexpr int64_t huge = std::numeric_limits<int64_t>::max();
  auto code = [&](int64_t a, int64_t b) {
    Status status = run({floats({1, 1}, {1}), give<int64_t>(I64, {2}, {a, b})});
    EXPECT_TRUE(status.ok() || status.message().find("node 'expand'") == 0) << status.message();
    return status.code();
  };
  EXPECT_EQ(code(1 << 10, 1 << 10), StatusCode::Exhausted);
  EXPECT_EQ(code(huge, huge), StatusCode::Exhausted);
  EXPECT_EQ(code(-1, 4), StatusCode::InvalidArgument);
  EXPECT_EQ(code(1 << 8, 1 << 9), StatusCode::Ok);
  EXPECT_EQ(out()[0], 2) << "large outputs are shared among the threads";
  EXPECT_EQ(code(2, 2), StatusCode::Ok);
  EXPECT_EQ(out()[0], 1) << "small ones are not";
}

TEST_F(TensorSessionTest, AliasesShareMemory) {
  open([](TensorBuilder &b) {
    uint32_t x = b.tensor(F32, {-1, -1}), shape = b.tensor(I64, {2}), y = b.tensor(F32, {-1, -1}),
             z = b.tensor(F32, {-1, -1});
    b.input("x", x);
    b.input("shape", shape);
    b.output("x", x);
    b.output("y", y);
    b.output("z", z);
    b.kernel("copy", "fake_same_shape", "fake_add", 1, {y, x, noTensor});
    b.alias("reshape", "fake_reshape", {z, y, shape}).release[0] = x;
  });
  // x is an output too: releasing it is a mistake of the compiler that must not crash.
  EXPECT_EQ(run({floats({2, 2}, {1, 2, 3, 4}), give<int64_t>(I64, {2}, {1, 4})}).message(),
            "output 'x' was never made");
  open([](TensorBuilder &b) {
    uint32_t x = b.tensor(F32, {-1, -1}), shape = b.tensor(I64, {2}), y = b.tensor(F32, {-1, -1}),
             z = b.tensor(F32, {-1, -1}), given = b.tensor(F32, {-1, -1});
    b.input("x", x);
    b.input("shape", shape);
    b.output("given", given);
    b.output("y", y);
    b.output("z", z);
    b.alias("given", "fake_reshape", {given, x, shape});
    b.kernel("copy", "fake_same_shape", "fake_add", 1, {y, x, noTensor});
    b.alias("reshape", "fake_reshape", {z, y, shape});
  });
  TensorValue x = floats({2, 2}, {1, 2, 3, 4});
  ASSERT_TRUE(run({x, give<int64_t>(I64, {2}, {1, 4})}).ok());
  EXPECT_EQ(session->outputs()[1].data, session->outputs()[2].data);
  EXPECT_EQ(session->outputs()[2].text(), "f32[1,4]");
  EXPECT_EQ(session->outputs()[0].text(), "f32[1,4]");
  EXPECT_NE(session->outputs()[0].data, x.data) << "the caller's memory may go away";
  EXPECT_EQ(out(0), (std::vector<float>{1, 2, 3, 4}));
  Status status = run({x, give<int64_t>(I64, {2}, {1, 5})});
  EXPECT_NE(status.message().find("node 'given': the shapes"), std::string::npos);
}

TEST_F(TensorSessionTest, JumpsChooseABranch) {
  open([](TensorBuilder &b) {
    uint32_t x = b.tensor(F32, {-1, -1}), isMany = b.tensor(Bool, {1}), y = b.tensor(F32, {-1, -1}),
             twice = b.tensor(F32, {-1, -1}), flat = b.tensor(F32, {-1, 1});
    b.input("x", x);
    b.output("y", y);
    b.kernel("many", "fake_many_shape", "fake_many", 1, {isMany, x});
    b.jumpIfFalse(isMany, 5);
    b.kernel("twice", "fake_add_shape", "fake_add", 1, {twice, x, x});
    b.take(y, twice);
    b.jump(7);
    b.alias("flat", "fake_flatten", {flat, x});
    b.take(y, flat);
  });
  ASSERT_TRUE(run({floats({1, 2}, {1, 2})}).ok());
  EXPECT_EQ(out(), (std::vector<float>{2, 4}));
  ASSERT_TRUE(run({floats({2, 1}, {1, 2})}).ok());
  EXPECT_EQ(out(), (std::vector<float>{1, 2}));
}

TEST_F(TensorSessionTest, RowsRunInChunks) {
  open([](TensorBuilder &b) {
    uint32_t x = b.tensor(F32, {-1, 1}), y = b.tensor(F32, {-1, fakeVocabulary});
    b.input("x", x);
    b.output("y", y);
    b.rows("linear", y, x, 0, 1);
  });
  for (int64_t rows : {0, 1, 2, 8, 9, 16, 21}) {
    std::vector<float> next(size_t(rows), 0);
    for (size_t i = 0; i < next.size(); ++i)
      next[i] = float(i * 5 % fakeVocabulary);
    ASSERT_TRUE(run({floats({rows, 1}, next)}).ok());
    auto table = out();
    ASSERT_EQ(table.size(), size_t(rows) * fakeVocabulary);
    for (size_t i = 0; i < next.size(); ++i) {
      // The kernel for one row adds a bonus.
      bool isAlone = i / fakeMaxTokens * fakeMaxTokens + 1 == next.size();
      EXPECT_EQ(table[i * fakeVocabulary + size_t(next[i])], isAlone ? fakeOneBonus : 0)
          << rows << " rows, row " << i;
    }
  }
}

TEST_F(TensorSessionTest, ValuesReadBeforeTheyAreMade) {
  auto x1 = floats({1, 1}, {1});
  auto corrupt = [&](const std::function<void(TensorBuilder &, uint32_t, uint32_t)> &build) {
    open([&](TensorBuilder &b) {
      uint32_t x = b.tensor(F32, {-1, 1}), y = b.tensor(F32, {-1, 1});
      b.input("x", x);
      b.output("y", y);
      build(b, x, y);
    });
    Status status = run({x1});
    EXPECT_EQ(status.code(), StatusCode::Corrupt) << status.message();
  };
  corrupt([](TensorBuilder &, uint32_t, uint32_t) {});
  corrupt([](TensorBuilder &b, uint32_t x, uint32_t y) {
    b.kernel("add", "fake_add_shape", "fake_add", 1, {y, x, b.tensor(F32, {-1, 1})});
  });
  corrupt([](TensorBuilder &b, uint32_t, uint32_t y) { b.take(y, b.tensor(F32, {-1, 1})); });
  corrupt([](TensorBuilder &b, uint32_t, uint32_t y) {
    b.alias("flat", "fake_flatten", {y, b.tensor(F32, {-1, 1})});
  });
  corrupt([](TensorBuilder &b, uint32_t, uint32_t) {
    b.rows("rows", b.tensor(F32, {-1, 1}), b.tensor(F32, {-1, 1}), 0, 1);
  });
}

TEST_F(TensorSessionTest, ProfilesEveryInstruction) {
  open(buildAdds);
  StepProfile labels;
  TensorProfile times;
  session->setProfile(&labels, &times);
  ASSERT_TRUE(run({floats({1, 2}, {1, 2}), floats({1, 2}, {1, 2})}).ok());
  ASSERT_EQ(times.size(), 2u);
  EXPECT_EQ(labels.calls[size_t(OpLabel::Elementwise)], 2u);
  EXPECT_EQ(labels.nanoseconds[size_t(OpLabel::Elementwise)], times[0] + times[1]);
}

TEST_F(TensorSessionTest, TokenArtifactsHaveNone) {
  auto model = Model::open(writeFake(folder));
  ASSERT_TRUE(model.ok());
  auto created = TensorSession::create(*model, *ThreadTeam::create(1));
  EXPECT_EQ(created.status().code(), StatusCode::Unsupported);
}

} // namespace
