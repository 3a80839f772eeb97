// A file per linear: u64 number of blocks; each: i64 first row, i64 rows, f32 [rows, rows].
#include "compiler/driver/output_folder.h"
#include "compiler/driver/work_folder.h"

#include "runtime/base/xxh64.h"

#include <fstream>

namespace fs = std::filesystem;

namespace smelt {

fs::path OutputFolder::pathOf(const std::string &linear) const {
  // Names of nodes hold slashes and more.
  return folder / (hexDigits(xxh64(std::as_bytes(std::span(linear)))) + ".f32");
}

Status OutputFolder::collect(const Graph &graph, const std::vector<std::vector<int32_t>> &samples,
                             const OutputMomentsOptions &options) const {
  const fs::path complete = folder / "complete";
  std::error_code error;
  if (fs::exists(complete, error))
    return {};
  fs::create_directories(folder, error);
  SMELT_TRY(collectOutputMoments(
      graph, samples, options, [&](const std::string &linear, OutputMoments moments) {
        return writeWhole(pathOf(linear), [&](std::ofstream &out) {
          const uint64_t count = moments.blocks.size();
          out.write(reinterpret_cast<const char *>(&count), sizeof count);
          for (const OutputMoments::Block &block : moments.blocks) {
            const int64_t shape[2] = {block.first, block.count};
            out.write(reinterpret_cast<const char *>(shape), sizeof shape);
            out.write(reinterpret_cast<const char *>(block.values.data()),
                      std::streamsize(block.values.size() * sizeof(float)));
          }
        });
      }));
  return writeWhole(complete, [](std::ofstream &) {});
}

OutputMomentsLookup OutputFolder::lookup() const {
  return [this](const std::string &linear) -> Result<std::shared_ptr<const OutputMoments>> {
    std::ifstream in(pathOf(linear), std::ios::binary);
    if (!in)
      return std::shared_ptr<const OutputMoments>();
    auto moments = std::make_shared<OutputMoments>();
    uint64_t count = 0;
    in.read(reinterpret_cast<char *>(&count), sizeof count);
    for (uint64_t i = 0; in && i < count; ++i) {
      int64_t shape[2] = {};
      in.read(reinterpret_cast<char *>(shape), sizeof shape);
      if (!in || shape[1] <= 0 || shape[1] > largestOutputBlock)
        return corrupt("the output moments of linear '" + linear + "' in '" + folder.string() +
                       "' are damaged: remove the folder and compile again");
      OutputMoments::Block block{shape[0], shape[1],
                                 std::vector<float>(size_t(shape[1] * shape[1]))};
      in.read(reinterpret_cast<char *>(block.values.data()),
              std::streamsize(block.values.size() * sizeof(float)));
      moments->blocks.push_back(std::move(block));
    }
    if (!in)
      return corrupt("the output moments of linear '" + linear + "' in '" + folder.string() +
                     "' end too early: remove the folder and compile again");
    return std::shared_ptr<const OutputMoments>(std::move(moments));
  };
}

} // namespace smelt
