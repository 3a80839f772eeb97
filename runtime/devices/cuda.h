// NVIDIA devices by the CUDA driver API; the driver is found at run time, no toolkit is needed.
#pragma once

#include "runtime/devices/gpu.h"

#include <memory>
#include <vector>

namespace smelt {

/// One device of the system, in the driver's order.
struct CudaDeviceInfo {
  std::string name;
  std::string lacks; ///< why it cannot be used; empty: it can
};

/// NotFound: there is no driver; Unsupported: it is too old or does not work.
Result<std::vector<CudaDeviceInfo>> cudaDevices();

/// Opens the device with this number of cudaDevices(). Kernels are PTX, which the driver compiles
/// for the device and keeps in its own cache.
Result<std::unique_ptr<GpuDevice>> openCudaDevice(size_t number);

} // namespace smelt
