// The reference: maps, views and moves by strides, and which definition a primitive has.
#include "tests/conformance/tensor_reference.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

namespace smelt::conformance {

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

void computeReference(TensorProblem &problem) { Reference(problem).run(); }

} // namespace smelt::conformance
