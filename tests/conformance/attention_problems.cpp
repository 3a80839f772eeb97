// Problems on the key and value cache: rotary embedding with append, attention.
#include "passes/lower/kernels/layout.h"
#include "passes/lower/rotary_table.h"
#include "tests/conformance/cache_image.h"
#include "tests/conformance/problem.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <sstream>
#include <stdexcept>

namespace smelt::conformance {

namespace {

constexpr int64_t maxTokens = 64;

/// Rows of any slots and positions, and a cache of them; the common part of both kinds.
class CacheProblem : public Problem {
public:
  explicit CacheProblem(Fields &fields) {
    base.heads = fields.integer("heads", 4);
    base.kvHeads = fields.integer("kv", 2);
    base.headDim = fields.integer("d", 64);
    base.cache = *findCacheFormat(fields.text("cache", "f16"));
    base.maxTokens = maxTokens;
    capacity = roundUp(fields.integer("capacity", 192), attentionBlock);
    base.maxContext = capacity;
    // rows=slot:position+count,...
    std::istringstream parts(fields.text("rows", "0:0+5"));
    for (std::string part; std::getline(parts, part, ',');) {
      int64_t slot = 0, first = 0, count = 0;
      char colon = 0, plus = 0;
      std::istringstream(part) >> slot >> colon >> first >> plus >> count;
      if (colon != ':' || plus != '+' || first + count > capacity)
        throw std::invalid_argument("bad rows '" + part + "'");
      for (int64_t i = 0; i < count; ++i) {
        slotOf.push_back(slot);
        positionOf.push_back(first + i);
      }
      slots = std::max(slots, slot + 1);
    }
    rows = int64_t(slotOf.size());
    endOf = positionOf;
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t other = 0; other < rows; ++other)
        if (slotOf[other] == slotOf[row])
          endOf[row] = std::max(endOf[row], positionOf[other]);
    if (rows > maxTokens)
      throw std::invalid_argument("more rows than " + std::to_string(maxTokens));
  }

protected:
  KernelSpec base;
  int64_t capacity, slots = 1;
  std::vector<int64_t> slotOf, positionOf;
  std::vector<int64_t> endOf; ///< the last position of the row's slot

  CacheShape shape(bool holdsKeys) const {
    return {base.cache, holdsKeys, slots, base.kvHeads, capacity, base.headDim};
  }
  int32_t addPlaces(Job &job, int64_t first, int64_t count) const {
    std::vector<int32_t> meta(3 * maxTokens);
    for (int64_t i = 0; i < count; ++i) {
      meta[i] = int32_t(positionOf[first + i]);
      meta[maxTokens + i] = int32_t(slotOf[first + i]);
      meta[2 * maxTokens + i] = int32_t(endOf[first + i]);
    }
    return job.add(meta);
  }
  Call newCall(size_t spec, int64_t count) const {
    Call call;
    call.symbol = specs[spec].name();
    call.info[format::FieldTokens] = count;
    call.info[format::FieldCapacity] = capacity;
    call.info[format::FieldSlots] = slots;
    return call;
  }

  // --- Rotation and head norms
  std::vector<float> weights; ///< of head norms: query, key
  std::vector<float> table;   ///< rotary_table.h

  void readRotation(Fields &fields, int64_t usualDim) {
    base.rotaryDim = fields.integer("rotary", usualDim);
    base.interleaved = fields.integer("interleaved", 0);
    base.compactRotary = fields.integer("compact", 0);
    base.queryNorm = base.keyNorm = fields.integer("norms", 0);
    if (base.queryNorm)
      base.epsilon = 1e-6;
  }
  void makeTable() {
    if (base.compactRotary)
      for (int64_t row = 0; row < rotaryStep + capacity / rotaryStep; ++row)
        addAngles(table, row < rotaryStep ? row : (row - rotaryStep) * rotaryStep);
    else
      for (int64_t position = 0; position < capacity; ++position)
        addAngles(table, position);
  }
  template <typename T> void addAngles(std::vector<T> &row, int64_t position) const {
    for (bool sine : {false, true})
      for (int64_t i = 0; i < base.rotaryDim / 2; ++i) {
        double angle =
            double(position) * std::pow(10000.0, -2.0 * double(i) / double(base.rotaryDim));
        row.push_back(T(sine ? std::sin(angle) : std::cos(angle)));
      }
  }

  std::vector<double> turned(const float *x, const float *w, int64_t row) const {
    std::vector<double> y(x, x + base.headDim);
    if (base.queryNorm) {
      double squares = 0;
      for (double v : y)
        squares += v * v;
      double scale = 1 / std::sqrt(squares / double(base.headDim) + base.epsilon);
      for (int64_t d = 0; d < base.headDim; ++d)
        y[d] *= scale * w[d];
    }
    std::vector<double> angles;
    if (base.compactRotary)
      addAngles(angles, positionOf[row]);
    else if (base.rotaryDim)
      angles.assign(&table[positionOf[row] * base.rotaryDim],
                    &table[positionOf[row] * base.rotaryDim] + base.rotaryDim);
    for (int64_t i = 0; i < base.rotaryDim / 2; ++i) {
      double cos = angles[i], sin = angles[base.rotaryDim / 2 + i];
      double &a = y[base.interleaved ? 2 * i : i],
             &b = y[base.interleaved ? 2 * i + 1 : base.rotaryDim / 2 + i];
      double turnedA = a * cos - b * sin;
      b = b * cos + a * sin;
      a = turnedA;
    }
    return y;
  }
};

// --- Rotary embedding and append

class RopeProblem : public CacheProblem {
public:
  explicit RopeProblem(Fields &fields) : CacheProblem(fields) {
    base.kind = KernelKind::RopeAppend;
    readRotation(fields, base.headDim);
    // One packed row: queries, keys, values.
    width = (base.heads + 2 * base.kvHeads) * base.headDim;
    base.inStride = base.keyStride = base.valueStride = width;
    for (bool one : {false, true}) {
      specs.push_back(base);
      specs.back().one = one;
    }
    untouchedBytes.assign(size_t(std::max(shape(true).bytes(), shape(false).bytes())),
                          std::byte(0x55));
    untouched = untouchedBytes.data();
    packed = normal(rows * width);
    packed[width - 1] = 1e6f; // more than a float16 holds
    packed[width - 2] = -INFINITY;
    weights = normal(2 * base.headDim);
    makeTable();
  }

  int64_t addMany(Job &job, int64_t threads) override {
    return addRun(job, 0, rows, false, threads);
  }
  int64_t addOne(Job &job, int64_t row, int64_t threads) override {
    return addRun(job, row, 1, true, threads);
  }

  /// Row by row: queries, keys, values, and how many other elements of the caches changed.
  std::vector<float> result(const Job &job, int64_t run, int64_t rowsOfRun) const override {
    const Memory &in = job.buffers[run], &keys = job.buffers[run + 1],
                 &values = job.buffers[run + 2];
    const int32_t *meta = job.buffers[run + 3].as<int32_t>();
    std::vector<float> out;
    int64_t changed = 0;
    for (int64_t slot = 0; slot < slots; ++slot)
      for (int64_t position = 0; position < capacity; ++position) {
        bool written = false;
        for (int64_t row = 0; row < rowsOfRun; ++row)
          written |= meta[maxTokens + row] == slot && meta[row] == position;
        for (int64_t h = 0; !written && h < base.kvHeads; ++h)
          for (int64_t d = 0; d < base.headDim; ++d)
            for (bool isKey : {true, false})
              changed += number(isKey, untouched, slot, h, position, d) !=
                         number(isKey, isKey ? keys.data() : values.data(), slot, h, position, d);
      }
    for (int64_t row = 0; row < rowsOfRun; ++row) {
      for (int64_t i = 0; i < base.heads * base.headDim; ++i)
        out.push_back(in.as<float>()[row * width + i]);
      for (int64_t h = 0; h < base.kvHeads; ++h)
        for (int64_t d = 0; d < base.headDim; ++d) {
          out.push_back(number(true, keys.data(), meta[maxTokens + row], h, meta[row], d));
          out.push_back(number(false, values.data(), meta[maxTokens + row], h, meta[row], d));
        }
      out.push_back(float(changed));
    }
    return out;
  }

  Expected expected() const override {
    Expected e;
    for (int64_t row = 0; row < rows; ++row) {
      const float *in = &packed[row * width];
      for (int64_t h = 0; h < base.heads; ++h) {
        std::vector<double> y = turned(in + h * base.headDim, weights.data(), row);
        for (double v : y) {
          e.value.push_back(v);
          e.tolerance.push_back(bound);
        }
      }
      for (int64_t h = 0; h < base.kvHeads; ++h) {
        std::vector<double> y =
            turned(in + (base.heads + h) * base.headDim, &weights[base.headDim], row);
        // What is no number or too large is limited; halves and floats are then exact.
        std::vector<float> turnedKey(y.begin(), y.end()), v(size_t(base.headDim));
        const float most = base.cache == CacheFormat::F32 ? FLT_MAX : 65504.0f;
        for (int64_t d = 0; d < base.headDim; ++d)
          v[size_t(d)] =
              std::clamp(in[(base.heads + base.kvHeads + h) * base.headDim + d], -most, most);
        for (int64_t d = 0; d < base.headDim; ++d) {
          e.value.push_back(y[d]);
          e.tolerance.push_back(bound + shape(true).step(turnedKey.data(), d));
          e.value.push_back(v[size_t(d)]);
          e.tolerance.push_back(shape(false).step(v.data(), d));
        }
      }
      e.value.push_back(0);
      e.tolerance.push_back(0);
    }
    return e;
  }

private:
  /// Bytes of a cache before it is written: finite, and never a key or value of the random data.
  std::vector<std::byte> untouchedBytes;
  const std::byte *untouched = nullptr;
  /// Values are below 64 in magnitude (normal data, at most two factors of them): a few roundings
  /// of that.
  static constexpr double bound = 16 * 64 * roundoff;
  int64_t width;
  std::vector<float> packed;

  float number(bool isKey, const std::byte *cache, int64_t slot, int64_t head, int64_t position,
               int64_t d) const {
    return float(shape(isKey).get(cache, slot, head, position, d).value);
  }

  int64_t addRun(Job &job, int64_t first, int64_t count, bool one, int64_t threads) {
    Call call = newCall(one, count);
    int32_t in = job.add(&packed[first * width], count * width * sizeof(float));
    int32_t keys = job.add(untouched, size_t(shape(true).bytes()));
    int32_t values = job.add(untouched, size_t(shape(false).bytes()));
    call.operands[0].buffer = call.operands[1].buffer = call.operands[2].buffer = in;
    call.operands[1].offset = base.heads * base.headDim * 4;
    call.operands[2].offset = (base.heads + base.kvHeads) * base.headDim * 4;
    call.operands[5].buffer = keys;
    call.operands[6].buffer = values;
    call.operands[7].buffer = addPlaces(job, first, count);
    if (base.rotaryDim)
      call.operands[3].buffer = job.add(table);
    if (base.queryNorm)
      call.operands[4].buffer = job.add(weights);
    job.addForThreads(call, threads);
    return in;
  }
};

// --- Attention

class AttentionProblem : public CacheProblem {
public:
  explicit AttentionProblem(Fields &fields) : CacheProblem(fields) {
    base.window = fields.integer("window", 0);
    base.bidirectional = fields.integer("both", 0) != 0;
    base.softcap = fields.real("softcap", 0);
    base.slopes = fields.integer("slopes", 0) != 0;
    for (int64_t h = 0; h < base.heads; ++h)
      slopes.push_back(std::exp2(-8.0f * float(h + 1) / float(base.heads)));
    base.scalar = fields.real("scale", 1 / std::sqrt(double(base.headDim)));
    width = base.heads * base.headDim;
    base.inStride = width + 2 * base.kvHeads * base.headDim;
    base.outStride = width;
    for (KernelKind kind :
         {KernelKind::AttentionMany, KernelKind::AttentionOne, KernelKind::AttentionMerge}) {
      specs.push_back(base);
      specs.back().kind = kind;
      specs.back().one = kind != KernelKind::AttentionMany;
    }
    if (fields.integer("appends", 0))
      addAppending(fields);
    if (std::string name = fields.text("out", "float"); name != "float") {
      auto found = findActivation(name);
      if (!found.ok())
        throw std::invalid_argument(found.status().message());
      specs[2].result = *found;
      KernelSpec quantize;
      quantize.kind = KernelKind::Quantize;
      quantize.activation = *found;
      quantize.cols = quantize.inStride = width;
      specs.insert(specs.begin() + 3, quantize);
    }
    queries = normal(rows * base.inStride, fields.real("deviation", 1));
    weights = normal(2 * base.headDim);
    makeTable();
    for (bool isKey : {true, false}) {
      std::vector<std::byte> &cache = isKey ? keys : values;
      cache.resize(size_t(shape(isKey).bytes()));
      for (int64_t slot = 0; slot < slots; ++slot)
        for (int64_t h = 0; h < base.kvHeads; ++h)
          for (int64_t position = 0; position < capacity; ++position)
            shape(isKey).put(cache, slot, h, position, normal(base.headDim).data());
    }
  }

  int64_t addMany(Job &job, int64_t threads) override {
    Call call = newCall(0, rows);
    call.operands[0].buffer = job.add(queries);
    addCaches(job, call, 0, rows);
    if (appends()) {
      Call append = newCall(specs.size() - 1, rows);
      append.operands[0] = append.operands[1] = append.operands[2] = call.operands[0];
      append.operands[1].offset = keysAt() * 4;
      append.operands[2].offset = (keysAt() + valuesAfterKeys()) * 4;
      addTables(job, append);
      append.operands[5] = call.operands[1];
      append.operands[6] = call.operands[2];
      append.operands[7] = call.operands[3];
      job.addForThreads(append, threads);
    }
    int32_t out = job.add(nullptr, rows * width * sizeof(float));
    call.operands[4].buffer = out;
    job.addForThreads(call, threads);
    if (!specs[2].result)
      return out;
    Call quantize = newCall(3, rows);
    quantize.operands[0].buffer = out;
    const ActivationLayout to = resultLayout(false);
    int32_t written =
        job.add(nullptr, roundUp(rows, to.interleave) / to.interleave * to.blockBytes);
    quantize.operands[1].buffer = written;
    job.addForThreads(quantize, threads);
    return written;
  }

  int64_t addOne(Job &job, int64_t row, int64_t threads) override {
    Call call = newCall(1, 1);
    call.operands[0].buffer = job.add(&queries[row * base.inStride], base.inStride * sizeof(float));
    addCaches(job, call, row, 1);
    int32_t partials = job.add(nullptr, base.heads * (capacity / attentionBlock) *
                                            partialStride(base.headDim) * 4);
    call.operands[4].buffer = partials;
    const OperandRef places = call.operands[3];
    if (appends()) {
      const Call reading = call;
      call.operands[1] = reading.operands[0];
      call.operands[1].offset = keysAt() * 4;
      call.operands[2].buffer = partials;
      addTables(job, call);
      if (base.slopes)
        call.operands[3] = reading.operands[5];
      call.operands[5] = reading.operands[1];
      call.operands[6] = reading.operands[2];
      call.operands[7] = places;
    }
    job.addForThreads(call, threads);
    Call merge = newCall(2, 1);
    merge.operands[0].buffer = partials;
    merge.operands[1] = places;
    int32_t out = job.add(nullptr, specs[2].result ? resultLayout(true).blockBytes
                                                   : width * int64_t(sizeof(float)));
    merge.operands[2].buffer = out;
    job.addForThreads(merge, threads);
    return out;
  }

  std::vector<float> result(const Job &job, int64_t run, int64_t rowsOfRun) const override {
    if (specs[2].result)
      return readActivations(resultLayout(rowsOfRun == 1), job.buffers[run].data(), rowsOfRun);
    const float *out = job.buffers[run].as<float>();
    return {out, out + rowsOfRun * width};
  }

  double products(bool one) const override {
    double sum = 0;
    for (int64_t row = one ? rows - 1 : 0; row < rows; ++row)
      sum += 2 * double((positionOf[row] + 1) * width);
    return sum;
  }

  Expected expected() const override {
    AttentionProblem after = *this; // appending, which rows of other slots do not see
    for (int64_t row = 0; row < rows && appends(); ++row)
      after.append(row);
    Expected e;
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t h = 0; h < base.heads; ++h)
        after.attend(row, h, e);
    if (specs[2].result)
      return expectedActivations(resultLayout(false), *specs[2].result, e.value, e.tolerance, rows);
    return e;
  }

private:
  int64_t width;
  std::vector<float> queries, slopes; ///< a row is queries, keys, values
  std::vector<std::byte> keys, values;

  /// Keys and values of the rows, each of a slot of its own, are appended first: of one row by
  /// AttentionOne, of many by RopeAppend.
  bool appends() const { return specs[1].appends; }
  int64_t keysAt() const { return width; }
  int64_t valuesAfterKeys() const { return base.kvHeads * base.headDim; }

  void addAppending(Fields &fields) {
    readRotation(fields, 0);
    KernelSpec rope = base;
    rope.kind = KernelKind::RopeAppend;
    rope.keyStride = rope.valueStride = base.inStride;
    KernelSpec &one = specs[1];
    one.appends = true;
    one.rotaryDim = base.rotaryDim;
    one.interleaved = base.interleaved;
    one.compactRotary = base.compactRotary;
    one.queryNorm = one.keyNorm = base.queryNorm;
    one.epsilon = base.epsilon;
    one.firstIndex = valuesAfterKeys();
    specs.push_back(rope);
  }
  void addTables(Job &job, Call &call) {
    if (base.rotaryDim)
      call.operands[3].buffer = job.add(table);
    if (base.queryNorm)
      call.operands[4].buffer = job.add(weights);
  }
  void append(int64_t row) {
    float *in = &queries[row * base.inStride];
    auto turn = [&](int64_t at, const float *norm) {
      std::vector<double> y = turned(in + at, norm, row);
      std::copy(y.begin(), y.end(), in + at);
    };
    for (int64_t h = 0; h < base.heads; ++h)
      turn(h * base.headDim, weights.data());
    for (int64_t h = 0; h < base.kvHeads; ++h) {
      const int64_t at = keysAt() + h * base.headDim;
      turn(at, &weights[base.headDim]);
      shape(true).put(keys, slotOf[row], h, positionOf[row], in + at);
      shape(false).put(values, slotOf[row], h, positionOf[row], in + at + valuesAfterKeys());
    }
  }

  void addCaches(Job &job, Call &call, int64_t first, int64_t count) {
    if (base.slopes)
      call.operands[5].buffer = job.add(slopes);
    call.operands[1].buffer = job.add(keys);
    call.operands[2].buffer = job.add(values);
    call.operands[3].buffer = addPlaces(job, first, count);
  }

  ActivationLayout resultLayout(bool one) const {
    return activationLayout(*specs[2].result, width, one, tiles);
  }

  /// A query as kernels take it: rounded like the keys if those have 8 bits.
  std::vector<double> roundedQuery(const float *q) const {
    std::vector<double> rounded(q, q + base.headDim);
    if (cacheInfo(base.cache).keyBits != 8)
      return rounded;
    for (int64_t first = 0; first < base.headDim; first += keyGroup) {
      const int64_t end = std::min(base.headDim, first + keyGroup);
      float most = 0;
      for (int64_t d = first; d < end; ++d)
        most = std::max(most, std::fabs(q[d]));
      const float scale = most / 127, inverse = scale > 0 ? 1 / scale : 0;
      for (int64_t d = first; d < end; ++d)
        rounded[size_t(d)] = double(scale) * std::nearbyint(q[d] * inverse);
    }
    return rounded;
  }

  void attend(int64_t row, int64_t h, Expected &e) const {
    const int64_t kvHead = h / (base.heads / base.kvHeads), slot = slotOf[row];
    const int64_t first = base.window ? std::max<int64_t>(0, positionOf[row] - base.window + 1) : 0;
    int64_t last = base.bidirectional ? endOf[row] : positionOf[row];
    if (base.bidirectional && base.window)
      last = std::min(last, positionOf[row] + base.window - 1);
    const std::vector<double> q = roundedQuery(&queries[row * base.inStride + h * base.headDim]);
    std::vector<double> scores;
    double most = -INFINITY, magnitude = 0, sum = 0;
    for (int64_t t = first; t <= last; ++t) {
      double dot = 0, absolute = 0;
      for (int64_t d = 0; d < base.headDim; ++d) {
        double term = q[size_t(d)] * shape(true).get(keys.data(), slot, kvHead, t, d).value;
        dot += term;
        absolute += std::fabs(term);
      }
      double s = dot * float(base.scalar);
      if (base.softcap != 0)
        s = base.softcap * std::tanh(s / base.softcap);
      if (base.slopes)
        s += double(slopes[size_t(h)]) * double(t - last);
      scores.push_back(s);
      most = std::max(most, s);
      magnitude = std::max(magnitude, absolute * base.scalar);
      if (base.slopes)
        magnitude = std::max(magnitude, std::fabs(s));
    }
    for (double &s : scores)
      sum += s = std::exp(s - most);
    // Scores are off by headDim roundings (and those of two scales) of the largest sum of
    // magnitudes (and tanh by 3e-7 of the cap); a weight then by twice that (its own score and the
    // maximum), the exponential and the sums over blocks.
    double scoreError = double(base.headDim + 4) * roundoff * magnitude + 3e-7 * base.softcap;
    // Weights of 8-bit values: an exponential of few terms (1.1e-4, in numerator and denominator)
    // of a score to which the logarithm of a scale was added (1.5e-5, and half an ulp of 24).
    const double coarse = cacheInfo(base.cache).valueBits == 8 ? 2 * (1.1e-4 + 1.3e-5) : 0;
    double steps = double(attentionBlock) + 4.0 * double(last / attentionBlock + 1) + 16;
    for (int64_t d = 0; d < base.headDim; ++d) {
      double y = 0, absolute = 0;
      for (int64_t t = first; t <= last; ++t) {
        const CacheShape::Number v = shape(false).get(values.data(), slot, kvHead, t, d);
        y += scores[t - first] / sum * v.value;
        absolute += scores[t - first] / sum * v.magnitude;
      }
      e.value.push_back(y);
      e.tolerance.push_back(absolute * (4 * scoreError + 2 * steps * roundoff + coarse) +
                            weightError(scores, sum, slot, kvHead, first, d));
    }
  }

  /// What rounding weights to 8 bits of the largest of their block may add to dimension d: half a
  /// step for each position, and a little where a weight that is slightly off falls on the other
  /// side of a half.
  double weightError(const std::vector<double> &scores, double sum, int64_t slot, int64_t kvHead,
                     int64_t first, int64_t d) const {
    if (cacheInfo(base.cache).valueBits != 8)
      return 0;
    double error = 0;
    const int64_t end = first + int64_t(scores.size());
    for (int64_t block = first / attentionBlock * attentionBlock; block < end;
         block += attentionBlock) {
      double most = 0, codes = 0;
      for (int64_t t = std::max(block, first); t < std::min(end, block + attentionBlock); ++t) {
        most = std::max(most, scores[size_t(t - first)] / sum *
                                  shape(false).scale(values.data(), slot, kvHead, t, d));
        codes += shape(false).get(values.data(), slot, kvHead, t, d).magnitude /
                 std::max(1e-30, shape(false).scale(values.data(), slot, kvHead, t, d));
      }
      error += 0.51 * most / 254 * codes;
    }
    return error;
  }
};

} // namespace

std::unique_ptr<Problem> makeAttentionProblem(Fields &fields) {
  if (fields.kind == "rope")
    return std::make_unique<RopeProblem>(fields);
  return std::make_unique<AttentionProblem>(fields);
}

} // namespace smelt::conformance
