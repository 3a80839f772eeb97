// The state of lowering one program, shared by its parts: places of values, buffers, tables and
// instructions.
#pragma once

#include "compiler/dialect/slm.h"
#include "passes/lower/kernels/layout.h"
#include "passes/lower/lower.h"
#include "passes/lower/plan_barriers.h"
#include "passes/lower/plan_memory.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringMap.h"

#include <map>

namespace smelt {

inline constexpr int64_t noBuffer = -1;

/// Where an operand of an instruction lies: a planned buffer plus a byte offset, or something that
/// needs no plan.
struct Location {
  format::OperandKind kind = format::OperandKind::None;
  int64_t value = 0; ///< weights offset, layer, or byte offset within the buffer
  int64_t buffer = noBuffer;
  bool isOwn = false;          ///< of one row, every thread has its own copy
  int64_t begin = 0, end = -1; ///< bytes of the buffer that are touched; -1: all
};

/// Float rows of a value.
struct Place {
  Location location;
  int64_t stride = 0; ///< floats between rows
  format::Domain domain = format::Domain::Tokens;
  bool gather = false; ///< row r of the logit domain is row LogitRows[r] here
};

struct PendingInstruction {
  int64_t one = -1, many = -1; ///< kernels; -1: none
  format::Domain domain = format::Domain::Tokens;
  format::OpLabel label = format::OpLabel::Linear;
  std::vector<Location> operands;
};

class Lowering {
public:
  Lowering(const WeightResolver &weights, FloatStore &stored, const LowerOptions &options)
      : weights(weights), stored(stored), options(options) {}

  Result<LoweredProgram> run(mlir::func::FuncOp main);

private:
  // --- One function per operation
  Status lower(mlir::Operation &op);
  Status lowerEmbedding(slm::EmbeddingOp op);
  Status lowerNorm(mlir::Operation *op, mlir::Value input, mlir::Value weight, mlir::Value bias,
                   double epsilon, bool layerNorm);
  Status lowerLinear(slm::LinearOp op);
  Status lowerAttention(slm::AttentionOp op);
  Status lowerElementwise(mlir::Operation *op, ElementwiseKind kind, mlir::Value a, mlir::Value b,
                          uint32_t activation, double scalar);
  Status lowerSlice(slm::SliceOp op);
  Status lowerSelectRows(slm::SelectRowsOp op);

  /// How linears and other operations read a value.
  struct Readers {
    std::optional<ActivationFormat> activation; ///< the one precision in which all linears read it
    bool others = false;                        ///< something needs float rows
  };
  static Readers readersOf(mlir::Value value);
  /// The precision in which a kernel of one row can write a value at once: linears alone read it,
  /// and its groups do not depend on each other.
  std::optional<ActivationFormat> writtenAtOnce(mlir::Value value) const;
  /// The activation function that the quantizer of its result applies: nothing else reads it.
  static slm::ActivationOp appliedWhenQuantized(mlir::Value value);

  // --- Places and buffers
  int64_t newBuffer(int64_t bytes);
  /// Makes two buffers one: `second` comes to lie behind `first`.
  void joinBuffers(int64_t first, int64_t second);
  Location newActivations(ActivationFormat format, int64_t cols, format::Domain domain,
                          bool isOwn = false);
  int64_t rowsOf(format::Domain domain) const {
    return domain == format::Domain::Tokens ? options.maxTokens : options.maxLogitRows;
  }
  Place newRows(mlir::Value value, format::Domain domain);
  Result<Place> placeOf(mlir::Value value);
  Result<Location> activationsOf(mlir::Value input, ActivationFormat format);
  /// Of several rows the float rows of `value` become the activations that a kernel of one row has
  /// written.
  void quantizeMany(mlir::Value value, const Place &rows, ActivationFormat format, Location out);
  bool isLastUse(mlir::Value value, mlir::Operation *op);
  static Location positions() { return {format::OperandKind::Positions, 0}; }
  /// A table has rows for so many positions only.
  void limitContext(int64_t positions) {
    program.config.maxContext = uint32_t(std::min<int64_t>(program.config.maxContext, positions));
  }

  // --- Weights section
  Result<Location> appendFloats(const std::vector<float> &values);
  Result<std::vector<float>> readAll(mlir::Value weight);
  Result<Location> vectorWeight(mlir::Value weight);
  struct RotaryTable {
    Location location;
    int64_t positions;
    bool isCompact = false;
  };
  Result<RotaryTable> rotaryTable(mlir::Value cos, mlir::Value sin);

  // --- Instructions
  int64_t kernel(KernelSpec spec, bool one);
  void emit(const KernelSpec &spec, format::Domain domain, format::OpLabel label,
            std::vector<Location> operands, bool hasOne = true, bool hasMany = true);
  std::vector<int64_t> attentionOfLayers() const;
  std::vector<TouchedRange> touchedBy(const PendingInstruction &instruction, bool one) const;
  std::vector<std::vector<format::Readiness>> planReadiness() const;
  Status refuse(mlir::Operation *op, const std::string &why);

  const WeightResolver &weights;
  FloatStore &stored;
  LowerOptions options;
  LoweredProgram program;
  std::vector<PlannedBuffer> buffers;
  std::vector<PendingInstruction> pending;
  llvm::DenseMap<mlir::Value, Place> places;
  std::map<std::pair<void *, ActivationFormat>, Location> activations;
  std::map<std::pair<void *, void *>, RotaryTable> tables;
  llvm::DenseMap<mlir::Value, Location> vectors;
  llvm::StringMap<int64_t> kernelIndex;
  std::map<int64_t, format::CacheLayer> layers;
  mlir::Value logits;
};

} // namespace smelt
