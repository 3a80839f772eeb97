// com.microsoft GroupQueryAttention: rotary, growing or ring-buffer caches, windows, sinks.
#include "passes/tensor/decompose/decompose.h"

using namespace mlir;
using namespace smelt::onnx_ir;

namespace smelt::tensor {

namespace {

/// One node on its way. Rows of the batch may have different lengths, padded on the right: row b
/// has total[b] tokens after this step and past[b] before it.
class GroupQuery {
public:
  explicit GroupQuery(Builder &b) : b(b) {}
  Values run();

private:
  bool check();
  void project();
  void lengths();
  void turn();
  Value grown(Value past, Value fresh);
  Value keyPositions(Value count);
  void attendGrown(Attention &core);
  void attendRing(Attention &core);
  void sink(Attention &core);

  Builder &b;
  int64_t heads = 0, kvHeads = 0, window = 0;
  Value q, k, v;            // [B, H or KV, S, D]
  Value pastKey, pastValue; // [B, KV, P, D]; may be null
  Value presentKey, presentValue;
  Value length, total; // S; tokens of the longest row after this step
  Value past, totals;  // [B]
  Value positions;     // of the queries, [B, S]
};

bool GroupQuery::check() {
  heads = b.integer("num_heads", 0);
  kvHeads = b.integer("kv_num_heads", 0);
  window = b.integer("local_window_size", -1);
  if (heads <= 0 || kvHeads <= 0 || heads % kvHeads)
    b.fail("its numbers of heads do not fit");
  for (unsigned i = 12; i < b.inputs(); ++i)
    if (b.input(i))
      b.fail("input " + llvm::Twine(i) +
             " (quantized caches, norms of queries and keys) is not supported");
  if (b.string("k_quant_type", "NONE") != "NONE" || b.string("v_quant_type", "NONE") != "NONE")
    b.fail("quantized caches are not supported");
  if (b.node()->getNumResults() > 3 && b.uses(3))
    b.fail("its scores are read");
  if (!b.input(5) || !b.input(6))
    b.fail("it has no lengths");
  return !b.failed();
}

/// Queries, keys and values by heads; packed, they lie one after the other in each row.
void GroupQuery::project() {
  q = b.input(0), k = b.input(1), v = b.input(2);
  pastKey = b.input(3), pastValue = b.input(4);
  if (!k || !v) {
    Value packed = q;
    int64_t width = b.dim(packed, 2), all = heads + 2 * kvHeads;
    Value size = width != dynamic ? b.i64(ArrayRef<int64_t>(width / all))
                                  : b.div(b.dimsOf(packed, 2, 1), double(all));
    Value first = b.i64(ArrayRef<int64_t>{0}), keys = b.mul(size, double(heads));
    Value values = b.mul(size, double(heads + kvHeads)), end = b.mul(size, double(all));
    q = b.slice(packed, 2, first, keys);
    k = b.slice(packed, 2, keys, values);
    v = b.slice(packed, 2, values, end);
  }
  q = splitHeads(b, q, heads);
  k = splitHeads(b, k, kvHeads);
  v = splitHeads(b, v, kvHeads);
}

/// past = 0 in the first step (as long as the whole), else total - S.
void GroupQuery::lengths() {
  length = b.dimOf(q, 2);
  total = b.toI64(b.input(6));
  total = b.rank(total) ? b.reshape(total, ArrayRef<int64_t>{}) : total;
  Value last = b.toI64(b.input(5));
  if (b.rank(last) != 1)
    last = b.reshape(last, ArrayRef<int64_t>{-1});
  totals = b.add(last, 1.0);
  Value isFirst = b.make("Equal", {length, total});
  past = b.where(isFirst, b.i64(0), b.sub(totals, length));
  positions = b.add(b.unsqueeze(past, {1}), b.unsqueeze(b.range(length), {0}));
}

void GroupQuery::turn() {
  if (!b.integer("do_rotary", 0))
    return;
  Value cos = b.input(7), sin = b.input(8), given = b.input(9);
  if (!cos || !sin) {
    b.fail("it rotates, but has no tables");
    return;
  }
  Value at = given ? b.toI64(given) : positions;
  if (!given) // rows of padding lie behind the tables' end at worst
    at = b.make("Min", {at, b.sub(b.dimOf(cos, 0), 1.0)});
  cos = tableRows(b, cos, at);
  sin = tableRows(b, sin, at);
  bool isInterleaved = b.integer("rotary_interleaved", 0) != 0;
  q = rotate(b, q, cos, sin, isInterleaved);
  k = rotate(b, k, cos, sin, isInterleaved);
}

/// The cache after this step, [B, KV, max(P, total), D]: the first past[b] rows, then the fresh
/// ones. Where every row's past fills the cache, which is all but padded batches, that is a
/// concatenation.
Value GroupQuery::grown(Value before, Value fresh) {
  if (!before)
    return fresh;
  if (b.failed())
    return {};
  Value size = b.dimOf(before, 2);
  Value allFull = b.make(
      "Equal", {b.reduce("ReduceMin", past, {0}, false), b.reduce("ReduceMax", past, {0}, false)});
  allFull = b.make("And", {allFull, b.make("Equal", {b.gather(past, b.i64(0), 0), size})});
  if (b.failed())
    return {};
  auto ranked = cast<RankedTensorType>(fresh.getType());
  auto type = RankedTensorType::get(
      {ranked.getDimSize(0), ranked.getDimSize(1), dynamic, ranked.getDimSize(3)},
      ranked.getElementType());
  NamedAttrList branches;
  branches.set("then_branch", b.at.getI64IntegerAttr(0));
  branches.set("else_branch", b.at.getI64IntegerAttr(1));
  auto choice =
      NodeOp::create(b.at, b.node()->getLoc(), TypeRange{type}, ValueRange{allFull}, "If", "",
                     b.node().getName(), branches.getDictionary(b.at.getContext()), 2u);
  auto fill = [&](unsigned index, llvm::function_ref<Value()> make) {
    Builder::Scope scope(b);
    OpBuilder::InsertionGuard guard(b.at);
    b.at.createBlock(&choice->getRegion(index));
    Value value = make();
    YieldOp::create(b.at, b.node()->getLoc(), value ? ValueRange{value} : ValueRange{});
  };
  fill(0, [&] { return b.concat({before, fresh}, 2); });
  fill(1, [&] {
    // row j: j < past[b] ? before[j] : fresh[j - past[b]], which lies behind `before` in `joined`
    Value joined = b.transpose(b.concat({before, fresh}, 2), {0, 2, 1, 3}); // [B, P + S, KV, D]
    Value count = b.make("Max", {size, total});
    Value j = b.unsqueeze(b.range(count), {0}), bound = b.unsqueeze(past, {1});
    Value from = b.where(b.make("Less", {j, bound}), j, b.sub(b.add(j, size), bound));
    from = b.make("Min", {from, b.sub(b.add(size, length), 1.0)});
    Value rows = b.make("GatherND", {joined, b.unsqueeze(from, {2})},
                        Attributes().integer("batch_dims", 1).integer("depth", 1));
    return b.transpose(rows, {0, 2, 1, 3});
  });
  return choice->getResult(0);
}

void GroupQuery::attendGrown(Attention &core) {
  core.key = presentKey = grown(pastKey, k);
  core.value = presentValue = grown(pastValue, v);
  // key j is seen by the query at position p if p - window < j <= p
  Value key = b.unsqueeze(b.range(b.dimOf(presentKey, 2)), {0, 1, 2});
  Value at = b.unsqueeze(positions, {1, 3});
  core.allowed = b.make("LessOrEqual", {key, at});
  if (window > 0)
    core.allowed =
        b.make("And", {core.allowed, b.make("Greater", {key, b.sub(at, double(window))})});
}

/// The position of the newest token in each slot of a ring after `count` tokens, [B, C]; negative:
/// nothing was written there. Token p lies in slot p mod C.
Value GroupQuery::keyPositions(Value count) {
  Value capacity = b.dimOf(pastKey, 2);
  Value newest = b.sub(b.unsqueeze(count, {1}), 1.0);
  Value slot = b.unsqueeze(b.range(capacity), {0});
  Value behind = b.make("Mod", {b.sub(newest, slot), capacity}, Attributes().integer("fmod", 0));
  return b.sub(newest, behind);
}

void GroupQuery::attendRing(Attention &core) {
  if (!pastKey || !pastValue || window <= 0) {
    b.fail("a ring-buffer cache needs a past and a window");
    return;
  }
  core.key = b.concat({pastKey, k}, 2);
  core.value = b.concat({pastValue, v}, 2);
  Value old = keyPositions(past);
  Value key = b.unsqueeze(b.concat({old, positions}, 1), {1, 2});
  Value at = b.unsqueeze(positions, {1, 3});
  core.allowed =
      b.make("And", {b.make("And", {b.make("LessOrEqual", {key, at}),
                                    b.make("Greater", {key, b.sub(at, double(window))})}),
                     b.make("GreaterOrEqual", {key, b.i64(0)})});
  // Slot by slot: the fresh token that belongs there, else what was there.
  Value newest = keyPositions(totals), bound = b.unsqueeze(past, {1});
  Value capacity = b.dimOf(pastKey, 2), slot = b.unsqueeze(b.range(capacity), {0});
  Value from = b.where(b.make("GreaterOrEqual", {newest, bound}),
                       b.add(b.sub(newest, bound), capacity), slot);
  auto take = [&](Value joined) {
    Value rows = b.make("GatherND", {b.transpose(joined, {0, 2, 1, 3}), b.unsqueeze(from, {2})},
                        Attributes().integer("batch_dims", 1).integer("depth", 1));
    return b.transpose(rows, {0, 2, 1, 3});
  };
  presentKey = take(core.key);
  presentValue = take(core.value);
}

/// A score beside the keys' that takes its share of the softmax: given for each head, or 0.
void GroupQuery::sink(Attention &core) {
  if (Value given = b.input(11))
    core.sink = b.unsqueeze(b.toFloat(given), {0, 2, 3});
  else if (b.integer("smooth_softmax", 0) > 0)
    core.sink = b.constant(b.at.getF32Type(), {1, 1, 1, 1}, {0});
}

Values GroupQuery::run() {
  if (!check())
    return {};
  project();
  lengths();
  turn();
  Attention core;
  core.scale = b.real("scale", 0);
  core.softcap = b.real("softcap", 0);
  core.query = q;
  core.bias = b.input(10);
  if (b.integer("sliding_window_cache", 0))
    attendRing(core);
  else
    attendGrown(core);
  sink(core);
  if (b.failed())
    return {};
  Values results{joinHeads(b, attend(b, core).output), presentKey, presentValue};
  results.resize(b.node()->getNumResults());
  return results;
}

} // namespace

Values groupQueryAttention(Builder &b) { return GroupQuery(b).run(); }

} // namespace smelt::tensor
