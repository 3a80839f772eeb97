// Pages over anonymous mappings.
#include "runtime/model/pages.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <sys/mman.h>

namespace smelt {

Result<Pages> Pages::allocate(uint64_t bytes, const char *what) {
  Pages pages;
  if (bytes == 0)
    return pages;
  void *memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    return exhausted("cannot reserve " + std::to_string(bytes) + " bytes for " + what + ": " +
                     std::strerror(errno) + "; choose a shorter context or fewer slots");
  pages.memory = static_cast<std::byte *>(memory);
  pages.size = bytes;
  return pages;
}

Pages::Pages(Pages &&other) noexcept
    : memory(std::exchange(other.memory, nullptr)), size(std::exchange(other.size, 0)) {}

Pages &Pages::operator=(Pages &&other) noexcept {
  std::swap(memory, other.memory);
  std::swap(size, other.size);
  return *this;
}

Pages::~Pages() {
  if (memory)
    ::munmap(memory, size);
}

} // namespace smelt
