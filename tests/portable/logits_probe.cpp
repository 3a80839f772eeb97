// Prints the bits of a model's logits after a fixed prompt, for comparison between processors, threads and cuts of the prompt.
//
// usage: logits_probe ARTIFACT TARGET THREADS CHUNK SLOT     (TARGET: a name of targets.def, or "best")
#include "runtime/model/session.h"

#include <bit>
#include <cstdio>
#include <cstdlib>
#include <string>

using namespace smelt;

static int fail(const Status &status) {
  std::fprintf(stderr, "%s\n", status.message().c_str());
  return 1;
}

int main(int argc, char **argv) {
  if (argc != 6) {
    std::fprintf(stderr, "usage: logits_probe ARTIFACT TARGET THREADS CHUNK SLOT\n");
    return 2;
  }
  const std::string target = argv[2];
  auto model = Model::open(argv[1], target == "best" ? "" : target);
  if (!model)
    return fail(model.status());
  SessionOptions options;
  options.context = 128;
  options.slots = 3;
  options.threads = uint32_t(std::atoi(argv[3]));
  auto session = Session::create(*model, options);
  if (!session)
    return fail(session.status());

  // A prompt longer than an attention block, in chunks of CHUNK tokens (0: whatever append likes best).
  const size_t length = 75, chunk = size_t(std::atoi(argv[4]));
  const int32_t slot = std::atoi(argv[5]);
  std::vector<int32_t> prompt(length);
  for (size_t i = 0; i < length; ++i)
    prompt[i] = int32_t((i * i * 31 + 7 * i + 3) % (*model)->config().vocabSize);
  for (size_t at = 0; at < length;) {
    size_t count = chunk ? std::min(chunk, length - at) : length;
    if (Status status = (*session)->append(slot, std::span(prompt).subspan(at, count)); !status.ok())
      return fail(status);
    at += count;
    if (chunk == 0 || at >= length)
      continue;
    // A wrong turn, taken back: what it left in the cache must not count.
    if (Status status = (*session)->append(slot, std::span(prompt).first(9)); !status.ok())
      return fail(status);
    if (Status status = (*session)->truncate(slot, uint32_t(at)); !status.ok())
      return fail(status);
  }
  for (float value : (*session)->logits(0))
    std::printf("%08x\n", std::bit_cast<uint32_t>(value));
  return 0;
}
