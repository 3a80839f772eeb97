// What the machine itself can do: read bandwidth and barrier cost, measured with the team that runs
// the model.
#pragma once

#include "runtime/base/status.h"
#include "runtime/devices/threads.h"
#include "runtime/model/pages.h"

namespace smelt::cli {

/// Reads a buffer that no cache holds, with plain loads on all threads of a team.
class ReadProbe {
public:
  /// Touches 256 MiB, each thread its own share.
  static Result<ReadProbe> create(ThreadTeam &team);
  /// Bytes per second of one pass.
  double measure();

private:
  static constexpr uint64_t bytes = uint64_t(256) << 20;
  ReadProbe(ThreadTeam &team, Pages pages) : team(&team), pages(std::move(pages)) {}
  ThreadTeam *team;
  Pages pages;
};

/// Seconds of one barrier of the team, mean of many.
double measureBarrier(ThreadTeam &team);

} // namespace smelt::cli
