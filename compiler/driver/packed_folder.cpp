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

Json reportJson(const QuantizationReport &report) {
  return {{"weight_error", report.weightError},
          {"weighted_error", report.weightedError},
          {"search_loss", report.searchLoss},
          {"feedback_loss", report.feedbackLoss},
          {"loss", report.loss},
          {"rows", report.rows},
          {"rows_kept", report.rowsKept},
          {"rows_polished", report.rowsPolished},
          {"damping", report.damping},
          {"dead_columns", report.deadColumns},
          {"fallback", report.fallback},
          {"polished_coupled_loss", report.polishedCoupledLoss},
          {"coupled_loss", report.coupledLoss}};
}

QuantizationReport readReport(const Json &json) {
  QuantizationReport report;
  report.weightError = json.at("weight_error");
  report.weightedError = json.at("weighted_error");
  report.searchLoss = json.at("search_loss");
  report.feedbackLoss = json.at("feedback_loss");
  report.loss = json.at("loss");
  report.rows = json.at("rows");
  report.rowsKept = json.at("rows_kept");
  report.rowsPolished = json.at("rows_polished");
  report.damping = json.at("damping");
  report.deadColumns = json.at("dead_columns");
  report.fallback = json.at("fallback");
  report.polishedCoupledLoss = json.at("polished_coupled_loss");
  report.coupledLoss = json.at("coupled_loss");
  return report;
}

/// XXH64 of the bytes.
uint64_t hashOf(std::span<const std::byte> bytes) {
  Xxh64 hash;
  hash.update(bytes);
  return hash.digest();
}

} // namespace

fs::path PackedFolder::pathOf(const std::string &name, WeightFormat format) const {
  // Names of nodes hold slashes and more.
  return folder / (hexDigits(hashOf(std::as_bytes(std::span(name)))) + "-" +
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
    if (!in || hash != hashOf(kept.bytes))
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
    const uint64_t size = head.size(), hash = hashOf(matrix.bytes);
    out.write(reinterpret_cast<const char *>(&size), sizeof size);
    out.write(head.data(), std::streamsize(head.size()));
    out.write(reinterpret_cast<const char *>(matrix.bytes.data()),
              std::streamsize(matrix.bytes.size()));
    out.write(reinterpret_cast<const char *>(&hash), sizeof hash);
  });
}

} // namespace smelt
