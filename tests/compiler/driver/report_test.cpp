// The report's page and plots from known data, and the comparison of two reports.
#include "compiler/driver/report.h"
#include "compiler/driver/report_plots.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include <unistd.h>

using namespace smelt;

namespace {

size_t count(const std::string &text, const std::string &part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1))
    ++found;
  return found;
}

Json reportOf(double bytes, double kl, const std::string &format) {
  const std::string text = R"({"report": 1, "file": "a<b>.smelt", "bytes": )" +
                           std::to_string(bytes) + R"(, "producer": "smelt 0",
    "source": {"file": "model.onnx", "bytes": 1000},
    "parts": [{"part": "decoder a4g32", "bytes": 900, "weights": 1600, "bits": 4.5},
              {"part": "code", "bytes": 100}],
    "linears": [
      {"name": "/layers.0/q", "layer": 0, "kind": "q", "weights": "a4g32", "activations": "a8g32",
       "bytes": 450, "output_error": 0.001},
      {"name": "/layers.1/q", "layer": 1, "kind": "q", "weights": ")" +
                           format + R"(", "activations": "f32", "bytes": 450,
       "output_error": 0.01},
      {"name": "/head", "layer": -1, "kind": "head", "weights": "s8c", "activations": "f32",
       "bytes": 50, "output_error": 0.0001}],
    "weights": {"largest_of_group": {"lowest_power_of_two": -3, "counts": [1, 4, 2], "zeros": 0}},
    "points": [{"name": "this", "bytes": 1000, "kl": 0.02}, {"name": "that", "bytes": 900,
                "kl": 0.05}],
    "tried": [{"name": "s4g32", "bytes": 950, "kl": 0.04}, {"name": "", "bytes": 900, "kl": 0.03}],
    "quality": {"mean_kl": )" +
                           std::to_string(kl) +
                           R"(, "same_top": 0.9, "ppl": 12, "ppl_ratio": 1.01,
      "kl_histogram": {"lowest_log10": -4, "per_decade": 2, "counts": [0, 0, 10, 20, 5, 0, 0, 0]},
      "texts": [{"text": "/x/one.txt", "mean_kl": 0.02}]},
    "answers": [{"prompt": "Say <hi>", "answer": "hi & bye", "reference": "hi"}],
    "speed": {"target": "x", "threads": 2, "decode_tokens_per_second": {"16": 100}}})";
  Result<Json> report = Json::parse(text);
  EXPECT_TRUE(report.ok()) << report.status().message();
  return *std::move(report);
}

TEST(Report, ThePageNeedsNothingElse) {
  const std::string page = reportHtml(reportOf(1000, 0.02, "a5g32"));
  for (const char *foreign : {"http:", "https:", "<script", "<link", "<img", "@import", "url("})
    EXPECT_EQ(count(page, foreign), 0u) << foreign;
  EXPECT_EQ(count(page, "prefers-color-scheme:dark"), 1u);
  EXPECT_EQ(count(page, "width=device-width"), 1u);
  // What users write is text.
  EXPECT_EQ(count(page, "<hi>"), 0u);
  EXPECT_GE(count(page, "Say &lt;hi&gt;"), 1u);
  EXPECT_GE(count(page, "a&lt;b&gt;.smelt"), 1u);
  EXPECT_EQ(count(page, "<svg"), count(page, "</svg>"));
  // Size against KL, divergence, error, activations, weights' formats, scales.
  EXPECT_GE(count(page, "<svg"), 6u);
  for (const char *said : {"Where the bytes are", "Layer by layer", "Quality", "Answers",
                           "Speed on this machine", "one.txt", "Formats that were weighed up", "s4g32", "a5g32 × 1", "100 tok/s"})
    EXPECT_GE(count(page, said), 1u) << said;
}

TEST(Report, WhatWasNotMeasuredIsLeftOut) {
  const std::string page =
      reportHtml(*Json::parse(R"({"report": 1, "file": "x.smelt", "bytes": 9})"));
  for (const char *absent : {">Quality<", ">Answers<", "Speed on"})
    EXPECT_EQ(count(page, absent), 0u) << absent;
  EXPECT_GE(count(page, "x.smelt"), 1u);
}

TEST(Report, PlotsHaveOneMarkForEachValue) {
  const std::string bars = plot::histogram({1, 0, 3}, {{0, "a"}, {3, "b"}}, "axis");
  EXPECT_EQ(count(bars, "<rect"), 3u);
  EXPECT_EQ(count(bars, "height=\"0.00\""), 1u);
  const std::string grid = plot::grid(
      {"0", "1"}, {"q", "k"}, {{{0.5, "", "half"}, {}}, {{-1, "tone1", "toned"}, {1, "", "full"}}});
  EXPECT_EQ(count(grid, "<rect"), 3u);
  EXPECT_EQ(count(grid, "fill-opacity=\"1.000\""), 1u);
  EXPECT_EQ(count(grid, "class=\"tone1\""), 1u);
  // The front leaves out what is larger and worse.
  const std::string points =
      plot::scatter({{100, 0.02, "a", true}, {90, 0.04, "b"}, {95, 0.05, "c"}}, "MB", "KL");
  EXPECT_EQ(count(points, "<circle"), 3u);
  const size_t at = points.find("points=\""), end = points.find('"', at + 8);
  EXPECT_EQ(count(points.substr(at, end - at), ","), 2u);
}

TEST(Report, NumbersAreShort) {
  EXPECT_EQ(plot::shortNumber(0.012345), "0.0123");
  EXPECT_EQ(plot::shortNumber(4.594), "4.59");
  EXPECT_EQ(plot::shortNumber(123.4), "123");
  EXPECT_EQ(plot::shortNumber(1.2e-7), "1.2e-07");
  EXPECT_EQ(plot::bytesText(92946779), "92.9 MB");
  EXPECT_EQ(plot::power(2, -13), "2⁻¹³");
}

TEST(Report, ComparisonNamesWhatChanged) {
  const Json before = reportOf(1000, 0.02, "a4g32"), after = reportOf(1100, 0.021, "a5g32");
  auto found = compareReports(before, after, {});
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_TRUE(found->exceeded.empty());
  EXPECT_GE(count(found->text, "+10.00 %"), 1u) << found->text;
  EXPECT_GE(count(found->text, "/layers.1/q: a4g32, f32 -> a5g32, f32"), 1u) << found->text;
  EXPECT_EQ(count(found->text, "/layers.0/q"), 0u);

  EXPECT_TRUE(compareReports(before, after, {0.06, 0.11})->exceeded.empty());
  found = compareReports(before, after, {0.04, 0.09});
  ASSERT_EQ(found->exceeded.size(), 2u);
  EXPECT_GE(count(found->exceeded[0], "mean KL went from 0.02 to 0.021"), 1u);
  EXPECT_GE(count(found->exceeded[1], "size went from 1000 to 1100"), 1u);
  // Getting better is never too much.
  EXPECT_TRUE(compareReports(after, before, {0, 0})->exceeded.empty());
}

TEST(Report, ALimitOnWhatWasNotMeasuredIsRefused) {
  const Json bare = *Json::parse(R"({"report": 1, "bytes": 9})");
  const Json full = reportOf(1000, 0.02, "a4g32");
  auto refused = compareReports(full, bare, {0.1, -1});
  ASSERT_FALSE(refused.ok());
  EXPECT_GE(count(refused.status().message(), "the second report holds no mean KL"), 1u);
  EXPECT_TRUE(compareReports(bare, bare, {-1, 0.1}).ok());
}

TEST(Report, OtherFilesAreNoReports) {
  const auto path =
      std::filesystem::temp_directory_path() / ("report_test_" + std::to_string(getpid()));
  for (const char *text : {"{", "{}", R"({"report": 2})"}) {
    std::ofstream(path) << text;
    EXPECT_FALSE(readReport(path.string()).ok()) << text;
  }
  std::ofstream(path) << R"({"report": 1})";
  EXPECT_TRUE(readReport(path.string()).ok());
  std::filesystem::remove(path);
  EXPECT_EQ(readReport(path.string()).status().code(), StatusCode::NotFound);
}

} // namespace
