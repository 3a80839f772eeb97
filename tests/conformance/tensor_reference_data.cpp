// The reference: moves by indices, reductions, makers and products.
#include "tests/conformance/tensor_reference.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace smelt::conformance {

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

} // namespace smelt::conformance
