// A libcuda.so.1 without a GPU: memory is the host's, kernels are executed by ptx_machine.cpp. Work
// is done when it is waited for and not before, as late as a device might do it; wrong calls are
// refused and said on stderr.
//
// SMELT_FAKE_CUDA says what the driver is like, words with blanks between them, read by cuInit and
// cuDriverGetVersion:
//   version=11000   of CUDA                        capability=75   of the devices
//   devices=2       how many                       init=803        what cuInit answers
//   memory=1000000  bytes that a device has        lost=3          the 3rd wait loses the device
//   jit=221         what loading a module answers
#include "tests/cuda/fake_driver.h"

#include "runtime/devices/cuda_types.h"
#include "tests/cuda/ptx_program.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <set>
#include <sstream>

namespace smelt::cuda {

using Work = std::function<int32_t()>;

struct ContextObject {};
struct ModuleObject {
  ptx::Program program;
};
struct FunctionObject {};
struct StreamObject {
  std::vector<Work> queue;
  bool isCapturing = false;
  std::vector<Work> captured;
};
struct GraphObject {
  std::vector<Work> work;
};
struct GraphExecObject {
  std::vector<Work> work;
};

namespace {

constexpr int32_t notInitialized = 3, invalidDevice = 101, invalidContext = 201,
                  captureUnsupported = 900;
constexpr size_t memoryAlignment = 256;

struct Settings {
  int32_t version = 12040, capability = 80, devices = 1, init = 0, lost = 0, jit = 0;
  uint64_t memory = uint64_t(1) << 30;
};

/// Everything that there is.
class State final : public ptx::GlobalMemory {
public:
  Settings settings;
  bool isInitialized = false;
  ContextObject context;
  int32_t retained = 0;
  std::vector<Context> current;
  std::map<Pointer, size_t> memories;
  std::set<void *> hostMemories;
  std::set<Module> modules;
  std::set<Stream> streams;
  std::set<Graph> graphs;
  std::set<GraphExec> executables;
  uint64_t allocated = 0;
  int32_t waits = 0, graphLaunches = 0, plainLaunches = 0;
  bool isLost = false;

  bool holds(uint64_t address, size_t bytes) override {
    if (address >= lastFirst && address + bytes <= lastEnd)
      return true;
    auto after = memories.upper_bound(address);
    if (after == memories.begin())
      return false;
    const auto &[first, size] = *std::prev(after);
    if (address + bytes > first + size)
      return false;
    lastFirst = first;
    lastEnd = first + size;
    return true;
  }
  void forgetLast() { lastFirst = lastEnd = 0; }

private:
  uint64_t lastFirst = 0, lastEnd = 0; ///< of the memory that was asked for last
};
State state;

int32_t refused(int32_t outcome, const std::string &what) {
  std::fprintf(stderr, "fake CUDA driver: %s\n", what.c_str());
  return outcome;
}

void readSettings() {
  state.settings = {};
  const char *given = std::getenv("SMELT_FAKE_CUDA");
  std::istringstream words(given ? given : "");
  for (std::string word; words >> word;) {
    const size_t equal = word.find('=');
    const std::string name = word.substr(0, equal);
    const int64_t value = std::atoll(word.c_str() + equal + 1);
    Settings &s = state.settings;
    const std::map<std::string, int32_t *> known = {
        {"version", &s.version}, {"capability", &s.capability},
        {"devices", &s.devices}, {"init", &s.init},
        {"lost", &s.lost},       {"jit", &s.jit}};
    if (auto found = known.find(name); found != known.end())
      *found->second = int32_t(value);
    else if (name == "memory")
      s.memory = uint64_t(value);
    else
      std::fprintf(stderr, "fake CUDA driver: unknown setting %s\n", word.c_str());
  }
}

/// What stands against any call within a context; Success: nothing.
int32_t ready() {
  if (!state.isInitialized)
    return refused(notInitialized, "a call before cuInit");
  if (state.isLost)
    return IllegalAddress;
  return state.current.empty() ? refused(invalidContext, "a call without a context") : Success;
}
#define READY()                                                                                    \
  if (const int32_t outcome = ready(); outcome != Success)                                         \
  return outcome

/// Only work for a stream may be given while it records.
int32_t notRecording() {
  for (Stream stream : state.streams)
    if (stream->isCapturing)
      return refused(captureUnsupported, "a call that a recording does not allow");
  return Success;
}
#define NOT_RECORDING()                                                                            \
  if (const int32_t outcome = notRecording(); outcome != Success)                                  \
  return outcome

int32_t give(Stream stream, Work work) {
  READY();
  if (!state.streams.contains(stream))
    return refused(InvalidValue, "work for an unknown stream");
  (stream->isCapturing ? stream->captured : stream->queue).push_back(std::move(work));
  return Success;
}

template <typename T> int32_t destroy(std::set<T *> &objects, T *object, const char *what) {
  if (!objects.erase(object))
    return refused(InvalidValue, std::string("unknown ") + what);
  delete object;
  return Success;
}

int32_t copyWork(void *to, const void *from, size_t bytes, Pointer device, Pointer device2,
                 Stream stream) {
  for (Pointer memory : {device, device2})
    if (memory && !state.holds(memory, bytes))
      return refused(InvalidValue, "a copy beyond a memory");
  return give(stream, [=] {
    std::memcpy(to, from, bytes);
    return Success;
  });
}

int32_t loseDevice(const std::string &why) {
  state.isLost = true;
  return refused(IllegalAddress, why);
}

} // namespace

extern "C" {

// All that the runtime asks for, as it declares them.
#define FUNCTION(name, suffix, parameters) int32_t cu##name##suffix parameters;
#include "runtime/devices/cuda_functions.def"

int fakeCudaObjects() {
  return int(state.memories.size() + state.hostMemories.size() + state.modules.size() +
             state.streams.size() + state.graphs.size() + state.executables.size()) +
         state.retained + int(state.current.size());
}
int fakeCudaGraphLaunches() { return state.graphLaunches; }
int fakeCudaPlainLaunches() { return state.plainLaunches; }

//===--- Driver and devices

int32_t cuInit(uint32_t) {
  readSettings();
  state.isInitialized = state.settings.init == 0;
  state.isLost = false;
  state.waits = state.graphLaunches = state.plainLaunches = 0;
  return state.settings.devices ? state.settings.init : NoDevice;
}
int32_t cuDriverGetVersion(int32_t *version) {
  readSettings();
  *version = state.settings.version;
  return Success;
}
int32_t cuGetErrorString(int32_t outcome, const char **text) {
  *text = outcome == IllegalAddress ? "an illegal memory access was encountered"
          : outcome == InvalidPtx   ? "a PTX JIT compilation failed"
                                    : "an error of the fake driver";
  return Success;
}
int32_t cuDeviceGetCount(int32_t *count) {
  *count = state.settings.devices;
  return Success;
}
int32_t cuDeviceGet(Device *device, int32_t number) {
  if (number < 0 || number >= state.settings.devices)
    return refused(invalidDevice, "no such device");
  *device = number;
  return Success;
}
int32_t cuDeviceGetName(char *name, int32_t bytes, Device device) {
  std::snprintf(name, size_t(bytes), "Fake GPU %d", device);
  return Success;
}
int32_t cuDeviceGetAttribute(int32_t *value, int32_t attribute, Device) {
  const int32_t capability = state.settings.capability;
  *value = attribute == attributeMajor   ? capability / 10
           : attribute == attributeMinor ? capability % 10
                                         : 1024;
  return Success;
}
int32_t cuDevicePrimaryCtxRetain(Context *context, Device) {
  if (!state.isInitialized)
    return refused(notInitialized, "a call before cuInit");
  ++state.retained;
  *context = &state.context;
  return Success;
}
int32_t cuDevicePrimaryCtxRelease_v2(Device) {
  --state.retained;
  return Success;
}
int32_t cuCtxPushCurrent_v2(Context context) {
  if (context != &state.context || state.retained <= 0)
    return refused(invalidContext, "no such context");
  state.current.push_back(context);
  return Success;
}
int32_t cuCtxPopCurrent_v2(Context *context) {
  if (state.current.empty())
    return refused(invalidContext, "no context to take off");
  *context = state.current.back();
  state.current.pop_back();
  return Success;
}

//===--- Memory

int32_t cuMemGetInfo_v2(size_t *free, size_t *total) {
  READY();
  *total = state.settings.memory;
  *free = state.settings.memory - state.allocated;
  return Success;
}
int32_t cuMemAlloc_v2(Pointer *memory, size_t bytes) {
  READY();
  NOT_RECORDING();
  if (bytes == 0)
    return refused(InvalidValue, "an allocation of nothing");
  if (bytes > state.settings.memory - state.allocated)
    return OutOfMemory;
  void *made = std::aligned_alloc(memoryAlignment, (bytes + memoryAlignment - 1) / memoryAlignment *
                                                       memoryAlignment);
  if (!made)
    return OutOfMemory;
  std::memset(made, 0x7f, bytes); // what others have left there
  *memory = reinterpret_cast<Pointer>(made);
  state.memories[*memory] = bytes;
  state.allocated += bytes;
  return Success;
}
int32_t cuMemFree_v2(Pointer memory) {
  auto found = state.memories.find(memory);
  if (found == state.memories.end())
    return refused(InvalidValue, "freeing unknown memory");
  state.allocated -= found->second;
  state.memories.erase(found);
  state.forgetLast();
  std::free(reinterpret_cast<void *>(memory));
  return Success;
}
int32_t cuMemHostAlloc(void **memory, size_t bytes, uint32_t) {
  READY();
  NOT_RECORDING();
  *memory = std::malloc(bytes);
  state.hostMemories.insert(*memory);
  return Success;
}
int32_t cuMemFreeHost(void *memory) {
  if (!state.hostMemories.erase(memory))
    return refused(InvalidValue, "freeing unknown memory of the host");
  std::free(memory);
  return Success;
}
int32_t cuMemsetD32Async(Pointer memory, uint32_t value, size_t count, Stream stream) {
  if (!state.holds(memory, count * sizeof value))
    return refused(InvalidValue, "clearing beyond a memory");
  return give(stream, [=] {
    std::fill_n(reinterpret_cast<uint32_t *>(memory), count, value);
    return Success;
  });
}
int32_t cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t bytes, Stream stream) {
  return copyWork(reinterpret_cast<void *>(to), from, bytes, to, 0, stream);
}
int32_t cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t bytes, Stream stream) {
  return copyWork(to, reinterpret_cast<const void *>(from), bytes, from, 0, stream);
}
int32_t cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t bytes, Stream stream) {
  return copyWork(reinterpret_cast<void *>(to), reinterpret_cast<const void *>(from), bytes, to,
                  from, stream);
}

//===--- Kernels

int32_t cuModuleLoadDataEx(Module *module, const void *image, uint32_t optionCount,
                           int32_t *options, void **values) {
  READY();
  NOT_RECORDING();
  if (state.settings.jit)
    return state.settings.jit;
  auto made = std::make_unique<ModuleObject>();
  std::string error;
  if (!ptx::readProgram(static_cast<const char *>(image), made->program, error)) {
    char *log = nullptr;
    size_t bytes = 0;
    for (uint32_t i = 0; i < optionCount; ++i) {
      if (options[i] == jitErrorLog)
        log = static_cast<char *>(values[i]);
      if (options[i] == jitErrorLogBytes)
        bytes = reinterpret_cast<size_t>(values[i]);
    }
    if (log && bytes)
      std::snprintf(log, bytes, "%s", error.c_str());
    return InvalidPtx;
  }
  *module = made.release();
  state.modules.insert(*module);
  return Success;
}
int32_t cuModuleUnload(Module module) { return destroy(state.modules, module, "module"); }
int32_t cuModuleGetFunction(Function *function, Module module, const char *name) {
  if (!state.modules.contains(module))
    return refused(InvalidValue, "unknown module");
  if (module->program.name != name)
    return NotFound;
  *function = reinterpret_cast<Function>(module);
  return Success;
}
int32_t cuLaunchKernel(Function function, uint32_t gridX, uint32_t gridY, uint32_t gridZ,
                       uint32_t blockX, uint32_t blockY, uint32_t blockZ, uint32_t, Stream stream,
                       void **parameters, void **) {
  const Module module = reinterpret_cast<Module>(function);
  if (!state.modules.contains(module))
    return refused(InvalidValue, "unknown kernel");
  const ptx::Program &program = module->program;
  if (blockX != program.threads || blockY != 1 || blockZ != 1)
    return refused(InvalidValue, program.name + " is started with other than its threads");
  if (!gridX || !gridY || !gridZ || gridY > 65535 || gridZ > 65535)
    return refused(InvalidValue, program.name + " is started with a grid that there cannot be");
  std::vector<uint64_t> arguments;
  for (size_t i = 0; i < program.specials.parameters.size(); ++i)
    arguments.push_back(*static_cast<const uint64_t *>(parameters[i]));
  state.plainLaunches += state.streams.contains(stream) && !stream->isCapturing;
  return give(stream, [=, &program] {
    const uint32_t groups[3] = {gridX, gridY, gridZ};
    std::string error;
    return runProgram(program, groups, arguments, state, error) ? Success : loseDevice(error);
  });
}

//===--- Streams and graphs

int32_t cuStreamCreate(Stream *stream, uint32_t) {
  READY();
  state.streams.insert(*stream = new StreamObject);
  return Success;
}
int32_t cuStreamDestroy_v2(Stream stream) { return destroy(state.streams, stream, "stream"); }
int32_t cuStreamSynchronize(Stream stream) {
  READY();
  NOT_RECORDING();
  if (!state.streams.contains(stream))
    return refused(InvalidValue, "unknown stream");
  if (++state.waits == state.settings.lost)
    return loseDevice("the device is lost, as was asked for");
  std::vector<Work> queue = std::move(stream->queue);
  stream->queue.clear();
  for (const Work &work : queue)
    if (const int32_t outcome = work(); outcome != Success)
      return outcome;
  return Success;
}
int32_t cuStreamBeginCapture_v2(Stream stream, int32_t) {
  READY();
  NOT_RECORDING();
  stream->isCapturing = true;
  return Success;
}
int32_t cuStreamEndCapture(Stream stream, Graph *graph) {
  READY();
  if (!stream->isCapturing)
    return refused(InvalidValue, "the end of no recording");
  stream->isCapturing = false;
  state.graphs.insert(*graph = new GraphObject{std::move(stream->captured)});
  stream->captured.clear();
  return Success;
}
int32_t cuGraphInstantiateWithFlags(GraphExec *executable, Graph graph, unsigned long long) {
  READY();
  if (!state.graphs.contains(graph))
    return refused(InvalidValue, "unknown graph");
  state.executables.insert(*executable = new GraphExecObject{graph->work});
  return Success;
}
int32_t cuGraphDestroy(Graph graph) { return destroy(state.graphs, graph, "graph"); }
int32_t cuGraphExecDestroy(GraphExec executable) {
  return destroy(state.executables, executable, "executable graph");
}
int32_t cuGraphLaunch(GraphExec executable, Stream stream) {
  if (!state.executables.contains(executable))
    return refused(InvalidValue, "unknown executable graph");
  ++state.graphLaunches;
  return give(stream, [work = executable->work] {
    for (const Work &each : work)
      if (const int32_t outcome = each(); outcome != Success)
        return outcome;
    return int32_t(Success);
  });
}

} // extern "C"

} // namespace smelt::cuda
