// NVIDIA's driver and what it says about devices.
#pragma once

#include "runtime/devices/cuda.h"
#include "runtime/devices/cuda_types.h"

#include <memory>
#include <string>

namespace smelt::cuda {

/// The functions of the driver, which is never unloaded: it has threads of its own.
class Driver {
public:
  static Result<std::shared_ptr<Driver>> open();

#define FUNCTION(name, suffix, parameters) int32_t(*name) parameters = nullptr;
#include "runtime/devices/cuda_functions.def"

  int32_t deviceCount = 0;

  /// What a call that was to do `what` has refused.
  Status failure(int32_t outcome, const std::string &what) const;
  Result<CudaDeviceInfo> infoOf(int32_t number) const;

private:
  Status start();
};

/// Returns the failure of a call of the driver to the caller.
#define CUDA_TRY(driver, call, what)                                                               \
  do {                                                                                             \
    if (int32_t outcome = (driver).call; outcome != Success)                                       \
      return (driver).failure(outcome, what);                                                      \
  } while (false)

/// Makes a context the thread's own while it lives: an application may use CUDA beside us.
class Current {
public:
  Current(const Driver &driver, Context context)
      : driver(driver), outcome(driver.CtxPushCurrent(context)) {}
  ~Current() {
    Context mine = nullptr;
    if (outcome == Success)
      driver.CtxPopCurrent(&mine);
  }
  Current(const Current &) = delete;
  Current &operator=(const Current &) = delete;
  Status status() const {
    return outcome == Success ? Status() : driver.failure(outcome, "using the device");
  }

private:
  const Driver &driver;
  const int32_t outcome;
};

} // namespace smelt::cuda
