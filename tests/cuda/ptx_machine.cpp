// Executes PTX as a device does, one workgroup after the other: lanes of a warp run together as
// long as they are at the same place (the ones behind go first, so that they meet again), shuffles
// wait for the whole warp and barriers for the workgroup. Wild addresses and lanes that never meet
// are errors.
#include "tests/cuda/ptx_program.h"

#include <algorithm>
#include <cstring>

namespace smelt::ptx {

namespace {

constexpr uint32_t never = ~0u;

class Workgroup {
public:
  Workgroup(const Program &program, const std::vector<uint64_t> &arguments, GlobalMemory &memory)
      : program(program), arguments(arguments), memory(memory), shared(program.sharedBytes),
        warps((program.threads + warpLanes - 1) / warpLanes) {}

  bool run(const uint32_t group[3], std::string &error) {
    // A device does not clear workgroup memory either.
    std::fill(shared.begin(), shared.end(), std::byte(0xa5));
    for (size_t i = 0; i < warps.size(); ++i)
      start(warps[i], uint32_t(i) * warpLanes, group);
    for (bool anyLeft = true; anyLeft && message.empty();) {
      size_t waiting = 0, left = 0;
      for (Warp &warp : warps)
        if (warp.live && message.empty())
          runUntilBarrier(warp);
      for (Warp &warp : warps) {
        left += warp.live != 0;
        waiting += warp.live && warp.atBarrier;
      }
      anyLeft = left != 0;
      if (anyLeft && left != waiting && message.empty())
        message = "a warp waits for no barrier";
      for (Warp &warp : warps)
        if (warp.atBarrier) {
          warp.atBarrier = false;
          for (uint32_t &at : warp.at)
            ++at;
        }
    }
    error = message;
    return message.empty();
  }

private:
  struct Warp {
    std::vector<std::byte> registers;
    uint32_t at[warpLanes];
    uint32_t live = 0;
    bool atBarrier = false;
  };

  const Program &program;
  const std::vector<uint64_t> &arguments;
  GlobalMemory &memory;
  std::vector<std::byte> shared;
  std::vector<Warp> warps;
  std::string message;

  void start(Warp &warp, uint32_t firstThread, const uint32_t group[3]) {
    warp.registers = program.registers;
    std::fill(std::begin(warp.at), std::end(warp.at), 0);
    const uint32_t count = std::min<uint32_t>(program.threads - firstThread, warpLanes);
    warp.live = count == warpLanes ? ~0u : (1u << count) - 1;
    warp.atBarrier = false;
    auto set = [&]<typename T>(uint32_t place, int lane, T value) {
      reinterpret_cast<T *>(warp.registers.data() + place)[lane] = value;
    };
    for (int lane = 0; lane < warpLanes; ++lane) {
      set(program.specials.thread, lane, firstThread + uint32_t(lane));
      for (int i = 0; i < 3; ++i)
        set(program.specials.group[i], lane, group[i]);
      for (size_t i = 0; i < arguments.size(); ++i)
        set(program.specials.parameters[i], lane, arguments[i]);
    }
  }

  void fail(const Instruction &in, const std::string &what) {
    if (message.empty())
      message = program.name + ", line " + std::to_string(in.line) + ": " + what;
  }

  static void place(Warp &warp, uint32_t lanes, uint32_t at) {
    for (int lane = 0; lane < warpLanes; ++lane)
      if (lanes >> lane & 1)
        warp.at[lane] = at;
  }

  /// The lanes of `among` that are least far, where they are, and where the next ones are.
  static uint32_t behind(const Warp &warp, uint32_t among, uint32_t &at, uint32_t &next) {
    uint32_t lanes = 0;
    at = next = never;
    for (int lane = 0; lane < warpLanes; ++lane)
      if (among >> lane & 1)
        at = std::min(at, warp.at[lane]);
    for (int lane = 0; lane < warpLanes; ++lane) {
      if (!(among >> lane & 1))
        continue;
      if (warp.at[lane] == at)
        lanes |= 1u << lane;
      else
        next = std::min(next, warp.at[lane]);
    }
    return lanes;
  }

  void runUntilBarrier(Warp &warp) {
    uint32_t waiting = 0; // lanes at a shuffle or barrier that not all have reached
    while (warp.live && !warp.atBarrier && message.empty()) {
      uint32_t at, next;
      uint32_t lanes = behind(warp, warp.live & ~waiting, at, next);
      if (!lanes) {
        lanes = behind(warp, warp.live, at, next);
        waiting = 0;
        if (next != never)
          return fail(program.code[at], "lanes wait for each other at different places");
      }
      run(warp, lanes, at, next, waiting);
    }
  }

  /// Runs lanes that are together until they part, meet others, wait or end.
  void run(Warp &warp, uint32_t lanes, uint32_t at, uint32_t next, uint32_t &waiting) {
    std::byte *registers = warp.registers.data();
    while (at < next && message.empty()) {
      if (at >= program.code.size())
        return fail(program.code.back(), "the end is run over");
      const Instruction &in = program.code[at];
      uint32_t active = lanes;
      if (in.guard >= 0) {
        const bool *guards = reinterpret_cast<const bool *>(registers + in.guard);
        for (int lane = 0; lane < warpLanes; ++lane)
          if (guards[lane] == in.guardNot)
            active &= ~(1u << lane);
      }
      switch (in.action) {
      case Action::Compute:
        in.execute(registers, in, active);
        break;
      case Action::Load:
      case Action::Store:
      case Action::Atomic:
        access(registers, in, active);
        break;
      case Action::Shuffle:
      case Action::Tile:
      case Action::Barrier:
        if (lanes != warp.live) {
          waiting |= lanes;
          return place(warp, lanes, at);
        }
        if (in.action == Action::Barrier) {
          warp.atBarrier = true;
          return place(warp, lanes, at);
        }
        if (in.action == Action::Tile)
          multiplyTile(registers, in, active);
        else
          shuffle(registers, in, active);
        break;
      case Action::Return:
        warp.live &= ~active;
        lanes &= ~active;
        if (!lanes)
          return;
        break;
      case Action::Branch:
        if (active == lanes) {
          at = in.target;
          if (at < next && at != never)
            continue;
          return place(warp, lanes, at);
        }
        if (active) {
          place(warp, lanes & ~active, at + 1);
          return place(warp, active, in.target);
        }
        break;
      }
      ++at;
    }
    place(warp, lanes, at);
  }

  void access(std::byte *registers, const Instruction &in, uint32_t lanes) {
    const uint64_t *addresses = reinterpret_cast<const uint64_t *>(registers + in.place[4]);
    const size_t bytes = in.isHalf ? sizeof(uint16_t) : size_t(in.count) * sizeof(uint32_t);
    for (int lane = 0; lane < warpLanes; ++lane) {
      if (!(lanes >> lane & 1))
        continue;
      const uint64_t address = addresses[lane] + uint64_t(in.offset);
      const bool isThere = in.isShared ? address + bytes <= shared.size() && address < shared.size()
                                       : memory.holds(address, bytes);
      if (!isThere)
        return fail(in, "an address outside of " +
                            std::string(in.isShared ? "workgroup memory" : "all memories") +
                            " in lane " + std::to_string(lane));
      if (address % bytes != 0)
        return fail(in, "an address that is not aligned");
      uint32_t *words = reinterpret_cast<uint32_t *>(
          in.isShared ? shared.data() + address : reinterpret_cast<std::byte *>(address));
      auto value = [&](int i) -> uint32_t & {
        return reinterpret_cast<uint32_t *>(registers + in.place[i])[lane];
      };
      if (in.isHalf) {
        value(0) = *reinterpret_cast<const uint16_t *>(address);
        continue;
      }
      if (in.action == Action::Atomic) {
        const uint32_t old = *words, with = value(1);
        *words = in.combine == Combine::And  ? old & with
                 : in.combine == Combine::Or ? old | with
                                             : old + with;
        value(0) = old;
        continue;
      }
      for (int i = 0; i < in.count; ++i)
        (in.action == Action::Load ? value(i) : words[i]) =
            in.action == Action::Load ? words[i] : value(i);
    }
  }

  /// PTX ISA 7.0, 9.7.13.4.8 and 9.7.13.4.9: the matrices are put together from what the lanes hold
  /// of them, multiplied, and taken apart.
  void multiplyTile(std::byte *registers, const Instruction &in, uint32_t lanes) {
    if (lanes != ~0u)
      return fail(in, "lanes of the warp are missing");
    constexpr int rows = 16, columns = 8;
    int32_t a[rows][32], b[32][columns], c[rows][columns];
    auto word = [&](int place, int lane) -> uint32_t & {
      return reinterpret_cast<uint32_t *>(registers + in.place[place])[lane];
    };
    const int words = in.count, inner = 16 * words;
    for (int lane = 0; lane < warpLanes; ++lane) {
      const int group = lane >> 2, inGroup = lane % 4;
      for (int i = 0; i < 8 * words; ++i) {
        const uint32_t byte = word(4 + i / 4, lane) >> (8 * (i % 4)) & 255;
        const int row = i % 8 < 4 ? group : group + 8;
        a[row][inGroup * 4 + i % 4 + i / 8 * 16] = in.isSigned ? int8_t(byte) : int32_t(byte);
      }
      for (int i = 0; i < 4 * words; ++i)
        b[inGroup * 4 + i % 4 + i / 4 * 16][group] = int8_t(word(8 + i / 4, lane) >> (8 * (i % 4)));
      for (int i = 0; i < 4; ++i)
        c[i < 2 ? group : group + 8][inGroup * 2 + i % 2] = int32_t(word(10 + i, lane));
    }
    for (int row = 0; row < rows; ++row)
      for (int k = 0; k < inner; ++k)
        for (int column = 0; column < columns; ++column)
          c[row][column] += a[row][k] * b[k][column];
    for (int lane = 0; lane < warpLanes; ++lane)
      for (int i = 0; i < 4; ++i)
        word(i, lane) = uint32_t(c[i < 2 ? lane >> 2 : (lane >> 2) + 8][lane % 4 * 2 + i % 2]);
  }

  void shuffle(std::byte *registers, const Instruction &in, uint32_t lanes) {
    uint32_t *to = reinterpret_cast<uint32_t *>(registers + in.place[0]);
    uint32_t from[warpLanes];
    std::memcpy(from, registers + in.place[1], sizeof from);
    const uint32_t *distances = reinterpret_cast<const uint32_t *>(registers + in.place[2]);
    for (int lane = 0; lane < warpLanes; ++lane) {
      if (!(lanes >> lane & 1))
        continue;
      const uint32_t other = (uint32_t(lane) ^ distances[lane]) % warpLanes;
      if (!(lanes >> other & 1))
        return fail(in, "a lane asks one that is not there");
      to[lane] = from[other];
    }
  }
};

} // namespace

bool runProgram(const Program &program, const uint32_t groups[3],
                const std::vector<uint64_t> &arguments, GlobalMemory &memory, std::string &error) {
  Workgroup workgroup(program, arguments, memory);
  for (uint32_t z = 0; z < groups[2]; ++z)
    for (uint32_t y = 0; y < groups[1]; ++y)
      for (uint32_t x = 0; x < groups[0]; ++x)
        if (const uint32_t group[3] = {x, y, z}; !workgroup.run(group, error))
          return false;
  return true;
}

} // namespace smelt::ptx
