// Where the kernels of a target run, and running jobs there.
#include "tests/conformance/target_run.h"

#include "compiler/codegen/codegen.h"
#include "runtime/devices/cpu.h"
#include "tests/conformance/amx_emulator.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>

namespace smelt::conformance {

Folder::Folder() {
  char text[] = "/tmp/smelt-conformance-XXXXXX";
  path = mkdtemp(text);
}
Folder::~Folder() { std::filesystem::remove_all(path); }

/// The emulated runner's command line, up to its arguments; empty where there is none.
static std::string emulatorOf(const KernelTarget &target) {
  const std::string arm = SMELT_AARCH64_RUNNER, riscv = SMELT_RISCV64_RUNNER;
  if (target.triple.starts_with("aarch64") && !arm.empty())
    return "qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu " + arm;
  if (target.triple.starts_with("riscv64") && !riscv.empty())
    return "qemu-riscv64 -cpu rv64 -L /usr/riscv64-linux-gnu " + riscv;
  return "";
}

Where whereRuns(const KernelTarget &target) {
  auto cpu = findCpuTarget(target.name);
  if (cpu.ok() && missingFeatures(**cpu).empty())
    return Where::Here;
#if defined(__x86_64__)
  if (target.name == "x86-64-v3-avxvnni" && __builtin_cpu_supports("avx512vnni") &&
      __builtin_cpu_supports("avx512vl"))
    return Where::Here; // see runnable()
  if (target.tiles && canEmulateAmx() && __builtin_cpu_supports("avx512vnni"))
    return Where::Here; // see runJob()
#endif
  return emulatorOf(target).empty() ? Where::Nowhere : Where::Emulator;
}

/// AVX-VNNI and AVX-512 VNNI have the same 256-bit instruction in two encodings: a CPU that has
/// only the second runs the same kernels in it.
static KernelTarget runnable(KernelTarget target) {
  auto cpu = findCpuTarget(target.name);
  if (target.name == "x86-64-v3-avxvnni" && cpu.ok() && !missingFeatures(**cpu).empty())
    target.features = "+avx512vl,+avx512vnni";
  return target;
}

std::string compileToFile(std::span<const KernelSpec> specs,
                          std::span<const TensorSpec> tensorSpecs, const KernelTarget &target,
                          const std::string &folder) {
  const KernelTarget encoded = runnable(target), *only = &encoded;
  auto code = generateCode(specs, tensorSpecs, {&only, 1}, {});
  EXPECT_TRUE(code.ok()) << code.status().message();
  if (!code.ok())
    return {};
  std::string path = folder + "/" + std::string(target.name) + ".so";
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char *>((*code)[0].data()), std::streamsize((*code)[0].size()));
  return path;
}

std::string runJob(Job &job, const KernelTarget &target, const std::string &library,
                   const std::string &folder) {
  auto cpu = findCpuTarget(target.name);
  if (target.tiles && cpu.ok() && !missingFeatures(**cpu).empty())
    emulateAmx();
  if (whereRuns(target) == Where::Here)
    return job.run(library);
  std::string in = folder + "/in", out = folder + "/out";
  job.save(in);
  std::string command = emulatorOf(target) + " " + library + " " + in + " " + out;
  if (std::system(command.c_str()) != 0)
    return "the emulated runner failed: " + command;
  return job.restore(out) ? "" : "the emulated runner wrote no result";
}

} // namespace smelt::conformance
