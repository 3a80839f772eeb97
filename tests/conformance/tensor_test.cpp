// Every problem of tensor_problems.txt on every target that runs here: shape and faults as defined,
// values close to the definition, the same bits for every target (takesTurn) and thread count, and
// nothing touched beyond the operands.
#include "tests/conformance/job.h"
#include "tests/conformance/target_run.h"
#include "tests/conformance/tensor_problem.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <gtest/gtest.h>
#include <map>
#include <sys/mman.h>
#include <unistd.h>

namespace smelt::conformance {
namespace {

constexpr int64_t frameWords = 1 + 7 * format::maxRank;
constexpr int64_t unwritten = -77;
constexpr size_t linesPerTest = 6;
constexpr int64_t threadCounts[] = {1, 2, 3, 7};

/// The problem lines of each primitive, a few a test.
const std::map<std::string, std::vector<std::string>> &problemLines() {
  static const auto lines = [] {
    std::map<std::string, std::vector<std::string>> result;
    std::ifstream in(SMELT_TENSOR_PROBLEMS);
    std::map<std::string, size_t> counts;
    for (std::string line; std::getline(in, line);) {
      if (line.empty() || line[0] == '#')
        continue;
      std::string name = line.substr(0, line.find(' '));
      result[name + "_" + std::to_string(counts[name]++ / linesPerTest)].push_back(line);
    }
    return result;
  }();
  return lines;
}

/// The frame with the dimensions of the inputs, and of the outputs for a compute kernel.
std::vector<int64_t> makeFrame(const TensorProblem &p, bool withOutputs) {
  std::vector<int64_t> frame(frameWords, unwritten);
  frame[0] = format::FaultNone;
  size_t operand = 0;
  for (const auto *tensors : {&p.outputs, &p.inputs})
    for (const TestTensor &tensor : *tensors) {
      if (withOutputs || tensors == &p.inputs)
        std::copy(tensor.dims.begin(), tensor.dims.end(),
                  frame.begin() + 1 + int64_t(operand) * format::maxRank);
      ++operand;
    }
  return frame;
}

/// What one problem adds to a job: a call of the shape kernel, and the compute kernel on several
/// thread counts with outputs of their own.
struct ProblemRun {
  int32_t shapeFrame = -1;
  struct Compute {
    int32_t frame = -1;
    std::vector<int32_t> outputs;
  };
  std::vector<Compute> computes;

  ProblemRun(const TensorProblem &p, Job &job) {
    Call call;
    std::vector<OperandRef> inputs;
    for (const TestTensor &input : p.inputs)
      inputs.push_back({input.given ? job.add(input.bytes()) : -1, 0});
    auto setOperands = [&](const std::vector<int32_t> &outputs) {
      call.operands[0] = {shapeFrame, 0};
      for (size_t i = 0; i < p.outputs.size(); ++i)
        call.operands[1 + i] = {outputs[i], 0};
      std::copy(inputs.begin(), inputs.end(), call.operands + 1 + p.outputs.size());
    };
    shapeFrame = job.add(makeFrame(p, false));
    call.symbol = p.spec(true).name();
    setOperands(std::vector<int32_t>(p.outputs.size(), -1));
    job.addForThreads(call, 1);
    if (p.fault == format::FaultShape)
      return;
    call.symbol = p.spec(false).name();
    for (int64_t threads : threadCounts) {
      Compute compute{job.add(makeFrame(p, true)), {}};
      for (const TestTensor &output : p.outputs)
        compute.outputs.push_back(
            job.add(nullptr, size_t(output.count()) * elementBytes(output.type)));
      setOperands(compute.outputs);
      call.operands[0] = {compute.frame, 0};
      job.addForThreads(call, threads);
      computes.push_back(compute);
    }
  }
};

/// Memory for one operand right before (or behind) memory that must not be touched.
class Fenced {
public:
  Fenced(const std::vector<std::byte> &data, bool before) : size(data.size()) {
    const size_t page = size_t(sysconf(_SC_PAGESIZE));
    total = (data.size() + page - 1) / page * page + 2 * page;
    base = static_cast<std::byte *>(
        mmap(nullptr, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    start = before ? base + page : base + total - page - data.size();
    std::copy(data.begin(), data.end(), start);
    mprotect(base, page, PROT_NONE);
    mprotect(base + total - page, page, PROT_NONE);
  }
  Fenced(Fenced &&other) noexcept : base(other.base), start(other.start), size(other.size) {
    total = std::exchange(other.total, 0);
  }
  ~Fenced() {
    if (total)
      munmap(base, total);
  }
  std::byte *data() const { return start; }

private:
  std::byte *base, *start;
  size_t size, total = 0;
};

/// Calls both kernels with every operand fenced; a kernel that reads or writes beyond them is
/// killed.
void runFenced(const TensorProblem &p, const std::string &library) {
  void *handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(handle, nullptr) << dlerror();
  for (bool before : {false, true})
    for (bool isShape : {true, false}) {
      if (!isShape && p.fault == format::FaultShape)
        continue;
      SCOPED_TRACE(p.line);
      auto function =
          reinterpret_cast<format::KernelFunction>(dlsym(handle, p.spec(isShape).name().c_str()));
      std::vector<Fenced> operands;
      void *pointers[format::operandCount] = {};
      std::vector<int64_t> frame = makeFrame(p, !isShape);
      pointers[0] = frame.data();
      size_t operand = 1;
      for (const auto *tensors : {&p.outputs, &p.inputs})
        for (const TestTensor &tensor : *tensors) {
          const bool output = tensors == &p.outputs;
          if (tensor.given && !(isShape && output)) {
            std::vector<std::byte> bytes = tensor.bytes();
            bytes.resize(size_t(tensor.count()) * elementBytes(tensor.type));
            pointers[operand] = operands.emplace_back(bytes, before).data();
          }
          ++operand;
        }
      int64_t info[format::FieldCount] = {};
      info[format::FieldThreads] = 1;
      function(info, pointers[0], pointers[1], pointers[2], pointers[3], pointers[4], pointers[5],
               pointers[6], pointers[7]);
    }
  dlclose(handle);
}

class Tensor : public testing::TestWithParam<std::string> {
protected:
  /// Compiles the kernels of all problems; the path of the shared object.
  std::string compile(const std::vector<TensorProblem> &problems, const KernelTarget &target,
                      const std::string &folder) {
    std::vector<TensorSpec> specs;
    for (const TensorProblem &p : problems)
      for (bool isShape : {true, false})
        specs.push_back(p.spec(isShape));
    return compileToFile({}, specs, target, folder);
  }

  void checkShape(const TensorProblem &p, const Job &job, const ProblemRun &run) {
    const int64_t *frame = job.buffers[size_t(run.shapeFrame)].as<int64_t>();
    if (p.fault == format::FaultShape) {
      EXPECT_EQ(frame[0], format::FaultShape);
      return;
    }
    ASSERT_EQ(frame[0], format::FaultNone);
    std::vector<int64_t> expected = makeFrame(p, true);
    for (int64_t i = 0; i < frameWords; ++i)
      ASSERT_EQ(frame[i], expected[size_t(i)]) << "dimension " << (i - 1) % format::maxRank
                                               << " of operand " << (i - 1) / format::maxRank;
  }

  void checkValues(const TensorProblem &p, const TestTensor &expected, const TestTensor &got) {
    for (size_t i = 0; i < expected.values.size(); ++i) {
      const Wide want = expected.values[i], have = got.values[i];
      if (std::isnan(want) && std::isnan(have))
        continue;
      const bool overflows = expected.type == format::ElementType::F32 && std::isinf(have) &&
                             std::isinf(float(want)) && std::signbit(want) == std::signbit(have);
      if (want == have || overflows)
        continue;
      ASSERT_LE(std::fabs(want - have), expected.allowed[i])
          << "element " << i << " of " << expected.values.size() << ": got " << have
          << ", expected " << want;
    }
  }

  /// Values as bytes, every NaN as the same one.
  static std::vector<std::byte> canonical(const TestTensor &tensor) {
    TestTensor copy = tensor;
    for (Wide &v : copy.values)
      if (std::isnan(v))
        v = NAN;
    return copy.bytes();
  }
};

TEST_P(Tensor, AllTargets) {
  const auto number = std::distance(problemLines().begin(), problemLines().find(GetParam()));
  std::vector<TensorProblem> problems;
  for (const std::string &line : problemLines().at(GetParam())) {
    problems.push_back(makeTensorProblem(line));
    for (bool isShape : {true, false})
      ASSERT_EQ(problems.back().spec(isShape).check(), "") << line;
  }
  Folder folder;
  std::vector<std::vector<std::byte>> first; // of each output of each problem
  int targets = 0;
  for (const KernelTarget &target : kernelTargets()) {
    const Where where = whereRuns(target);
    if (where == Where::Nowhere || !takesTurn(target, number))
      continue;
    SCOPED_TRACE(std::string(target.name));
    std::string library = compile(problems, target, folder.path);
    ASSERT_FALSE(library.empty());

    Job job;
    std::vector<ProblemRun> runs;
    for (const TensorProblem &p : problems)
      runs.emplace_back(p, job);
    ASSERT_EQ(runJob(job, target, library, folder.path), "");
    size_t next = 0;
    for (size_t i = 0; i < problems.size(); ++i) {
      const TensorProblem &p = problems[i];
      SCOPED_TRACE(p.line);
      checkShape(p, job, runs[i]);
      for (const ProblemRun::Compute &compute : runs[i].computes) {
        EXPECT_EQ(*job.buffers[size_t(compute.frame)].as<int64_t>(), p.fault);
        if (p.fault != format::FaultNone)
          continue;
        for (size_t o = 0; o < p.outputs.size(); ++o) {
          const TestTensor &expected = p.outputs[o];
          TestTensor got = TestTensor::fromBytes(expected.type, expected.dims,
                                                 job.buffers[size_t(compute.outputs[o])].data());
          if (&compute == &runs[i].computes[0]) {
            checkValues(p, expected, got);
            if (!targets)
              first.push_back(canonical(got));
          }
          if (HasFatalFailure())
            return;
          ASSERT_EQ(canonical(got), first[next + o])
              << "other bits than the first target on one thread, output " << o;
        }
      }
      if (p.fault == format::FaultNone)
        next += p.outputs.size();
      if (where == Where::Here)
        runFenced(p, library);
      if (HasFatalFailure())
        return;
    }
    ++targets;
  }
  ASSERT_GT(targets, 0) << "no target runs here";
}

std::vector<std::string> operations() {
  std::vector<std::string> names;
  for (const auto &[name, lines] : problemLines())
    names.push_back(name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Problems, Tensor, testing::ValuesIn(operations()),
                         [](const auto &info) { return info.param; });

TEST(TensorSpecs, NamesTellKernelsApart) {
  TensorSpec add = makeTensorProblem("Add f32:2 f32:2").spec(false);
  TensorSpec other = add;
  other.types.assign(3, format::ElementType::I64);
  EXPECT_NE(add.name(), other.name());
  other = makeTensorProblem("Add f32:2x1 f32:2").spec(false);
  EXPECT_NE(add.name(), other.name());
  auto ofMod = [](const char *line) { return makeTensorProblem(line).spec(false).name(); };
  EXPECT_NE(ofMod("Mod f32:2 f32:2 ints=0"), ofMod("Mod f32:2 f32:2 ints=1"));
  auto ofValue = [](const char *real) {
    const std::string line = std::string("ConstantOfShape i64:1={2} out=f32 rank=1 real=") + real;
    return makeTensorProblem(line).spec(false).name();
  };
  EXPECT_NE(ofValue("0"), ofValue("-0"));
  EXPECT_NE(ofValue("nan"), ofValue("inf"));
  EXPECT_NE(ofValue("1.5"), ofValue("-1.5"));
  // The shape of a map depends on the ranks alone.
  EXPECT_EQ(makeTensorProblem("Add f32:2 f32:2").spec(true).name(),
            makeTensorProblem("Mod i64:2 i64:2 ints=0").spec(true).name());
  // An operand that the shape kernel reads keeps its type.
  EXPECT_NE(makeTensorProblem("Slice f32:7 i64:1={1} i64:1={2} ints=0").spec(true).name(),
            makeTensorProblem("Slice f32:7 i32:1={1} i32:1={2} ints=0").spec(true).name());
}

TEST(TensorSpecs, CheckRefusesWhatNoEmitterTakes) {
  using format::ElementType;
  auto refused = [](const char *line, auto change) {
    TensorSpec spec = makeTensorProblem(line).spec(false);
    ASSERT_EQ(spec.check(), "") << line;
    change(spec);
    EXPECT_NE(spec.check(), "") << line;
  };
  refused("Add f32:2 f32:2", [](TensorSpec &s) { s.ranks[0] = 2; });
  refused("Add f32:2 f32:2", [](TensorSpec &s) { s.types[1] = ElementType::F64; });
  refused("Add f32:2 f32:2", [](TensorSpec &s) { s.given[2] = false; });
  refused("Add f32:2 f32:2", [](TensorSpec &s) { s.ranks.pop_back(); });
  refused("Exp f32:2", [](TensorSpec &s) { s.types = {ElementType::I64, ElementType::I64}; });
  refused("Equal f32:2 f32:2", [](TensorSpec &s) { s.types[0] = ElementType::F32; });
  refused("Mod f32:2 f32:2 ints=0", [](TensorSpec &s) { s.ints.clear(); });
  refused("Transpose f32:2x3 ints=1,0", [](TensorSpec &s) { s.ints = {1, 1}; });
  refused("Transpose f32:2x3 ints=1,0", [](TensorSpec &s) { s.ints = {0, 2}; });
  refused("Concat f32:2 f32:2 ints=0", [](TensorSpec &s) { s.ints = {-1}; });
  refused("Gather f32:5x3 i64:2={0,1} ints=0 rank=2", [](TensorSpec &s) { s.ints = {2}; });
  refused("Gather f32:5x3 i64:2={0,1} ints=0 rank=2",
          [](TensorSpec &s) { s.types[2] = ElementType::F32; });
  refused("GatherND f32:3x4 i64:1x2={0,1} ints=0 rank=1", [](TensorSpec &s) { s.ranks[0] = 3; });
  refused("ReduceSum f32:3x4 ints=1,1", [](TensorSpec &s) { s.ints = {0, 1}; });
  refused("TopK f32:3x4 i64:={1} ints=1,1,1", [](TensorSpec &s) { s.ranks[1] = 1; });
  refused("MatMul f32:2x3 f32:3x2", [](TensorSpec &s) { s.ranks[2] = 1; });
  refused("Conv f32:1x1x4 f32:1x1x2 ints=1,1,1,0,0", [](TensorSpec &s) { s.ints[1] = 0; });
  refused("Conv f32:1x1x4 f32:1x1x2 ints=1,1,1,0,0", [](TensorSpec &s) { s.ints.pop_back(); });
}

TEST(TensorProblems, EveryPrimitiveHasSome) {
  for (uint32_t i = 0; i <= uint32_t(TensorOp::MaxPool); ++i)
    EXPECT_TRUE(problemLines().count(std::string(tensorOpInfo(TensorOp(i)).name) + "_0"))
        << tensorOpInfo(TensorOp(i)).name;
}

} // namespace
} // namespace smelt::conformance
