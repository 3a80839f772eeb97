// Times the kernels of one problem on one thread: kernel_bench [--target NAME] [--assembly PATH]
// PROBLEM...
#include "compiler/codegen/codegen.h"
#include "tests/conformance/problem.h"

#include <cstdio>
#include <cstring>
#include <ctime>
#include <dlfcn.h>
#include <fstream>
#include <unistd.h>

using namespace smelt;
using namespace smelt::conformance;

namespace {

/// Time this thread has run: other work on the machine does not count, except for what it does to
/// the caches.
double threadSeconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
}

/// Best time of one call, in seconds.
double bestTime(const Call &call, Job &job, format::KernelFunction function) {
  void *p[format::operandCount];
  for (uint32_t o = 0; o < format::operandCount; ++o) {
    const OperandRef &ref = call.operands[o];
    p[o] = ref.buffer < 0 ? nullptr : job.buffers[ref.buffer].data() + ref.offset;
  }
  auto run = [&] { function(call.info, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]); };
  run();
  double best = 1e9, spent = 0;
  for (int tries = 0; spent < 0.3 || tries < 5; ++tries) {
    int repeat = best > 1e-3 ? 1 : int(std::min(1000.0, 1e-3 / best) + 1);
    double begin = threadSeconds();
    for (int i = 0; i < repeat; ++i)
      run();
    double seconds = threadSeconds() - begin;
    spent += seconds;
    best = std::min(best, seconds / repeat);
  }
  return best;
}

int benchProblem(const std::string &line, const KernelTarget &target, const std::string &assembly) {
  auto problem = makeProblem(line);
  CodegenOptions options;
  options.dumpAssembly = assembly;
  const KernelTarget *only = &target;
  auto code = generateCode(problem->specs, {}, {&only, 1}, options);
  if (!code.ok()) {
    std::fprintf(stderr, "%s\n", code.status().message().c_str());
    return 1;
  }
  const std::vector<std::byte> &object = code->front();
  char path[] = "/tmp/smelt-bench-XXXXXX";
  int file = mkstemp(path);
  bool written = write(file, object.data(), object.size()) == ssize_t(object.size());
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
    double total = 0;
    for (const Call &call : job.calls) {
      auto function = reinterpret_cast<format::KernelFunction>(dlsym(library, call.symbol.c_str()));
      double seconds = bestTime(call, job, function);
      total += seconds;
      std::printf("%10.2f us  %s\n", seconds * 1e6, call.symbol.c_str());
    }
    double products = problem->products(one);
    if (products > 0)
      std::printf("%10.1f G operations/s  %5.2f GB/s  %s\n", 2 * products / total * 1e-9,
                  problem->weightBytes() / total * 1e-9, line.c_str());
  }
  dlclose(library);
  return 0;
}

} // namespace

int main(int argc, char **argv) {
  std::string targetName = "x86-64-v4-vbmi", assembly;
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
