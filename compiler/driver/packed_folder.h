// Packed matrices kept on disk, so that a stopped run and the next attempt under a budget reuse
// what did not change.
#pragma once

#include "passes/quantize/quantize.h"

#include <filesystem>
#include <string>

namespace smelt {

/// One file per matrix and format in a folder; each appears under its name only when it is whole.
class PackedFolder : public PackedKeeper {
public:
  /// `key` says all that the bytes depend on beside matrix and format; files of another key are
  /// not used.
  PackedFolder(std::filesystem::path folder, std::string key)
      : folder(std::move(folder)), key(std::move(key)) {}

  std::optional<Kept> find(const std::string &name, WeightFormat format) override;
  Status keep(const std::string &name, WeightFormat format, const Kept &matrix) override;

private:
  std::filesystem::path pathOf(const std::string &name, WeightFormat format) const;

  std::filesystem::path folder;
  std::string key;
};

} // namespace smelt
