// Import, raise and fuse, and the float graph that they lead to.
#include "compiler/driver/frontend.h"

#include "calibration/finite.h"
#include "compiler/graph/stored_weights.h"
#include "compiler/graph/to_graph.h"
#include "compiler/onnx/importer.h"
#include "passes/fuse/fuse.h"
#include "passes/raise/raise.h"
#include "passes/tensor/tensor.h"
#include "runtime/base/xxh64.h"

#include "mlir/Transforms/Passes.h"

#include <algorithm>
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

/// The first lines of a report, and how many more there are.
static std::string shortened(const std::string &report) {
  constexpr int most = 6;
  size_t end = 0;
  for (int line = 0; line < most && end != std::string::npos; ++line)
    end = report.find('\n', end + (line != 0));
  if (end == std::string::npos)
    return report;
  auto more = std::count(report.begin() + std::ptrdiff_t(end) + 1, report.end(), '\n') + 1;
  return report.substr(0, end) + "\n  and " + std::to_string(more) + " more";
}

/// Raises, and checks that it succeeded.
static Status raise(Pipeline &pipeline, const std::string &path) {
  std::vector<std::unique_ptr<mlir::Pass>> passes;
  passes.push_back(createRaisePass());
  passes.push_back(createCheckRaisedPass());
  passes.push_back(
      createCheckConfigPass(std::filesystem::path(path).replace_filename("config.json")));
  return pipeline.runPasses(std::move(passes));
}

/// Takes the imported graph apart into primitives.
static Status tensorize(Pipeline &pipeline, WeightStore &weights) {
  StoredWeights stored(weights);
  std::vector<std::unique_ptr<mlir::Pass>> passes;
  passes.push_back(createTensorizePass(&stored));
  passes.push_back(createCheckTensorPass());
  pipeline.runsTensors = true;
  return pipeline.runPasses(std::move(passes));
}

static Status raiseOrTensorize(Pipeline &pipeline, const std::string &path, Fallback fallback,
                               WeightStore &weights) {
  if (fallback == Fallback::Always)
    return tensorize(pipeline, weights);
  if (fallback == Fallback::None)
    return raise(pipeline, path);
  mlir::OwningOpRef<mlir::ModuleOp> imported = pipeline.module->clone();
  Status raised = raise(pipeline, path);
  if (raised.ok())
    return raised;
  pipeline.module = std::move(imported);
  Status status = tensorize(pipeline, weights);
  if (!status.ok())
    return {status.code(), status.message() + "\nnor was it raised: " + raised.message()};
  pipeline.warn("the graph runs as it stands, which is slower than a raised one and needs more "
                "memory: " +
                shortened(raised.message()));
  return {};
}

Status runFrontend(Pipeline &pipeline, const std::string &path, int64_t positions,
                   Fallback fallback, IntegerProducts products, SourceModel &source) {
  SMELT_TRY(pipeline.run(Phase::Imported, [&](const Pipeline::Report &) -> Status {
    SMELT_ASSIGN(ImportedModel imported, importOnnx(pipeline.context(), path, products));
    pipeline.module = std::move(imported.module);
    source.weights = std::move(imported.weights);
    identify(source);
    return {};
  }));
  SMELT_TRY(pipeline.run(Phase::Raised, [&](const Pipeline::Report &) {
    return raiseOrTensorize(pipeline, path, fallback, *source.weights);
  }));
  SMELT_TRY(pipeline.run(Phase::Fused, [&](const Pipeline::Report &) -> Status {
    source.resolve = makeResolver(source.weights, positions);
    if (pipeline.runsTensors)
      return tieWeights(*pipeline.module, source.resolve).status();
    std::vector<std::unique_ptr<mlir::Pass>> passes;
    passes.push_back(createFuseGatedPass());
    passes.push_back(createSplitLinearPass());
    passes.push_back(createFuseResidualPass());
    // Every layer names the same rotary tables: as one value they are stored once.
    passes.push_back(mlir::createCSEPass());
    SMELT_TRY(pipeline.runPasses(std::move(passes)));
    SMELT_TRY(tieWeights(*pipeline.module, source.resolve).status());
    SMELT_ASSIGN(source.graph, toGraph(*pipeline.module, source.resolve));
    SMELT_TRY(checkVectorsFinite(source.graph));
    return {};
  }));
  return {};
}

Result<SourceModel> loadSourceModel(const std::string &path, int64_t positions) {
  PipelineOptions options;
  options.quiet = true;
  Pipeline pipeline(std::move(options));
  SourceModel source;
  SMELT_TRY(runFrontend(pipeline, path, positions, Fallback::None, IntegerProducts::Float, source));
  // The module goes with its pipeline.
  source.resolve = {};
  return source;
}

} // namespace smelt
