// Compiles many models in one process, float32 for this machine, one node as good as whole graphs:
// reads "MODEL ARTIFACT" lines and answers each with "ok" or "refused REASON" on one line.
#include "compiler/driver/compile.h"
#include "runtime/devices/cpu.h"

#include <algorithm>
#include <iostream>
#include <sstream>

using namespace smelt;

int main() {
  const KernelTarget *native = nullptr;
  for (const CpuTarget &target : cpuTargets())
    if (!native && missingFeatures(target).empty())
      if (Result<const KernelTarget *> found = findTarget(target.name))
        native = *found;
  if (!native) {
    std::cerr << "there is no target for this machine\n";
    return 1;
  }
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    CompileOptions options;
    words >> options.model >> options.output;
    options.scheme = {WeightFormat::F32, WeightFormat::F32, WeightFormat::F32,
                      ActivationFormat::F32};
    options.targets = {native};
    options.lower.maxContext = 128;
    options.lower.maxTokens = 16;
    options.cache = CacheFormat::F32;
    options.asIs = true;
    options.threads = 1;
    options.pipeline.quiet = true;
    Status status = compileModel(options);
    std::string text = status.ok() ? "ok" : "refused " + status.message();
    std::replace(text.begin(), text.end(), '\n', ' ');
    std::cout << text << std::endl;
  }
  return 0;
}
