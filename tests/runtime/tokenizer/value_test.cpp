// Tests of the values of chat templates against what Python prints.
#include "runtime/tokenizer/value.h"

#include <gtest/gtest.h>

using namespace smelt;

namespace {

TEST(Value, FloatsPrintAsInPython) {
  EXPECT_EQ(floatText(1.0), "1.0");
  EXPECT_EQ(floatText(-0.0), "-0.0");
  EXPECT_EQ(floatText(0.1), "0.1");
  EXPECT_EQ(floatText(1.0 / 3), "0.3333333333333333");
  EXPECT_EQ(floatText(0.0001), "0.0001");
  EXPECT_EQ(floatText(0.00001), "1e-05");
  EXPECT_EQ(floatText(123456789012345.5), "123456789012345.5");
  EXPECT_EQ(floatText(1e15), "1000000000000000.0");
  EXPECT_EQ(floatText(1e16), "1e+16");
  EXPECT_EQ(floatText(1.5e300), "1.5e+300");
}

TEST(Value, ContainersPrintAsInPython) {
  Value list = Value::list({Value(1), Value("a'b"), Value(nullptr), Value(true), Value(2.5)});
  EXPECT_EQ(list.str(), "[1, \"a'b\", None, True, 2.5]");
  EXPECT_EQ(Value::list({Value(1)}, true).str(), "(1,)");
  EXPECT_EQ(Value::map({{Value("k"), list}, {Value(1), Value()}}).str(),
            "{'k': [1, \"a'b\", None, True, 2.5], 1: Undefined}");
  EXPECT_EQ(Value().str(), "");
}

TEST(Value, EqualityIsPythons) {
  EXPECT_TRUE(Value(1) == Value(1.0));
  EXPECT_TRUE(Value(true) == Value(1));
  EXPECT_FALSE(Value("1") == Value(1));
  EXPECT_FALSE(Value::list({}) == Value::list({}, true));
  EXPECT_TRUE(Value::map({{Value("a"), Value(1)}, {Value("b"), Value(2)}}) ==
              Value::map({{Value("b"), Value(2)}, {Value("a"), Value(1)}}));
}

TEST(Value, ARepeatedKeyKeepsItsPlaceAndItsLastValue) {
  Value map = Value::map({{Value("a"), Value(1)}, {Value("b"), Value(2)}, {Value("a"), Value(3)}});
  EXPECT_EQ(map.str(), "{'a': 3, 'b': 2}");
}

TEST(Value, JsonIsPythons) {
  std::string out;
  Value value = Value::map(
      {{Value("k"), Value::list({Value(1), Value("é\"\n\x01")})}, {Value("e"), Value::list({})}});
  ASSERT_TRUE(toJson(value, {}, out));
  EXPECT_EQ(out, "{\"k\": [1, \"é\\\"\\n\\u0001\"], \"e\": []}");
  out.clear();
  JsonOptions indented;
  indented.indent = 2;
  indented.asciiOnly = true;
  ASSERT_TRUE(toJson(value, indented, out));
  EXPECT_EQ(out, "{\n  \"k\": [\n    1,\n    \"\\u00e9\\\"\\n\\u0001\"\n  ],\n  \"e\": []\n}");
  EXPECT_FALSE(toJson(Value::list({Value()}), {}, out));
}

TEST(Value, WeightCountsSharedContentEachTime) {
  Value value = Value::list({Value("abcd")});
  uint64_t before = value.weight();
  for (int i = 0; i < 100; ++i)
    value = Value::list({value, value});
  EXPECT_GT(value.weight(), before << 50);
  EXPECT_EQ(value.depth(), 101u);
}

} // namespace
