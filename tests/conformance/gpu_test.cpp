// Every problem of problems.txt by Vulkan on Mesa's lavapipe, and by PTX on the tests' own CUDA
// driver, which both run on the CPU: close to the definition, and the same bits for a row alone and
// among others.
#include "compiler/codegen/gpu_code.h"
#include "runtime/devices/cuda.h"
#include "runtime/devices/vulkan.h"
#include "tests/conformance/problem.h"
#include "tests/conformance/target_run.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <gtest/gtest.h>
#include <limits>

namespace smelt::conformance {
namespace {

/// The number of lavapipe; the loader is told to see no other driver.
size_t softwareDevice() {
  for (const char *name : {"VK_DRIVER_FILES", "VK_ICD_FILENAMES"}) // the first is newer
    setenv(name, SMELT_LAVAPIPE, 1);
  auto devices = vulkanDevices();
  EXPECT_TRUE(devices.ok()) << devices.status().message();
  for (size_t i = 0; devices.ok() && i < devices->size(); ++i)
    if ((*devices)[i].isProcessor && (*devices)[i].lacks.empty())
      return i;
  ADD_FAILURE() << "no Vulkan device on the CPU: install mesa-vulkan-drivers";
  return 0;
}

/// What spirv-val finds wrong with a module; empty: nothing.
std::string invalidIn(std::span<const std::byte> code) {
  const Folder folder;
  const std::string module = folder.path + "/kernel.spv", log = folder.path + "/log";
  std::ofstream(module, std::ios::binary)
      .write(reinterpret_cast<const char *>(code.data()), std::streamsize(code.size()));
  const std::string command =
      std::string(SMELT_SPIRV_VAL) + " --target-env vulkan1.1 " + module + " >" + log + " 2>&1";
  if (std::system(command.c_str()) == 0)
    return {};
  std::ifstream in(log);
  return "spirv-val: " + std::string(std::istreambuf_iterator<char>(in), {});
}

/// Runs jobs on one device.
class DeviceRun {
public:
  DeviceRun(const std::vector<KernelSpec> &specs, const GpuTarget &target)
      : specs(specs), target(target) {}

  Status run(Job &job) {
    if (target.isPtx()) {
      SMELT_ASSIGN(device, openCudaDevice(0));
    } else {
      static const size_t number = softwareDevice();
      SMELT_ASSIGN(device, openVulkanDevice(number));
    }
    SMELT_TRY(load());
    for (Memory &memory : job.buffers) {
      SMELT_ASSIGN(int32_t copy, device->allocate(memory.sizeWithGuard(), "a buffer"));
      memories.push_back(copy);
      SMELT_TRY(device->write(copy, 0, {memory.data(), memory.sizeWithGuard()}));
    }
    for (const Call &call : job.calls)
      SMELT_TRY(dispatch(call));
    for (size_t i = 0; i < job.buffers.size(); ++i) {
      Memory &memory = job.buffers[i];
      SMELT_TRY(device->read(memories[i], 0, {memory.data(), memory.sizeWithGuard()}));
      if (!memory.guardIntact())
        return internalError("a kernel wrote beyond buffer " + std::to_string(i));
    }
    return {};
  }

private:
  struct Loaded {
    uint32_t kernel;
    format::GpuKernel launch;
    bool logitRows;
  };
  const std::vector<KernelSpec> &specs;
  const GpuTarget &target;
  std::unique_ptr<GpuDevice> device;
  std::map<std::string, Loaded> kernels;
  std::vector<int32_t> memories;

  Status load() {
    SMELT_ASSIGN(std::vector<std::byte> section, generateGpuCode(specs, target));
    for (size_t i = 0; i < specs.size(); ++i) {
      format::GpuProgramKernel forms;
      std::memcpy(&forms, section.data() + i * sizeof forms, sizeof forms);
      SMELT_TRY(load(section, forms.usual, specs[i].name(), specs[i].logitRows));
      if (forms.wide.bytes)
        SMELT_TRY(load(section, forms.wide, specs[i].name() + std::string(format::gpuWideSuffix),
                       specs[i].logitRows));
    }
    return {};
  }

  Status load(std::span<const std::byte> section, const format::GpuKernel &launch,
              const std::string &name, bool logitRows) {
    const auto code = section.subspan(launch.offset, launch.bytes);
    if (std::string error = target.isPtx() ? "" : invalidIn(code); !error.empty())
      return internalError(error);
    SMELT_ASSIGN(uint32_t kernel, device->addKernel(code, name, launch.threads));
    kernels[name] = {kernel, launch, logitRows};
    return {};
  }

  Status dispatch(const Call &call) {
    const Loaded &usual = kernels.at(call.symbol);
    const int64_t rows = call.info[usual.logitRows ? format::FieldLogitRows : format::FieldTokens];
    const auto wide = kernels.find(call.symbol + std::string(format::gpuWideSuffix));
    const Loaded &loaded =
        rows >= format::gpuWideRows && wide != kernels.end() ? wide->second : usual;
    std::array<GpuOperand, format::operandCount> operands;
    for (size_t i = 0; i < operands.size(); ++i)
      if (call.operands[i].buffer >= 0)
        operands[i] = {memories[size_t(call.operands[i].buffer)],
                       uint64_t(call.operands[i].offset)};
    SMELT_ASSIGN(uint32_t made, device->addCall(loaded.kernel, operands));
    std::array<int32_t, format::FieldCount> fields;
    std::copy(std::begin(call.info), std::end(call.info), fields.begin());
    const format::GpuKernel &launch = loaded.launch;
    const GpuDispatch dispatch{
        made,
        {launch.groups, uint32_t((rows + launch.rowsPerGroup - 1) / launch.rowsPerGroup),
         uint32_t(launch.overPositions ? call.info[format::FieldCapacity] / positionBlock : 1)},
        true};
    return device->run(fields, {&dispatch, 1});
  }
  static constexpr int64_t positionBlock = 64;
};

class GpuConformance : public testing::TestWithParam<std::string> {
protected:
  void check(const GpuTarget &target);
};

TEST_P(GpuConformance, Vulkan) { check(vulkanTarget); }
TEST_P(GpuConformance, Cuda) { check(cudaTarget); }

void GpuConformance::check(const GpuTarget &target) {
  auto problem = makeProblem(GetParam());
  Job job;
  const int64_t many = problem->addMany(job, 1);
  const int64_t rowStep = std::max<int64_t>(1, problem->rows / 3);
  std::vector<int64_t> alone;
  for (int64_t row = 0; row < problem->rows; row += rowStep)
    alone.push_back(problem->addOne(job, row, 1));
  const Status status = DeviceRun(problem->specs, target).run(job);
  ASSERT_TRUE(status.ok()) << status.message();

  const Expected expected = problem->expected();
  const std::vector<float> all = problem->result(job, many, problem->rows);
  ASSERT_EQ(all.size(), expected.value.size());
  for (size_t i = 0; i < all.size(); ++i)
    ASSERT_LE(std::fabs(all[i] - expected.value[i]), expected.tolerance[i])
        << "element " << i << " of " << all.size() << ": got " << all[i] << ", expected "
        << expected.value[i];
  const size_t width = all.size() / size_t(problem->rows);
  for (size_t i = 0; i < alone.size(); ++i) {
    const std::vector<float> row = problem->result(job, alone[i], 1);
    ASSERT_EQ(row.size(), width);
    for (size_t k = 0; k < width; ++k)
      ASSERT_EQ(std::bit_cast<uint32_t>(row[k]),
                std::bit_cast<uint32_t>(all[size_t(rowStep) * i * width + k]))
          << "row " << rowStep * int64_t(i) << " alone, element " << k << ": " << row[k] << " and "
          << all[size_t(rowStep) * i * width + k];
  }
}

class GpuArgmax : public testing::TestWithParam<const GpuTarget *> {};

TEST_P(GpuArgmax, FindsTheFirstOfTheLargest) {
  const GpuTarget &target = *GetParam();
  constexpr int64_t cols = 5000, rows = 5; // more than two parts of a row
  const float infinity = std::numeric_limits<float>::infinity();
  const float none = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> logits(rows * cols);
  for (size_t i = 0; i < logits.size(); ++i)
    logits[i] = -3 + float(i * 2654435761u % 1000) / 1000;
  const auto at = [&](int64_t row, int64_t col) -> float & { return logits[row * cols + col]; };
  at(0, 4711) = 5;
  at(1, 4100) = at(1, 70) = at(1, 2050) = 7; // equals, in three parts
  at(2, 0) = none;
  at(2, 9) = infinity;
  std::fill_n(&at(3, 0), cols, -infinity);
  at(3, 17) = none;
  at(4, cols - 1) = 0;

  const auto specs = argmaxSpecs(cols);
  const std::vector<KernelSpec> list(specs.begin(), specs.end());
  Job job;
  const int32_t given = job.add(logits);
  const int32_t parts =
      job.add(std::vector<float>(size_t(rows * 2 * launchOf(list[0], target).groups)));
  const int32_t found = job.add(std::vector<int32_t>(rows));
  for (size_t i = 0; i < list.size(); ++i) {
    Call call{list[i].name(), {}, {}};
    call.info[format::FieldLogitRows] = rows;
    call.operands[0].buffer = i == 0 ? given : parts;
    call.operands[1].buffer = i == 0 ? parts : found;
    job.calls.push_back(call);
  }
  const Status status = DeviceRun(list, target).run(job);
  ASSERT_TRUE(status.ok()) << status.message();
  const int32_t *ids = job.buffers[size_t(found)].as<int32_t>();
  EXPECT_EQ(std::vector<int32_t>(ids, ids + rows),
            (std::vector<int32_t>{4711, 70, 9, -1, cols - 1}));
}

class GpuCandidates : public testing::TestWithParam<const GpuTarget *> {};

TEST_P(GpuCandidates, HoldTheLikeliest) {
  using namespace format;
  const GpuTarget &target = *GetParam();
  constexpr int64_t cols = 9000, rows = 6; // the last part of a row is not full
  const float infinity = std::numeric_limits<float>::infinity();
  const float none = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> logits(rows * cols);
  for (size_t i = 0; i < logits.size(); ++i)
    logits[i] = -30 + 20 * std::sin(float(i) * 1.7f) + float(i * 2654435761u % 1000) / 100;
  const auto at = [&](int64_t row, int64_t col) -> float & { return logits[row * cols + col]; };
  at(0, 0) = none, at(0, 1) = infinity, at(0, cols - 1) = 50;
  for (int64_t i = 0; i < 200; ++i) // around zero, of both signs
    at(1, 45 * i) = i % 2 ? 0.0f : -0.0f;
  std::fill_n(&at(2, 0), cols, 3.0f); // too many equals
  std::fill_n(&at(3, 0), cols, -infinity);
  at(3, 100) = -5, at(3, 8000) = -6; // fewer than are asked for
  std::fill_n(&at(4, 0), cols, none);
  for (int64_t col = 0; col < 70; ++col) // all in one part
    at(5, col) = 100 + float(col);

  const auto specs = candidateSpecs(cols);
  const std::vector<KernelSpec> list(specs.begin(), specs.end());
  Job job;
  const GpuLaunch launch = launchOf(list[0], target);
  const int32_t given = job.add(logits);
  const int32_t maxima = job.add(std::vector<float>(size_t(rows * launch.groups * launch.threads)));
  const int32_t found = job.add(std::vector<int32_t>(rows * candidateWords, 77));
  for (const KernelSpec &spec : list) {
    Call call{spec.name(), {}, {}};
    call.info[FieldLogitRows] = rows;
    for (size_t i = 0; i < 3; ++i)
      call.operands[i].buffer = std::array{given, maxima, found}[i];
    job.calls.push_back(call);
  }
  const Status status = DeviceRun(list, target).run(job);
  ASSERT_TRUE(status.ok()) << status.message();
  const uint32_t *words = job.buffers[size_t(found)].as<uint32_t>();
  for (int64_t row = 0; row < rows; ++row, words += candidateWords) {
    std::vector<std::pair<float, int32_t>> expected, got; // likelier ones first
    for (int32_t col = 0; col < cols; ++col)
      if (at(row, col) > -infinity)
        expected.push_back({-at(row, col), col});
    std::sort(expected.begin(), expected.end());
    if (row == 2) {
      EXPECT_EQ(words[0], uint32_t(cols));
      continue;
    }
    ASSERT_LE(words[0], candidatesAtMost) << row;
    for (uint32_t i = 0; i < words[0]; ++i)
      got.push_back({-std::bit_cast<float>(words[1 + candidatesAtMost + i]), words[1 + i]});
    std::sort(got.begin(), got.end());
    const size_t least = std::min<size_t>(expected.size(), topKAtMost);
    ASSERT_GE(got.size(), least) << row;
    EXPECT_TRUE(std::equal(got.begin(), got.end(), expected.begin())) << row;
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, GpuCandidates, testing::Values(&vulkanTarget, &cudaTarget),
                         [](const auto &info) { return std::string(info.param->name); });

INSTANTIATE_TEST_SUITE_P(Targets, GpuArgmax, testing::Values(&vulkanTarget, &cudaTarget),
                         [](const auto &info) { return std::string(info.param->name); });

INSTANTIATE_TEST_SUITE_P(Problems, GpuConformance,
                         testing::ValuesIn(problemLines(SMELT_CONFORMANCE_PROBLEMS)),
                         [](const auto &info) { return testName(info.param); });

} // namespace
} // namespace smelt::conformance
