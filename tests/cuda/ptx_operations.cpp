// What the arithmetic instructions of PTX compute (PTX ISA 7.0, chapter 9), a line each.
#include "tests/cuda/ptx_program.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <type_traits>

namespace smelt::ptx {

namespace {

using Half = _Float16;

/// Runs F for all lanes; those that are off keep what they had.
template <auto F> struct Apply;
template <typename R, typename... A, R (*F)(A...)> struct Apply<F> {
  static void run(std::byte *registers, const Instruction &in, uint32_t lanes) {
    each(registers, in, lanes, std::index_sequence_for<A...>());
  }
  template <size_t... I>
  static void each(std::byte *registers, const Instruction &in, uint32_t lanes,
                   std::index_sequence<I...>) {
    R results[warpLanes];
    for (int lane = 0; lane < warpLanes; ++lane)
      results[lane] = F(reinterpret_cast<const A *>(registers + in.place[1 + I])[lane]...);
    R *out = reinterpret_cast<R *>(registers + in.place[0]);
    if (lanes == ~0u) {
      std::memcpy(out, results, sizeof results);
      return;
    }
    for (int lane = 0; lane < warpLanes; ++lane)
      if (lanes >> lane & 1)
        out[lane] = results[lane];
  }
  static Operation operation() { return {run, {int(sizeof(R)), int(sizeof(A))...}}; }
};

/// A min or max of a number and a NaN is the number.
float smaller(float a, float b) { return std::fmin(a, b); }
float larger(float a, float b) { return std::fmax(a, b); }

int32_t truncated(float a) {
  if (std::isnan(a))
    return 0;
  return a >= 0x1p31f ? INT32_MAX : a <= -0x1p31f ? INT32_MIN : int32_t(a);
}

/// Shifts by more than the width give zeros or signs.
template <typename T> T shiftedLeft(T a, uint32_t n) { return n >= sizeof(T) * 8 ? 0 : a << n; }
template <typename T> T shiftedRight(T a, uint32_t n) {
  if (n >= sizeof(T) * 8)
    return a < T(0) ? T(-1) : T(0);
  return T(a >> n);
}

template <typename T> T field(T a, uint32_t first, uint32_t length) {
  const T rest = shiftedRight(a, first & 255);
  return (length & 255) >= 8 * sizeof(T) ? rest : rest & ((T(1) << (length & 255)) - 1);
}
int32_t signedField(int32_t a, uint32_t first, uint32_t length) {
  first &= 255, length &= 255;
  if (length == 0)
    return 0;
  const uint32_t sign = std::min(first + length - 1, 31u);
  const uint32_t bits = field<uint32_t>(uint32_t(a), first, length);
  if (length >= 32 || !(uint32_t(a) >> sign & 1))
    return length >= 32 ? shiftedRight(a, first) : int32_t(bits);
  return int32_t(bits | ~0u << length);
}

/// Bytes of the eight that a and b are; bit 3 of a choice repeats the byte's sign.
uint32_t permuted(uint32_t a, uint32_t b, uint32_t choices) {
  const uint64_t both = uint64_t(b) << 32 | a;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t choice = choices >> (4 * i) & 15;
    uint32_t byte = uint32_t(both >> (8 * (choice & 7))) & 255;
    if (choice & 8)
      byte = byte & 128 ? 255 : 0;
    result |= byte << (8 * i);
  }
  return result;
}

template <typename A> int32_t productsAdded(uint32_t a, uint32_t b, int32_t sum) {
  for (int i = 0; i < 4; ++i)
    sum += int32_t(A(a >> (8 * i))) * int32_t(int8_t(b >> (8 * i)));
  return sum;
}

template <auto F> void add(std::map<std::string_view, Operation> &table, const char *name) {
  table[name] = Apply<F>::operation();
}
/// The same for every type in use.
template <typename T>
void addInteger(std::map<std::string_view, Operation> &table, const char *const (&names)[6]) {
  add<+[](T a, T b) { return T(a + b); }>(table, names[0]);
  add<+[](T a, T b) { return T(a - b); }>(table, names[1]);
  add<+[](T a, T b) { return T(a * b); }>(table, names[2]);
  add<+[](T a, T b) { return a < b ? a : b; }>(table, names[3]);
  add<+[](T a, T b) { return a < b ? b : a; }>(table, names[4]);
  add<+[](T a, T b, T c) { return T(a * b + c); }>(table, names[5]);
}
template <typename T>
void addLogic(std::map<std::string_view, Operation> &table, const char *const (&names)[5]) {
  add<+[](T a, T b) { return T(a & b); }>(table, names[0]);
  add<+[](T a, T b) { return T(a | b); }>(table, names[1]);
  add<+[](T a, T b) { return T(a ^ b); }>(table, names[2]);
  add<+[](T a) { return T(a ^ (std::is_same_v<T, bool> ? T(1) : T(-1))); }>(table, names[3]);
  add<+[](T a) { return a; }>(table, names[4]);
}
/// Comparisons; those of floats are false with a NaN, but `ne` of integers only.
template <typename T>
void addCompare(std::map<std::string_view, Operation> &table, const char *const (&names)[6]) {
  add<+[](T a, T b) { return a == b; }>(table, names[0]);
  add<+[](T a, T b) { return a < b || a > b; }>(table, names[1]);
  add<+[](T a, T b) { return a < b; }>(table, names[2]);
  add<+[](T a, T b) { return a <= b; }>(table, names[3]);
  add<+[](T a, T b) { return a > b; }>(table, names[4]);
  add<+[](T a, T b) { return a >= b; }>(table, names[5]);
}
#define COMPARE(type)                                                                              \
  {"setp.eq." type, "setp.ne." type, "setp.lt." type,                                              \
   "setp.le." type, "setp.gt." type, "setp.ge." type}
#define LOGIC(type) {"and." type, "or." type, "xor." type, "not." type, "mov." type}

std::map<std::string_view, Operation> makeTable() {
  std::map<std::string_view, Operation> t;
  // Integers: those without a sign are added and multiplied in their place, overflow wraps.
  addInteger<uint32_t>(t, {"add.s32", "sub.s32", "mul.lo.s32", "min.u32", "max.u32", "mad.lo.s32"});
  addInteger<uint64_t>(t, {"add.s64", "sub.s64", "mul.lo.s64", "min.u64", "max.u64", "mad.lo.s64"});
  addInteger<uint16_t>(t, {"add.s16", "sub.s16", "mul.lo.s16", "min.u16", "max.u16", "mad.lo.s16"});
  add<+[](int32_t a, int32_t b) { return std::min(a, b); }>(t, "min.s32");
  add<+[](int32_t a, int32_t b) { return std::max(a, b); }>(t, "max.s32");
  add<+[](uint32_t a) { return 0u - a; }>(t, "neg.s32");
  add<+[](uint32_t a, uint32_t b) { return uint64_t(a) * b; }>(t, "mul.wide.u32");
  add<+[](int32_t a, int32_t b) { return int64_t(a) * b; }>(t, "mul.wide.s32");
  add<+[](uint16_t a, uint16_t b) { return uint32_t(a) * b; }>(t, "mul.wide.u16");
  add<+[](uint32_t a, uint32_t b, uint64_t c) { return uint64_t(a) * b + c; }>(t, "mad.wide.u32");
  add<+[](int32_t a, int32_t b, int64_t c) { return int64_t(a) * b + c; }>(t, "mad.wide.s32");
  add<+[](uint32_t a, uint32_t b) { return uint32_t(uint64_t(a) * b >> 32); }>(t, "mul.hi.u32");
  add<shiftedLeft<uint16_t>>(t, "shl.b16");
  add<shiftedRight<uint16_t>>(t, "shr.u16");
  add<shiftedLeft<uint32_t>>(t, "shl.b32");
  add<shiftedLeft<uint64_t>>(t, "shl.b64");
  add<shiftedRight<uint32_t>>(t, "shr.u32");
  add<shiftedRight<int32_t>>(t, "shr.s32");
  add<shiftedRight<uint64_t>>(t, "shr.u64");
  add<field<uint32_t>>(t, "bfe.u32");
  add<field<uint64_t>>(t, "bfe.u64");
  add<signedField>(t, "bfe.s32");
  add<permuted>(t, "prmt.b32");
  add<productsAdded<int8_t>>(t, "dp4a.s32.s32");
  add<productsAdded<uint8_t>>(t, "dp4a.u32.s32");
  addLogic<bool>(t, LOGIC("pred"));
  addLogic<uint16_t>(t, LOGIC("b16"));
  addLogic<uint32_t>(t, LOGIC("b32"));
  addLogic<uint64_t>(t, LOGIC("b64"));
  add<+[](uint32_t a) { return a; }>(t, "mov.u32");
  // Floats: rounded to nearest even, small numbers kept.
  add<+[](float a, float b) { return a + b; }>(t, "add.rn.f32");
  add<+[](float a, float b) { return a - b; }>(t, "sub.rn.f32");
  add<+[](float a, float b) { return a * b; }>(t, "mul.rn.f32");
  add<+[](float a, float b) { return a / b; }>(t, "div.rn.f32");
  add<+[](float a, float b, float c) { return std::fma(a, b, c); }>(t, "fma.rn.f32");
  add<+[](float a) { return 1 / a; }>(t, "rcp.rn.f32");
  add<+[](float a) { return std::sqrt(a); }>(t, "sqrt.rn.f32");
  add<+[](float a) { return std::fabs(a); }>(t, "abs.f32");
  add<+[](float a) { return -a; }>(t, "neg.f32");
  add<smaller>(t, "min.f32");
  add<larger>(t, "max.f32");
  add<+[](float sign, float a) { return std::copysign(a, sign); }>(t, "copysign.f32");
  // Conversions.
  add<+[](float a) { return std::nearbyint(a); }>(t, "cvt.rni.f32.f32");
  add<truncated>(t, "cvt.rzi.s32.f32");
  add<+[](int32_t a) { return float(a); }>(t, "cvt.rn.f32.s32");
  add<+[](uint32_t a) { return float(a); }>(t, "cvt.rn.f32.u32");
  add<+[](Half a) { return float(a); }>(t, "cvt.f32.f16");
  add<+[](float a) { return Half(a); }>(t, "cvt.rn.f16.f32");
  add<+[](uint32_t a) { return uint16_t(a); }>(t, "cvt.u16.u32");
  add<+[](uint32_t a) { return uint16_t(a >> 16); }>(t, "upper.b16"); // ptx_program.cpp
  add<+[](uint16_t a) { return uint32_t(a); }>(t, "cvt.u32.u16");
  add<+[](uint32_t a) { return uint64_t(a); }>(t, "cvt.u64.u32");
  add<+[](int32_t a) { return int64_t(a); }>(t, "cvt.s64.s32");
  add<+[](uint64_t a) { return uint32_t(a); }>(t, "cvt.u32.u64");
  add<+[](uint32_t a) { return int32_t(int8_t(a)); }>(t, "cvt.s32.s8");
  // Choices and comparisons.
  add<+[](uint32_t a, uint32_t b, bool p) { return p ? a : b; }>(t, "selp.b32");
  add<+[](uint32_t a, uint32_t b, bool p) { return p ? a : b; }>(t, "selp.f32");
  add<+[](uint64_t a, uint64_t b, bool p) { return p ? a : b; }>(t, "selp.b64");
  add<+[](uint16_t a, uint16_t b, bool p) { return p ? a : b; }>(t, "selp.b16");
  addCompare<uint32_t>(t, COMPARE("b32"));
  addCompare<uint32_t>(t, COMPARE("u32"));
  addCompare<int32_t>(t, COMPARE("s32"));
  addCompare<uint64_t>(t, COMPARE("b64"));
  addCompare<uint16_t>(t, COMPARE("b16"));
  addCompare<float>(t, COMPARE("f32"));
  addCompare<Half>(t, COMPARE("f16"));
  add<+[](float a, float b) { return !(a >= b); }>(t, "setp.ltu.f32"); // true with a NaN
  add<+[](float a, float b) { return !(a > b); }>(t, "setp.leu.f32");
  add<+[](float a, float b) { return !(a <= b); }>(t, "setp.gtu.f32");
  add<+[](float a, float b) { return !(a < b); }>(t, "setp.geu.f32");
  add<+[](float a, float b) { return a != b; }>(t, "setp.neu.f32");
  add<+[](float a, float b) { return !(a < b || a > b); }>(t, "setp.equ.f32");
  return t;
}

} // namespace

const Operation *findOperation(std::string_view name) {
  static const std::map<std::string_view, Operation> table = makeTable();
  auto found = table.find(name);
  return found == table.end() ? nullptr : &found->second;
}

} // namespace smelt::ptx
