// The definitions of the tensor primitives, element by element in extended precision: what the
// parts of the reference share.
#pragma once

#include "tests/conformance/tensor_problem.h"

#include <functional>

namespace smelt::conformance {

using format::ElementType;
using Coordinates = std::vector<int64_t>;

inline bool isReal(ElementType type) {
  return type == ElementType::F32 || type == ElementType::F64;
}

inline void require(bool condition, format::TensorFault fault = format::FaultShape) {
  if (!condition)
    throw fault;
}

inline int64_t flat(const std::vector<int64_t> &dims, const Coordinates &at) {
  int64_t index = 0;
  for (size_t a = 0; a < dims.size(); ++a)
    index = index * dims[a] + at[a];
  return index;
}

/// Calls `body` for every place of a box in row-major order.
inline void forEach(const std::vector<int64_t> &dims,
                    const std::function<void(const Coordinates &)> &body) {
  int64_t count = 1;
  for (int64_t d : dims)
    count *= d;
  Coordinates at(dims.size());
  for (int64_t i = 0; i < count; ++i) {
    int64_t rest = i;
    for (size_t a = dims.size(); a-- > 0; rest /= dims[a])
      at[a] = rest % dims[a];
    body(at);
  }
}

/// An integer as its type holds it.
inline Wide wrapped(ElementType type, uint64_t bits) {
  switch (type) {
  case ElementType::I32:
    return Wide(int32_t(bits));
  case ElementType::I8:
    return Wide(int8_t(bits));
  case ElementType::U8:
    return Wide(uint8_t(bits));
  default:
    return Wide(int64_t(bits));
  }
}

inline Wide rounded(ElementType type, Wide v) {
  return type == ElementType::F32 ? Wide(float(v)) : type == ElementType::F64 ? Wide(double(v)) : v;
}

/// Computes the outputs of one problem; throws TensorFault.
class Reference {
public:
  explicit Reference(TensorProblem &p) : p(p), out(p.outputs[0]) {}
  void run();

private:
  const TestTensor &in(size_t i) const { return p.inputs[i]; }
  bool has(size_t i) const { return i < p.inputs.size() && p.inputs[i].given; }
  Wide at(size_t i, const Coordinates &c) const {
    return in(i).values[size_t(flat(in(i).dims, c))];
  }
  std::vector<int64_t> list(size_t i) const {
    std::vector<int64_t> result;
    for (Wide v : in(i).values)
      result.push_back(int64_t(v));
    return result;
  }
  size_t rank(size_t i) const { return in(i).dims.size(); }
  void set(std::vector<int64_t> dims) {
    for (int64_t d : dims)
      require(d >= 0);
    out.dims = std::move(dims);
  }
  void fill(const std::function<Wide(const Coordinates &)> &value) {
    forEach(out.dims, [&](const Coordinates &c) { out.values.push_back(value(c)); });
  }
  int64_t index(Wide value, int64_t length) const {
    int64_t i = int64_t(value);
    i = i < 0 ? i + length : i;
    require(i >= 0 && i < length, format::FaultIndex);
    return i;
  }
  std::vector<int64_t> broadcast(const std::vector<std::vector<int64_t>> &shapes) const;
  Wide broadcastAt(size_t i, const Coordinates &c) const;

  Wide mapped(const std::vector<Wide> &v) const;
  Wide wholeMap(const std::vector<Wide> &v) const;
  Wide cast(Wide v, ElementType from, ElementType to) const;
  void map();
  void view();
  void slice();
  void pad();
  void gather();
  void gatherND();
  void scatter();
  void reduce();
  void scan();
  void topK();
  void make();
  void matMul();
  void window();

  TensorProblem &p;
  TestTensor &out;
};

} // namespace smelt::conformance
