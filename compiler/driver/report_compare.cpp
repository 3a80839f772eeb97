// What changed between two reports.
#include "compiler/driver/report.h"

#include <cmath>
#include <cstdio>
#include <map>

namespace smelt {

namespace {

/// A member below members: "quality.mean_kl".
const Json *find(const Json &report, std::string_view path) {
  const Json *at = &report;
  while (at && !path.empty()) {
    const size_t dot = std::min(path.find('.'), path.size());
    at = at->find(path.substr(0, dot));
    path.remove_prefix(std::min(dot + 1, path.size()));
  }
  return at;
}

constexpr struct {
  const char *path, *name;
} measures[] = {
    {"bytes", "size in bytes"},
    {"decoder_bits_per_weight", "decoder bits per weight"},
    {"quality.mean_kl", "mean KL"},
    {"quality.median_kl", "median KL"},
    {"quality.kl_99", "99 % KL"},
    {"quality.kl_99_9", "99.9 % KL"},
    {"quality.same_top", "same top token"},
    {"quality.ppl", "perplexity"},
    {"quality.ppl_ratio", "perplexity ratio"},
    {"quality.rms_delta_p", "RMS delta p"},
    {"speed.first_token_seconds", "seconds to first token"},
    {"speed.session_bytes", "bytes of a session"},
    {"speed.decode_tokens_per_second.16", "decode tokens/s at 16"},
    {"speed.decode_tokens_per_second.1000", "decode tokens/s at 1000"},
    {"speed.prefill_tokens_per_second.512", "prefill tokens/s at 512"},
    {"speed.texts.texts_per_second", "texts/s"},
};

std::string formatsOf(const Json &linear) {
  std::string text;
  for (const char *key : {"weights", "activations"})
    if (const Json *value = linear.find(key); value && value->string())
      text += (text.empty() ? "" : ", ") + *value->string();
  return text;
}

/// Linears that are stored another way.
std::string changedLinears(const Json &before, const Json &after) {
  std::map<std::string, std::string> old;
  auto each = [](const Json &report, auto &&visit) {
    const Json *linears = report.find("linears");
    if (linears && linears->array())
      for (const Json &linear : *linears->array())
        if (const Json *name = linear.find("name"); name && name->string())
          visit(*name->string(), formatsOf(linear));
  };
  each(before, [&](const std::string &name, const std::string &formats) { old[name] = formats; });
  std::string text;
  each(after, [&](const std::string &name, const std::string &formats) {
    auto found = old.find(name);
    if (found == old.end())
      text += "  " + name + ": new, " + formats + "\n";
    else if (found->second != formats)
      text += "  " + name + ": " + found->second + " -> " + formats + "\n";
    old.erase(name);
  });
  for (const auto &[name, formats] : old)
    text += "  " + name + ": gone, " + formats + "\n";
  return text;
}

} // namespace

Result<Comparison> compareReports(const Json &before, const Json &after,
                                  const CompareLimits &limits) {
  Comparison result;
  char line[200];
  for (const auto &measure : measures) {
    const Json *old = find(before, measure.path), *now = find(after, measure.path);
    if (!old || !now)
      continue;
    const double a = old->number(), b = now->number();
    std::snprintf(line, sizeof line, "%-24s %14.6g %14.6g", measure.name, a, b);
    result.text += line;
    if (a != 0) {
      std::snprintf(line, sizeof line, "  %+.2f %%", 100 * (b - a) / std::fabs(a));
      result.text += line;
    }
    result.text += "\n";
  }
  if (std::string changed = changedLinears(before, after); !changed.empty())
    result.text += "linears stored another way\n" + changed;

  auto check = [&](const char *path, const char *name, const char *option, double limit) -> Status {
    if (limit < 0)
      return {};
    const Json *old = find(before, path), *now = find(after, path);
    if (!old || !now)
      return invalidArgument(std::string("--") + option + ": " +
                             (old ? "the second" : "the first") + " report holds no " + name +
                             "; make both with --reference and --text");
    const double a = old->number(), b = now->number();
    if (b > a * (1 + limit)) {
      std::snprintf(line, sizeof line, "%s went from %.6g to %.6g, more than %.6g %% up", name, a,
                    b, 100 * limit);
      result.exceeded.push_back(line);
    }
    return {};
  };
  SMELT_TRY(check("quality.mean_kl", "mean KL", "max-kl-increase", limits.klIncrease));
  SMELT_TRY(check("bytes", "size", "max-size-increase", limits.sizeIncrease));
  return result;
}

} // namespace smelt
