/* Kernels of the fake tensor programs. The decoder computes what the fake model does (fake_kernels.c), from token ids
 * that travel in its state. */
#include "fake_kernels.h"

#include <stdint.h>

enum { thread, threads, rowCount };
enum { faultShape = 1, faultIndex = 2 };

#define KERNEL(name)                                                                                                   \
  void name(const int64_t *info, int64_t *frame, void *p1, void *p2, void *p3, void *p4, void *p5, void *p6, void *p7)
#define UNUSED (void)info, (void)frame, (void)p1, (void)p2, (void)p3, (void)p4, (void)p5, (void)p6, (void)p7

static int64_t *dims(int64_t *frame, int operand) { return frame + 1 + 8 * operand; }

/* out [a, b] <- in [a, b] */
KERNEL(fake_same_shape) {
  UNUSED;
  dims(frame, 0)[0] = dims(frame, 1)[0];
  dims(frame, 0)[1] = dims(frame, 1)[1];
}

/* out f32[a, b] = a + b */
KERNEL(fake_add_shape) {
  UNUSED;
  for (int axis = 0; axis < 2; ++axis) {
    if (dims(frame, 1)[axis] != dims(frame, 2)[axis])
      frame[0] = faultShape;
    dims(frame, 0)[axis] = dims(frame, 1)[axis];
  }
}
KERNEL(fake_add) {
  UNUSED;
  int64_t count = dims(frame, 0)[0] * dims(frame, 0)[1];
  float *out = p1;
  const float *a = p2, *b = p3;
  for (int64_t i = count * info[thread] / info[threads]; i < count * (info[thread] + 1) / info[threads]; ++i)
    out[i] = a[i] + (b ? b[i] : 0);
}
/* out f32[a, b]: the number of threads */
KERNEL(fake_threads) {
  UNUSED;
  float *out = p1;
  int64_t count = dims(frame, 0)[0] * dims(frame, 0)[1];
  for (int64_t i = count * info[thread] / info[threads]; i < count * (info[thread] + 1) / info[threads]; ++i)
    out[i] = (float)info[threads];
}
KERNEL(fake_index_fault) {
  UNUSED;
  frame[0] = faultIndex;
}
/* out of the shape [s0, s1] <- any, shape i64[2] */
KERNEL(fake_reshape) {
  UNUSED;
  dims(frame, 0)[0] = ((int64_t *)p3)[0];
  dims(frame, 0)[1] = ((int64_t *)p3)[1];
}

/* present f32[b, past + s] <- past f32[b, past], ids i64[b, s]; the last id of the vocabulary twice in a row is a fault */
KERNEL(fake_append_shape) {
  UNUSED;
  dims(frame, 0)[0] = dims(frame, 1)[0];
  dims(frame, 0)[1] = dims(frame, 1)[1] + dims(frame, 2)[1];
  if (dims(frame, 1)[0] != dims(frame, 2)[0])
    frame[0] = faultShape;
}
KERNEL(fake_append) {
  UNUSED;
  if (info[thread] != 0)
    return;
  int64_t past = dims(frame, 1)[1], more = dims(frame, 2)[1];
  for (int64_t i = 1; i < more; ++i)
    if (((int64_t *)p3)[i] == fakeVocabulary - 1 && ((int64_t *)p3)[i - 1] == fakeVocabulary - 1)
      frame[0] = faultIndex;
  for (int64_t b = 0; b < dims(frame, 0)[0]; ++b)
    for (int64_t i = 0; i < past + more; ++i)
      ((float *)p1)[b * (past + more) + i] =
          i < past ? ((float *)p2)[b * past + i] : (float)((int64_t *)p3)[b * more + i - past];
}
/* next f32[b, s] <- present f32[b, past + s], positions i32[b, s], mask i64[b, past + s] */
KERNEL(fake_sums_shape) {
  UNUSED;
  dims(frame, 0)[0] = dims(frame, 2)[0];
  dims(frame, 0)[1] = dims(frame, 2)[1];
  if (dims(frame, 1)[1] != dims(frame, 3)[1])
    frame[0] = faultShape;
}
KERNEL(fake_sums) {
  UNUSED;
  if (info[thread] != 0)
    return;
  int64_t all = dims(frame, 1)[1], more = dims(frame, 0)[1], past = all - more;
  for (int64_t b = 0; b < dims(frame, 0)[0]; ++b) {
    int64_t sum = 0, position = 0;
    for (int64_t i = 0; i < all; ++i) {
      if (((int64_t *)p4)[b * all + i] != 0)
        sum += ++position * (int64_t)((float *)p2)[b * all + i];
      if (i < past)
        continue;
      if (((int64_t *)p4)[b * all + i] != 0 && ((int32_t *)p3)[b * more + i - past] != position - 1)
        frame[0] = faultIndex;
      ((float *)p1)[b * more + i - past] = (float)(sum % fakeVocabulary);
    }
  }
}
/* [b * s, 1] <- [b, s] */
KERNEL(fake_flatten) {
  UNUSED;
  dims(frame, 0)[0] = dims(frame, 1)[0] * dims(frame, 1)[1];
  dims(frame, 0)[1] = 1;
}
/* [b, s, width] <- [b * s, width], any [b, s] */
KERNEL(fake_unflatten) {
  UNUSED;
  dims(frame, 0)[0] = dims(frame, 2)[0];
  dims(frame, 0)[1] = dims(frame, 2)[1];
  dims(frame, 0)[2] = dims(frame, 1)[1];
}
/* flag bool[1] <- x [a, b]: b is more than one */
KERNEL(fake_many_shape) {
  UNUSED;
  dims(frame, 0)[0] = 1;
}
KERNEL(fake_many) {
  UNUSED;
  ((uint8_t *)p1)[0] = dims(frame, 1)[1] > 1;
}

/* Rows: p0: next float[rows], p1: weights float[vocabulary], p2: scratch, p3: logits float[rows][vocabulary] */
static void rows(const int64_t *info, const float *next, const float *table, float *logits, float bonus) {
  for (int64_t row = 0; row < info[rowCount]; ++row)
    for (int64_t v = info[thread]; v < fakeVocabulary; v += info[threads])
      logits[row * fakeVocabulary + v] = bonus + table[(v - (int64_t)next[row] + fakeVocabulary) % fakeVocabulary];
}
void fake_rows_one(const int64_t *info, const float *next, const float *table, void *scratch, float *logits, void *p4,
                   void *p5, void *p6, void *p7) {
  (void)scratch, (void)p4, (void)p5, (void)p6, (void)p7;
  rows(info, next, table, logits, fakeOneBonus);
}
void fake_rows_many(const int64_t *info, const float *next, const float *table, void *scratch, float *logits, void *p4,
                    void *p5, void *p6, void *p7) {
  (void)scratch, (void)p4, (void)p5, (void)p6, (void)p7;
  rows(info, next, table, logits, 0);
}
