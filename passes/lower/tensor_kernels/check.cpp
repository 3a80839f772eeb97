// What a tensor kernel specification must fulfil for its emitter: counts, types, ranks and ints.
#include "passes/lower/tensor_spec.h"

#include <algorithm>

namespace smelt {

using format::ElementType;

namespace {

bool isReal(ElementType type) { return type == ElementType::F32 || type == ElementType::F64; }
bool isIndex(ElementType type) { return type == ElementType::I64 || type == ElementType::I32; }
bool isWhole(ElementType type) { return !isReal(type) && type != ElementType::Bool; }

/// Collects the first complaint about one specification.
class Checker {
public:
  explicit Checker(const TensorSpec &spec)
      : spec(spec), info(tensorOpInfo(spec.op)),
        inputs(int(spec.ranks.size()) - int(info.outputs)) {}

  std::string run() {
    if (!counts())
      return why;
    if (info.isMap)
      map();
    else
      other();
    return why;
  }

private:
  void require(bool condition, const char *expected) {
    if (!condition && why.empty())
      why = std::string(info.name) + " expects " + expected;
  }

  bool counts() {
    const size_t count = spec.ranks.size();
    require(spec.types.size() == count && spec.given.size() == count,
            "a type, a rank and a flag for every operand");
    require(inputs >= int(info.leastInputs) && inputs <= int(info.mostInputs),
            "another number of operands");
    if (!why.empty())
      return false;
    for (size_t i = 0; i < count; ++i) {
      require(spec.ranks[i] <= format::maxRank, "ranks of at most 8");
      require(spec.given[i] || i >= info.outputs + info.leastInputs,
              "its first operands to be given");
      require(!spec.isShape || spec.given[i] || spec.ranks[i] == 0, "rank 0 of omitted operands");
    }
    return why.empty();
  }

  bool has(int i) const { return i < inputs && spec.given[size_t(i) + info.outputs]; }
  ElementType type(int i) const { return spec.types[size_t(i) + info.outputs]; }
  int rank(int i) const { return int(spec.ranks[size_t(i) + info.outputs]); }
  ElementType outType() const { return spec.types[0]; }
  int outRank() const { return int(spec.ranks[0]); }

  void sameType(int i) { require(type(i) == outType(), "an output of the input's type"); }
  void ints(size_t count) { require(spec.ints.size() == count, "another number of ints"); }
  void indices(int i) {
    require(type(i) == ElementType::I64 || type(i) == ElementType::I32, "int64 or int32 indices");
  }
  void list(int i) {
    require(rank(i) == 1, "a list of rank 1");
    indices(i);
  }
  void one(int i) { require(rank(i) <= 1, "a single element of rank 0 or 1"); }
  /// ints[at] is an axis of a tensor of this rank.
  void axis(size_t at, int rank) {
    require(spec.ints.size() > at && spec.ints[at] >= 0 && spec.ints[at] < rank,
            "an axis within the rank");
  }
  /// ints from `first` on are different axes.
  void axes(size_t first, int rank) {
    uint32_t seen = 0;
    require(spec.ints.size() >= first, "more ints");
    for (size_t i = first; i < spec.ints.size(); ++i) {
      axis(i, rank);
      if (!why.empty())
        return;
      require(!(seen >> spec.ints[i] & 1), "every axis once");
      seen |= 1u << spec.ints[i];
    }
  }
  void flag(size_t at, int64_t most = 1) {
    require(spec.ints.size() > at && spec.ints[at] >= 0 && spec.ints[at] <= most,
            "flags in their range");
  }

  void map();
  void other();
  void views();
  void moves();
  void indexed();
  void reductions();
  void makers();
  void products();

  const TensorSpec &spec;
  const TensorOpInfo &info;
  const int inputs;
  std::string why;
};

void Checker::map() {
  int most = 0;
  for (int i = 0; i < inputs; ++i)
    most = std::max(most, rank(i));
  require(outRank() == most, "the output to have the largest rank of the inputs");
  bool same = true; // input types
  for (int i = 1; i < inputs; ++i)
    same &= type(i) == type(0);
  const ElementType in = type(0), out = outType();
  switch (spec.op) {
  case TensorOp::Cast:
    return;
  case TensorOp::Identity:
    return sameType(0);
  case TensorOp::Where:
    return require(in == ElementType::Bool && type(1) == out && type(2) == out,
                   "a bool condition and values of the output's type");
  case TensorOp::Equal:
  case TensorOp::Less:
  case TensorOp::LessOrEqual:
  case TensorOp::Greater:
  case TensorOp::GreaterOrEqual:
    return require(same && out == ElementType::Bool, "operands of one type and a bool output");
  case TensorOp::And:
  case TensorOp::Or:
  case TensorOp::Xor:
  case TensorOp::Not:
    return require(same && in == ElementType::Bool && out == in, "bool operands");
  case TensorOp::BitwiseAnd:
  case TensorOp::BitwiseOr:
  case TensorOp::BitwiseXor:
  case TensorOp::BitwiseNot:
    return require(same && isWhole(in) && out == in, "integer operands of one type");
  case TensorOp::BitShift:
    flag(0);
    return require(same && isWhole(in) && out == in, "integer operands of one type");
  case TensorOp::Pow:
    return require(in == out && in != ElementType::Bool && type(1) != ElementType::Bool,
                   "numbers, and an output of the base's type");
  case TensorOp::IsInf:
    flag(0);
    flag(1);
    [[fallthrough]];
  case TensorOp::IsNaN:
    return require(isReal(in) && out == ElementType::Bool, "a float input and a bool output");
  case TensorOp::Mod:
    flag(0);
    [[fallthrough]];
  case TensorOp::Add:
  case TensorOp::Sub:
  case TensorOp::Mul:
  case TensorOp::Div:
  case TensorOp::Min:
  case TensorOp::Max:
  case TensorOp::Neg:
  case TensorOp::Abs:
  case TensorOp::Sign:
  case TensorOp::Relu:
    return require(same && in == out && in != ElementType::Bool, "numbers of one type");
  default:
    return require(same && isReal(in) && in == out, "floats of one type");
  }
}

void Checker::views() {
  sameType(0);
  switch (spec.op) {
  case TensorOp::Reshape:
    flag(0);
    list(1);
    break;
  case TensorOp::Squeeze:
    axes(0, rank(0));
    require(outRank() == rank(0) - int(spec.ints.size()), "one axis less per axis");
    break;
  case TensorOp::Unsqueeze:
    axes(0, outRank());
    require(outRank() == rank(0) + int(spec.ints.size()), "one axis more per axis");
    break;
  default: // Flatten
    ints(1);
    require(outRank() == 2 && !spec.ints.empty() && spec.ints[0] >= 0 && spec.ints[0] <= rank(0),
            "an output of rank 2 and an axis within the rank");
  }
}

void Checker::moves() {
  sameType(0);
  switch (spec.op) {
  case TensorOp::Transpose:
    ints(size_t(rank(0)));
    axes(0, rank(0));
    return require(outRank() == rank(0), "an output of the input's rank");
  case TensorOp::Expand:
    list(1);
    return require(outRank() >= rank(0), "an output of at least the input's rank");
  case TensorOp::Slice:
    axes(0, rank(0));
    for (int i = 1; i < inputs; ++i)
      if (has(i))
        list(i);
    return require(outRank() == rank(0), "an output of the input's rank");
  case TensorOp::Concat:
    axis(0, outRank());
    sameType(1);
    return require(outRank() == rank(0) && outRank() == rank(1), "operands of one rank");
  case TensorOp::Pad:
    flag(0, 3);
    axes(1, rank(0));
    list(1);
    if (has(2)) {
      sameType(2);
      one(2);
    }
    return require(outRank() == rank(0), "an output of the input's rank");
  case TensorOp::Tile:
    list(1);
    return require(outRank() == rank(0), "an output of the input's rank");
  default: // Trilu
    flag(0);
    if (has(1)) {
      indices(1);
      one(1);
    }
    return require(outRank() == rank(0) && outRank() >= 2, "a tensor of matrices");
  }
}

void Checker::indexed() {
  sameType(0);
  indices(1);
  switch (spec.op) {
  case TensorOp::Gather:
    axis(0, rank(0));
    return require(outRank() == rank(0) - 1 + rank(1), "rank data + rank indices - 1");
  case TensorOp::GatherElements:
    axis(0, rank(0));
    return require(outRank() == rank(0) && rank(1) == rank(0), "operands of one rank");
  case TensorOp::GatherND: {
    const int batch = spec.ints.empty() ? 0 : int(spec.ints[0]);
    const int depth = rank(0) + rank(1) - 1 - batch - outRank();
    require(!spec.ints.empty() && batch >= 0 && batch < std::min(rank(0), rank(1)),
            "fewer batch axes than axes");
    return require(depth >= 1 && batch + depth <= rank(0), "index tuples within the rank");
  }
  case TensorOp::ScatterElements:
    axis(0, rank(0));
    flag(1, 4);
    sameType(2);
    return require(outRank() == rank(0) && rank(1) == rank(0) && rank(2) == rank(0),
                   "operands of one rank");
  default: { // ScatterND
    const int depth = rank(0) + rank(1) - 1 - rank(2);
    flag(0, 4);
    sameType(2);
    require(outRank() == rank(0) && rank(1) >= 1, "an output of the data's rank");
    return require(depth >= 0 && depth <= rank(0), "index tuples within the rank");
  }
  }
}

void Checker::reductions() {
  switch (spec.op) {
  case TensorOp::ArgMax:
  case TensorOp::ArgMin:
    ints(3);
    axis(0, rank(0));
    require(outType() == ElementType::I64 && type(0) != ElementType::Bool,
            "int64 indices of numbers");
    return require(spec.ints.size() == 3 && outRank() == rank(0) - (spec.ints[1] ? 0 : 1),
                   "a rank that fits keepdims");
  case TensorOp::CumSum:
    ints(3);
    axis(0, rank(0));
    sameType(0);
    return require(outRank() == rank(0) && outType() != ElementType::Bool,
                   "numbers and an output of the input's rank");
  case TensorOp::TopK:
    ints(3);
    axis(0, rank(0));
    sameType(0);
    indices(1);
    one(1);
    require(spec.types[1] == ElementType::I64 && outType() != ElementType::Bool,
            "numbers and int64 indices");
    return require(outRank() == rank(0) && int(spec.ranks[1]) == rank(0),
                   "outputs of the input's rank");
  default: { // Reduce
    flag(0);
    axes(1, rank(0));
    sameType(0);
    const bool any = spec.op == TensorOp::ReduceMax || spec.op == TensorOp::ReduceMin;
    require(any || outType() != ElementType::Bool, "numbers");
    if (!why.empty())
      return;
    const int reduced = spec.ints.size() == 1 ? rank(0) : int(spec.ints.size()) - 1;
    return require(outRank() == rank(0) - (spec.ints[0] ? 0 : reduced),
                   "a rank that fits keepdims");
  }
  }
}

void Checker::makers() {
  const ElementType out = outType();
  switch (spec.op) {
  case TensorOp::Range:
    for (int i = 0; i < 3; ++i) {
      sameType(i);
      one(i);
    }
    return require(outRank() == 1 && (isReal(out) || isIndex(out)),
                   "floats, int32 or int64, and an output of rank 1");
  case TensorOp::ConstantOfShape:
    return list(0);
  case TensorOp::Shape:
    ints(2);
    return require(out == ElementType::I64 && outRank() == 1 && spec.ints.size() == 2 &&
                       0 <= spec.ints[0] && spec.ints[0] <= spec.ints[1] && spec.ints[1] <= rank(0),
                   "an int64 list and 0 <= start <= end <= rank");
  case TensorOp::Size:
    return require(out == ElementType::I64 && outRank() == 0, "an int64 output of rank 0");
  case TensorOp::NonZero:
    return require(out == ElementType::I64 && outRank() == 2, "an int64 output of rank 2");
  case TensorOp::OneHot:
    axis(0, outRank());
    sameType(2);
    one(1);
    require(rank(2) == 1, "a list of two values");
    return require(outRank() == rank(0) + 1 && type(0) != ElementType::Bool,
                   "one axis more than the indices");
  default: // EyeLike
    ints(1);
    return require(rank(0) == 2 && outRank() == 2, "matrices");
  }
}

void Checker::products() {
  const ElementType out = outType();
  if (spec.op == TensorOp::MatMul) {
    require(rank(0) >= 2 && rank(1) >= 2 && outRank() == std::max(rank(0), rank(1)),
            "ranks of at least 2 and an output of the larger");
    auto byte = [](ElementType type) { return type == ElementType::I8 || type == ElementType::U8; };
    const bool bytes = out == ElementType::I32 && byte(type(0)) && byte(type(1));
    return require(bytes || (type(0) == out && type(1) == out && (isReal(out) || isIndex(out))),
                   "operands of one type, or bytes and an int32 output");
  }
  const size_t n = size_t(std::max(outRank() - 2, 0));
  const bool conv = spec.op == TensorOp::Conv;
  sameType(0);
  require(isReal(out), "floats");
  require(outRank() == rank(0) && outRank() >= 3, "spatial axes");
  ints(conv ? 1 + 4 * n : 5 * n + 2);
  if (!why.empty())
    return;
  // group, or kernel; strides, dilations; pads.
  const size_t positive = conv ? 1 + 2 * n : 3 * n;
  constexpr int64_t most = int64_t(1) << 31;
  for (size_t i = 0; i < (conv ? 1 + 4 * n : 5 * n); ++i)
    require(spec.ints[i] >= (i < positive ? 1 : 0) && spec.ints[i] < most,
            "positive strides and dilations, and no negative pads");
  if (!conv)
    return;
  sameType(1);
  require(rank(1) == rank(0), "weights of the input's rank");
  if (has(2)) {
    sameType(2);
    require(rank(2) == 1, "a bias of rank 1");
  }
}

void Checker::other() {
  if (spec.op <= TensorOp::Flatten)
    views();
  else if (spec.op >= TensorOp::Gather && spec.op <= TensorOp::ScatterND)
    indexed();
  else if (spec.op <= TensorOp::Trilu)
    moves();
  else if (spec.op <= TensorOp::TopK)
    reductions();
  else if (spec.op <= TensorOp::EyeLike)
    makers();
  else
    products();
}

} // namespace

std::string TensorSpec::check() const { return Checker(*this).run(); }

} // namespace smelt
