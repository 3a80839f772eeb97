// Lowering of attention: rotary tables, head norms, the cache and the kernels that read it.
#include "passes/lower/lowering.h"
#include "passes/lower/rotary_table.h"

using namespace mlir;
using smelt::format::Domain;
using smelt::format::OperandKind;
using smelt::format::OpLabel;

namespace smelt {

/// One table [positions][rotary_dim]: the cosines of a position, then its sines; or the rows of
/// rotary_table.h.
Result<Lowering::RotaryTable> Lowering::rotaryTable(Value cos, Value sin) {
  auto key = std::make_pair(cos.getAsOpaquePointer(), sin.getAsOpaquePointer());
  if (auto found = tables.find(key); found != tables.end())
    return found->second;
  SMELT_ASSIGN(WeightView cosView, weights(cos));
  SMELT_ASSIGN(WeightView sinView, weights(sin));
  int64_t half = cosView.cols;
  if (sinView.cols != half)
    return corrupt("cosine and sine tables differ: " + std::to_string(half) + " against " +
                   std::to_string(sinView.cols) + " columns");
  RotaryTable table;
  table.positions = std::min({cosView.rows, sinView.rows, options.maxContext});
  if (options.compactRotary)
    if (auto compact = compactRotaryTable(cosView, sinView, table.positions)) {
      SMELT_ASSIGN(table.location, appendFloats(*compact));
      table.isCompact = true;
      ++program.compactTables;
      return tables[key] = table;
    }
  ++program.wholeTables;
  std::vector<float> values(table.positions * 2 * half);
  for (int64_t p = 0; p < table.positions; ++p) {
    readRows(cosView, p, 1, values.data() + p * 2 * half);
    readRows(sinView, p, 1, values.data() + p * 2 * half + half);
  }
  SMELT_ASSIGN(table.location, appendFloats(values));
  return tables[key] = table;
}

namespace {

/// What lies between a projection and attention on the query or key side.
struct Rotated {
  Value source;
  slm::RopeOp rope;
  slm::HeadNormOp norm;
};
Rotated peel(Value value) {
  Rotated r{value, {}, {}};
  if ((r.rope = r.source.getDefiningOp<slm::RopeOp>()))
    r.source = r.rope.getInput();
  if ((r.norm = r.source.getDefiningOp<slm::HeadNormOp>()))
    r.source = r.norm.getInput();
  return r;
}

} // namespace

Status Lowering::lowerAttention(slm::AttentionOp op) {
  Rotated query = peel(op.getQuery()), key = peel(op.getKey());
  for (Value step : {Value(op.getQuery()), Value(op.getKey()), query.source, key.source})
    if (step.getDefiningOp() && !isa<slm::SliceOp, slm::LinearOp>(step.getDefiningOp()) &&
        !step.hasOneUse())
      return refuse(op, "its query or key is used elsewhere");
  if (bool(query.rope) != bool(key.rope))
    return refuse(op, "only one of query and key is rotated");
  if (query.rope &&
      (query.rope.getCos() != key.rope.getCos() || query.rope.getSin() != key.rope.getSin() ||
       query.rope.getRotaryDim() != key.rope.getRotaryDim() ||
       query.rope.getInterleaved() != key.rope.getInterleaved()))
    return refuse(op, "query and key are rotated differently");
  SMELT_ASSIGN(Place q, placeOf(query.source));
  SMELT_ASSIGN(Place kPlace, placeOf(key.source));
  SMELT_ASSIGN(Place v, placeOf(op.getValue()));

  // Rotate and append.
  const int64_t dim = op.getHeadDim();
  KernelSpec spec;
  spec.kind = KernelKind::RopeAppend;
  spec.heads = op.getHeads();
  spec.kvHeads = op.getKvHeads();
  spec.headDim = dim;
  spec.inStride = q.stride;
  spec.keyStride = kPlace.stride;
  spec.valueStride = v.stride;
  spec.maxTokens = options.maxTokens;
  spec.cache = options.cache;
  Location table, normWeights;
  if (query.rope) {
    SMELT_ASSIGN(RotaryTable rotary, rotaryTable(query.rope.getCos(), query.rope.getSin()));
    table = rotary.location;
    limitContext(rotary.positions);
    spec.rotaryDim = query.rope.getRotaryDim();
    spec.interleaved = query.rope.getInterleaved();
    spec.compactRotary = rotary.isCompact;
  }
  if (query.norm || key.norm) {
    std::vector<float> both(2 * dim, 1.0f);
    for (auto [norm, at] :
         {std::make_pair(query.norm, int64_t(0)), std::make_pair(key.norm, dim)}) {
      if (!norm)
        continue;
      SMELT_ASSIGN(std::vector<float> values, readAll(norm.getWeight()));
      std::copy(values.begin(), values.end(), both.begin() + at);
      spec.epsilon = norm.getEpsilon().convertToDouble();
    }
    if (query.norm && key.norm && query.norm.getEpsilon() != key.norm.getEpsilon())
      return refuse(op, "query and key norms have different epsilons");
    spec.queryNorm = bool(query.norm);
    spec.keyNorm = bool(key.norm);
    SMELT_ASSIGN(normWeights, appendFloats(both));
  }
  const int64_t layer = op.getLayer();
  Location keys{OperandKind::KeyCache, layer}, values{OperandKind::ValueCache, layer};
  // Queries of one row are turned where they are used, its keys appended where they are read first.
  // Slopes take the place of the table.
  const bool appends = options.joinsSteps && !(op.getSlopes() && query.rope);
  if (appends && kPlace.location.buffer != v.location.buffer) {
    joinBuffers(kPlace.location.buffer, v.location.buffer);
    SMELT_ASSIGN(q, placeOf(query.source));
    SMELT_ASSIGN(kPlace, placeOf(key.source));
    SMELT_ASSIGN(v, placeOf(op.getValue()));
  }
  emit(spec, Domain::Tokens, OpLabel::Rope,
       {q.location, kPlace.location, v.location, table, normWeights, keys, values, positions()},
       !appends);

  // Attend.
  Place out = newRows(op.getResult(), Domain::Tokens);
  KernelSpec attend;
  attend.heads = op.getHeads();
  attend.kvHeads = op.getKvHeads();
  attend.headDim = dim;
  attend.scalar = op.getScale().convertToDouble();
  attend.softcap = op.getSoftcap().convertToDouble();
  attend.window = op.getWindow();
  attend.slopes = bool(op.getSlopes());
  Location slopes;
  if (op.getSlopes()) {
    std::vector<float> values(op.getSlopes()->begin(), op.getSlopes()->end());
    SMELT_ASSIGN(slopes, appendFloats(values));
  }
  attend.bidirectional = op.getBidirectional();
  if (attend.bidirectional) {
    program.config.bidirectional = 1;
    limitContext(options.maxTokens); // a text is one step
  }
  attend.maxTokens = options.maxTokens;
  attend.cache = options.cache;
  const int64_t context = roundUp(options.maxContext, attentionBlock);
  Location partials{OperandKind::Scratch, 0,
                    newBuffer(attend.heads * context / attentionBlock * partialStride(dim) * 4)};
  KernelSpec one = attend;
  one.kind = KernelKind::AttentionOne;
  one.maxContext = context;
  std::vector<Location> operands{q.location, keys, values, positions(), partials, slopes};
  if (appends) {
    one.appends = true;
    one.rotaryDim = spec.rotaryDim;
    one.interleaved = spec.interleaved;
    one.compactRotary = spec.compactRotary;
    one.queryNorm = spec.queryNorm;
    one.keyNorm = spec.keyNorm;
    one.epsilon = spec.epsilon;
    one.firstIndex = (v.location.value - kPlace.location.value) / int64_t(sizeof(float));
    Location keysAndValues = kPlace.location;
    keysAndValues.begin = 0;
    keysAndValues.end = -1;
    operands = {q.location,  keysAndValues, partials, one.slopes ? slopes : table,
                normWeights, keys,          values,   positions()};
  }
  emit(one, Domain::Tokens, OpLabel::Attention, operands, true, false);
  KernelSpec merge;
  merge.kind = KernelKind::AttentionMerge;
  merge.heads = attend.heads;
  merge.headDim = dim;
  merge.window = attend.window;
  merge.bidirectional = attend.bidirectional;
  merge.maxTokens = options.maxTokens;
  merge.maxContext = context;
  Location merged = out.location;
  // Heads are merged one by one: none may share a scale with the next.
  auto written = writtenAtOnce(op.getResult());
  if (written && dim % inputsWrittenTogether(*written) == 0)
    merge.result = written;
  if (merge.result)
    merged = newActivations(*merge.result, slm::widthOf(op.getResult()), Domain::Tokens);
  emit(merge, Domain::Tokens, OpLabel::Attention, {partials, positions(), merged}, true, false);
  KernelSpec many = attend;
  many.kind = KernelKind::AttentionMany;
  many.inStride = q.stride;
  many.outStride = out.stride;
  emit(many, Domain::Tokens, OpLabel::Attention,
       {q.location, keys, values, positions(), out.location, slopes}, false, true);

  if (merge.result)
    quantizeMany(op.getResult(), out, *merge.result, merged);

  if (layers.count(layer))
    return refuse(op, "two attentions share cache layer " + std::to_string(layer));
  layers[layer] = {uint32_t(op.getKvHeads()), uint32_t(dim), 0, 0};
  return {};
}

} // namespace smelt
