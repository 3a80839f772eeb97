// NVIDIA's driver by dlopen.
#include "runtime/devices/cuda_driver.h"

#include <dlfcn.h>

namespace smelt::cuda {

namespace {

/// Stream capture and cuGraphInstantiateWithFlags; Jetson's JetPack 5 has it.
constexpr int32_t neededVersion = 11040;
/// What kernels of ours rely on (passes/lower/gpu_target.h: cudaTarget).
constexpr int32_t neededMajor = 8, neededThreads = 512;

std::string versionText(int32_t version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

/// What an outcome means to users; null: the driver's own words say it.
const char *explanation(int32_t outcome) {
  switch (outcome) {
  case OutOfMemory:
    return "out of device memory";
  case DeviceUnavailable:
    return "the device is in use by another process that wants it for itself";
  case NoBinaryForGpu:
  case UnsupportedPtxVersion:
    return "the driver is too old for this code; update NVIDIA's driver";
  case JitCompilerNotFound:
    return "the driver lacks its compiler (libnvidia-ptxjitcompiler.so.1; in containers: the "
           "capability 'compute')";
  case SystemNotReady:
    return "the system is not ready (is nvidia-fabricmanager running?)";
  case SystemDriverMismatch:
    return "libcuda.so.1 and the kernel's driver are of different versions (reboot after an "
           "update)";
  case EccUncorrectable:
  case IllegalAddress:
  case LaunchTimeout:
  case ContextIsDestroyed:
  case HardwareStackError:
  case IllegalInstruction:
  case MisalignedAddress:
  case InvalidAddressSpace:
  case InvalidProgramCounter:
  case LaunchFailed:
    return "the device was lost";
  }
  return nullptr;
}

bool isLost(int32_t outcome) {
  return outcome == EccUncorrectable || outcome == IllegalAddress || outcome == LaunchTimeout ||
         outcome == ContextIsDestroyed ||
         (outcome >= HardwareStackError && outcome <= LaunchFailed);
}

} // namespace

Status Driver::failure(int32_t outcome, const std::string &what) const {
  const StatusCode code = outcome == OutOfMemory ? StatusCode::Exhausted
                          : isLost(outcome)      ? StatusCode::Internal
                                                 : StatusCode::Unsupported;
  const char *known = explanation(outcome), *own = nullptr;
  GetErrorString(outcome, &own);
  std::string why = known ? known : own ? own : "error " + std::to_string(outcome);
  if (known && own && isLost(outcome))
    why += std::string(" (") + own + ")";
  return Status(code, "cuda: " + what + " failed: " + why);
}

Result<std::shared_ptr<Driver>> Driver::open() {
  auto driver = std::make_shared<Driver>();
  SMELT_TRY(driver->start());
  return driver;
}

Status Driver::start() {
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return notFound("cuda: there is no driver on this system (libcuda.so.1, which comes with "
                    "NVIDIA's driver)");
  const char *missing = nullptr;
#define FUNCTION(name, suffix, parameters)                                                         \
  name = reinterpret_cast<int32_t(*) parameters>(dlsym(library, "cu" #name #suffix));              \
  if (!name)                                                                                       \
    missing = "cu" #name #suffix;
#include "runtime/devices/cuda_functions.def"
  int32_t version = 0;
  if (DriverGetVersion && DriverGetVersion(&version) == Success && version < neededVersion)
    return unsupported("cuda: the driver is of CUDA " + versionText(version) + ", " +
                       versionText(neededVersion) + " or newer is needed; update NVIDIA's driver");
  if (missing)
    return unsupported("cuda: libcuda.so.1 has no " + std::string(missing) +
                       "; update NVIDIA's driver");
  const int32_t outcome = Init(0);
  if (outcome == NoDevice)
    return {};
  if (outcome != Success)
    return failure(outcome, "starting the driver");
  CUDA_TRY(*this, DeviceGetCount(&deviceCount), "listing devices");
  return {};
}

Result<CudaDeviceInfo> Driver::infoOf(int32_t number) const {
  CudaDeviceInfo info;
  Device device = 0;
  char name[256] = {};
  int32_t major = 0, minor = 0, threads = 0;
  CUDA_TRY(*this, DeviceGet(&device, number), "finding a device");
  CUDA_TRY(*this, DeviceGetName(name, sizeof name - 1, device), "naming a device");
  for (auto [attribute, value] : {std::pair(attributeMajor, &major),
                                  {attributeMinor, &minor},
                                  {attributeMaxThreadsPerBlock, &threads}})
    CUDA_TRY(*this, DeviceGetAttribute(value, attribute, device), "asking about a device");
  info.name = name;
  if (major < neededMajor)
    info.lacks = "its compute capability is " + std::to_string(major) + "." +
                 std::to_string(minor) + ", " + std::to_string(neededMajor) +
                 ".0 is needed (Ampere and newer)";
  else if (threads < neededThreads)
    info.lacks = "it has " + std::to_string(threads) + " threads in a workgroup, " +
                 std::to_string(neededThreads) + " are needed";
  return info;
}

} // namespace smelt::cuda
