// What runs the tokens of a session: a token program over its caches, or a tensor program.
#pragma once

#include "runtime/base/status.h"
#include "runtime/devices/gpu.h"
#include "runtime/devices/threads.h"
#include "runtime/model/model.h"
#include "runtime/model/sampler.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace smelt {

/// One token of a step.
struct Token {
  int32_t id;
  int32_t position; ///< in its slot, from 0; at most the number of positions that the slot holds
  int32_t slot;
  int32_t type = 0; ///< token type (segment), where the model has some
};

/// What a step leaves of the rows that it is asked for.
enum class StepOutput {
  Logits,    ///< logits() and likeliest()
  Likeliest, ///< likeliest() alone: on a GPU the logits stay there
  Likely,    ///< likely(), where it is not empty, else as Logits
};

/// Sees a piece of a cache; false: no more.
using PieceVisitor = std::function<bool(std::span<std::byte>)>;

/// What a visitor does with the pieces that it sees.
enum class CacheAccess {
  Measure, ///< it looks at their sizes; they hold anything
  Read,    ///< they hold what is cached, and stay so
  Write,   ///< what it leaves there becomes what is cached
};

/// Gets steps that the session has checked.
class Backend {
public:
  virtual ~Backend() = default;
  /// Runs a step. `histories`: tokens that each slot held before it; the step continues or
  /// overwrites them. A failing step changes nothing.
  virtual Status step(std::span<const Token> tokens, std::span<const int32_t> logitRows,
                      StepOutput output, std::span<const std::vector<int32_t>> histories) = 0;
  /// Logits [vocabSize] of a row of the last step; empty if they were not asked for.
  virtual std::span<const float> logits(size_t row) const = 0;
  /// argmax(logits(row)).
  virtual int64_t likeliest(size_t row) const { return argmax(logits(row)); }
  /// Of that row the topKAtMost likeliest tokens (format.h), if the vocabulary has so many that
  /// can be chosen, and maybe others, in any order. Empty: logits() has to be looked at.
  virtual std::span<const LikelyToken> likely(size_t) const { return {}; }
  /// Adds times to `perLabel` and, in a tensor program, `perInstruction` from now on; null: no
  /// longer.
  virtual void setProfile(StepProfile *perLabel, std::vector<uint64_t> *perInstruction) = 0;
  /// Tokens of a step at most that a long text is best divided into.
  virtual size_t chunkTokens() const { return SIZE_MAX; }
  virtual uint64_t reservedBytes() const = 0;
  /// Whether a step may overwrite what a slot holds without running what was before it again.
  virtual bool rewinds() const = 0;
  /// Calls `piece` for all memory that the first `length` positions of a slot are cached in, until
  /// it returns false. Number, order and sizes of the pieces depend on the model and `length` only.
  /// Unsupported: states that cannot be taken apart.
  virtual Status visit(int32_t slot, uint32_t length, CacheAccess access,
                       const PieceVisitor &piece) = 0;
  /// Copies the first `length` positions of slot `from` to slot `to`. Unsupported: as for visit().
  virtual Status copy(int32_t from, int32_t to, uint32_t length) = 0;
};

/// Runs the first layers of a program.
class FirstLayers : public Backend {
public:
  /// What the last step leaves to the layer behind: rows of LayerStart::rowBytes.
  virtual Status takeRows(std::span<std::byte> rows) = 0;
};

/// Runs what is behind the first layers.
class LastLayers : public Backend {
public:
  /// Where the rows that the next step takes over belong.
  virtual std::span<std::byte> rowsIn() = 0;
};

/// Caches, scratch and logits for the token program from layer `firstLayer` on (0: from its first
/// instruction); allocates everything at once. `context`, `slots`: sizes that the model has.
/// Exhausted: memory.
Result<std::unique_ptr<LastLayers>> createTokenBackend(std::shared_ptr<const Model> model,
                                                       std::shared_ptr<ThreadTeam> team,
                                                       uint32_t context, uint32_t slots,
                                                       uint32_t firstLayer = 0);

/// A GPU and the code of an artifact for it.
struct ChosenDevice {
  std::unique_ptr<GpuDevice> device; ///< null: the CPU is to run the model
  format::GpuCodeKind kind = format::GpuCodeKind::SpirV;
};
/// The token program on a GPU, whose code the artifact has, up to layer `layers` (all of them: to
/// its end). Exhausted: its memory; Unsupported: an operand is too large for it.
Result<std::unique_ptr<FirstLayers>> createGpuBackend(std::shared_ptr<const Model> model,
                                                      ChosenDevice chosen, uint32_t context,
                                                      uint32_t slots, uint32_t layers);
/// The most layers that fit what is free on the device, as far as the driver says.
Result<uint32_t> layersThatFit(const Model &model, const GpuDevice &device, uint32_t context,
                               uint32_t slots);
/// The first `layers` on a GPU (fewer than all), the others and the head on the CPU. Unsupported:
/// the artifact does not say where layers begin.
Result<std::unique_ptr<Backend>> createOffloadBackend(std::shared_ptr<const Model> model,
                                                      ChosenDevice chosen,
                                                      std::shared_ptr<ThreadTeam> team,
                                                      uint32_t context, uint32_t slots,
                                                      uint32_t layers);
/// Every slot runs by itself as a batch of one; state outputs are fed to the next step.
/// Unsupported: the graph has no token ids or logits, or inputs that nobody knows what to feed.
Result<std::unique_ptr<Backend>> createTensorBackend(std::shared_ptr<const Model> model,
                                                     std::shared_ptr<ThreadTeam> team,
                                                     uint32_t slots);

} // namespace smelt
