// Problems that work on whole rows: elementwise, norm, quantize, embed.
#include "passes/lower/kernels/layout.h"
#include "tests/conformance/problem.h"

#include <array>
#include <cmath>
#include <cstring>
#include <stdexcept>

namespace smelt::conformance {

namespace {

/// Cuts rows [first, first + count) with `stride` floats each out of `values`.
std::vector<float> cut(const std::vector<float> &values, int64_t first, int64_t count,
                       int64_t stride) {
  return {values.begin() + first * stride, values.begin() + (first + count) * stride};
}

/// What kernels with one float input and one output have in common; the output is float rows or
/// activations.
class RowsProblem : public Problem {
public:
  int64_t addMany(Job &job, int64_t threads) override {
    return addRun(job, 0, rows, false, threads);
  }
  int64_t addOne(Job &job, int64_t row, int64_t threads) override {
    return addRun(job, row, 1, true, threads);
  }

  std::vector<float> result(const Job &job, int64_t run, int64_t rowsOfRun) const override {
    const Memory &out = job.buffers[run];
    if (!activations)
      return floatRows(out, rowsOfRun);
    const ActivationLayout layout = layoutOf(rowsOfRun == 1);
    const bool hasCopies = rowsOfRun == 1 && specs[1].ownCopy; // then the last one
    std::vector<float> fields = readActivations(
        layout, out.data() + (hasCopies ? int64_t(out.size()) - layout.blockBytes : 0), rowsOfRun);
    return hasBoth() ? sideBySide(fields, floatRows(job.buffers[run + 1], rowsOfRun), rowsOfRun)
                     : fields;
  }

protected:
  KernelSpec base;
  bool activations = false;
  int outOperand = 2;

  ActivationLayout layoutOf(bool one) const {
    return activationLayout(base.activation, base.cols, one, tiles);
  }
  bool hasBoth() const { return base.normOutput == NormOutput::FloatAndActivation; }
  std::vector<float> floatRows(const Memory &out, int64_t count) const {
    std::vector<float> result;
    for (int64_t row = 0; row < count; ++row)
      for (int64_t i = 0; i < base.cols; ++i)
        result.push_back(out.as<float>()[row * base.outStride + i]);
    return result;
  }
  /// Row after row, what `a` holds of it and then what `b` does.
  template <typename T>
  static std::vector<T> sideBySide(const std::vector<T> &a, const std::vector<T> &b,
                                   int64_t count) {
    std::vector<T> result;
    for (int64_t row = 0; row < count; ++row)
      for (const std::vector<T> *part : {&a, &b}) {
        auto width = std::ptrdiff_t(part->size()) / count;
        result.insert(result.end(), part->begin() + row * width, part->begin() + (row + 1) * width);
      }
    return result;
  }

  /// `hasCopies`: one row of activations is written by every thread for itself.
  void makeSpecs(bool hasCopies = false) {
    for (bool one : {false, true}) {
      specs.push_back(base);
      specs.back().one = one;
      specs.back().ownCopy = one && hasCopies;
    }
  }
  /// Fills the operands other than the output, for rows [first, first + count).
  virtual void addInputs(Job &job, Call &call, int64_t first, int64_t count) const = 0;
  virtual std::vector<float> initialOutput(int64_t first, int64_t count) const {
    return std::vector<float>(count * base.outStride, -77.0f);
  }

  int64_t addRun(Job &job, int64_t first, int64_t count, bool one, int64_t threads) {
    Call call;
    call.symbol = specs[one].name();
    call.info[base.logitRows ? format::FieldLogitRows : format::FieldTokens] = count;
    addInputs(job, call, first, count);
    int32_t out;
    if (activations) {
      const ActivationLayout layout = layoutOf(one);
      const int64_t blocks =
          specs[one].ownCopy ? threads : roundUp(count, layout.interleave) / layout.interleave;
      out = job.add(nullptr, blocks * layout.blockBytes);
    } else {
      out = job.add(initialOutput(first, count));
    }
    call.operands[outOperand].buffer = out;
    if (hasBoth())
      call.operands[5].buffer = job.add(std::vector<float>(count * base.outStride, -77.0f));
    job.addForThreads(call, threads);
    return out;
  }
};

// --- Elementwise

class ElementwiseProblem : public RowsProblem {
public:
  explicit ElementwiseProblem(Fields &fields) {
    base.kind = KernelKind::Elementwise;
    rows = fields.integer("rows", 3);
    base.cols = fields.integer("cols", 64);
    base.inStride = base.cols + fields.integer("pad", 0);
    base.keyStride = base.inStride + 1;
    base.outStride = base.cols;
    std::string function = fields.text("fn", "add");
    const char *names[] = {"add", "mul", "scale", "softcap", "activation", "gated"};
    for (uint32_t i = 0; i < std::size(names); ++i)
      if (function == names[i])
        base.elementwise = ElementwiseKind(i);
    base.activationKind = activationKindOf(fields.text("kind", "identity"));
    base.scalar = fields.real("scalar", 1);
    base.softcap = fields.real("cap", 0);
    base.logitRows = fields.integer("logits", 0);
    makeSpecs();
    a = normal(rows * base.inStride, fields.real("deviation", 2));
    other = normal(rows * base.keyStride);
    for (int64_t i = 0; i < 8 && i < base.cols; ++i) // far ends, zero and both signs of it
      a[i] = std::array{0.0f, -0.0f, 100.0f, -100.0f, 1e-30f, -3e4f, 3e4f, 0.6f}[i];
  }

  Expected expected() const override {
    Expected e;
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t i = 0; i < base.cols; ++i) {
        double x = a[row * base.inStride + i], y = other[row * base.keyStride + i];
        double cap = base.softcap, activated = activateReference(base.activationKind, x);
        // tanh and erf are within 3e-7 absolutely, then multiplied by x / 2; relative 8 roundoffs
        // elsewhere.
        double activatedError =
            8 * roundoff * std::fabs(activated) + 3e-7 * std::min(std::fabs(x), 1e4) + 1e-37;
        double value = 0, error = 0;
        switch (base.elementwise) {
        case ElementwiseKind::Add:
          value = x + y;
          break;
        case ElementwiseKind::Mul:
          value = x * y;
          break;
        case ElementwiseKind::Scale:
          value = x * float(base.scalar);
          break;
        case ElementwiseKind::Softcap:
          value = cap * std::tanh(x / cap);
          error = cap * 3e-7;
          break;
        case ElementwiseKind::Activation:
          value = activated;
          error = activatedError;
          break;
        case ElementwiseKind::Gated:
          value = activated * y;
          error = activatedError * std::fabs(y);
          break;
        }
        e.value.push_back(value);
        e.tolerance.push_back(error + 2 * roundoff * std::fabs(value));
      }
    return e;
  }

protected:
  std::vector<float> a, other;
  void addInputs(Job &job, Call &call, int64_t first, int64_t count) const override {
    call.operands[0].buffer = job.add(cut(a, first, count, base.inStride));
    call.operands[1].buffer = job.add(cut(other, first, count, base.keyStride));
  }
};

// --- Norm and Quantize

class NormProblem : public RowsProblem {
public:
  explicit NormProblem(Fields &fields) {
    base.kind = fields.kind == "quantize" ? KernelKind::Quantize : KernelKind::Norm;
    rows = fields.integer("rows", 3);
    base.cols = fields.integer("cols", 576);
    base.inStride = base.cols + fields.integer("pad", 0);
    base.layerNorm = fields.integer("mean", 0);
    base.bias = fields.integer("bias", 0);
    base.gatherRows = fields.integer("gather", 0);
    base.logitRows = base.gatherRows;
    std::string out = fields.text("out", "float");
    outOperand = base.kind == KernelKind::Norm ? 3 : 1;
    if (out == "float" || out == "add") {
      base.normOutput = out == "add" ? NormOutput::AddToResidual : NormOutput::Float;
      base.outStride = base.cols + 3;
    } else {
      base.normOutput =
          fields.integer("rows_too", 0) ? NormOutput::FloatAndActivation : NormOutput::Activation;
      base.outStride = hasBoth() ? base.cols + 3 : 0;
      auto found = findActivation(out);
      if (!found.ok())
        throw std::invalid_argument(found.status().message());
      base.activation = *found;
      activations = true;
    }
    if (base.kind == KernelKind::Norm)
      base.epsilon = 1e-5;
    else
      base.activationKind = activationKindOf(fields.text("kind", "identity"));
    makeSpecs(fields.integer("own", 0));
    in = normal(rows * base.inStride, fields.real("deviation", 1));
    for (int64_t i = 32; i < 64 && i < base.cols; ++i) // one group of zeros, one that is nearly
      in[i] = 0;
    for (int64_t i = 64; i < 96 && i < base.cols; ++i)
      in[i] *= 1e-36f;
    wild = fields.integer("wild", 0);
    for (int64_t i = 0; wild && i < base.cols; i += 5)
      in[i] = std::array{NAN, INFINITY, -INFINITY}[i % 3];
    weight = normal(base.cols);
    bias = normal(base.cols);
    residual = normal(rows * base.outStride);
    for (int64_t row = 0; row < rows; ++row)
      order.push_back(int32_t(base.gatherRows ? rows - 1 - row : row));
  }

  Expected expected() const override {
    std::vector<double> y(rows * base.cols), bound(rows * base.cols);
    for (int64_t row = 0; row < rows; ++row)
      normRow(row, &y[row * base.cols], &bound[row * base.cols]);
    Expected e = activations ? expectedActivations(layoutOf(false), base.activation, y, bound, rows)
                             : Expected{y, bound};
    if (hasBoth())
      e = {sideBySide(e.value, y, rows), sideBySide(e.tolerance, bound, rows)};
    if (wild)
      for (size_t i = 0; i < e.value.size() / rows; ++i)
        e.value[i] = e.tolerance[i] = 0;
    return e;
  }

  int64_t addOne(Job &job, int64_t row, int64_t threads) override {
    int64_t run = RowsProblem::addOne(job, row, threads);
    wildRuns[run] = wild && row == 0;
    return run;
  }
  /// A row of infinities and NaN may become anything; it must not crash or reach other rows.
  std::vector<float> result(const Job &job, int64_t run, int64_t rowsOfRun) const override {
    std::vector<float> out = RowsProblem::result(job, run, rowsOfRun);
    auto known = wildRuns.find(run);
    if (known == wildRuns.end() ? wild : known->second)
      std::fill_n(out.begin(), out.size() / rowsOfRun, 0.0f);
    return out;
  }

private:
  bool wild = false;
  std::map<int64_t, bool> wildRuns;
  std::vector<float> in, weight, bias, residual;
  std::vector<int32_t> order;

  void normRow(int64_t row, double *y, double *bound) const {
    const float *x = &in[order[row] * base.inStride];
    const int64_t cols = base.cols;
    double mean = 0, absolute = 0, squares = 0;
    for (int64_t i = 0; i < cols; ++i) {
      mean += x[i] / double(cols);
      absolute += std::fabs(x[i]) / double(cols);
    }
    if (!base.layerNorm)
      mean = 0;
    for (int64_t i = 0; i < cols; ++i)
      squares += (x[i] - mean) * (x[i] - mean);
    double scale = 1 / std::sqrt(squares / double(cols) + base.epsilon);
    // The chains are cols / 64 long, then a tree of 6 and the division: half of the relative error
    // of the sum reaches the root.
    double chain = (double(cols) / 64 + 10) * roundoff;
    for (int64_t i = 0; i < cols; ++i) {
      if (base.kind == KernelKind::Quantize) {
        y[i] = activateReference(base.activationKind, x[i]);
        if (base.activationKind) // as in the elementwise problems
          bound[i] = 8 * roundoff * std::fabs(y[i]) + 3e-7 * std::fabs(x[i]);
        continue;
      }
      double centred = x[i] - mean, w = weight[i], b = base.bias ? bias[i] : 0;
      y[i] = centred * scale * w + b;
      bound[i] =
          std::fabs(centred * scale * w) * (2 * chain + 5 * roundoff) + roundoff * std::fabs(y[i]);
      if (base.layerNorm)
        bound[i] += (chain * absolute + roundoff * std::fabs(x[i])) * std::fabs(scale * w);
      if (base.normOutput == NormOutput::AddToResidual) {
        y[i] += residual[row * base.outStride + i];
        bound[i] += roundoff * std::fabs(y[i]);
      }
    }
  }

  std::vector<float> initialOutput(int64_t first, int64_t count) const override {
    return cut(residual, first, count, base.outStride);
  }

  void addInputs(Job &job, Call &call, int64_t first, int64_t count) const override {
    if (base.gatherRows) { // all rows are there, the list says which are wanted
      call.operands[0].buffer = job.add(in);
      std::vector<int32_t> wanted(order.begin() + first, order.begin() + first + count);
      call.operands[base.kind == KernelKind::Norm ? 4 : 2].buffer = job.add(wanted);
    } else {
      call.operands[0].buffer = job.add(cut(in, first, count, base.inStride));
    }
    if (base.kind == KernelKind::Norm) {
      call.operands[1].buffer = job.add(weight);
      if (base.bias)
        call.operands[2].buffer = job.add(bias);
    }
  }
};

// --- Embed

class EmbedProblem : public RowsProblem {
public:
  explicit EmbedProblem(Fields &fields) {
    base.kind = KernelKind::Embed;
    rows = fields.integer("rows", 3);
    base.rows = fields.integer("vocabulary", 40);
    base.cols = fields.integer("cols", 576);
    base.outStride = base.cols + 1;
    base.firstRow = fields.integer("from", 0);
    base.scalar = fields.real("scalar", 1);
    auto found = findFormat(fields.text("format", "s8c"));
    if (!found.ok())
      throw std::invalid_argument(found.status().message());
    base.format = *found;
    makeSpecs();
    table = makeWeights(base.format, base.rows, base.cols, random);
    for (int64_t row = 0; row < rows; ++row)
      tokens.push_back(int32_t((row * 17 + base.rows - 1) % (base.rows - base.firstRow)));
  }

  Expected expected() const override {
    Expected e;
    for (int32_t token : tokens)
      for (int64_t i = 0; i < base.cols; ++i) {
        float value = table.values[(base.firstRow + token) * base.cols + i];
        e.value.push_back(base.scalar == 1 ? value : value * float(base.scalar));
        e.tolerance.push_back(0);
      }
    return e;
  }

private:
  Weights table;
  std::vector<int32_t> tokens;
  void addInputs(Job &job, Call &call, int64_t first, int64_t count) const override {
    call.operands[0].buffer = job.add(table.packed);
    call.operands[1].buffer =
        job.add(std::vector<int32_t>(tokens.begin() + first, tokens.begin() + first + count));
  }
};

} // namespace

std::unique_ptr<Problem> makeRowsProblem(Fields &fields) {
  if (fields.kind == "elementwise")
    return std::make_unique<ElementwiseProblem>(fields);
  if (fields.kind == "norm" || fields.kind == "quantize")
    return std::make_unique<NormProblem>(fields);
  if (fields.kind == "embed")
    return std::make_unique<EmbedProblem>(fields);
  throw std::invalid_argument("unknown problem kind '" + fields.kind + "'");
}

} // namespace smelt::conformance
