// One kernel problem: specifications, random data, runs of it as one row or many, and what should
// come out.
#pragma once

#include "passes/lower/kernel_spec.h"
#include "passes/lower/kernels/layout.h"
#include "tests/conformance/job.h"

#include <map>
#include <memory>
#include <random>

namespace smelt::conformance {

/// A problem line `kind key=value ...`.
class Fields {
public:
  explicit Fields(const std::string &line);
  std::string kind;
  int64_t integer(const std::string &key, int64_t usual);
  double real(const std::string &key, double usual);
  std::string text(const std::string &key, const std::string &usual);
  /// Throws std::invalid_argument where the line has keys that nothing asked for.
  void finish() const;

private:
  std::map<std::string, std::string> values;
  std::map<std::string, bool> used;
};

/// Result rows with the largest error each element may have.
struct Expected {
  std::vector<double> value, tolerance;
};

class Problem {
public:
  virtual ~Problem() = default;
  /// Rows of the many-row run, at least 2.
  int64_t rows = 0;
  std::vector<KernelSpec> specs;
  /// Runs are added and read for a target with tiles (KernelTarget::tiles).
  bool tiles = false;

  /// Adds a run of all rows, or of one row by the one-row kernels; returns a handle for result().
  virtual int64_t addMany(Job &job, int64_t threads) = 0;
  virtual int64_t addOne(Job &job, int64_t row, int64_t threads) = 0;
  /// The result rows of a run, in an order that does not depend on how it was computed.
  virtual std::vector<float> result(const Job &job, int64_t run, int64_t rowsOfRun) const = 0;
  virtual Expected expected() const = 0;
  /// Multiplications of a many-row run and of a one-row run, for the bench.
  virtual double products(bool one) const { return 0; }
  /// Bytes of packed weights that each run reads, for the bench.
  virtual double weightBytes() const { return 0; }

protected:
  std::mt19937 random{20260722};
  std::vector<float> normal(int64_t count, double deviation = 1);
};

/// The problems of a file, a line each, without its comments.
std::vector<std::string> problemLines(const std::string &path);
/// What a test of a problem is called: its line with other signs than letters and digits as _.
std::string testName(const std::string &line);

/// Throws std::invalid_argument for a line it cannot read.
std::unique_ptr<Problem> makeProblem(const std::string &line);

std::unique_ptr<Problem> makeRowsProblem(Fields &fields);
std::unique_ptr<Problem> makeAttentionProblem(Fields &fields);
std::unique_ptr<Problem> makeLinearProblem(Fields &fields);

/// Unit roundoff of float.
inline constexpr double roundoff = 0x1p-24;

/// The activations of float rows by their definition (layout.h): what kernels read or should write.
struct Activations {
  std::vector<float> codes;                  ///< [rows, padded]: INT8 or INT16 codes, or the values
  std::vector<float> scale;                  ///< [rows, groups]
  std::vector<float> sum, scaledSum;         ///< [rows, groups]; of codes, sum is layout.h's offset
  std::vector<float> halfSum, halfScaledSum; ///< [rows, 2 groups]
};
Activations makeActivations(ActivationFormat format, const std::vector<float> &x, int64_t rows,
                            int64_t cols);
/// Lays rows [first, first + count) of them out.
std::vector<std::byte> layoutActivations(const ActivationLayout &layout, const Activations &a,
                                         int64_t first, int64_t count);
/// All fields of the activations in `memory`, row by row.
std::vector<float> readActivations(const ActivationLayout &layout, const std::byte *memory,
                                   int64_t rows);

/// What readActivations() gives for the exact rows `y` [rows, cols] with errors up to `bound`,
/// rounded to `format`; `layout` is that of many rows.
Expected expectedActivations(const ActivationLayout &layout, ActivationFormat format,
                             const std::vector<double> &y, const std::vector<double> &bound,
                             int64_t rows);

/// Random packed weights of a format and their decoded values [rows padded to 16, cols].
struct Weights {
  std::vector<std::byte> packed;
  std::vector<float> values;
};
/// `extreme`: every code is the largest.
Weights makeWeights(WeightFormat format, int64_t rows, int64_t cols, std::mt19937 &random,
                    bool extreme = false);

/// smelt's activation functions in double.
double activateReference(uint32_t kind, double x);
uint32_t activationKindOf(const std::string &name);

} // namespace smelt::conformance
