// Runs a saved job on the CPU this program is built for: runner kernels.so job-in job-out.
#include "tests/conformance/job.h"

#include <cstdio>

int main(int argc, char **argv) {
  smelt::conformance::Job job;
  if (argc != 4 || !job.restore(argv[2])) {
    std::fprintf(stderr, "usage: %s kernels.so job-in job-out\n", argv[0]);
    return 2;
  }
  std::string error = job.run(argv[1]);
  if (!error.empty()) {
    std::fprintf(stderr, "%s\n", error.c_str());
    return 1;
  }
  job.save(argv[3]);
  return 0;
}
