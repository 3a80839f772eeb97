// Runs ptxas on a file and reads its figures.
#include "tests/conformance/ptxas.h"

#include <cstdio>
#include <regex>

namespace smelt::conformance {

Result<Assembled> assemblePtx(const std::string &ptxas, const std::string &file,
                              const std::string &chip) {
  const std::string command = ptxas + " -v -arch=" + chip + " " + file + " -o /dev/null 2>&1";
  std::FILE *output = popen(command.c_str(), "r");
  if (!output)
    return unsupported("cannot start " + ptxas);
  std::string said;
  char part[4096];
  while (const size_t count = std::fread(part, 1, sizeof part, output))
    said.append(part, count);
  const int code = pclose(output);
  std::smatch used, spilled;
  if (code != 0 || !std::regex_search(said, used, std::regex("Used ([0-9]+) registers")) ||
      !std::regex_search(said, spilled,
                         std::regex("([0-9]+) bytes spill stores, ([0-9]+) bytes spill loads")))
    return unsupported(chip + ": " + said);
  return Assembled{std::stoll(used[1]), std::stoll(spilled[1]) + std::stoll(spilled[2])};
}

} // namespace smelt::conformance
