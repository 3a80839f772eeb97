// What the control groups of a process leave it of the machine's processors.
#pragma once

#include <string>

namespace smelt {

/// Processors whose time the process may use, rounded up: the least quota of its control group and
/// all groups around it, of version 2 (cpu.max) or 1 (cpu.cfs_quota_us); 0: no limit. `groups`
/// lists the groups of the process as /proc/self/cgroup does, `mount` is where hierarchies are
/// mounted.
unsigned cgroupProcessors(const std::string &groups = "/proc/self/cgroup",
                          const std::string &mount = "/sys/fs/cgroup");

} // namespace smelt
