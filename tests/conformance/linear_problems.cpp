// Problems of the linear kernel: formats x activations x shapes x epilogues.
#include "passes/lower/kernels/layout.h"
#include "tests/conformance/problem.h"

#include <cmath>
#include <stdexcept>

namespace smelt::conformance {

namespace {

class LinearProblem : public Problem {
public:
  explicit LinearProblem(Fields &fields) {
    base.kind = KernelKind::Linear;
    rows = fields.integer("tokens", 11);
    base.rows = fields.integer("n", 48);
    base.cols = fields.integer("k", 128);
    base.outStride = base.rows + fields.integer("pad", 0);
    base.bias = fields.integer("bias", 0);
    base.logitRows = fields.integer("logits", 0);
    auto format = findFormat(fields.text("format", "a4g32"));
    auto activation = findActivation(fields.text("in", "a8g32"));
    if (!format.ok() || !activation.ok())
      throw std::invalid_argument(format.ok() ? activation.status().message()
                                              : format.status().message());
    base.format = *format;
    base.activation = *activation;
    std::string epilogue = fields.text("to", "store");
    base.epilogue = epilogue == "gated" ? LinearEpilogue::Gated
                    : epilogue == "add" ? LinearEpilogue::AddTo
                                        : LinearEpilogue::Store;
    base.activationKind = activationKindOf(fields.text("kind", "identity"));
    const bool hasCopies = fields.integer("own", 0);
    for (bool one : {false, true}) {
      specs.push_back(base);
      specs.back().one = one;
      specs.back().ownCopy = one && hasCopies;
    }
    // One row becomes activations where it is made, many rows in a second step.
    if (std::string name = fields.text("out", "float"); name != "float") {
      auto found = findActivation(name);
      if (!found.ok())
        throw std::invalid_argument(found.status().message());
      specs[1].result = *found;
      KernelSpec quantize;
      quantize.kind = KernelKind::Quantize;
      quantize.activation = *found;
      quantize.cols = base.rows;
      quantize.inStride = base.outStride;
      specs.push_back(quantize);
    }
    std::vector<float> x = normal(rows * base.cols);
    // The largest codes of weights and inputs, of one sign in a row: what could overflow does.
    const bool extreme = fields.integer("extreme", 0);
    for (size_t i = 0; extreme && i < x.size(); ++i)
      x[i] = int64_t(i) / base.cols % 2 ? -1.0f : 1.0f;
    input = makeActivations(base.activation, x, rows, base.cols);
    weights = makeWeights(base.format, base.rows, base.cols, random, extreme);
    packed = weights.packed;
    if (gated()) { // tiles of gate and up alternate
      up = makeWeights(base.format, base.rows, base.cols, random);
      packed.clear();
      const int64_t tile = tileBytes(base.format, base.cols);
      for (size_t at = 0; at < weights.packed.size(); at += tile)
        for (const Weights *part : {&weights, &up})
          packed.insert(packed.end(), part->packed.begin() + at, part->packed.begin() + at + tile);
    }
    bias = normal(base.rows);
    before = normal(rows * base.outStride);
  }

  int64_t addMany(Job &job, int64_t threads) override {
    return addRun(job, 0, rows, false, threads);
  }
  int64_t addOne(Job &job, int64_t row, int64_t threads) override {
    return addRun(job, row, 1, true, threads);
  }
  double products(bool one) const override {
    return double(base.rows * base.cols * (one ? 1 : rows) * (gated() ? 2 : 1));
  }

  double weightBytes() const override { return double(packed.size()); }

  std::vector<float> result(const Job &job, int64_t run, int64_t rowsOfRun) const override {
    if (specs[1].result)
      return readActivations(resultLayout(rowsOfRun == 1), job.buffers[run].data(), rowsOfRun);
    std::vector<float> result;
    for (int64_t row = 0; row < rowsOfRun; ++row)
      for (int64_t n = 0; n < base.rows; ++n)
        result.push_back(job.buffers[run].as<float>()[row * base.outStride + n]);
    return result;
  }

  Expected expected() const override {
    Expected e;
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t n = 0; n < base.rows; ++n) {
        auto [y, error] = dot(weights, row, n);
        if (gated()) {
          auto [v, upError] = dot(up, row, n);
          double activated = activateReference(base.activationKind, y);
          // No activation is steeper than 1.13 apart from relu2; its own error as in the
          // elementwise problems.
          double own = error * 1.13 + 8 * roundoff * std::fabs(activated) + 3e-7 * std::fabs(y);
          error = own * std::fabs(v) + std::fabs(activated) * upError;
          y = activated * v;
        }
        if (base.bias)
          y += bias[n];
        if (base.epilogue == LinearEpilogue::AddTo)
          y += before[row * base.outStride + n];
        e.value.push_back(y);
        e.tolerance.push_back(error + 3 * roundoff * (std::fabs(y) + 1));
      }
    if (specs[1].result)
      return expectedActivations(resultLayout(false), *specs[1].result, e.value, e.tolerance, rows);
    return e;
  }

private:
  KernelSpec base;
  Activations input;
  Weights weights, up;
  std::vector<std::byte> packed;
  std::vector<float> bias, before;
  bool gated() const { return base.epilogue == LinearEpilogue::Gated; }

  ActivationLayout resultLayout(bool one) const {
    return activationLayout(*specs[1].result, base.rows, one, tiles);
  }

  /// The exact dot product and a bound of the kernel's error: one rounding per step of the sums, in
  /// magnitudes.
  std::pair<double, double> dot(const Weights &w, int64_t row, int64_t n) const {
    const int64_t padded = roundUp(base.cols, blockInputs), groups = padded / groupInputs;
    const bool quantized = base.activation != ActivationFormat::F32;
    double sum = 0, magnitude = 0;
    for (int64_t i = 0; i < base.cols; ++i) {
      double x = input.codes[row * padded + i];
      if (quantized)
        x *= input.scale[row * groups + i / groupInputs];
      double term = x * w.values[n * base.cols + i];
      sum += term;
      magnitude += std::fabs(term);
    }
    // Asymmetric weights are differences of two sums, each larger than the result: at most as often
    // as there are codes.
    const FormatInfo &info = formatInfo(base.format);
    double spread = info.grid == Grid::Asymmetric ? 1 << info.bits : 1;
    double steps = double(groups * (info.group == 16 ? 2 : 1) + 8) + (quantized ? 0 : groupInputs);
    return {sum, (magnitude + 1e-6) * spread * steps * roundoff};
  }

  int64_t addRun(Job &job, int64_t first, int64_t count, bool one, int64_t threads) {
    Call call;
    call.symbol = specs[one].name();
    call.info[base.logitRows ? format::FieldLogitRows : format::FieldTokens] = count;
    const ActivationLayout layout = activationLayout(base.activation, base.cols, one, tiles);
    std::vector<std::byte> in = layoutActivations(layout, input, first, count);
    if (specs[one].ownCopy) { // a copy for each thread
      const std::vector<std::byte> copy = in;
      for (int64_t thread = 1; thread < threads; ++thread)
        in.insert(in.end(), copy.begin(), copy.end());
    }
    call.operands[0].buffer = job.add(in);
    call.operands[1].buffer = job.add(packed);
    if (base.bias)
      call.operands[2].buffer = job.add(bias);
    const ActivationLayout to = specs[1].result ? resultLayout(one) : ActivationLayout{};
    int32_t out = specs[one].result ? job.add(nullptr, to.blockBytes)
                                    : job.add(&before[first * base.outStride],
                                              count * base.outStride * sizeof(float));
    call.operands[3].buffer = out;
    job.addForThreads(call, threads);
    if (one || !specs[1].result)
      return out;
    Call quantize;
    quantize.symbol = specs[2].name();
    quantize.info[format::FieldTokens] = count;
    quantize.operands[0].buffer = out;
    int32_t written =
        job.add(nullptr, roundUp(count, to.interleave) / to.interleave * to.blockBytes);
    quantize.operands[1].buffer = written;
    job.addForThreads(quantize, threads);
    return written;
  }
};

} // namespace

std::unique_ptr<Problem> makeLinearProblem(Fields &fields) {
  return std::make_unique<LinearProblem>(fields);
}

} // namespace smelt::conformance
