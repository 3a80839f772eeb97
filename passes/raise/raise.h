// From an exporter's graph to the model dialect.
#pragma once

#include "mlir/Pass/Pass.h"

#include <memory>
#include <string>

namespace mlir {
class OpPassManager;
}

namespace smelt {

/// What the raise pass leaves on the module: a dictionary of how many nodes each pattern raised.
inline constexpr char patternCountsAttribute[] = "raise.patterns";
/// What it leaves on nodes that it did not raise: why, and which pattern was closest.
inline constexpr char whyAttribute[] = "raise.why", closestAttribute[] = "raise.closest";

/// What it leaves on @main about the result, as integers of runtime/artifact/format.h: PortRole,
/// and where an embedding of the text is to be made of it, Pooling and whether it is scaled to
/// length 1.
inline constexpr char outputAttribute[] = "raise.output", poolingAttribute[] = "raise.pooling",
                      normalizeAttribute[] = "raise.normalize";

/// Raises `@main` of onnx ops, [batch, sequence] tensors, to slm ops over a ragged batch: func
/// @main(tensor<?xi32>) -> tensor<?xVxf32>, token ids to the logits of the rows asked for. Nodes
/// that no pattern fits stay, marked with the reason.
std::unique_ptr<mlir::Pass> createRaisePass();

/// The contract after raising: no onnx op is left. Fails with the list of all nodes that are.
std::unique_ptr<mlir::Pass> createCheckRaisedPass();

/// Warns where config.json beside the model says something else than the graph (window, softcap,
/// rotary base, norm epsilon): the graph is what is compiled. `path` may not exist.
std::unique_ptr<mlir::Pass> createCheckConfigPass(std::string path = {});

/// All of the above in order; `configPath` empty leaves the last one out.
void addRaisePasses(mlir::OpPassManager &passes, const std::string &configPath = {});

/// Makes the passes known by name, for smelt-opt.
void registerRaisePasses();

} // namespace smelt
