// The definitions of the tensor primitives, element by element in extended precision.
#include "tests/conformance/tensor_problem.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <stdexcept>

namespace smelt::conformance {

using format::ElementType;

namespace {

using Coordinates = std::vector<int64_t>;

bool isReal(ElementType type) { return type == ElementType::F32 || type == ElementType::F64; }

void require(bool condition, format::TensorFault fault = format::FaultShape) {
  if (!condition)
    throw fault;
}

int64_t flat(const std::vector<int64_t> &dims, const Coordinates &at) {
  int64_t index = 0;
  for (size_t a = 0; a < dims.size(); ++a)
    index = index * dims[a] + at[a];
  return index;
}

/// Calls `body` for every place of a box in row-major order.
void forEach(const std::vector<int64_t> &dims,
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
Wide wrapped(ElementType type, uint64_t bits) {
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

Wide rounded(ElementType type, Wide v) {
  return type == ElementType::F32 ? Wide(float(v)) : type == ElementType::F64 ? Wide(double(v)) : v;
}

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

std::vector<int64_t> Reference::broadcast(const std::vector<std::vector<int64_t>> &shapes) const {
  size_t rank = 0;
  for (const auto &shape : shapes)
    rank = std::max(rank, shape.size());
  std::vector<int64_t> dims(rank, 1);
  for (const auto &shape : shapes)
    for (size_t a = 0; a < shape.size(); ++a) {
      int64_t &d = dims[rank - shape.size() + a];
      require(d == 1 || shape[a] == 1 || d == shape[a]);
      d = d == 1 ? shape[a] : d;
    }
  return dims;
}

Wide Reference::broadcastAt(size_t i, const Coordinates &c) const {
  Coordinates own;
  for (size_t a = 0; a < rank(i); ++a)
    own.push_back(in(i).dims[a] == 1 ? 0 : c[c.size() - rank(i) + a]);
  return at(i, own);
}

//===--- Maps ---------------------------------------------------------------------------------===//

Wide Reference::cast(Wide v, ElementType from, ElementType to) const {
  if (to == ElementType::Bool)
    return v != 0;
  if (isReal(to))
    return rounded(to, v);
  if (!isReal(from))
    return wrapped(to, uint64_t(int64_t(v)));
  if (std::isnan(v))
    return 0;
  const Wide low = to == ElementType::I64   ? Wide(INT64_MIN)
                   : to == ElementType::I32 ? Wide(INT32_MIN)
                   : to == ElementType::I8  ? -128
                                            : 0;
  const Wide high = to == ElementType::I64   ? Wide(INT64_MAX)
                    : to == ElementType::I32 ? Wide(INT32_MAX)
                    : to == ElementType::I8  ? 127
                                             : 255;
  return std::clamp(std::trunc(v), low, high);
}

Wide Reference::wholeMap(const std::vector<Wide> &v) const {
  const int64_t a = int64_t(v[0]), c = v.size() > 1 ? int64_t(v[1]) : 0;
  const uint64_t ua = uint64_t(a), uc = uint64_t(c);
  auto wrap = [&](uint64_t bits) { return wrapped(out.type, bits); };
  switch (p.op) {
  case TensorOp::Add:
    return wrap(ua + uc);
  case TensorOp::Sub:
    return wrap(ua - uc);
  case TensorOp::Mul:
    return wrap(ua * uc);
  case TensorOp::Div:
    return c == 0 ? 0 : c == -1 ? wrap(-ua) : wrap(uint64_t(a / c));
  case TensorOp::Mod: {
    if (c == 0 || c == -1)
      return 0;
    int64_t r = a % c;
    return r != 0 && p.ints[0] == 0 && (r < 0) != (c < 0) ? r + c : r;
  }
  case TensorOp::Pow: {
    if (isReal(in(1).type))
      return cast(std::pow(v[0], v[1]), ElementType::F64, out.type);
    if (c < 0)
      return a == 1 ? 1 : a == -1 ? (c % 2 ? -1 : 1) : 0;
    uint64_t result = 1;
    for (int64_t i = 0; i < c; ++i)
      result *= ua;
    return wrap(result);
  }
  case TensorOp::Neg:
    return wrap(-ua);
  case TensorOp::Abs:
    return wrap(a < 0 ? -ua : ua);
  case TensorOp::BitwiseAnd:
    return wrap(ua & uc);
  case TensorOp::BitwiseOr:
    return wrap(ua | uc);
  case TensorOp::BitwiseXor:
    return wrap(ua ^ uc);
  case TensorOp::BitwiseNot:
    return wrap(~ua);
  case TensorOp::BitShift: {
    const uint64_t width = elementBytes(out.type) * 8;
    const uint64_t mask = width == 64 ? ~uint64_t(0) : (uint64_t(1) << width) - 1;
    return uc >= width ? 0 : wrap(p.ints[0] ? (ua & mask) << uc : (ua & mask) >> uc);
  }
  default:
    throw std::invalid_argument("no integer reference: " + p.line);
  }
}

Wide Reference::mapped(const std::vector<Wide> &v) const {
  const Wide x = v[0], y = v.size() > 1 ? v[1] : 0;
  const ElementType type = in(0).type;
  const bool nan = std::isnan(x) || std::isnan(y);
  switch (p.op) {
  case TensorOp::Identity:
    return x;
  case TensorOp::Cast:
    return cast(x, type, out.type);
  case TensorOp::And:
    return x != 0 && y != 0;
  case TensorOp::Or:
    return x != 0 || y != 0;
  case TensorOp::Xor:
    return (x != 0) != (y != 0);
  case TensorOp::Not:
    return x == 0;
  case TensorOp::Equal:
    return x == y;
  case TensorOp::Less:
    return x < y;
  case TensorOp::LessOrEqual:
    return x <= y;
  case TensorOp::Greater:
    return x > y;
  case TensorOp::GreaterOrEqual:
    return x >= y;
  case TensorOp::Where:
    return x != 0 ? v[1] : v[2];
  case TensorOp::Min:
    return nan ? NAN : std::min(x, y);
  case TensorOp::Max:
    return nan ? NAN : std::max(x, y);
  case TensorOp::Sign:
    return std::isnan(x) ? x : (x > 0) - (x < 0);
  case TensorOp::Relu:
    return std::isnan(x) ? x : std::max(x, Wide(0));
  case TensorOp::IsNaN:
    return std::isnan(x);
  case TensorOp::IsInf:
    return (p.ints[0] && x == -INFINITY) || (p.ints[1] && x == INFINITY);
  default:
    break;
  }
  if (!isReal(type))
    return wholeMap(v);
  switch (p.op) {
  case TensorOp::Add:
    return x + y;
  case TensorOp::Sub:
    return x - y;
  case TensorOp::Mul:
    return x * y;
  case TensorOp::Div:
    return x / y;
  case TensorOp::Mod: {
    Wide r = std::fmod(x, y);
    return p.ints[0] == 0 && r != 0 && (r < 0) != (y < 0) ? r + y : r;
  }
  case TensorOp::Pow:
    return std::pow(x, y);
  case TensorOp::Neg:
    return -x;
  case TensorOp::Abs:
    return std::fabs(x);
  case TensorOp::Exp:
    return std::exp(x);
  case TensorOp::Log:
    return std::log(x);
  case TensorOp::Sqrt:
    return std::sqrt(x);
  case TensorOp::Reciprocal:
    return 1 / x;
  case TensorOp::Sin:
    return std::sin(x);
  case TensorOp::Cos:
    return std::cos(x);
  case TensorOp::Tan:
    return std::tan(x);
  case TensorOp::Atan:
    return std::atan(x);
  case TensorOp::Tanh:
    return std::tanh(x);
  case TensorOp::Sigmoid:
    return 1 / (1 + std::exp(-x));
  case TensorOp::Erf:
    return std::erf(x);
  case TensorOp::Floor:
    return std::floor(x);
  case TensorOp::Ceil:
    return std::ceil(x);
  case TensorOp::Round:
    return std::nearbyint(x);
  case TensorOp::Softplus:
    return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
  default:
    throw std::invalid_argument("no reference: " + p.line);
  }
}

void Reference::map() {
  std::vector<std::vector<int64_t>> shapes;
  for (const TestTensor &input : p.inputs)
    shapes.push_back(input.dims);
  set(broadcast(shapes));
  fill([&](const Coordinates &c) {
    std::vector<Wide> v;
    for (size_t i = 0; i < p.inputs.size(); ++i)
      v.push_back(broadcastAt(i, c));
    return mapped(v);
  });
}

//===--- Views and moves ----------------------------------------------------------------------===//

void Reference::view() {
  const std::vector<int64_t> &dims = in(0).dims;
  std::vector<int64_t> result;
  if (p.op == TensorOp::Reshape) {
    result = list(1);
    require(result.size() == out.dims.size());
    int64_t known = 1;
    for (size_t a = 0; a < result.size(); ++a) {
      if (result[a] == 0 && !p.ints[0]) {
        require(a < dims.size());
        result[a] = dims[a];
      }
      require(result[a] >= -1);
      known *= result[a] < 0 ? 1 : result[a];
    }
    require(std::count(result.begin(), result.end(), -1) <= 1);
    for (int64_t &d : result)
      if (d == -1) {
        if (known == 0) { // copied zeros leave the rest to divide
          int64_t elements = 1, given = 1;
          const auto shape = list(1);
          require(!p.ints[0]);
          for (size_t a = 0; a < dims.size(); ++a)
            elements *= a < shape.size() && shape[a] == 0 ? 1 : dims[a];
          for (int64_t s : shape)
            given *= s > 0 ? s : 1;
          require(elements % given == 0);
          d = elements / given;
        } else {
          require(in(0).count() % known == 0);
          d = in(0).count() / known;
        }
      }
    require(std::accumulate(result.begin(), result.end(), Wide(1), std::multiplies<>()) ==
            Wide(in(0).count()));
  } else if (p.op == TensorOp::Squeeze) {
    for (size_t a = 0; a < dims.size(); ++a)
      if (std::count(p.ints.begin(), p.ints.end(), int64_t(a)))
        require(dims[a] == 1);
      else
        result.push_back(dims[a]);
  } else if (p.op == TensorOp::Unsqueeze) {
    result = dims;
    for (int64_t axis : p.ints)
      result.insert(result.begin() + axis, 1);
  } else {
    result = {1, 1};
    for (size_t a = 0; a < dims.size(); ++a)
      result[int64_t(a) < p.ints[0] ? 0 : 1] *= dims[a];
  }
  set(result);
  out.values = in(0).values;
}

void Reference::slice() {
  std::vector<int64_t> dims = in(0).dims;
  struct Range {
    __int128 start = 0, step = 1;
  };
  std::vector<Range> ranges(dims.size());
  require(in(1).count() == int64_t(p.ints.size()) && in(2).count() == in(1).count());
  for (size_t i = 0; i < p.ints.size(); ++i) {
    const size_t axis = size_t(p.ints[i]);
    const __int128 n = dims[axis];
    __int128 start = list(1)[i], end = list(2)[i], step = has(3) ? list(3)[i] : 1;
    require(step != 0);
    start += start < 0 ? n : 0;
    end += end < 0 ? n : 0;
    if (step > 0) {
      start = std::clamp<__int128>(start, 0, n);
      end = std::clamp<__int128>(end, 0, n);
    } else {
      start = std::clamp<__int128>(start, n ? 0 : -1, n - 1);
      end = std::clamp<__int128>(end, -1, n - 1);
    }
    int64_t count = 0;
    for (__int128 at = start; step > 0 ? at < end : at > end; at += step)
      ++count;
    ranges[axis] = {start, step};
    dims[axis] = count;
  }
  set(dims);
  fill([&](const Coordinates &c) {
    Coordinates from;
    for (size_t a = 0; a < c.size(); ++a)
      from.push_back(int64_t(ranges[a].start + c[a] * ranges[a].step));
    return at(0, from);
  });
}

void Reference::pad() {
  std::vector<int64_t> axes(p.ints.begin() + 1, p.ints.end());
  if (axes.empty())
    for (size_t a = 0; a < rank(0); ++a)
      axes.push_back(int64_t(a));
  const auto pads = list(1);
  require(pads.size() == 2 * axes.size());
  std::vector<int64_t> dims = in(0).dims, before(rank(0));
  for (size_t i = 0; i < axes.size(); ++i) {
    before[size_t(axes[i])] = pads[i];
    dims[size_t(axes[i])] += pads[i] + pads[axes.size() + i];
  }
  for (size_t a = 0; a < dims.size(); ++a)
    require(p.ints[0] == 0 || in(0).dims[a] > 0 || dims[a] == 0);
  set(dims);
  fill([&](const Coordinates &c) -> Wide {
    Coordinates from;
    for (size_t a = 0; a < c.size(); ++a) {
      const int64_t n = in(0).dims[a];
      int64_t i = c[a] - before[a];
      if (p.ints[0] == 0 && (i < 0 || i >= n))
        return has(2) ? in(2).values[0] : 0;
      if (p.ints[0] == 1)
        i = std::clamp<int64_t>(i, 0, n - 1);
      while (p.ints[0] == 2 && (i < 0 || i >= n))
        i = n == 1 ? 0 : i < 0 ? -i : 2 * (n - 1) - i;
      if (p.ints[0] == 3)
        i = ((i % n) + n) % n;
      from.push_back(i);
    }
    return at(0, from);
  });
}

//===--- Gathers and scatters -----------------------------------------------------------------===//

void Reference::gather() {
  const size_t axis = size_t(p.ints[0]);
  const std::vector<int64_t> &dims = in(0).dims;
  std::vector<int64_t> result;
  if (p.op == TensorOp::GatherElements) {
    for (size_t a = 0; a < dims.size(); ++a)
      require(a == axis || in(1).dims[a] <= dims[a]);
    set(in(1).dims);
    fill([&](const Coordinates &c) {
      Coordinates from = c;
      from[axis] = index(at(1, c), dims[axis]);
      return at(0, from);
    });
    return;
  }
  for (size_t a = 0; a < dims.size(); ++a)
    if (a == axis)
      result.insert(result.end(), in(1).dims.begin(), in(1).dims.end());
    else
      result.push_back(dims[a]);
  set(result);
  fill([&](const Coordinates &c) {
    Coordinates from(c.begin(), c.begin() + int64_t(axis));
    Coordinates place(c.begin() + int64_t(axis), c.begin() + int64_t(axis + rank(1)));
    from.push_back(index(at(1, place), dims[axis]));
    from.insert(from.end(), c.begin() + int64_t(axis + rank(1)), c.end());
    return at(0, from);
  });
}

void Reference::gatherND() {
  const size_t batch = size_t(p.ints[0]), tuples = rank(1) - 1;
  const size_t depth = rank(0) + tuples - batch - out.dims.size();
  require(in(1).dims.back() == int64_t(depth));
  std::vector<int64_t> result(in(1).dims.begin(), in(1).dims.end() - 1);
  for (size_t a = 0; a < batch; ++a)
    require(in(0).dims[a] == in(1).dims[a]);
  result.insert(result.end(), in(0).dims.begin() + int64_t(batch + depth), in(0).dims.end());
  set(result);
  fill([&](const Coordinates &c) {
    Coordinates place(c.begin(), c.begin() + int64_t(tuples)),
        from(c.begin(), c.begin() + int64_t(batch));
    place.push_back(0);
    for (size_t i = 0; i < depth; ++i) {
      place.back() = int64_t(i);
      from.push_back(index(at(1, place), in(0).dims[batch + i]));
    }
    from.insert(from.end(), c.begin() + int64_t(tuples), c.end());
    return at(0, from);
  });
}

void Reference::scatter() {
  set(in(0).dims);
  out.values = in(0).values;
  const bool elements = p.op == TensorOp::ScatterElements;
  const size_t axis = elements ? size_t(p.ints[0]) : 0, tuples = rank(1) - 1;
  const int64_t reduction = p.ints[elements ? 1 : 0];
  if (elements) {
    require(in(1).dims == in(2).dims);
    for (size_t a = 0; a < rank(0); ++a)
      require(a == axis || in(1).dims[a] <= in(0).dims[a]);
  } else {
    const size_t depth = rank(0) + tuples - rank(2);
    require(in(1).dims.back() == int64_t(depth));
    for (size_t a = 0; a < rank(2); ++a)
      require(in(2).dims[a] == (a < tuples ? in(1).dims[a] : in(0).dims[a - tuples + depth]));
  }
  forEach(in(2).dims, [&](const Coordinates &c) {
    Coordinates to = c;
    if (elements) {
      to[axis] = index(at(1, c), in(0).dims[axis]);
    } else {
      Coordinates place(c.begin(), c.begin() + int64_t(tuples));
      place.push_back(0);
      to.clear();
      for (int64_t i = 0; i < in(1).dims.back(); ++i) {
        place.back() = i;
        to.push_back(index(at(1, place), in(0).dims[size_t(i)]));
      }
      to.insert(to.end(), c.begin() + int64_t(tuples), c.end());
    }
    Wide &old = out.values[size_t(flat(out.dims, to))], update = at(2, c);
    old = reduction == 1   ? rounded(out.type, old + update)
          : reduction == 2 ? rounded(out.type, old * update)
          : reduction == 3 ? std::max(old, update)
          : reduction == 4 ? std::min(old, update)
                           : update;
  });
}

//===--- Reductions ---------------------------------------------------------------------------===//

void Reference::reduce() {
  std::vector<int64_t> full, result;
  int64_t count = 1;
  for (size_t a = 0; a < rank(0); ++a) {
    const bool reduced =
        p.ints.size() == 1 || std::count(p.ints.begin() + 1, p.ints.end(), int64_t(a));
    full.push_back(reduced ? 1 : in(0).dims[a]);
    count *= reduced ? in(0).dims[a] : 1;
    if (!reduced || p.ints[0])
      result.push_back(full.back());
  }
  set(result);
  const bool real = isReal(out.type);
  Wide start = p.op == TensorOp::ReduceProd ? 1 : 0;
  if (p.op == TensorOp::ReduceMax)
    start = real ? -INFINITY : cast(-INFINITY, ElementType::F32, out.type);
  if (p.op == TensorOp::ReduceMin)
    start = real ? INFINITY : cast(INFINITY, ElementType::F32, out.type);
  if (out.type == ElementType::Bool)
    start = p.op == TensorOp::ReduceMin;
  std::vector<Wide> sizes(size_t(out.count()), 0);
  out.values.assign(size_t(out.count()), start);
  forEach(in(0).dims, [&](const Coordinates &c) {
    Coordinates to = c;
    for (size_t a = 0; a < c.size(); ++a)
      to[a] = full[a] == 1 ? 0 : c[a];
    const size_t place = size_t(flat(full, to));
    Wide &v = out.values[place], x = at(0, c);
    sizes[place] += std::fabs(x);
    if (p.op == TensorOp::ReduceMax)
      v = std::isnan(x) || std::isnan(v) ? NAN : std::max(v, x);
    else if (p.op == TensorOp::ReduceMin)
      v = std::isnan(x) || std::isnan(v) ? NAN : std::min(v, x);
    else
      v = p.op == TensorOp::ReduceProd ? v * x : v + x;
    if (!real && out.type != ElementType::Bool)
      v = wrapped(out.type, uint64_t(int64_t(v)));
  });
  const Wide unit = out.type == ElementType::F64 ? 0x1p-52L : 0x1p-23L;
  for (size_t i = 0; i < out.values.size(); ++i) {
    if (p.op == TensorOp::ReduceMean)
      out.values[i] = real ? out.values[i] / Wide(count) : std::trunc(out.values[i] / Wide(count));
    const bool sums = p.op == TensorOp::ReduceSum || p.op == TensorOp::ReduceMean;
    const Wide scale = p.op == TensorOp::ReduceMean ? sizes[i] / Wide(count) : sizes[i];
    const Wide product = p.op == TensorOp::ReduceProd ? std::fabs(out.values[i]) * Wide(count) : 0;
    out.allowed.push_back(real ? unit * (sums ? scale * (Wide(count) / 16 + 5) : product) : 0);
  }
}

void Reference::scan() {
  const size_t axis = size_t(p.ints[0]);
  const std::vector<int64_t> &dims = in(0).dims;
  std::vector<int64_t> lines = dims;
  lines[axis] = 1;
  if (p.op == TensorOp::CumSum) {
    set(dims);
    out.values.resize(in(0).values.size());
    forEach(lines, [&](const Coordinates &c) {
      Wide total = 0;
      for (int64_t i = 0; i < dims[axis]; ++i) {
        Coordinates place = c;
        place[axis] = p.ints[2] ? dims[axis] - 1 - i : i;
        const Wide next = rounded(out.type, total + at(0, place));
        out.values[size_t(flat(dims, place))] = p.ints[1] ? total : next;
        total = next;
      }
    });
    return;
  }
  require(dims[axis] > 0); // ArgMax, ArgMin
  std::vector<int64_t> result = lines;
  if (!p.ints[1])
    result.erase(result.begin() + int64_t(axis));
  set(result);
  forEach(lines, [&](const Coordinates &c) {
    int64_t best = 0;
    Coordinates place = c;
    auto value = [&](int64_t i) {
      place[axis] = i;
      return at(0, place);
    };
    for (int64_t i = 1; i < dims[axis]; ++i) {
      const Wide x = value(i), y = value(best);
      const bool more = p.op == TensorOp::ArgMax ? x > y : x < y;
      if (more || (p.ints[2] && x == y) || (std::isnan(x) && (p.ints[2] || !std::isnan(y))))
        best = i;
    }
    out.values.push_back(Wide(best));
  });
}

void Reference::topK() {
  const size_t axis = size_t(p.ints[0]);
  const std::vector<int64_t> &dims = in(0).dims;
  const int64_t k = list(1)[0];
  require(in(1).count() == 1 && k >= 0 && k <= dims[axis]);
  std::vector<int64_t> result = dims, lines = dims;
  result[axis] = k;
  lines[axis] = 1;
  set(result);
  TestTensor &places = p.outputs[1];
  places.dims = result;
  places.values.resize(size_t(places.count()));
  out.values.resize(places.values.size());
  forEach(lines, [&](Coordinates c) {
    std::vector<int64_t> order(static_cast<size_t>(dims[axis]));
    std::iota(order.begin(), order.end(), 0);
    auto value = [&](int64_t i) {
      c[axis] = i;
      return at(0, c);
    };
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      const Wide x = value(a), y = value(b);
      if (std::isnan(x) || std::isnan(y))
        return std::isnan(x) != std::isnan(y) && std::isnan(p.ints[1] ? x : y);
      return p.ints[1] ? x > y : x < y;
    });
    for (int64_t i = 0; i < k; ++i) {
      const Wide v = value(order[size_t(i)]);
      c[axis] = i;
      out.values[size_t(flat(result, c))] = v;
      places.values[size_t(flat(result, c))] = Wide(order[size_t(i)]);
    }
  });
}

//===--- Makers -------------------------------------------------------------------------------===//

void Reference::make() {
  switch (p.op) {
  case TensorOp::Range: {
    const Wide start = in(0).values[0], limit = in(1).values[0], delta = in(2).values[0];
    require(delta != 0);
    const Wide steps = isReal(out.type)
                           ? Wide(double(rounded(out.type, limit - start)) / double(delta))
                           : (limit - start) / delta;
    const Wide count = std::ceil(steps);
    require(count < 0x1p40L && !std::isnan(count));
    set({count > 0 ? int64_t(count) : 0});
    return fill([&](const Coordinates &c) { return start + Wide(c[0]) * delta; });
  }
  case TensorOp::ConstantOfShape:
    require(in(0).count() == int64_t(out.dims.size()));
    set(list(0));
    return fill([&](const Coordinates &) {
      return isReal(out.type) ? rounded(out.type, p.real) : Wide(p.ints[0]);
    });
  case TensorOp::Shape:
    set({p.ints[1] - p.ints[0]});
    return fill([&](const Coordinates &c) { return Wide(in(0).dims[size_t(c[0] + p.ints[0])]); });
  case TensorOp::Size:
    set({});
    return fill([&](const Coordinates &) { return Wide(in(0).count()); });
  case TensorOp::NonZero: {
    std::vector<Coordinates> found;
    forEach(in(0).dims, [&](const Coordinates &c) {
      if (at(0, c) != 0)
        found.push_back(c);
    });
    set({int64_t(rank(0)), int64_t(found.size())});
    return fill([&](const Coordinates &c) { return Wide(found[size_t(c[1])][size_t(c[0])]); });
  }
  case TensorOp::OneHot: {
    const size_t axis = size_t(p.ints[0]);
    const int64_t depth = in(1).count() == 1 ? int64_t(in(1).values[0]) : 0;
    require(depth >= 1 && in(2).count() == 2);
    std::vector<int64_t> dims = in(0).dims;
    dims.insert(dims.begin() + int64_t(axis), depth);
    set(dims);
    return fill([&](const Coordinates &c) {
      Coordinates from = c;
      from.erase(from.begin() + int64_t(axis));
      int64_t wanted = int64_t(at(0, from));
      wanted += wanted < 0 ? depth : 0;
      return in(2).values[wanted == c[axis] ? 1 : 0];
    });
  }
  default: // EyeLike
    set(in(0).dims);
    return fill([&](const Coordinates &c) { return Wide(c[1] - c[0] == p.ints[0]); });
  }
}

//===--- Products -----------------------------------------------------------------------------===//

void Reference::matMul() {
  const size_t ra = rank(0), rb = rank(1);
  const int64_t depth = in(0).dims[ra - 1];
  require(depth == in(1).dims[rb - 2]);
  std::vector<int64_t> dims = broadcast(
      {{in(0).dims.begin(), in(0).dims.end() - 2}, {in(1).dims.begin(), in(1).dims.end() - 2}});
  dims.push_back(in(0).dims[ra - 2]);
  dims.push_back(in(1).dims[rb - 1]);
  set(dims);
  const Wide unit = out.type == ElementType::F64 ? 0x1p-53L : 0x1p-24L;
  fill([&](const Coordinates &c) {
    Wide total = 0, size = 0;
    Coordinates left = c, right = c;
    for (int64_t i = 0; i < depth; ++i) {
      left.back() = i;
      right[right.size() - 2] = i;
      const Wide product = broadcastAt(0, left) * broadcastAt(1, right);
      total += product;
      size += std::fabs(product);
    }
    out.allowed.push_back(isReal(out.type) ? unit * size * Wide(depth + 1) : 0);
    return isReal(out.type) ? total : wrapped(out.type, uint64_t(int64_t(total)));
  });
}

void Reference::window() {
  const bool conv = p.op == TensorOp::Conv, average = p.op == TensorOp::AveragePool;
  const size_t n = rank(0) - 2;
  const int64_t group = conv ? p.ints[0] : 1;
  auto part = [&](size_t i, size_t s) { return p.ints[(conv ? 1 : n) + i * n + s]; };
  const bool roundUp = !conv && p.ints[5 * n] != 0, withPads = !conv && p.ints[5 * n + 1] != 0;
  std::vector<int64_t> kernel, dims{in(0).dims[0], conv ? in(1).dims[0] : in(0).dims[1]};
  if (conv)
    require(in(0).dims[1] == in(1).dims[1] * group && dims[1] % group == 0);
  for (size_t s = 0; s < n; ++s) {
    kernel.push_back(conv ? in(1).dims[2 + s] : p.ints[s]);
    const int64_t length = in(0).dims[2 + s], before = part(2, s), after = part(3, s);
    const int64_t room = length + before + after - (kernel[s] - 1) * part(1, s) - 1;
    require(room >= 0);
    int64_t places = (room + (roundUp ? part(0, s) - 1 : 0)) / part(0, s) + 1;
    if (roundUp && (places - 1) * part(0, s) >= length + before)
      --places;
    dims.push_back(places);
  }
  set(dims);
  const int64_t perGroup = conv ? in(1).dims[1] : 1;
  fill([&](const Coordinates &c) {
    Wide total = conv && has(2) ? in(2).values[size_t(c[1])] : average || conv ? 0 : -INFINITY;
    Wide taps = 0, size = std::fabs(total);
    for (int64_t channel = 0; channel < perGroup; ++channel)
      forEach(kernel, [&](const Coordinates &tap) {
        Coordinates from{c[0], conv ? c[1] / (dims[1] / group) * perGroup + channel : c[1]};
        bool inside = true, inPads = true;
        for (size_t s = 0; s < n; ++s) {
          const int64_t place = c[2 + s] * part(0, s) - part(2, s) + tap[s] * part(1, s);
          from.push_back(place);
          inside &= place >= 0 && place < in(0).dims[2 + s];
          inPads &= place < in(0).dims[2 + s] + part(3, s);
        }
        taps += inside || (withPads && inPads);
        if (!inside)
          return;
        Coordinates weight{c[1], channel};
        weight.insert(weight.end(), tap.begin(), tap.end());
        const Wide x = conv ? at(0, from) * at(1, weight) : at(0, from);
        total = conv || average ? total + x : std::max(total, x);
        size += std::fabs(x);
      });
    out.allowed.push_back(conv || average ? 0x1p-22L * size : 0);
    return average ? total / taps : total;
  });
}

void Reference::run() {
  switch (p.op) {
  case TensorOp::Reshape:
  case TensorOp::Squeeze:
  case TensorOp::Unsqueeze:
  case TensorOp::Flatten:
    return view();
  case TensorOp::Transpose: {
    std::vector<int64_t> dims;
    for (int64_t axis : p.ints)
      dims.push_back(in(0).dims[size_t(axis)]);
    set(dims);
    return fill([&](const Coordinates &c) {
      Coordinates from(c.size());
      for (size_t a = 0; a < c.size(); ++a)
        from[size_t(p.ints[a])] = c[a];
      return at(0, from);
    });
  }
  case TensorOp::Expand:
    for (int64_t d : list(1))
      require(d >= 0);
    require(std::max(rank(0), list(1).size()) == out.dims.size());
    set(broadcast({in(0).dims, list(1)}));
    return fill([&](const Coordinates &c) { return broadcastAt(0, c); });
  case TensorOp::Slice:
    return slice();
  case TensorOp::Concat: {
    const size_t axis = size_t(p.ints[0]);
    std::vector<int64_t> dims = in(0).dims;
    for (size_t a = 0; a < dims.size(); ++a)
      require(a == axis || dims[a] == in(1).dims[a]);
    const int64_t first = dims[axis];
    dims[axis] += in(1).dims[axis];
    set(dims);
    return fill([&](Coordinates c) {
      const bool second = c[axis] >= first;
      c[axis] -= second ? first : 0;
      return at(second ? 1 : 0, c);
    });
  }
  case TensorOp::Pad:
    return pad();
  case TensorOp::Tile: {
    std::vector<int64_t> dims = in(0).dims;
    const auto repeats = list(1);
    require(repeats.size() == dims.size());
    for (size_t a = 0; a < dims.size(); ++a)
      dims[a] *= repeats[a];
    for (int64_t r : repeats)
      require(r >= 0);
    set(dims);
    return fill([&](Coordinates c) {
      for (size_t a = 0; a < c.size(); ++a)
        c[a] %= in(0).dims[a];
      return at(0, c);
    });
  }
  case TensorOp::Trilu: {
    require(!has(1) || in(1).count() == 1);
    const Wide k = has(1) ? in(1).values[0] : 0;
    set(in(0).dims);
    return fill([&](const Coordinates &c) {
      const Wide distance = Wide(c.back() - c[c.size() - 2]);
      return (p.ints[0] ? distance >= k : distance <= k) ? at(0, c) : 0;
    });
  }
  case TensorOp::Gather:
  case TensorOp::GatherElements:
    return gather();
  case TensorOp::GatherND:
    return gatherND();
  case TensorOp::ScatterElements:
  case TensorOp::ScatterND:
    return scatter();
  case TensorOp::ReduceSum:
  case TensorOp::ReduceMean:
  case TensorOp::ReduceMax:
  case TensorOp::ReduceMin:
  case TensorOp::ReduceProd:
    return reduce();
  case TensorOp::ArgMax:
  case TensorOp::ArgMin:
  case TensorOp::CumSum:
    return scan();
  case TensorOp::TopK:
    return topK();
  case TensorOp::Range:
  case TensorOp::ConstantOfShape:
  case TensorOp::Shape:
  case TensorOp::Size:
  case TensorOp::NonZero:
  case TensorOp::OneHot:
  case TensorOp::EyeLike:
    return make();
  case TensorOp::MatMul:
    return matMul();
  case TensorOp::Conv:
  case TensorOp::AveragePool:
  case TensorOp::MaxPool:
    return window();
  default:
    return map();
  }
}

} // namespace

void computeReference(TensorProblem &problem) { Reference(problem).run(); }

} // namespace smelt::conformance
