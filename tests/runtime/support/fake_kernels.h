/* Sizes of the fake model, shared by its kernels and the tests that know what it computes. */
#ifndef FAKE_KERNELS_H
#define FAKE_KERNELS_H

enum {
  fakeVocabulary = 64,
  fakeMaxTokens = 8,
  fakeMaxLogitRows = 4,
  fakeMaxContext = 96,
  fakePositionBlock = 16,
  fakeHeadDim = 4,
  fakeOneBonus = 1000 /* added to all logits by the kernel for one row */
};

#endif
