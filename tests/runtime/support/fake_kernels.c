/* The code section of the fake model. It remembers token ids in the caches; the likeliest next token is
 *   (sum over positions p of (p + 1) * id[p]) mod vocabulary
 * so that any mistake in positions, slots, caches or row selection changes the answer. */
#include "fake_kernels.h"

#include <stdint.h>

enum { thread, threads, tokens, logitRows, capacity, slots };

/* First row of the share of thread t. */
static int64_t share(const int64_t *info, int64_t rows, int64_t t) { return rows * t / info[threads]; }

/* p0: tokens, p1: positions and slots, p2: key cache, p3: value cache [slot][capacity][headDim] */
void fake_store(const int64_t *info, const int32_t *ids, const int32_t *positions, float *keys, float *values,
                void *p4, void *p5, void *p6, void *p7) {
  (void)p4, (void)p5, (void)p6, (void)p7;
  for (int64_t row = share(info, info[tokens], info[thread]); row < share(info, info[tokens], info[thread] + 1); ++row) {
    int64_t position = positions[row], slot = positions[fakeMaxTokens + row];
    values[(slot * info[capacity] + position) * fakeHeadDim] = (float)ids[row];
    keys[((slot * (info[capacity] / 16) + position / 16) * fakeHeadDim) * 16 + position % 16] = (float)ids[row];
  }
}

/* p0: positions and slots, p1: key cache, p2: value cache, p3: scratch int64[maxTokens] */
void fake_attend(const int64_t *info, const int32_t *positions, const float *keys, const float *values, int64_t *sums,
                 void *p4, void *p5, void *p6, void *p7) {
  (void)p4, (void)p5, (void)p6, (void)p7;
  for (int64_t row = share(info, info[tokens], info[thread]); row < share(info, info[tokens], info[thread] + 1); ++row) {
    int64_t slot = positions[fakeMaxTokens + row], sum = 0;
    for (int64_t p = 0; p <= positions[row]; ++p) {
      float value = values[(slot * info[capacity] + p) * fakeHeadDim];
      float key = keys[((slot * (info[capacity] / 16) + p / 16) * fakeHeadDim) * 16 + p % 16];
      sum += (p + 1) * (int64_t)(key == value ? value : -1000);
    }
    sums[row] = sum;
  }
}

static void head(const int64_t *info, const int32_t *rows, const int64_t *sums, const float *table, float *logits,
                 float bonus) {
  for (int64_t i = 0; i < info[logitRows]; ++i) {
    int64_t next = sums[rows[i]] % fakeVocabulary;
    for (int64_t v = share(info, fakeVocabulary, info[thread]); v < share(info, fakeVocabulary, info[thread] + 1); ++v)
      logits[i * fakeVocabulary + v] = bonus + table[(v - next + fakeVocabulary) % fakeVocabulary];
  }
}

/* p0: logit rows, p1: scratch, p2: weights float[vocabulary], p3: logits */
void fake_head_one(const int64_t *info, const int32_t *rows, const int64_t *sums, const float *table, float *logits,
                   void *p4, void *p5, void *p6, void *p7) {
  (void)p4, (void)p5, (void)p6, (void)p7;
  head(info, rows, sums, table, logits, fakeOneBonus);
}
void fake_head_many(const int64_t *info, const int32_t *rows, const int64_t *sums, const float *table, float *logits,
                    void *p4, void *p5, void *p6, void *p7) {
  (void)p4, (void)p5, (void)p6, (void)p7;
  head(info, rows, sums, table, logits, 0);
}
