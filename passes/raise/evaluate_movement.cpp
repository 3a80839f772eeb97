// Ops of the evaluator that only move elements: reshapes, slices, gathers, concatenations.
#include "passes/raise/evaluate_internal.h"

#include <algorithm>

using namespace mlir;

namespace smelt::evaluation {
namespace {

Tensor withShape(const Tensor &input, ArrayRef<int64_t> shape) {
  Tensor result = input;
  result.shape.assign(shape.begin(), shape.end());
  return result;
}

Results evaluateShape(const Call &call) {
  const Tensor *input = call.input(0);
  if (!input)
    return std::nullopt;
  int64_t rank = int64_t(input->shape.size());
  int64_t start = call.integer("start", 0), end = call.integer("end", rank);
  start = std::clamp<int64_t>(start < 0 ? start + rank : start, 0, rank);
  end = std::clamp<int64_t>(end < 0 ? end + rank : end, start, rank);
  std::vector<double> dims(input->shape.begin() + start, input->shape.begin() + end);
  return one(Tensor::make(TensorKind::Integer, {end - start}, std::move(dims)));
}

Results evaluateReshape(const Call &call) {
  const Tensor *input = call.input(0), *target = call.input(1);
  if (!input || !target || !target->hasData())
    return std::nullopt;
  SmallVector<int64_t> shape = target->integers();
  bool zeroIsZero = call.integer("allowzero", 0) != 0;
  int64_t known = 1, inferred = -1;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 0 && !zeroIsZero) {
      if (i >= input->shape.size())
        return std::nullopt;
      shape[i] = input->shape[i];
    }
    if (shape[i] == -1 && inferred < 0)
      inferred = int64_t(i);
    else if (shape[i] < 0 || __builtin_mul_overflow(known, shape[i], &known))
      return std::nullopt;
  }
  if (inferred >= 0) {
    if (known == 0 || input->elements() % known)
      return std::nullopt;
    shape[size_t(inferred)] = input->elements() / known;
    known = input->elements();
  }
  if (known != input->elements())
    return std::nullopt;
  return one(withShape(*input, shape));
}

Results evaluateFlatten(const Call &call) {
  const Tensor *input = call.input(0);
  if (!input)
    return std::nullopt;
  int64_t rank = int64_t(input->shape.size()), axis = call.integer("axis", 1);
  axis = axis < 0 ? axis + rank : axis;
  if (axis < 0 || axis > rank)
    return std::nullopt;
  int64_t outer = 1, inner = 1;
  for (int64_t i = 0; i < rank; ++i)
    (i < axis ? outer : inner) *= input->shape[size_t(i)];
  return one(withShape(*input, {outer, inner}));
}

Results evaluateUnsqueeze(const Call &call) {
  const Tensor *input = call.input(0);
  auto axes = call.list("axes", 1);
  if (!input || !axes)
    return std::nullopt;
  size_t rank = input->shape.size() + axes->size();
  SmallVector<bool> added(rank, false);
  for (int64_t axis : *axes) {
    auto at = axisOf(axis, rank);
    if (!at || added[size_t(*at)])
      return std::nullopt;
    added[size_t(*at)] = true;
  }
  SmallVector<int64_t> shape;
  size_t next = 0;
  for (size_t i = 0; i < rank; ++i)
    shape.push_back(added[i] ? 1 : input->shape[next++]);
  return one(withShape(*input, shape));
}

Results evaluateSqueeze(const Call &call) {
  const Tensor *input = call.input(0);
  if (!input)
    return std::nullopt;
  auto axes = call.list("axes", 1);
  if (!axes && call.inputs.size() > 1)
    return std::nullopt;
  SmallVector<bool> removed(input->shape.size(), false);
  for (size_t i = 0; !axes && i < removed.size(); ++i)
    removed[i] = input->shape[i] == 1;
  for (int64_t axis : axes.value_or(SmallVector<int64_t>())) {
    auto at = axisOf(axis, removed.size());
    if (!at || input->shape[size_t(*at)] != 1)
      return std::nullopt;
    removed[size_t(*at)] = true;
  }
  SmallVector<int64_t> shape;
  for (size_t i = 0; i < removed.size(); ++i)
    if (!removed[i])
      shape.push_back(input->shape[i]);
  return one(withShape(*input, shape));
}

Results evaluateTranspose(const Call &call) {
  const Tensor *input = call.input(0);
  if (!input)
    return std::nullopt;
  size_t rank = input->shape.size();
  SmallVector<int64_t> order;
  if (auto given = call.attributes.getAs<DenseI64ArrayAttr>("perm"))
    order.assign(given.asArrayRef().begin(), given.asArrayRef().end());
  else
    for (size_t i = rank; i-- > 0;)
      order.push_back(int64_t(i));
  SmallVector<bool> seen(rank, false);
  SmallVector<int64_t> shape;
  if (order.size() != rank)
    return std::nullopt;
  for (int64_t axis : order) {
    if (axis < 0 || axis >= int64_t(rank) || seen[size_t(axis)])
      return std::nullopt;
    seen[size_t(axis)] = true;
    shape.push_back(input->shape[size_t(axis)]);
  }
  SmallVector<int64_t> strides = stridesOf(input->shape);
  return one(gatherElements(*input, shape, [&](ArrayRef<int64_t> at) {
    int64_t index = 0;
    for (size_t i = 0; i < rank; ++i)
      index += at[i] * strides[size_t(order[i])];
    return index;
  }));
}

Results evaluateExpand(const Call &call) {
  const Tensor *input = call.input(0), *target = call.input(1);
  if (!input || !target || !target->hasData())
    return std::nullopt;
  auto shape = broadcast(input->shape, target->integers());
  if (!shape)
    return std::nullopt;
  for (int64_t dim : *shape)
    if (dim < 0)
      return std::nullopt;
  SmallVector<int64_t> strides = stridesOf(input->shape);
  size_t shift = shape->size() - input->shape.size();
  return one(gatherElements(*input, *shape, [&](ArrayRef<int64_t> at) {
    int64_t index = 0;
    for (size_t i = 0; i < strides.size(); ++i)
      index += input->shape[i] == 1 ? 0 : at[shift + i] * strides[i];
    return index;
  }));
}

Results evaluateTile(const Call &call) {
  const Tensor *input = call.input(0), *repeats = call.input(1);
  if (!input || !repeats || !repeats->hasData() ||
      repeats->elements() != int64_t(input->shape.size()))
    return std::nullopt;
  SmallVector<int64_t> shape;
  for (size_t i = 0; i < input->shape.size(); ++i) {
    int64_t dim = 0;
    if (repeats->integer(int64_t(i)) < 0 ||
        __builtin_mul_overflow(input->shape[i], repeats->integer(int64_t(i)), &dim))
      return std::nullopt;
    shape.push_back(dim);
  }
  SmallVector<int64_t> strides = stridesOf(input->shape);
  return one(gatherElements(*input, shape, [&](ArrayRef<int64_t> at) {
    int64_t index = 0;
    for (size_t i = 0; i < strides.size(); ++i)
      index += at[i] % input->shape[i] * strides[i];
    return index;
  }));
}

Results evaluateSlice(const Call &call) {
  const Tensor *input = call.input(0);
  auto starts = call.list("starts", 1), ends = call.list("ends", 2);
  if (!input || !starts || !ends || starts->size() != ends->size())
    return std::nullopt;
  size_t rank = input->shape.size();
  auto axes = call.list("axes", 3), steps = call.list("steps", 4);
  if ((call.inputs.size() > 3 && call.input(3) && !axes) ||
      (call.inputs.size() > 4 && call.input(4) && !steps))
    return std::nullopt;
  SmallVector<int64_t> from(rank, 0), step(rank, 1),
      shape(input->shape.begin(), input->shape.end());
  for (size_t i = 0; i < starts->size(); ++i) {
    if (axes && i >= axes->size())
      return std::nullopt;
    auto axis = axisOf(axes ? (*axes)[i] : int64_t(i), rank);
    int64_t stride = steps && i < steps->size() ? (*steps)[i] : 1;
    if (!axis || stride == 0 || stride == std::numeric_limits<int64_t>::min())
      return std::nullopt;
    int64_t dim = input->shape[size_t(*axis)];
    auto wrap = [&](int64_t index) { return index < 0 ? index + dim : index; };
    int64_t low = stride > 0 ? 0 : -1, high = stride > 0 ? dim : dim - 1;
    int64_t first = std::clamp<int64_t>(wrap((*starts)[i]), 0, std::max<int64_t>(high, 0));
    int64_t last = (*ends)[i] < -dim && stride < 0 ? -1 : std::clamp(wrap((*ends)[i]), low, dim);
    int64_t span = stride > 0 ? last - first : first - last;
    int64_t width = stride > 0 ? stride : -stride;
    from[size_t(*axis)] = first;
    step[size_t(*axis)] = stride;
    shape[size_t(*axis)] = span <= 0 || dim == 0 ? 0 : (span - 1) / width + 1;
  }
  SmallVector<int64_t> strides = stridesOf(input->shape);
  return one(gatherElements(*input, shape, [&](ArrayRef<int64_t> at) {
    int64_t index = 0;
    for (size_t i = 0; i < rank; ++i)
      index += (from[i] + at[i] * step[i]) * strides[i];
    return index;
  }));
}

Results evaluateSplit(const Call &call) {
  const Tensor *input = call.input(0);
  if (!input)
    return std::nullopt;
  auto axis = axisOf(call.integer("axis", 0), input->shape.size());
  if (!axis)
    return std::nullopt;
  int64_t dim = input->shape[size_t(*axis)], parts = int64_t(call.resultCount);
  SmallVector<int64_t> sizes;
  if (auto given = call.list("split", 1)) {
    sizes = *given;
  } else if (call.inputs.size() > 1 && call.input(1)) {
    return std::nullopt;
  } else {
    int64_t size = (dim + parts - 1) / std::max<int64_t>(parts, 1);
    for (int64_t i = 0; i < parts; ++i)
      sizes.push_back(std::max<int64_t>(0, std::min(size, dim - i * size)));
  }
  int64_t total = 0;
  for (int64_t size : sizes)
    total += size < 0 || size > dim ? dim + 1 : size;
  if (int64_t(sizes.size()) != parts || total != dim)
    return std::nullopt;
  SmallVector<Tensor> results;
  SmallVector<int64_t> strides = stridesOf(input->shape);
  int64_t first = 0;
  for (int64_t size : sizes) {
    SmallVector<int64_t> shape(input->shape.begin(), input->shape.end());
    shape[size_t(*axis)] = size;
    results.push_back(gatherElements(*input, shape, [&](ArrayRef<int64_t> at) {
      int64_t index = first * strides[size_t(*axis)];
      for (size_t i = 0; i < at.size(); ++i)
        index += at[i] * strides[i];
      return index;
    }));
    first += size;
  }
  return results;
}

Results evaluateConcat(const Call &call) {
  if (call.inputs.empty() || !call.input(0))
    return std::nullopt;
  size_t rank = call.input(0)->shape.size();
  auto axis = axisOf(call.integer("axis", 0), rank);
  if (!axis)
    return std::nullopt;
  Tensor result;
  result.kind = call.input(0)->kind;
  result.shape = call.input(0)->shape;
  result.shape[size_t(*axis)] = 0;
  bool hasData = true;
  for (const Tensor *input : call.inputs) {
    if (!input || input->shape.size() != rank)
      return std::nullopt;
    for (size_t i = 0; i < rank; ++i)
      if (i != size_t(*axis) && input->shape[i] != result.shape[i])
        return std::nullopt;
    result.shape[size_t(*axis)] += input->shape[size_t(*axis)];
    hasData &= input->hasData() || input->elements() == 0;
  }
  if (!hasData || result.elements() > evaluationLimit)
    return one(result);
  std::vector<double> values;
  values.reserve(size_t(result.elements()));
  int64_t outer = 1;
  for (int64_t i = 0; i < *axis; ++i)
    outer *= result.shape[size_t(i)];
  for (int64_t o = 0; o < outer; ++o)
    for (const Tensor *input : call.inputs) {
      int64_t block = outer ? input->elements() / outer : 0;
      if (block != 0)
        values.insert(values.end(), input->data->begin() + o * block,
                      input->data->begin() + (o + 1) * block);
    }
  return one(Tensor::make(result.kind, result.shape, std::move(values)));
}

Results evaluateGather(const Call &call) {
  const Tensor *input = call.input(0), *indices = call.input(1);
  if (!input || !indices)
    return std::nullopt;
  auto axis = axisOf(call.integer("axis", 0), input->shape.size());
  if (!axis)
    return std::nullopt;
  int64_t dim = input->shape[size_t(*axis)];
  SmallVector<int64_t> shape(input->shape.begin(), input->shape.begin() + *axis);
  shape.append(indices->shape.begin(), indices->shape.end());
  shape.append(input->shape.begin() + *axis + 1, input->shape.end());
  Tensor unknown;
  unknown.kind = input->kind;
  unknown.shape.assign(shape.begin(), shape.end());
  if (!indices->hasData() || !input->hasData())
    return one(unknown);
  SmallVector<int64_t> wanted = indices->integers();
  for (int64_t &index : wanted) {
    index = index < 0 ? index + dim : index;
    if (index < 0 || index >= dim)
      return one(unknown);
  }
  SmallVector<int64_t> strides = stridesOf(input->shape), indexStrides = stridesOf(indices->shape);
  size_t before = size_t(*axis), middle = indices->shape.size();
  return one(gatherElements(*input, shape, [&](ArrayRef<int64_t> at) {
    int64_t which = 0, index = 0;
    for (size_t i = 0; i < middle; ++i)
      which += at[before + i] * indexStrides[i];
    for (size_t i = 0; i < before; ++i)
      index += at[i] * strides[i];
    for (size_t i = before + 1; i < strides.size(); ++i)
      index += at[i + middle - 1] * strides[i];
    return index + wanted[size_t(which)] * strides[before];
  }));
}

Results evaluateGatherND(const Call &call) {
  const Tensor *input = call.input(0), *indices = call.input(1);
  if (!input || !indices || call.integer("batch_dims", 0) != 0 || indices->shape.empty())
    return std::nullopt;
  size_t depth = size_t(indices->shape.back());
  if (depth > input->shape.size())
    return std::nullopt;
  SmallVector<int64_t> shape(indices->shape.begin(), indices->shape.end() - 1);
  size_t outer = shape.size();
  shape.append(input->shape.begin() + int64_t(depth), input->shape.end());
  Tensor unknown;
  unknown.kind = input->kind;
  unknown.shape.assign(shape.begin(), shape.end());
  if (!indices->hasData() || !input->hasData())
    return one(unknown);
  SmallVector<int64_t> strides = stridesOf(input->shape), wanted = indices->integers();
  for (size_t i = 0; i < wanted.size(); ++i) {
    int64_t dim = input->shape[i % depth];
    wanted[i] = wanted[i] < 0 ? wanted[i] + dim : wanted[i];
    if (wanted[i] < 0 || wanted[i] >= dim)
      return one(unknown);
  }
  SmallVector<int64_t> outerStrides = stridesOf(ArrayRef<int64_t>(shape).take_front(outer));
  return one(gatherElements(*input, shape, [&](ArrayRef<int64_t> at) {
    int64_t which = 0, index = 0;
    for (size_t i = 0; i < outer; ++i)
      which += at[i] * outerStrides[i];
    for (size_t i = 0; i < depth; ++i)
      index += wanted[size_t(which) * depth + i] * strides[i];
    for (size_t i = depth; i < strides.size(); ++i)
      index += at[outer + i - depth] * strides[i];
    return index;
  }));
}

/// ScatterND without a reduction: a copy of the input with some slices replaced.
Results evaluateScatterND(const Call &call) {
  const Tensor *input = call.input(0), *indices = call.input(1), *updates = call.input(2);
  if (!input || !indices || !updates || indices->shape.empty() || call.attributes.get("reduction"))
    return std::nullopt;
  Tensor result = *input;
  size_t depth = size_t(indices->shape.back());
  if (depth == 0 || depth > input->shape.size())
    return std::nullopt;
  if (!input->hasData() || !indices->hasData() || !updates->hasData()) {
    result.data = nullptr;
    return one(result);
  }
  SmallVector<int64_t> strides = stridesOf(input->shape);
  int64_t block = strides[depth - 1], count = indices->elements() / int64_t(depth);
  std::vector<double> values(*input->data);
  if (updates->elements() != block * count)
    return std::nullopt;
  for (int64_t i = 0; i < count; ++i) {
    int64_t to = 0;
    for (size_t axis = 0; axis < depth; ++axis) {
      int64_t index = indices->integer(i * int64_t(depth) + int64_t(axis)),
              dim = input->shape[axis];
      index = index < 0 ? index + dim : index;
      if (index < 0 || index >= dim)
        return std::nullopt;
      to += index * strides[axis];
    }
    std::copy_n(updates->data->begin() + i * block, block, values.begin() + to);
  }
  return one(Tensor::make(input->kind, input->shape, std::move(values)));
}

/// Indices of the elements that are not zero, [rank, count]; its shape follows from values alone.
Results evaluateNonZero(const Call &call) {
  const Tensor *input = call.input(0);
  if (!input || !input->hasData() || input->elements() > evaluationLimit)
    return std::nullopt;
  size_t rank = input->shape.size();
  std::vector<double> found;
  int64_t source = 0;
  forEachIndex(input->shape, [&](ArrayRef<int64_t> at) {
    if (input->at(source++) != 0)
      found.insert(found.end(), at.begin(), at.end());
  });
  int64_t count = rank ? int64_t(found.size() / rank) : 0;
  std::vector<double> values(found.size());
  for (size_t i = 0; i < found.size(); ++i)
    values[i % rank * size_t(count) + i / rank] = found[i];
  return one(Tensor::make(TensorKind::Integer, {int64_t(rank), count}, std::move(values)));
}

} // namespace

Results evaluateMovement(const Call &call) {
  using Function = Results (*)(const Call &);
  static constexpr std::pair<llvm::StringLiteral, Function> table[] = {
      {"Shape", evaluateShape},       {"Reshape", evaluateReshape},
      {"Flatten", evaluateFlatten},   {"Unsqueeze", evaluateUnsqueeze},
      {"Squeeze", evaluateSqueeze},   {"Transpose", evaluateTranspose},
      {"Expand", evaluateExpand},     {"Tile", evaluateTile},
      {"Slice", evaluateSlice},       {"Split", evaluateSplit},
      {"Concat", evaluateConcat},     {"Gather", evaluateGather},
      {"GatherND", evaluateGatherND}, {"ScatterND", evaluateScatterND},
      {"NonZero", evaluateNonZero},
  };
  for (const auto &[name, function] : table)
    if (call.type == name)
      return function(call);
  if (call.type == "Identity" || call.type == "Dropout")
    return call.input(0) ? one(*call.input(0)) : Results();
  if (call.type == "Size" && call.input(0))
    return one(Tensor::scalar(TensorKind::Integer, double(call.input(0)->elements())));
  return std::nullopt;
}

} // namespace smelt::evaluation
