// Import, raise and fuse, and the float graph that they lead to.
#include "compiler/driver/frontend.h"

#include "compiler/graph/to_graph.h"
#include "compiler/onnx/importer.h"
#include "passes/fuse/fuse.h"
#include "passes/raise/raise.h"
#include "runtime/base/xxh64.h"

#include "mlir/Transforms/Passes.h"

#include <cstdio>
#include <filesystem>

#include <sys/mman.h>
#include <unistd.h>

namespace smelt {

namespace {

/// Drops the whole pages inside a mapped range.
void dropPages(std::span<const std::byte> bytes) {
  uintptr_t page = uintptr_t(::sysconf(_SC_PAGESIZE));
  uintptr_t first = (uintptr_t(bytes.data()) + page - 1) / page * page;
  uintptr_t last = (uintptr_t(bytes.data()) + bytes.size()) / page * page;
  if (first < last)
    ::madvise(reinterpret_cast<void *>(first), last - first, MADV_DONTNEED);
}

/// XXH64 over mapped bytes, piece by piece so that they do not stay in memory.
void hashPieces(Xxh64 &hash, std::span<const std::byte> bytes) {
  constexpr size_t piece = 16 << 20;
  for (size_t at = 0; at < bytes.size(); at += piece) {
    auto part = bytes.subspan(at, std::min(piece, bytes.size() - at));
    hash.update(part);
    dropPages(part);
  }
}

/// Sets hash and size of the source.
void identify(SourceModel &source) {
  const WeightStore &weights = *source.weights;
  Xxh64 hash;
  hashPieces(hash, weights.modelBytes());
  source.bytes = weights.modelBytes().size();
  // File 0 is the model itself.
  for (int64_t id = 0; id < weights.size(); ++id)
    if (weights.row(id).file > 0) {
      hashPieces(hash, weights.bytesOf(id));
      source.bytes += weights.bytesOf(id).size();
    }
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", (unsigned long long)hash.digest());
  source.hash = text;
}

} // namespace

void releasePages(const WeightStore &weights, const WeightView &view) {
  for (int64_t id = 0; id < weights.size(); ++id) {
    std::span<const std::byte> bytes = weights.bytesOf(id);
    // Bytes that the store owns are no mapping: dropping them would lose them.
    if (weights.row(id).file >= 0 && view.data >= bytes.data() &&
        view.data < bytes.data() + bytes.size())
      dropPages(bytes);
  }
}

Status runFrontend(Pipeline &pipeline, const std::string &path, int64_t positions,
                   SourceModel &source) {
  SMELT_TRY(pipeline.run(Phase::Imported, [&](const Pipeline::Report &) -> Status {
    SMELT_ASSIGN(ImportedModel imported, importOnnx(pipeline.context(), path));
    pipeline.module = std::move(imported.module);
    source.weights = std::move(imported.weights);
    identify(source);
    return {};
  }));
  SMELT_TRY(pipeline.run(Phase::Raised, [&](const Pipeline::Report &) {
    std::vector<std::unique_ptr<mlir::Pass>> passes;
    passes.push_back(createRaisePass());
    passes.push_back(
        createCheckConfigPass(std::filesystem::path(path).replace_filename("config.json")));
    return pipeline.runPasses(std::move(passes));
  }));
  SMELT_TRY(pipeline.run(Phase::Fused, [&](const Pipeline::Report &) -> Status {
    std::vector<std::unique_ptr<mlir::Pass>> passes;
    passes.push_back(createFuseQkvPass());
    passes.push_back(createFuseGatedPass());
    passes.push_back(createFuseResidualPass());
    // Every layer names the same rotary tables: as one value they are stored once.
    passes.push_back(mlir::createCSEPass());
    SMELT_TRY(pipeline.runPasses(std::move(passes)));
    source.resolve = makeResolver(source.weights, positions);
    SMELT_TRY(tieWeights(*pipeline.module, source.resolve).status());
    SMELT_ASSIGN(source.graph, toGraph(*pipeline.module, source.resolve));
    return {};
  }));
  return {};
}

Result<SourceModel> loadSourceModel(const std::string &path, int64_t positions) {
  PipelineOptions options;
  options.quiet = true;
  Pipeline pipeline(std::move(options));
  SourceModel source;
  SMELT_TRY(runFrontend(pipeline, path, positions, source));
  // The module goes with its pipeline.
  source.resolve = {};
  return source;
}

} // namespace smelt
