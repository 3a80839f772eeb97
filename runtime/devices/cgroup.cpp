// Quotas of control groups: Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst of
// Linux.
#include "runtime/devices/cgroup.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>

namespace smelt {

namespace {

/// Time per period that one group allows; infinite without a quota ("max", -1 or no file).
double quotaOf(const std::string &folder) {
  std::string quota;
  double period = 0;
  std::ifstream(folder + "/cpu.max") >> quota >> period;
  if (quota.empty()) {
    std::ifstream(folder + "/cpu.cfs_quota_us") >> quota;
    std::ifstream(folder + "/cpu.cfs_period_us") >> period;
  }
  const double allowed = std::atof(quota.c_str());
  return allowed > 0 && period > 0 ? allowed / period : std::numeric_limits<double>::infinity();
}

/// Whether `names`, with commas between them, has `name`.
bool lists(const std::string &names, const std::string &name) {
  return ("," + names + ",").find("," + name + ",") != std::string::npos;
}

} // namespace

unsigned cgroupProcessors(const std::string &groups, const std::string &mount) {
  double least = std::numeric_limits<double>::infinity();
  std::ifstream file(groups);
  for (std::string line; std::getline(file, line);) { // number:controllers:path
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos)
      continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!controllers.empty() && !lists(controllers, "cpu"))
      continue;
    // Version 2 has no controllers here; beside version 1 it lies in a folder of its own. In a
    // container the path may be one that only the host sees: the group is then the mount itself.
    for (const std::string &hierarchy :
         {mount, mount + (controllers.empty() ? "/unified" : "/" + controllers)})
      for (std::string path = line.substr(second + 1);; path.resize(path.rfind('/'))) {
        least = std::min(least, quotaOf(hierarchy + path));
        if (path.find('/') == std::string::npos)
          break;
      }
  }
  return std::isinf(least) ? 0 : unsigned(std::max(1.0, std::ceil(least - 1e-3)));
}

} // namespace smelt
