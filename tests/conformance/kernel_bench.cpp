// Times the kernels of one problem on one thread: kernel_bench [--target NAME] [--assembly PATH]
// PROBLEM...
#include "compiler/codegen/codegen.h"
#include "passes/lower/kernels.h"
#include "tests/conformance/problem.h"

#include "mlir/IR/MLIRContext.h"

#include <chrono>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <unistd.h>

using namespace smelt;
using namespace smelt::conformance;

namespace {

/// Best time of one pass over all calls of the job, in seconds.
double bestTime(Job &job, const std::vector<format::KernelFunction> &functions) {
  auto pass = [&] {
    for (size_t i = 0; i < job.calls.size(); ++i) {
      const Call &call = job.calls[i];
      void *p[format::operandCount];
      for (uint32_t o = 0; o < format::operandCount; ++o) {
        const OperandRef &ref = call.operands[o];
        p[o] = ref.buffer < 0 ? nullptr : job.buffers[ref.buffer].data() + ref.offset;
      }
      functions[i](call.info, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]);
    }
  };
  using Clock = std::chrono::steady_clock;
  pass();
  double best = 1e9, spent = 0;
  for (int tries = 0; spent < 0.3 || tries < 5; ++tries) {
    int repeat = best > 1e-3 ? 1 : int(std::min(1000.0, 1e-3 / best) + 1);
    auto begin = Clock::now();
    for (int i = 0; i < repeat; ++i)
      pass();
    double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    spent += seconds;
    best = std::min(best, seconds / repeat);
  }
  return best;
}

int benchProblem(const std::string &line, const KernelTarget &target, const std::string &assembly) {
  auto problem = makeProblem(line);
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  auto module = buildKernels(context, problem->specs, target);
  CodegenOptions options;
  options.dumpAssembly = assembly;
  auto object = compileKernels(*module, target, options);
  if (!object.ok()) {
    std::fprintf(stderr, "%s\n", object.status().message().c_str());
    return 1;
  }
  char path[] = "/tmp/smelt-bench-XXXXXX";
  int file = mkstemp(path);
  bool written = write(file, object->data(), object->size()) == ssize_t(object->size());
  close(file);
  void *library = written ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
  unlink(path);
  if (!library) {
    std::fprintf(stderr, "cannot load the kernels\n");
    return 1;
  }
  for (bool one : {false, true}) {
    Job job;
    if (one)
      problem->addOne(job, problem->rows - 1, 1);
    else
      problem->addMany(job, 1);
    std::vector<format::KernelFunction> functions;
    for (const Call &call : job.calls)
      functions.push_back(
          reinterpret_cast<format::KernelFunction>(dlsym(library, call.symbol.c_str())));
    double seconds = bestTime(job, functions), products = problem->products(one);
    std::printf("%-10s %10.2f us", one ? "one row" : "many rows", seconds * 1e6);
    if (products > 0)
      std::printf("  %7.1f G operations/s", 2 * products / seconds * 1e-9);
    std::printf("  %s\n", line.c_str());
  }
  dlclose(library);
  return 0;
}

} // namespace

int main(int argc, char **argv) {
  std::string targetName = "x86-64-v4-vnni", assembly;
  int result = 0;
  for (int i = 1; i < argc; ++i) {
    if (!std::strcmp(argv[i], "--target") && i + 1 < argc) {
      targetName = argv[++i];
      continue;
    }
    if (!std::strcmp(argv[i], "--assembly") && i + 1 < argc) {
      assembly = argv[++i];
      continue;
    }
    auto target = findTarget(targetName);
    if (!target.ok()) {
      std::fprintf(stderr, "%s\n", target.status().message().c_str());
      return 2;
    }
    result |= benchProblem(argv[i], **target, assembly);
  }
  return result;
}
