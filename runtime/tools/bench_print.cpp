// The results of `smelt bench` for people.
#include "runtime/tools/bench_print.h"

#include "runtime/tools/common.h"

#include <cstdio>
#include <string>

namespace smelt::cli {

namespace {

void printProfile(const std::string &title, const Json &profile) {
  double total = 0;
  if (!profile.object())
    return;
  for (const auto &[label, value] : *profile.object())
    total += value.number();
  std::printf("%s: us per token, share\n", title.c_str());
  for (const auto &[label, value] : *profile.object())
    std::printf("  %-12s %9.2f  %5.1f %%\n", label.c_str(), value.number(),
                total > 0 ? 100 * value.number() / total : 0.0);
}

/// Steps of several tokens: what they cost, and what that is good for.
void printSeveral(const Json &out) {
  if (const Json::Object *steps = out.find("step_seconds")->object()) {
    std::printf("step of N tokens    ");
    for (const auto &[count, seconds] : *steps)
      std::printf(" %s: %.2f", count.c_str(), seconds.number() / steps->front().second.number());
    std::printf(" times that of one\n");
  }
  if (const Json &slots = *out.find("slots_together"); slots.object())
    std::printf("%2.0f slots together   %9.1f tok/s  %5.2f times one slot\n",
                slots.find("slots")->number(), slots.find("tokens_per_second")->number(),
                slots.find("ratio")->number());
  if (const Json::Object *kinds = out.find("speculation")->object())
    for (const auto &[kind, row] : *kinds)
      std::printf("drafts, %-12s%9.1f tok/s  %5.2f times plain, same tokens; %.0f of %.0f drafted "
                  "tokens accepted\n",
                  kind.c_str(), row.find("tokens_per_second")->number(),
                  row.find("ratio")->number(), row.find("accepted_tokens")->number(),
                  row.find("drafted_tokens")->number());
}

/// Decoding, and the limit that stops it.
void printDecoding(const Json &out) {
  if (const Json::Object *series = out.find("decode_tokens_per_second")->object())
    for (const auto &[length, speed] : *series)
      std::printf("decode at %-5s      %9.1f tok/s  %5.1f %% of read bandwidth\n", length.c_str(),
                  speed.number(),
                  100 * out.find("share_of_read_bandwidth")->find(length)->number());
  std::printf("weights per token    %s\nread bandwidth       %9.1f GB/s\n",
              bytesText(out.find("decode_weight_bytes")->number()).c_str(),
              out.find("read_bytes_per_second")->number() * 1e-9);
  printSeveral(out);
}

void printTexts(const Json &texts) {
  auto number = [&](const char *key) { return texts.find(key)->number(); };
  std::printf("one short text       %9.2f ms\n%2.0f texts together   %9.1f texts/s, %.1f tok/s "
              "(%.0f tokens)\n",
              1e3 * number("short_text_seconds"), number("texts"), number("texts_per_second"),
              number("tokens_per_second"), number("tokens"));
}

void printSession(const Json &out) {
  auto number = [&](const char *key) { return out.find(key)->number(); };
  std::printf("first of 16 tokens   %9.3f s\n", number("first_token_seconds"));
  std::printf("session              %s reserved\n", bytesText(number("session_bytes")).c_str());
  if (const Json::Object *series = out.find("prefill_tokens_per_second")->object())
    for (const auto &[length, speed] : *series)
      std::printf("prefill %-5s        %9.1f tok/s\n", length.c_str(), speed.number());
  if (out.find("decode_tokens_per_second"))
    printDecoding(out);
  std::printf("barrier              %9.0f ns\n", number("barrier_seconds") * 1e9);
}

} // namespace

void printSpeed(const Json &out) {
  auto number = [&](const char *key) { return out.find(key)->number(); };
  std::printf("%s, %s, %s, %.0f threads\n", out.find("file")->string()->c_str(),
              bytesText(number("bytes")).c_str(), out.find("target")->string()->c_str(),
              number("threads"));
  std::printf("load                 %9.3f s\npeak memory          %s\n", number("load_seconds"),
              bytesText(number("peak_bytes")).c_str());
  if (out.find("session_bytes"))
    printSession(out);
  if (const Json *texts = out.find("texts"); texts && texts->object())
    printTexts(*texts);
  for (const char *kind : {"prefill", "decode"})
    if (const Json *profiles = out.find(std::string(kind) + "_profile"))
      for (const auto &[length, profile] : *profiles->object())
        for (const auto &[parts, times] : *profile.object())
          printProfile(std::string(kind) + " at " + length + ", " + parts, times);
}

} // namespace smelt::cli
