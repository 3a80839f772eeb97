// JSON: what is read is written alike, and what is wrong is refused.
#include "runtime/base/json.h"

#include <gtest/gtest.h>

using namespace smelt;

namespace {

TEST(Json, RoundTrip) {
  const char *text = R"({"a": [1, -2.5, true, false, null, "x\"\\\n\u0001"], "b": {}, "c": []})";
  Result<Json> value = Json::parse(text);
  ASSERT_TRUE(value.ok()) << value.status().message();
  EXPECT_EQ(value->dump(), text);
  EXPECT_EQ(value->find("a")->array()->at(1).number(), -2.5);
  Result<Json> indented = Json::parse(value->dump(2));
  ASSERT_TRUE(indented.ok());
  EXPECT_EQ(indented->dump(), text);
}

TEST(Json, Escapes) {
  Result<Json> value = Json::parse(R"("\u00e9\u20ac\ud83d\ude00\ud800\t")");
  ASSERT_TRUE(value.ok());
  EXPECT_EQ(*value->string(), "é€😀\xEF\xBF\xBD\t");
}

TEST(Json, RefusesWhatIsWrong) {
  for (const char *text : {"", "{", "[1,", "[1 2]", "{\"a\" 1}", "{a: 1}", "tru", "\"", "\"\\x\"",
                           "\"\n\"", "1 2", "+1", "nan", "1e999", "{\"a\":}", "\"\\u12\""}) {
    Result<Json> value = Json::parse(text);
    EXPECT_FALSE(value.ok()) << text;
    EXPECT_EQ(value.status().code(), StatusCode::Corrupt) << text;
  }
  EXPECT_FALSE(Json::parse(std::string(100000, '[')).ok());
}

TEST(Json, NumbersThatJsonLacksBecomeNull) { EXPECT_EQ(Json(0.0 / 0.0).dump(), "null"); }

} // namespace
