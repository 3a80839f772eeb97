// CPU detection by cpuid and auxiliary vector, target choice, and code loading through a memory
// file.
#include "runtime/devices/cpu.h"

#include "runtime/devices/cgroup.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <set>

#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#elif defined(__aarch64__) || defined(__riscv)
#include <sys/auxv.h>
#endif

namespace smelt {

namespace {

enum class Target : uint32_t {
#define TARGET(enumerator, name, row, triple, cpu, features, portable, needs) enumerator = row,
#include "runtime/devices/targets.def"
};

constexpr CpuTarget targetTable[] = {
#define TARGET(enumerator, name, row, triple, cpu, features, portable, needs)                      \
  {name, row, triple, cpu, features, needs},
#include "runtime/devices/targets.def"
};

#if defined(__x86_64__)

constexpr std::string_view machine = "x86_64";

struct CpuidBit {
  std::string_view name;
  uint32_t leaf, subleaf;
  char registerName; ///< 'a' to 'd'
  uint32_t bit;
};
// Intel SDM volume 2, CPUID; the lists are those of the psABI levels x86-64-v2 to -v4.
constexpr CpuidBit v2Bits[] = {
    {"SSE3", 1, 0, 'c', 0},          {"SSSE3", 1, 0, 'c', 9},   {"CX16", 1, 0, 'c', 13},
    {"SSE4.1", 1, 0, 'c', 19},       {"SSE4.2", 1, 0, 'c', 20}, {"POPCNT", 1, 0, 'c', 23},
    {"LAHF", 0x80000001, 0, 'c', 0},
};
constexpr CpuidBit v3Bits[] = {
    {"FMA", 1, 0, 'c', 12}, {"MOVBE", 1, 0, 'c', 22}, {"OSXSAVE", 1, 0, 'c', 27},
    {"AVX", 1, 0, 'c', 28}, {"F16C", 1, 0, 'c', 29},  {"BMI1", 7, 0, 'b', 3},
    {"AVX2", 7, 0, 'b', 5}, {"BMI2", 7, 0, 'b', 8},   {"LZCNT", 0x80000001, 0, 'c', 5},
};
constexpr CpuidBit v4Bits[] = {
    {"AVX512F", 7, 0, 'b', 16},  {"AVX512DQ", 7, 0, 'b', 17}, {"AVX512CD", 7, 0, 'b', 28},
    {"AVX512BW", 7, 0, 'b', 30}, {"AVX512VL", 7, 0, 'b', 31},
};
constexpr CpuidBit vnniBits[] = {{"AVX512_VNNI", 7, 0, 'c', 11}};
constexpr CpuidBit vbmiBits[] = {{"AVX512_VBMI", 7, 0, 'c', 1}};
constexpr CpuidBit amxBits[] = {{"AMX_TILE", 7, 0, 'd', 24}, {"AMX_INT8", 7, 0, 'd', 25}};
constexpr CpuidBit avxVnniBits[] = {{"AVX_VNNI", 7, 1, 'a', 4}};

bool hasBit(const CpuidBit &feature) {
  uint32_t a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(feature.leaf, feature.subleaf, &a, &b, &c, &d))
    return false;
  const uint32_t registers[] = {a, b, c, d};
  return registers[feature.registerName - 'a'] >> feature.bit & 1;
}

/// XCR0: which register states the operating system saves.
uint64_t savedStates() {
  if (!hasBit({"OSXSAVE", 1, 0, 'c', 27}))
    return 0;
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t(high) << 32 | low;
}

/// Whether the system saves tiles and, asked, lets this process use them: Linux grants their 8 KB
/// of state per thread on request, once for all threads (Documentation/arch/x86/xstate.rst).
bool mayUseTiles() {
  constexpr uint64_t tileConfig = 17, tileData = 18; // bits of XCR0
  constexpr uint64_t needed = uint64_t(1) << tileConfig | uint64_t(1) << tileData;
  constexpr long requestPermission = 0x1023; // ARCH_REQ_XCOMP_PERM
  return (savedStates() & needed) == needed &&
         ::syscall(SYS_arch_prctl, requestPermission, tileData) == 0;
}

void collectMissing(std::span<const CpuidBit> bits, std::vector<std::string> &missing) {
  for (const CpuidBit &bit : bits)
    if (!hasBit(bit))
      missing.emplace_back(bit.name);
}

std::vector<std::string> missingOf(Target target) {
  std::vector<std::string> missing;
  collectMissing(v2Bits, missing);
  if (target == Target::X86V2)
    return missing;
  const bool tiles = target == Target::X86V4Amx, permutes = tiles || target == Target::X86V4Vbmi;
  const bool wide = permutes || target == Target::X86V4Vnni;
  collectMissing(v3Bits, missing);
  if (target == Target::X86V3AvxVnni)
    collectMissing(avxVnniBits, missing);
  if (wide) {
    collectMissing(v4Bits, missing);
    collectMissing(vnniBits, missing);
  }
  if (permutes)
    collectMissing(vbmiBits, missing);
  if (tiles)
    collectMissing(amxBits, missing);
  uint64_t needed = wide ? 0xe6 : 0x6; // SSE and AVX; opmask and both halves of ZMM
  if ((savedStates() & needed) != needed)
    missing.emplace_back(wide ? "AVX-512 state saved by the system"
                              : "AVX state saved by the system");
  if (tiles && missing.empty() && !mayUseTiles())
    missing.emplace_back("the system's permission to use tiles");
  return missing;
}

#elif defined(__aarch64__)

constexpr std::string_view machine = "aarch64";

/// Bits of AT_HWCAP and AT_HWCAP2, Documentation/arch/arm64/elf_hwcaps.rst of Linux.
struct HwcapBit {
  std::string_view name;
  unsigned long vector;
  unsigned bit;
};
constexpr HwcapBit baseBits[] = {{"FP", AT_HWCAP, 0}, {"ASIMD", AT_HWCAP, 1}};
constexpr HwcapBit dotprodBits[] = {
    {"FPHP", AT_HWCAP, 9}, {"ASIMDHP", AT_HWCAP, 10}, {"ASIMDDP", AT_HWCAP, 20}};
constexpr HwcapBit i8mmBits[] = {{"I8MM", AT_HWCAP2, 13}};

void collectMissing(std::span<const HwcapBit> bits, std::vector<std::string> &missing) {
  for (const HwcapBit &bit : bits)
    if (!(::getauxval(bit.vector) >> bit.bit & 1))
      missing.emplace_back(bit.name);
}

std::vector<std::string> missingOf(Target target) {
  std::vector<std::string> missing;
  collectMissing(baseBits, missing);
  if (target != Target::Arm64)
    collectMissing(dotprodBits, missing);
  if (target == Target::Arm64I8mm)
    collectMissing(i8mmBits, missing);
  return missing;
}

#elif defined(__riscv) && __riscv_xlen == 64

constexpr std::string_view machine = "riscv64";

/// AT_HWCAP has a bit per single-letter extension, A being bit 0 (arch/riscv of Linux).
std::vector<std::string> missingOf(Target) {
  const unsigned long capabilities = ::getauxval(AT_HWCAP);
  std::vector<std::string> missing;
  for (char letter : std::string_view("IMAFDC"))
    if (!(capabilities >> (letter - 'A') & 1))
      missing.emplace_back(1, letter);
  return missing;
}

#else

constexpr std::string_view machine = "unknown";

std::vector<std::string> missingOf(Target) { return {"a CPU that smelt generates code for"}; }

#endif

std::string join(std::span<const std::string> words) {
  std::string text;
  for (const std::string &word : words)
    text += (text.empty() ? "" : ", ") + word;
  return text;
}

} // namespace

std::span<const CpuTarget> cpuTargets() { return targetTable; }

Result<const CpuTarget *> findCpuTarget(std::string_view name) {
  std::string known;
  for (const CpuTarget &target : targetTable) {
    if (target.name == name)
      return &target;
    known += (known.empty() ? "" : ", ") + std::string(target.name);
  }
  return invalidArgument("unknown target '" + std::string(name) + "'; there are " + known);
}

std::vector<std::string> missingFeatures(const CpuTarget &target) {
  std::string_view architecture = target.triple.substr(0, target.triple.find('-'));
  if (architecture != machine)
    return {std::string(architecture)};
  return missingOf(Target(target.row));
}

Result<const CpuTarget *> chooseTarget(const Artifact &artifact, std::string_view forced) {
  auto held = [&](const CpuTarget &target) {
    return !artifact.section(format::SectionKind::Code, target.row).empty();
  };
  if (!forced.empty())
    SMELT_TRY(findCpuTarget(forced).status());
  std::string reasons;
  for (const CpuTarget &target : targetTable) {
    if (!held(target) || (!forced.empty() && target.name != forced))
      continue;
    std::vector<std::string> missing = missingFeatures(target);
    if (missing.empty())
      return &target;
    reasons += (reasons.empty() ? "" : "; ") + std::string(target.name) +
               " needs what this CPU lacks: " + join(missing);
  }
  if (!forced.empty() && reasons.empty()) {
    std::vector<std::string> names;
    for (const CpuTarget &target : targetTable)
      if (held(target))
        names.emplace_back(target.name);
    reasons = "it holds no code for " + std::string(forced) +
              (names.empty() ? "" : ", but for " + join(names));
  }
  if (reasons.empty())
    reasons = "it holds no code for any target known to this smelt";
  std::string advice = "compile it for a target that fits";
  if (std::string gpus = artifact.gpuNames(); !gpus.empty()) {
    reasons += ", but for GPUs (" + gpus + ")";
    advice = "choose one with --device, or " + advice;
  }
  return unsupported("the artifact cannot run on this CPU: " + reasons + "; " + advice);
}

unsigned defaultThreads() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0)
    return 1;
  std::set<std::string> cores; // one entry per set of hardware threads that share a core
  unsigned processors = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed))
      continue;
    ++processors;
    std::string siblings;
    std::ifstream("/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                  "/topology/thread_siblings_list") >>
        siblings;
    cores.insert(siblings.empty() ? std::to_string(cpu) : siblings);
  }
  unsigned count = std::max<unsigned>(1, std::min<unsigned>(processors, unsigned(cores.size())));
  if (unsigned limit = cgroupProcessors(); limit != 0)
    count = std::min(count, limit);
  return count;
}

namespace {

/// Writes all bytes; false with errno set.
bool writeAll(int file, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    ssize_t done = ::write(file, bytes.data(), bytes.size());
    if (done < 0 && errno == EINTR)
      continue;
    if (done < 0)
      return false;
    bytes = bytes.subspan(size_t(done));
  }
  return true;
}

} // namespace

Result<std::unique_ptr<LoadedCode>> LoadedCode::load(std::span<const std::byte> sharedObject) {
  std::unique_ptr<LoadedCode> code(new LoadedCode);
  std::string reason;
  // The file stays open as long as the library: the loader takes two libraries of the same path for
  // one, and the path holds the number of the descriptor.
  code->file = ::memfd_create("smelt-code", MFD_CLOEXEC);
  if (code->file >= 0 && writeAll(code->file, sharedObject)) {
    std::string path = "/proc/self/fd/" + std::to_string(code->file);
    code->handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (code->handle)
      return code;
    reason = ::dlerror();
  }
  // Hardened systems refuse to execute memory files; a real file may be allowed.
  for (const char *folder : {"/tmp", "/var/tmp", "/dev/shm"}) {
    std::string path = std::string(folder) + "/smelt-code-XXXXXX";
    int file = ::mkostemp(path.data(), O_CLOEXEC);
    if (file < 0)
      continue;
    if (writeAll(file, sharedObject))
      code->handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!code->handle)
      if (const char *text = ::dlerror())
        reason = text;
    ::unlink(path.c_str());
    ::close(file);
    if (code->handle)
      return code;
  }
  return unsupported("cannot load the code of the artifact: " + reason);
}

LoadedCode::~LoadedCode() {
  if (handle)
    ::dlclose(handle);
  if (file >= 0)
    ::close(file);
}

format::KernelFunction LoadedCode::kernel(const char *name) const {
  return reinterpret_cast<format::KernelFunction>(::dlsym(handle, name));
}

} // namespace smelt
