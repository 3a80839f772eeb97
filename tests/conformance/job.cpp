// Running, saving and restoring jobs; no dependency beyond libc, since the runner for other CPUs
// has it too.
#include "tests/conformance/job.h"

#include <cstring>
#include <dlfcn.h>
#include <fstream>

namespace smelt::conformance {

namespace {

constexpr size_t guardBytes = 256;
constexpr std::byte guard{0xa5};

template <typename T> void put(std::ostream &out, const T &value) {
  out.write(reinterpret_cast<const char *>(&value), sizeof value);
}
template <typename T> bool get(std::istream &in, T &value) {
  return bool(in.read(reinterpret_cast<char *>(&value), sizeof value));
}

} // namespace

Memory::Memory(size_t bytes) : bytes(bytes), lines((bytes + 63) / 64 + guardBytes / 64) {
  std::memset(data() + bytes, int(guard), lines.size() * 64 - bytes);
}

bool Memory::guardIntact() const {
  for (size_t i = bytes; i < lines.size() * 64; ++i)
    if (data()[i] != guard)
      return false;
  return true;
}

int32_t Job::add(const void *data, size_t bytes) {
  buffers.emplace_back(bytes);
  if (data)
    std::memcpy(buffers.back().data(), data, bytes);
  return int32_t(buffers.size()) - 1;
}

void Job::addForThreads(Call call, int64_t threads) {
  call.info[format::FieldThreads] = threads;
  for (int64_t thread = 0; thread < threads; ++thread) {
    call.info[format::FieldThread] = thread;
    calls.push_back(call);
  }
}

std::string Job::run(const std::string &sharedObject) {
  void *library = dlopen(sharedObject.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return std::string("cannot load the kernels: ") + dlerror();
  std::string error;
  for (const Call &call : calls) {
    auto function = reinterpret_cast<format::KernelFunction>(dlsym(library, call.symbol.c_str()));
    if (!function) {
      error = "no kernel " + call.symbol;
      break;
    }
    void *p[format::operandCount];
    for (uint32_t i = 0; i < format::operandCount; ++i) {
      const OperandRef &ref = call.operands[i];
      p[i] = ref.buffer < 0 ? nullptr : buffers[ref.buffer].data() + ref.offset;
    }
    function(call.info, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]);
  }
  dlclose(library);
  for (size_t i = 0; i < buffers.size() && error.empty(); ++i)
    if (!buffers[i].guardIntact())
      error = "a kernel wrote beyond the end of buffer " + std::to_string(i);
  return error;
}

void Job::save(const std::string &path) const {
  std::ofstream out(path, std::ios::binary);
  put(out, uint64_t(buffers.size()));
  for (const Memory &memory : buffers) {
    put(out, uint64_t(memory.size()));
    out.write(reinterpret_cast<const char *>(memory.data()), std::streamsize(memory.size()));
  }
  put(out, uint64_t(calls.size()));
  for (const Call &call : calls) {
    put(out, uint64_t(call.symbol.size()));
    out.write(call.symbol.data(), std::streamsize(call.symbol.size()));
    put(out, call.info);
    put(out, call.operands);
  }
}

bool Job::restore(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  uint64_t count = 0, bytes = 0;
  buffers.clear();
  calls.clear();
  if (!get(in, count))
    return false;
  for (uint64_t i = 0; i < count; ++i) {
    if (!get(in, bytes))
      return false;
    buffers.emplace_back(bytes);
    if (!in.read(reinterpret_cast<char *>(buffers.back().data()), std::streamsize(bytes)))
      return false;
  }
  if (!get(in, count))
    return false;
  for (uint64_t i = 0; i < count; ++i) {
    Call call;
    if (!get(in, bytes))
      return false;
    call.symbol.resize(bytes);
    if (!in.read(call.symbol.data(), std::streamsize(bytes)) || !get(in, call.info) ||
        !get(in, call.operands))
      return false;
    calls.push_back(std::move(call));
  }
  return true;
}

} // namespace smelt::conformance
