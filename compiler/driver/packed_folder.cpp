// A file: u64 length of its head, the head as JSON (key, name, report), then the packed bytes and
// their XXH64.
#include "compiler/driver/packed_folder.h"
#include "compiler/driver/work_folder.h"

#include "runtime/base/xxh64.h"

#include <nlohmann/json.hpp>

#include <fstream>

namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace smelt {

namespace {

/// Calls `field(name, member)` for all of a report.
template <typename Report, typename Field> void forFields(Report &report, Field field) {
  field("weight_error", report.weightError);
  field("weighted_error", report.weightedError);
  field("search_loss", report.searchLoss);
  field("feedback_loss", report.feedbackLoss);
  field("loss", report.loss);
  field("rows", report.rows);
  field("rows_kept", report.rowsKept);
  field("rows_polished", report.rowsPolished);
  field("damping", report.damping);
  field("dead_columns", report.deadColumns);
  field("fallback", report.fallback);
  field("polished_coupled_loss", report.polishedCoupledLoss);
  field("coupled_loss", report.coupledLoss);
}

Json reportJson(const QuantizationReport &report) {
  Json json;
  forFields(report, [&](const char *name, const auto &value) { json[name] = value; });
  return json;
}

QuantizationReport readReport(const Json &json) {
  QuantizationReport report;
  forFields(report, [&](const char *name, auto &value) { json.at(name).get_to(value); });
  return report;
}

} // namespace

fs::path PackedFolder::pathOf(const std::string &name, WeightFormat format) const {
  // Names of nodes hold slashes and more.
  return folder / (hexDigits(xxh64(std::as_bytes(std::span(name)))) + "-" +
                   std::string(formatInfo(format).name) + ".packed");
}

std::optional<PackedKeeper::Kept> PackedFolder::find(const std::string &name, WeightFormat format) {
  std::ifstream in(pathOf(name, format), std::ios::binary);
  uint64_t size = 0;
  if (!in.read(reinterpret_cast<char *>(&size), sizeof size) || size > (1 << 20))
    return std::nullopt;
  std::string head(size, '\0');
  in.read(head.data(), std::streamsize(size));
  // The library throws at wrong types; a damaged file is as good as none.
  try {
    const Json json = Json::parse(head);
    if (json.at("key") != key || json.at("name") != name)
      return std::nullopt;
    Kept kept{{}, readReport(json.at("report"))};
    kept.bytes.resize(
        std::min(json.at("bytes").get<uint64_t>(), uint64_t(fs::file_size(pathOf(name, format)))));
    in.read(reinterpret_cast<char *>(kept.bytes.data()), std::streamsize(kept.bytes.size()));
    uint64_t hash = 0;
    in.read(reinterpret_cast<char *>(&hash), sizeof hash);
    if (!in || hash != xxh64(kept.bytes))
      return std::nullopt;
    return kept;
  } catch (const std::exception &) {
    return std::nullopt;
  }
}

Status PackedFolder::keep(const std::string &name, WeightFormat format, const Kept &matrix) {
  std::error_code error;
  fs::create_directories(folder, error);
  const std::string head = Json{{"key", key},
                                {"name", name},
                                {"bytes", matrix.bytes.size()},
                                {"report", reportJson(matrix.report)}}
                               .dump(-1, ' ', false, Json::error_handler_t::replace);
  return writeWhole(pathOf(name, format), [&](std::ofstream &out) {
    const uint64_t size = head.size(), hash = xxh64(matrix.bytes);
    out.write(reinterpret_cast<const char *>(&size), sizeof size);
    out.write(head.data(), std::streamsize(head.size()));
    out.write(reinterpret_cast<const char *>(matrix.bytes.data()),
              std::streamsize(matrix.bytes.size()));
    out.write(reinterpret_cast<const char *>(&hash), sizeof hash);
  });
}

} // namespace smelt
