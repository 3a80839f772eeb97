// Zero-filled memory of sessions.
#pragma once

#include "runtime/base/status.h"

#include <cstddef>
#include <cstdint>

namespace smelt {

/// Zero-filled pages that cost nothing until touched.
class Pages {
public:
  Pages() = default;
  Pages(Pages &&other) noexcept;
  Pages &operator=(Pages &&other) noexcept;
  ~Pages();
  static Result<Pages> allocate(uint64_t bytes, const char *what);
  std::byte *data() const { return memory; }

private:
  std::byte *memory = nullptr;
  uint64_t size = 0;
};

} // namespace smelt
