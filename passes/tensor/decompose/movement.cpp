// Ops that move elements: attributes and inputs of all opsets in one form.
#include "passes/tensor/decompose/decompose.h"

using namespace mlir;

namespace smelt::tensor {

namespace {

/// The rank that import's shape inference found for the node's first result; -1 if none.
int64_t declaredRank(Builder &b) {
  auto type = dyn_cast<RankedTensorType>(b.node()->getResult(0).getType());
  return type ? type.getRank() : -1;
}

SmallVector<int64_t> allAxes(int64_t rank) {
  auto range = llvm::seq<int64_t>(0, rank);
  return SmallVector<int64_t>(range.begin(), range.end());
}

SmallVector<int64_t> fromFront(Builder &b, ArrayRef<int64_t> axes, int64_t rank) {
  SmallVector<int64_t> front;
  for (int64_t axis : axes)
    front.push_back(b.axis(axis, rank));
  return front;
}

int64_t reductionOf(Builder &b) {
  std::string name = b.string("reduction", "none");
  constexpr const char *names[] = {"none", "add", "mul", "max", "min"};
  for (int64_t i = 0; i < 5; ++i)
    if (name == names[i])
      return i;
  b.fail("reduction \"" + name + "\" is not known");
  return 0;
}

} // namespace

Values reshape(Builder &b) {
  Value shape = b.has("shape") ? b.i64(*b.ints("shape")) : b.input(1);
  return {b.reshape(b.input(0), shape, b.integer("allowzero", 0) != 0, declaredRank(b))};
}

Values flatten(Builder &b) {
  int64_t axis = b.integer("axis", 1), rank = b.rank(b.input(0));
  if (axis < 0)
    axis += rank;
  if (axis < 0 || axis > rank)
    return {b.fail("axis " + llvm::Twine(axis) + " lies outside rank " + llvm::Twine(rank))};
  return {b.make("Flatten", {b.input(0)}, Attributes().integer("axis", axis))};
}

Values squeeze(Builder &b) {
  Value x = b.input(0);
  std::optional<SmallVector<int64_t>> axes = b.list("axes", 1);
  if (!axes) {
    axes.emplace();
    int64_t kept = 0;
    for (int64_t i = 0; i < b.rank(x); ++i) {
      if (b.dim(x, i) == 1)
        axes->push_back(i);
      kept += b.dim(x, i) != 1;
    }
    if (llvm::any_of(allAxes(b.rank(x)), [&](int64_t i) { return b.dim(x, i) == dynamic; }) &&
        kept != declaredRank(b))
      return {b.fail("which axes it drops depends on dimensions that are not known")};
  }
  return {b.squeeze(x, *axes)};
}

Values unsqueeze(Builder &b) {
  std::optional<SmallVector<int64_t>> axes = b.list("axes", 1);
  if (!axes)
    return {b.fail("it has no axes")};
  return {b.unsqueeze(b.input(0), *axes)};
}

Values transpose(Builder &b) {
  Value x = b.input(0);
  int64_t rank = b.rank(x);
  std::optional<SmallVector<int64_t>> order = b.ints("perm");
  if (!order) {
    order = allAxes(rank);
    std::reverse(order->begin(), order->end());
  }
  SmallVector<int64_t> sorted = *order;
  llvm::sort(sorted);
  if (!llvm::equal(sorted, allAxes(rank)))
    return {b.fail("its perm is no order of " + llvm::Twine(rank) + " axes")};
  return {b.transpose(x, *order)};
}

Values expand(Builder &b) {
  return {b.makeAll("Expand", {b.input(0), b.toI64(b.input(1))}, {}, 1, declaredRank(b))[0]};
}

Values slice(Builder &b) {
  Value x = b.input(0), starts = b.input(1), ends = b.input(2), steps = b.input(4);
  std::optional<SmallVector<int64_t>> axes = b.list("axes", 3);
  if (b.has("starts")) { // before opset 10
    starts = b.i64(*b.ints("starts"));
    ends = b.i64(b.ints("ends").value_or(SmallVector<int64_t>()));
  }
  int64_t count = b.dim(starts, 0);
  if (count == dynamic && axes)
    count = int64_t(axes->size());
  if (count == dynamic)
    return {b.fail("how many axes it cuts is not known")};
  SmallVector<int64_t> front =
      axes ? fromFront(b, *axes, b.rank(x)) : allAxes(std::min(count, b.rank(x)));
  if (int64_t(front.size()) != count)
    return {b.fail("it has " + llvm::Twine(count) + " starts but " + llvm::Twine(front.size()) +
                   " axes")};
  SmallVector<int64_t> distinct = front;
  llvm::sort(distinct);
  if (std::adjacent_find(distinct.begin(), distinct.end()) != distinct.end())
    return {b.fail("it cuts one axis twice")};
  return {b.make("Slice", {x, b.toI64(starts), b.toI64(ends), steps ? b.toI64(steps) : Value()},
                 Attributes().ints("axes", front))};
}

Values split(Builder &b) {
  Value x = b.input(0), sizes = b.input(1);
  int64_t axis = b.axis(b.integer("axis", 0), b.rank(x));
  int64_t parts = int64_t(b.node()->getNumResults());
  if (b.has("split"))
    sizes = b.i64(*b.ints("split"));
  Values results;
  Value first = b.i64(ArrayRef<int64_t>{0});
  // Equal parts, the last one smaller: ceil(dim / parts).
  Value equal;
  if (!sizes)
    equal = b.div(b.add(b.dimsOf(x, axis, 1), double(parts - 1)), double(parts));
  std::optional<Tensor> known = b.constant(sizes);
  if (sizes && b.dim(sizes, 0) != dynamic && b.dim(sizes, 0) != parts)
    return {b.fail("it has " + llvm::Twine(b.dim(sizes, 0)) + " sizes but " + llvm::Twine(parts) +
                   " results")};
  for (int64_t i = 0; i < parts; ++i) {
    Value size = sizes ? b.slice(sizes, 0, i, i + 1) : equal;
    Value end = b.add(first, size);
    results.push_back(b.slice(x, axis, first, end));
    first = end;
  }
  return results;
}

Values concat(Builder &b) {
  Values parts;
  for (unsigned i = 0; i < b.inputs(); ++i)
    parts.push_back(b.input(i));
  return {b.concat(parts, b.integer("axis", 1))};
}

Values pad(Builder &b) {
  Value x = b.input(0), pads = b.input(1), value = b.input(2);
  if (b.has("pads")) // before opset 11
    pads = b.i64(*b.ints("pads"));
  if (b.has("value"))
    value = b.like(x, b.real("value", 0));
  std::string mode = b.string("mode", "constant");
  constexpr const char *modes[] = {"constant", "edge", "reflect", "wrap"};
  int64_t number = llvm::find(modes, mode) - modes;
  if (number == 4)
    return {b.fail("mode \"" + mode + "\" is not known")};
  SmallVector<int64_t> axes;
  if (auto given = b.list("axes", 3))
    axes = fromFront(b, *given, b.rank(x));
  if (value && b.rank(value) > 0)
    value = b.reshape(value, ArrayRef<int64_t>{});
  return {b.make("Pad", {x, b.toI64(pads), number ? Value() : value},
                 Attributes().integer("mode", number).ints("axes", axes))};
}

Values tile(Builder &b) { return {b.make("Tile", {b.input(0), b.toI64(b.input(1))})}; }

Values gather(Builder &b) {
  Value table = b.input(0), indices = b.input(1);
  int64_t axis = b.axis(b.integer("axis", 0), b.rank(table));
  if (axis == 0 && b.rank(table) == 2 && b.isFloat(table) && b.weightView(table))
    return {lookUp(b, table, indices)};
  return {b.gather(table, indices, axis)};
}

Values gatherElements(Builder &b) {
  Value data = b.input(0);
  if (b.node().getType() == "GatherND") {
    Value indices = b.toI64(b.input(1));
    return {b.make("GatherND", {data, indices},
                   Attributes()
                       .integer("batch_dims", b.integer("batch_dims", 0))
                       .integer("depth", b.dim(indices, -1)))};
  }
  return {b.make("GatherElements", {data, b.input(1)},
                 Attributes().integer("axis", b.axis(b.integer("axis", 0), b.rank(data))))};
}

Values scatter(Builder &b) {
  Value data = b.input(0), indices = b.input(1), updates = b.input(2);
  Attributes attributes;
  if (b.node().getType() == "ScatterND") {
    indices = b.toI64(indices);
    attributes.integer("reduction", reductionOf(b)).integer("depth", b.dim(indices, -1));
    return {b.make("ScatterND", {data, indices, updates}, attributes)};
  }
  attributes.integer("axis", b.axis(b.integer("axis", 0), b.rank(data)))
      .integer("reduction", reductionOf(b));
  return {b.make("ScatterElements", {data, indices, updates}, attributes)};
}

// past[b, ..., write[b] + s, ...] = update[b, ..., s, ...], along one axis; circular: modulo its
// length.
Values tensorScatter(Builder &b) {
  Value past = b.input(0), update = b.input(1), write = b.input(2);
  int64_t rank = b.rank(past), axis = b.axis(b.integer("axis", -2), rank);
  Value at = b.range(b.dimOf(update, axis)); // [s]
  SmallVector<int64_t> others;
  for (int64_t i = 0; i < rank; ++i)
    if (i != axis)
      others.push_back(i);
  at = b.unsqueeze(at, others);
  if (write) {
    SmallVector<int64_t> behind = allAxes(rank);
    behind.erase(behind.begin());
    at = b.add(at, b.unsqueeze(b.toI64(write), behind));
  }
  if (b.string("mode", "linear") == "circular")
    at = b.make("Mod", {at, b.dimOf(past, axis)}, Attributes().integer("fmod", 0));
  Value indices = b.expand(at, b.shapeOf(update));
  return {b.make("ScatterElements", {past, indices, update},
                 Attributes().integer("axis", axis).integer("reduction", 0))};
}

Values trilu(Builder &b) {
  Value k = b.input(1);
  return {b.make("Trilu", {b.input(0), k ? b.toI64(k) : Value()},
                 Attributes().integer("upper", b.integer("upper", 1) != 0))};
}

// [N, C, H, W] with blocks: reshape, transpose, reshape.
Values depthToSpace(Builder &b) {
  Value x = b.input(0);
  int64_t block = b.integer("blocksize", 1);
  if (b.rank(x) != 4 || block < 1)
    return {b.fail("it needs [N, C, H, W] and a block size")};
  Value n = b.dimsOf(x, 0, 1), c = b.dimsOf(x, 1, 1), h = b.dimsOf(x, 2, 1), w = b.dimsOf(x, 3, 1);
  Value size = b.i64(ArrayRef<int64_t>(block)), area = b.i64(ArrayRef<int64_t>(block * block));
  if (b.node().getType() == "SpaceToDepth") {
    Value cut = b.reshape(x, b.concat({n, c, b.div(h, size), size, b.div(w, size), size}, 0));
    Value moved = b.transpose(cut, {0, 3, 5, 1, 2, 4});
    return {b.reshape(moved, b.concat({n, b.mul(c, area), b.div(h, size), b.div(w, size)}, 0))};
  }
  bool isDepthFirst = b.string("mode", "DCR") == "DCR";
  Value inner = b.div(c, area);
  Value cut = isDepthFirst ? b.reshape(x, b.concat({n, size, size, inner, h, w}, 0))
                           : b.reshape(x, b.concat({n, inner, size, size, h, w}, 0));
  Value moved = b.transpose(cut, isDepthFirst ? ArrayRef<int64_t>{0, 3, 4, 1, 5, 2}
                                              : ArrayRef<int64_t>{0, 1, 4, 2, 5, 3});
  return {b.reshape(moved, b.concat({n, inner, b.mul(h, size), b.mul(w, size)}, 0))};
}

} // namespace smelt::tensor
