// What NVIDIA's assembler makes of the kernels of a file of problems:
//
//   ptx_table PTXAS PROBLEMS FOLDER
//
// writes each kernel into the folder and prints a line of it: its registers for every chip (with *
// where some are spilled to memory), then of each kind of kernel the fewest and the most; fails
// where one is refused or spills.
#include "compiler/codegen/ptx_emitter.h"
#include "tests/conformance/problem.h"
#include "tests/conformance/ptxas.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <limits>

using namespace smelt;
using namespace smelt::conformance;

namespace {

struct Range {
  int64_t kernels = 0, least = std::numeric_limits<int64_t>::max(), most = 0;
};

std::map<std::string, KernelSpec> kernelsOf(const char *problems) {
  std::map<std::string, KernelSpec> kernels;
  for (const std::string &line : problemLines(problems))
    for (const auto problem = makeProblem(line); const KernelSpec &spec : problem->specs) {
      kernels.emplace(spec.name(), spec);
      if (auto wide = wideForm(spec, cudaTarget))
        kernels.emplace(wide->name(), *wide);
    }
  return kernels;
}

/// A kernel's name up to its first figure: what kind it is.
std::string kindOf(const std::string &name) {
  const std::string kind = name.substr(0, name.find_first_of("0123456789"));
  return name.ends_with(format::gpuWideSuffix) ? kind + std::string(format::gpuWideSuffix) : kind;
}

Status printTable(const std::string &ptxas, const char *problems, const std::string &folder) {
  SMELT_ASSIGN(auto emitter, PtxEmitter::create(cudaTarget));
  int64_t spilling = 0;
  std::map<std::string, Range> kinds;
  for (const auto &[name, spec] : kernelsOf(problems)) {
    SMELT_ASSIGN(std::string ptx, emitter->emit(spec));
    const std::string file = folder + "/" + name + ".ptx";
    std::ofstream(file) << ptx;
    std::string line = name;
    bool spills = false;
    for (const char *chip : ptxChips) {
      SMELT_ASSIGN(Assembled assembled, assemblePtx(ptxas, file, chip));
      line += " " + std::to_string(assembled.registers) + (assembled.spilledBytes ? "*" : "");
      spills |= assembled.spilledBytes != 0;
      Range &range = kinds[kindOf(name)];
      range.least = std::min(range.least, assembled.registers);
      range.most = std::max(range.most, assembled.registers);
    }
    ++kinds[kindOf(name)].kernels;
    spilling += spills;
    std::printf("%s\n", line.c_str());
    std::fflush(stdout);
  }
  for (const auto &[kind, range] : kinds)
    std::printf("| %s | %lld | %lld-%lld |\n", kind.c_str(), (long long)range.kernels,
                (long long)range.least, (long long)range.most);
  return spilling == 0 ? Status()
                       : unsupported(std::to_string(spilling) + " kernels spill registers (*)");
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: ptx_table PTXAS PROBLEMS FOLDER\n");
    return 2;
  }
  const Status status = printTable(argv[1], argv[2], argv[3]);
  if (!status.ok())
    std::fprintf(stderr, "ptx_table: %s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
