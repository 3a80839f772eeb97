// One function per kernel specification: dispatch to the emitters, and the naming of
// specifications.
#include "passes/lower/kernels.h"

#include "passes/lower/kernels/builder.h"
#include "passes/lower/tensor_kernels/emit.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

#include <charconv>

using namespace mlir;

namespace smelt {

namespace {

struct Family {
  const char *name;
  void (*emit)(KernelBuilder &);
  uint32_t written; ///< bit i: operand i is
};

/// By KernelKind.
constexpr Family families[] = {
    {"embed", emitEmbed, 1 << 2},
    {"norm", emitNorm, 1 << 3 | 1 << 5},
    {"quantize", emitQuantize, 1 << 1},
    {"linear", emitLinear, 1 << 3},
    {"rope_append", emitRopeAppend, 1 << 0 | 1 << 5 | 1 << 6},
    {"attention", emitAttentionOne, 1 << 4},
    {"attention_merge", emitAttentionMerge, 1 << 2},
    {"attention", emitAttentionMany, 1 << 4},
    {"elementwise", emitElementwise, 1 << 2},
    {"argmax_parts", nullptr, 1 << 1}, // GPUs only
    {"argmax", nullptr, 1 << 1},
    {"block_maxima", nullptr, 1 << 1 | 1 << 2},
    {"candidates", nullptr, 1 << 2},
};

} // namespace

std::string symbolText(double value) {
  char text[40];
  auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::hex).ptr;
  std::string result(text, end);
  for (char &c : result)
    if (c == '.' || c == '+' || c == '-')
      c = c == '-' ? 'm' : '_';
  return result;
}

std::string KernelSpec::name() const {
  std::string text = families[static_cast<uint32_t>(kind)].name;
  text += one ? "_one" : "_many";
  auto flag = [&](bool value, const char *tag) {
    if (value)
      text += std::string("_") + tag;
  };
  auto number = [&](const char *tag, int64_t value, int64_t usual) {
    if (value != usual)
      text += std::string("_") + tag + std::to_string(value);
  };
  auto real = [&](const char *tag, double value, double usual) {
    if (value != usual)
      text += std::string("_") + tag + symbolText(value);
  };
  flag(logitRows, "logits");
  flag(shared, "shared");
  flag(gatherRows, "gather");
  if (kind == KernelKind::Linear || kind == KernelKind::Embed)
    text += "_" + std::string(formatInfo(format).name);
  if (kind == KernelKind::Linear || kind == KernelKind::Quantize ||
      normOutput == NormOutput::Activation || normOutput == NormOutput::FloatAndActivation)
    text += "_" + std::string(activationName(activation));
  if (result)
    text += "_to_" + std::string(activationName(*result));
  number("n", rows, 0);
  number("k", cols, 0);
  number("in", inStride, 0);
  number("out", outStride, 0);
  number("ks", keyStride, 0);
  number("vs", valueStride, 0);
  number("h", heads, 0);
  number("kv", kvHeads, 0);
  number("d", headDim, 0);
  number("rot", rotaryDim, 0);
  number("w", window, 0);
  number("from", firstRow, 0);
  number("at", firstIndex, 0);
  number("t", maxTokens, 0);
  number("ctx", maxContext, 0);
  number("c", int64_t(cache), int64_t(CacheFormat::F16));
  number("act", activationKind, 0);
  number("to", static_cast<int64_t>(normOutput), 0);
  number("epi", static_cast<int64_t>(epilogue), 0);
  number("fn", static_cast<int64_t>(elementwise), 0);
  flag(ownCopy, "own");
  flag(appends, "appends");
  flag(bidirectional, "both");
  flag(layerNorm, "mean");
  flag(bias, "bias");
  flag(interleaved, "pairs");
  flag(compactRotary, "combined");
  flag(slopes, "slopes");
  flag(queryNorm, "qnorm");
  flag(keyNorm, "knorm");
  real("eps", epsilon, 0);
  real("s", scalar, 1);
  real("cap", softcap, 0);
  return wide ? text + std::string(format::gpuWideSuffix) : text;
}

bool writesOperand(const KernelSpec &spec, size_t index) {
  const bool appends = spec.kind == KernelKind::AttentionOne && spec.appends;
  const uint32_t written =
      appends ? 1 << 2 | 1 << 5 | 1 << 6 : families[static_cast<uint32_t>(spec.kind)].written;
  return written >> index & 1;
}

std::optional<KernelSpec> calledForm(const KernelSpec &spec) {
  KernelSpec called = spec;
  if (spec.logitRows) {
    called.logitRows = false;
    return called;
  }
  if (spec.one || spec.shared)
    return std::nullopt;
  called.shared = true;
  if (spec.kind == KernelKind::Linear) {
    // What is left of the outputs: whether the last tile is whole.
    called.rows = spec.rows % tileRows == 0 ? tileRows : 1;
    called.outStride = 0;
    if (spec.epilogue == LinearEpilogue::AddTo)
      called.epilogue = LinearEpilogue::Store;
    return called;
  }
  if (spec.kind == KernelKind::AttentionMany) {
    called.inStride = called.outStride = 0;
    return called;
  }
  return std::nullopt;
}

static OwningOpRef<ModuleOp> emptyModule(MLIRContext &context) {
  context.loadDialect<arith::ArithDialect, func::FuncDialect, LLVM::LLVMDialect, math::MathDialect,
                      memref::MemRefDialect, scf::SCFDialect, vector::VectorDialect>();
  return ModuleOp::create(UnknownLoc::get(&context));
}

OwningOpRef<ModuleOp> buildKernel(MLIRContext &context, const KernelSpec &spec,
                                  const KernelTarget &target) {
  OwningOpRef<ModuleOp> module = emptyModule(context);
  KernelBuilder builder(*module, spec, target);
  if (std::optional<KernelSpec> called = calledForm(spec))
    builder.callForm(*called);
  else
    families[static_cast<uint32_t>(spec.kind)].emit(builder);
  builder.finish();
  return module;
}

OwningOpRef<ModuleOp> buildKernel(MLIRContext &context, const TensorSpec &spec,
                                  const KernelTarget &target) {
  OwningOpRef<ModuleOp> module = emptyModule(context);
  emitTensorKernel(*module, spec, target);
  return module;
}

} // namespace smelt
