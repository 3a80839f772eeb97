// The quantize phase: a scheme for every linear and embedding, their packed bytes, and the contract
// that holds afterwards.
#pragma once

#include "calibration/quantizer.h"
#include "calibration/statistics.h"
#include "passes/weight_sink.h"

#include "compiler/dialect/slm.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace smelt {

/// How one matrix is stored and, if it is a linear, how precise its inputs are.
struct MatrixScheme {
  WeightFormat format = WeightFormat::F32;
  ActivationFormat activation = ActivationFormat::F32;
};

/// What each kind of weight is stored as, and how precise the inputs of quantized linears are. An
/// embedding whose table is also the head's weight shares the head's packed copy and format;
/// `embedding` is for tables of their own.
struct QuantizeScheme {
  WeightFormat decoder = WeightFormat::A4G32;
  WeightFormat head = WeightFormat::S8C;
  WeightFormat embedding = WeightFormat::S8C;
  ActivationFormat activation =
      ActivationFormat::A8G32; ///< float32 weights always take float32 inputs
  /// By name of the linear or embedding: what goes before the above.
  std::map<std::string, MatrixScheme> matrices;
};

/// Whether nothing but row-wise operations stand between the linear and the logits.
bool isHead(slm::LinearOp linear);
/// Whether two values are the same elements of the same initializer in the same order.
bool isSameView(mlir::Value a, mlir::Value b);
/// Whether the embedding's table is the whole weight of the linear, so that one packed copy serves
/// both.
bool isTied(slm::EmbeddingOp embedding, slm::LinearOp linear);

/// Sets `format` and `activation` of every slm.linear and `format` of every slm.embedding.
std::unique_ptr<mlir::Pass> createAssignSchemePass(const QuantizeScheme &scheme);
/// The weights of a linear in the order in which they are packed.
Result<LinearWeights> linearWeights(slm::LinearOp linear, const WeightResolver &resolve);
/// Gives every linear and embedding whose weights the model file has quantized the format that
/// carries them over to the bit (givenFormat), whatever the scheme said. Returns the names of those
/// that no format can carry: they keep the scheme's.
Result<std::vector<std::string>> keepGivenCodes(mlir::ModuleOp module,
                                                const WeightResolver &resolve);
/// CONTRACT quantized: every slm.linear has format, activation and packed_offset, every
/// slm.embedding format and packed_offset; names are known, offsets are multiples of 64, float32
/// weights take float32 inputs.
std::unique_ptr<mlir::Pass> createCheckQuantizedPass();
/// `slm-assign-scheme` and `slm-check-quantized` for smelt-opt.
void registerQuantizePasses();

/// One packed matrix, for the report.
struct PackedMatrix {
  std::string name; ///< of the linear, or of the embedding whose table this is
  std::string role; ///< "decoder", "head" or "embedding"
  int64_t rows = 0, cols = 0;
  WeightFormat format = WeightFormat::F32;
  ActivationFormat activation = ActivationFormat::F32;
  int64_t bytes = 0;
  int64_t offset = 0;  ///< in the weights section
  bool shared = false; ///< an embedding reads it too
  QuantizationReport error;
};

/// Keeps packed matrices from one attempt or run to the next. What the bytes depend on beside the
/// name and the format is the keeper's business.
class PackedKeeper {
public:
  struct Kept {
    std::vector<std::byte> bytes;
    QuantizationReport report;
  };

  virtual ~PackedKeeper() = default;
  /// What was kept of this matrix, or nothing.
  virtual std::optional<Kept> find(const std::string &name, WeightFormat format) = 0;
  [[nodiscard]] virtual Status keep(const std::string &name, WeightFormat format,
                                    const Kept &matrix) = 0;
};

struct PackOptions {
  Algorithm algorithm = Algorithm::Rtn;
  StatisticsLookup statistics; ///< needed if the algorithm says so
  OutputMomentsLookup outputs; ///< for coupled; may be empty
  int threads = 0;             ///< 0: all cores; the bytes do not depend on it
  /// Called with the share of weights packed, 0..1; returning false cancels.
  std::function<bool(double)> progress;
  /// Called when the pages of a view are not needed for now.
  std::function<void(const WeightView &)> release;
  /// Asked before a matrix is quantized and told after; may be null.
  PackedKeeper *keeper = nullptr;
};

/// Packs every linear and embedding of `module` into `sink`, in program order, and sets
/// `packed_offset`. Gated linears alternate tiles of gate and up; other linears have the rows of
/// their weights one after the other. InvalidArgument names a linear that the statistics lack or
/// know with another width.
Result<std::vector<PackedMatrix>> packWeights(mlir::ModuleOp module, const WeightResolver &resolve,
                                              WeightSink &sink, const PackOptions &options);

} // namespace smelt
