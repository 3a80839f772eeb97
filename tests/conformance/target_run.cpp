// Where the kernels of a target run, and running jobs there.
#include "tests/conformance/target_run.h"

#include "compiler/codegen/codegen.h"

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

Where whereRuns(const KernelTarget &target) {
#if defined(__x86_64__)
  if (target.name == "x86-64-v4-vnni")
    return __builtin_cpu_supports("avx512vnni") ? Where::Here : Where::Nowhere;
  if (target.name == "x86-64-v3")
    return __builtin_cpu_supports("avx2") ? Where::Here : Where::Nowhere;
#elif defined(__aarch64__)
  if (target.name == "aarch64-dotprod")
    return Where::Here;
#endif
  if (target.name == "aarch64-dotprod" && *SMELT_AARCH64_RUNNER)
    return Where::Emulator;
  return Where::Nowhere;
}

std::string compileToFile(std::span<const KernelSpec> specs,
                          std::span<const TensorSpec> tensorSpecs, const KernelTarget &target,
                          const std::string &folder) {
  const KernelTarget *only = &target;
  auto code = generateCode(specs, tensorSpecs, {&only, 1}, {});
  EXPECT_TRUE(code.ok()) << code.status().message();
  if (!code.ok())
    return {};
  std::string path = folder + "/" + std::string(target.name) + ".so";
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char *>((*code)[0].data()), std::streamsize((*code)[0].size()));
  return path;
}

std::string runJob(Job &job, Where where, const std::string &library, const std::string &folder) {
  if (where == Where::Here)
    return job.run(library);
  std::string in = folder + "/in", out = folder + "/out";
  job.save(in);
  std::string command = std::string(SMELT_AARCH64_RUNNER) + " " + library + " " + in + " " + out;
  if (std::system(command.c_str()) != 0)
    return "the emulated runner failed: " + command;
  return job.restore(out) ? "" : "the emulated runner wrote no result";
}

} // namespace smelt::conformance
