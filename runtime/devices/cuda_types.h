// The part of the CUDA driver's binary interface that cuda.cpp uses, so that neither NVIDIA's
// headers nor its driver are needed to build. Values are those of the CUDA driver API without their
// prefixes; 64-bit systems only.
#pragma once

#include <cstddef>
#include <cstdint>

namespace smelt::cuda {

static_assert(sizeof(void *) == 8, "pointers of devices are 64 bits wide");
using Context = struct ContextObject *;
using Module = struct ModuleObject *;
using Function = struct FunctionObject *;
using Stream = struct StreamObject *;
using Graph = struct GraphObject *;
using GraphExec = struct GraphExecObject *;
using Device = int32_t;
using Pointer = uint64_t; ///< into the device's memory

enum Outcome : int32_t {
  Success = 0,
  InvalidValue = 1,
  OutOfMemory = 2,
  DeviceUnavailable = 46,
  NoDevice = 100,
  NoBinaryForGpu = 209,
  EccUncorrectable = 214,
  InvalidPtx = 218,
  JitCompilerNotFound = 221,
  UnsupportedPtxVersion = 222,
  NotFound = 500,
  IllegalAddress = 700,
  LaunchTimeout = 702,
  ContextIsDestroyed = 709,
  HardwareStackError = 714,
  IllegalInstruction = 715,
  MisalignedAddress = 716,
  InvalidAddressSpace = 717,
  InvalidProgramCounter = 718,
  LaunchFailed = 719,
  SystemNotReady = 802,
  SystemDriverMismatch = 803,
};

inline constexpr int32_t attributeMaxThreadsPerBlock = 1, attributeMajor = 75, attributeMinor = 76;
inline constexpr int32_t jitErrorLog = 5, jitErrorLogBytes = 6;
inline constexpr uint32_t streamNonBlocking = 1;
inline constexpr int32_t captureThreadLocal = 1;

} // namespace smelt::cuda
