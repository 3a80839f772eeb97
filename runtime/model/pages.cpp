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
  // No huge pages: each head's cache would take 2 MiB at its first position (SmolLM2, 8,192
  // positions: 98 -> 190 MB, the first 64 tokens 30 -> 55 ms), and decoding at 2,048 positions is
  // not faster with them.
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
