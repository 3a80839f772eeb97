// The report as one HTML page.
#include "compiler/driver/report.h"
#include "compiler/driver/report_plots.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <set>

namespace smelt {

#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wc23-extensions"
static constexpr char styleSheet[] = {
#embed SMELT_REPORT_CSS
};
#pragma clang diagnostic pop

namespace {

using plot::bytesText;
using plot::escaped;
using plot::shortNumber;

std::string textOf(const Json &object, const char *key) {
  const Json *value = object.find(key);
  return value && value->string() ? *value->string() : std::string();
}

double numberOf(const Json &object, const char *key, double fallback = 0) {
  const Json *value = object.find(key);
  return value ? value->number(fallback) : fallback;
}

const Json::Array &listOf(const Json &object, const char *key) {
  static const Json::Array none;
  const Json *value = object.find(key);
  return value && value->array() ? *value->array() : none;
}

const Json::Object &membersOf(const Json *object) {
  static const Json::Object none;
  return object && object->object() ? *object->object() : none;
}

std::string card(const std::string &title, const std::string &content) {
  return "<section class=\"card\"><h3>" + escaped(title) + "</h3>" + content + "</section>\n";
}

std::string section(const std::string &title, const std::string &lead, const std::string &content) {
  return "<h2>" + escaped(title) + "</h2><p class=\"lead\">" + escaped(lead) + "</p>\n" + content;
}

std::string percent(double share, int digits = 2) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*f %%", digits, 100 * share);
  return text;
}

/// The figures that are looked for first.
/// The speed of an encoder; null: the report has none.
const Json *textsOf(const Json &report) {
  const Json *speed = report.find("speed"), *texts = speed ? speed->find("texts") : nullptr;
  return texts && texts->object() ? texts : nullptr;
}

std::string tiles(const Json &report) {
  std::string out;
  auto tile = [&](const std::string &value, const std::string &what) {
    out +=
        "<div class=\"tile\"><b>" + escaped(value) + "</b><span>" + escaped(what) + "</span></div>";
  };
  tile(bytesText(numberOf(report, "bytes")), "whole file");
  if (double bits = numberOf(report, "decoder_bits_per_weight"); bits > 0)
    tile(shortNumber(bits), "bits per decoder weight");
  if (const Json *quality = report.find("quality")) {
    if (quality->find("mean_kl")) {
      tile(shortNumber(numberOf(*quality, "mean_kl")), "mean KL divergence");
      tile(percent(numberOf(*quality, "same_top"), 1), "same likeliest token");
      char more[32];
      std::snprintf(more, sizeof more, "%+.2f %%", 100 * (numberOf(*quality, "ppl_ratio") - 1));
      tile(more, "perplexity over the reference's");
    } else if (quality->find("ppl")) {
      tile(shortNumber(numberOf(*quality, "ppl")), "perplexity");
    }
  }
  const Json *verified = report.find("verified");
  if (verified && !report.find("quality"))
    tile(shortNumber(numberOf(*verified, "kl")), "mean KL when it was compiled");
  if (const Json *speed = report.find("speed"))
    for (const auto &[length, value] : membersOf(speed->find("decode_tokens_per_second"))) {
      tile(shortNumber(value.number()), "tokens/s decoding at " + length);
      break;
    }
  if (const Json *texts = textsOf(report))
    tile(shortNumber(numberOf(*texts, "texts_per_second")), "texts/s of mixed length");
  return "<div class=\"tiles\">" + out + "</div>";
}

std::string partsSection(const Json &report) {
  const Json::Array &parts = listOf(report, "parts");
  const double all = std::max(1.0, numberOf(report, "bytes"));
  std::string stack, rows;
  for (size_t i = 0; i < parts.size(); ++i) {
    // Small parts share the last tone.
    const std::string tone = "tone" + std::to_string(std::min<size_t>(i, 5));
    const double bytes = numberOf(parts[i], "bytes"), bits = numberOf(parts[i], "bits");
    stack += "<i class=\"" + tone + "\" style=\"flex:" + shortNumber(1000 * bytes / all) +
             "\" title=\"" + escaped(textOf(parts[i], "part")) + "\"></i>";
    rows += "<tr><td><i class=\"chip " + tone + "\"></i>" + escaped(textOf(parts[i], "part")) +
            "</td><td class=\"n\">" + bytesText(bytes) + "</td><td class=\"n\">" +
            percent(bytes / all, 1) + "</td><td class=\"n\">" +
            (bits > 0 ? shortNumber(bits) : "") + "</td></tr>";
  }
  return section("Where the bytes are",
                 "Matrices by role and format, and everything else in the file.",
                 "<div class=\"card\"><div class=\"stack\">" + stack +
                     "</div><table><thead><tr><th>Part</th><th class=\"n\">Size</th><th "
                     "class=\"n\">Share</th><th class=\"n\">Bits/weight</th></tr></thead><tbody>" +
                     rows + "</tbody></table></div>");
}

/// Linears of layers, in order of rows (layers) and columns (kinds, as they come).
struct Layers {
  std::vector<int64_t> layers;
  std::vector<std::string> rows, kinds;
  std::map<std::pair<int64_t, std::string>, const Json *> linears;
};
Layers layersOf(const Json &report) {
  Layers found;
  std::set<int64_t> layers;
  for (const Json &linear : listOf(report, "linears")) {
    const int64_t layer = int64_t(numberOf(linear, "layer", -1));
    const std::string kind = textOf(linear, "kind");
    if (layer < 0)
      continue;
    layers.insert(layer);
    if (std::find(found.kinds.begin(), found.kinds.end(), kind) == found.kinds.end())
      found.kinds.push_back(kind);
    found.linears[{layer, kind}] = &linear;
  }
  found.layers.assign(layers.begin(), layers.end());
  for (int64_t layer : found.layers)
    found.rows.push_back(std::to_string(layer));
  return found;
}

/// A measure of linears on a logarithmic scale, and what its ends are.
std::string measureGrid(const Layers &layers, const char *key, const std::string &what) {
  std::vector<double> values;
  for (const auto &[place, linear] : layers.linears)
    if (double value = numberOf(*linear, key); value > 0)
      values.push_back(value);
  if (values.empty())
    return "";
  // A few that are far smaller than all others would make these look alike.
  std::sort(values.begin(), values.end());
  const double low = values[values.size() / 20], high = values.back();
  std::vector<std::vector<plot::Cell>> cells;
  for (int64_t layer : layers.layers) {
    auto &row = cells.emplace_back(layers.kinds.size());
    for (size_t k = 0; k < layers.kinds.size(); ++k) {
      auto found = layers.linears.find({layer, layers.kinds[k]});
      if (found == layers.linears.end())
        continue;
      const double value = numberOf(*found->second, key);
      row[k].shade = value <= low ? 0 : std::log(value / low) / std::log(high / low);
      row[k].title = textOf(*found->second, "name") + ": " + what + " " + shortNumber(value);
    }
  }
  return plot::grid(layers.rows, layers.kinds, cells) + "<div class=\"ramp\"><span>" +
         shortNumber(low) + "</span><i></i><span>" + shortNumber(high) + "</span></div>";
}

/// Formats or activations of linears by colour.
std::string formatGrid(const Layers &layers, const char *key) {
  std::map<std::string, std::pair<size_t, size_t>> names; // -> tone, linears
  std::vector<std::string> order;
  std::vector<std::vector<plot::Cell>> cells;
  for (int64_t layer : layers.layers) {
    auto &row = cells.emplace_back(layers.kinds.size());
    for (size_t k = 0; k < layers.kinds.size(); ++k) {
      auto found = layers.linears.find({layer, layers.kinds[k]});
      if (found == layers.linears.end())
        continue;
      const std::string name = textOf(*found->second, key);
      auto [place, isNew] = names.try_emplace(name, names.size(), 0);
      if (isNew)
        order.push_back(name);
      ++place->second.second;
      row[k].tone = "tone" + std::to_string(place->second.first % 6);
      row[k].title = textOf(*found->second, "name") + ": " + name;
    }
  }
  std::string legend;
  for (const std::string &name : order)
    legend += "<li><i class=\"tone" + std::to_string(names[name].first % 6) + "\"></i>" +
              escaped(name) + " × " + std::to_string(names[name].second) + "</li>";
  return plot::grid(layers.rows, layers.kinds, cells) + "<ul class=\"legend\">" + legend + "</ul>";
}

/// The linears that cost most, by contribution to the divergence if that is known.
std::string worstLinears(const Json &report) {
  std::vector<const Json *> linears;
  bool hasKl = false;
  for (const Json &linear : listOf(report, "linears")) {
    linears.push_back(&linear);
    hasKl |= numberOf(linear, "kl") > 0;
  }
  const char *key = hasKl ? "kl" : "output_error";
  std::stable_sort(linears.begin(), linears.end(), [&](const Json *a, const Json *b) {
    return numberOf(*a, key) > numberOf(*b, key);
  });
  std::string rows;
  for (size_t i = 0; i < std::min<size_t>(10, linears.size()); ++i) {
    const Json &linear = *linears[i];
    const int64_t layer = int64_t(numberOf(linear, "layer", -1));
    const std::string name =
        layer < 0 ? textOf(linear, "name") : std::to_string(layer) + " " + textOf(linear, "kind");
    rows += "<tr><td title=\"" + escaped(textOf(linear, "name")) + "\">" + escaped(name) +
            "</td><td>" +
            escaped(textOf(linear, "weights") + ", " + textOf(linear, "activations")) +
            "</td><td class=\"n\">" + bytesText(numberOf(linear, "bytes")) +
            "</td><td class=\"n\">" + shortNumber(numberOf(linear, key)) + "</td></tr>";
  }
  return "<div class=\"scroll\"><table class=\"wide\"><thead><tr><th>Layer, "
         "kind</th><th>Format</th><th "
         "class=\"n\">Size</th><th class=\"n\">" +
         std::string(hasKl ? "KL" : "Error") + "</th></tr></thead><tbody>" + rows +
         "</tbody></table></div>";
}

std::string layersSection(const Json &report) {
  const Layers layers = layersOf(report);
  std::string cards;
  if (!layers.layers.empty()) {
    if (std::string plot = measureGrid(layers, "output_error", "output error"); !plot.empty())
      cards += card("Output error of each linear",
                    plot + "<p class=\"note\">Relative squared error of what the linear gives, as "
                           "calibration sees it; logarithmic.</p>");
    if (std::string plot = measureGrid(layers, "kl", "KL"); !plot.empty())
      cards += card("Contribution to the KL divergence",
                    plot + "<p class=\"note\">Expected from the sensitivity of the model's output "
                           "to this linear; logarithmic.</p>");
    cards += card("Precision of activations", formatGrid(layers, "activations"));
    cards += card("Format of weights", formatGrid(layers, "weights"));
  }
  return section("Layer by layer",
                 "Rows are layers from the first to the last, columns are kinds "
                 "of matrices in the order in which they run.",
                 (cards.empty() ? "" : "<div class=\"cards\">" + cards + "</div>") +
                     "<div class=\"below\">" +
                     card("Linears that cost most", worstLinears(report)) + "</div>");
}

/// A histogram of powers of two.
std::string powers(const Json *histogram, const std::string &axis) {
  if (!histogram)
    return "";
  std::vector<double> counts;
  for (const Json &count : listOf(*histogram, "counts"))
    counts.push_back(count.number());
  const int64_t lowest = int64_t(numberOf(*histogram, "lowest_power_of_two"));
  const size_t perPower = size_t(std::max(1.0, numberOf(*histogram, "per_power", 1)));
  const size_t all = counts.size() / perPower, each = (all + 7) / 8;
  std::vector<plot::Tick> ticks;
  for (size_t edge = 0; edge <= all; edge += std::max<size_t>(1, each))
    ticks.push_back({edge * perPower, plot::power(2, lowest + int64_t(edge))});
  return plot::histogram(counts, ticks, axis);
}

std::string weightsSection(const Json &report) {
  std::string cards;
  if (const Json *weights = report.find("weights")) {
    cards += card("Largest weight of a group of 32",
                  powers(weights->find("largest_of_group"), "magnitude"));
    cards += card("Outliers of weights",
                  powers(weights->find("largest_over_rms"), "largest of a group over its RMS"));
  }
  if (const Json *activations = report.find("activations")) {
    cards += card("Outliers of activations",
                  powers(activations->find("peak_over_rms"), "largest of a channel over its RMS"));
    cards += card("Channels beside each other",
                  powers(activations->find("channel_over_mean"), "RMS of a channel over the mean"));
  }
  return section("Scales and outliers",
                 "A group whose largest weight stands far out spends its few codes on it; an "
                 "activation channel that does so coarsens its whole group.",
                 "<div class=\"cards pairs\">" + cards + "</div>");
}

std::string divergencePlot(const Json &quality) {
  const Json *histogram = quality.find("kl_histogram");
  if (!histogram)
    return "";
  const Json::Array &all = listOf(*histogram, "counts");
  const size_t perDecade = size_t(std::max(1.0, numberOf(*histogram, "per_decade", 1)));
  // Whole decades, without those at the ends that hold almost nothing.
  double total = 0;
  for (const Json &count : all)
    total += count.number();
  auto decade = [&](size_t index) {
    double sum = 0;
    for (size_t i = 0; i < perDecade && index * perDecade + i < all.size(); ++i)
      sum += all[index * perDecade + i].number();
    return sum;
  };
  size_t first = 0, last = all.size() / perDecade;
  while (first + 1 < last && decade(first) < 5e-4 * total)
    ++first;
  while (last > first + 1 && decade(last - 1) == 0)
    --last;
  std::vector<double> counts;
  for (size_t i = first * perDecade; i < last * perDecade; ++i)
    counts.push_back(all[i].number());
  const int64_t lowest = int64_t(numberOf(*histogram, "lowest_log10"));
  std::vector<plot::Tick> ticks;
  for (size_t at = first; at <= last; ++at)
    ticks.push_back({(at - first) * perDecade, plot::power(10, lowest + int64_t(at))});
  return plot::histogram(counts, ticks, "KL divergence of a token");
}

std::string textRows(const Json &quality) {
  std::string rows;
  auto row = [&](const std::string &name, const Json &of) {
    auto cell = [&](const std::string &value) { rows += "<td class=\"n\">" + value + "</td>"; };
    rows += "<tr><td>" + escaped(name) + "</td>";
    cell(shortNumber(numberOf(of, "mean_kl")) + " ± " + shortNumber(numberOf(of, "mean_kl_error")));
    cell(shortNumber(numberOf(of, "median_kl")));
    cell(shortNumber(numberOf(of, "kl_99")));
    cell(percent(numberOf(of, "same_top")));
    cell(shortNumber(numberOf(of, "ppl")));
    cell(shortNumber(numberOf(of, "ppl_ratio")));
    cell(percent(numberOf(of, "rms_delta_p")));
    rows += "</tr>";
  };
  const Json::Array &texts = listOf(quality, "texts");
  for (const Json &text : texts) {
    std::string name = textOf(text, "text");
    row(name.substr(name.find_last_of('/') + 1), text);
  }
  if (texts.size() > 1)
    row("all", quality);
  return "<div class=\"scroll\"><table class=\"wide\"><thead><tr><th>Text</th><th class=\"n\">Mean "
         "KL</th><th "
         "class=\"n\">Median</th><th class=\"n\">99 %</th><th class=\"n\">Same top</th><th "
         "class=\"n\">Perplexity</th><th class=\"n\">Ratio</th><th class=\"n\">RMS "
         "Δp</th></tr></thead><tbody>" +
         rows + "</tbody></table></div>";
}

std::string taskRows(const Json &quality) {
  std::string rows;
  auto cell = [&](const std::string &value) { rows += "<td class=\"n\">" + value + "</td>"; };
  auto rate = [&](const Json *of) {
    return of ? percent(numberOf(*of, "value"), 1) + " (" + percent(numberOf(*of, "low"), 0) + "–" +
                    percent(numberOf(*of, "high"), 0) + ")"
              : std::string();
  };
  for (const Json &task : listOf(quality, "tasks")) {
    const std::string kind = textOf(task, "kind"), path = textOf(task, "task");
    const Json *reference = task.find("reference");
    const char *key = kind == "choice" ? "acc_norm" : "passed";
    rows += "<tr><td>" + escaped(path.substr(path.find_last_of('/') + 1)) + "</td><td>" + kind +
            "</td>";
    cell(std::to_string(int64_t(numberOf(task, "items"))));
    if (kind == "similarity") {
      cell("Spearman " + shortNumber(numberOf(task, "spearman")));
      cell(reference ? shortNumber(numberOf(*reference, "spearman")) : "");
      cell("");
    } else {
      cell(rate(task.find(key)));
      cell(reference ? rate(reference->find(key)) : "");
      cell(task.find("flips") ? percent(numberOf(*task.find("flips"), "value"), 1) : "");
    }
    rows += "</tr>";
  }
  return "<div class=\"scroll\"><table class=\"wide\"><thead><tr><th>Task</th><th>Kind</th><th "
         "class=\"n\">Items</th><th class=\"n\">Model</th><th class=\"n\">Reference</th><th "
         "class=\"n\">Flips</th></tr></thead><tbody>" +
         rows + "</tbody></table></div>";
}

std::string qualitySection(const Json &report) {
  const Json *quality = report.find("quality");
  std::string cards;
  auto pointsOf = [&](const char *key) {
    std::vector<plot::Point> list;
    for (const Json &point : listOf(report, key))
      list.push_back(
          {numberOf(point, "bytes") / 1e6, numberOf(point, "kl"), textOf(point, "name"), false});
    return list;
  };
  // One point alone says no more than the figures above.
  if (std::vector<plot::Point> measured = pointsOf("points"); measured.size() > 1) {
    measured.front().main = true;
    cards += card("Size against divergence", plot::scatter(measured, "MB", "mean KL"));
  }
  if (std::vector<plot::Point> tried = pointsOf("tried"); !tried.empty()) {
    double kl = 0;
    for (const Json &linear : listOf(report, "linears"))
      kl += numberOf(linear, "kl");
    tried.push_back({numberOf(report, "bytes") / 1e6, kl, "chosen", true});
    cards += card("Formats that were weighed up",
                  plot::scatter(tried, "MB", "predicted KL") +
                      "<p class=\"note\">By the compiler's sensitivities, of weights alone: one "
                      "format everywhere (named), and mixtures of other sizes.</p>");
  }
  if (quality && quality->find("kl_histogram"))
    cards += card("Divergence of single tokens", divergencePlot(*quality));
  std::string out = cards.empty() ? "" : "<div class=\"cards\">" + cards + "</div>";
  if (quality && quality->find("mean_kl"))
    out += "<div class=\"card below\">" + textRows(*quality) + "</div>";
  if (quality && !listOf(*quality, "tasks").empty())
    out += "<div class=\"card below\">" + taskRows(*quality) + "</div>";
  if (out.empty())
    return "";
  return section("Quality",
                 "How far the predictions are from the reference's on the same text, natural "
                 "logarithms throughout.",
                 out);
}

std::string answersSection(const Json &report) {
  std::string out;
  for (const Json &answer : listOf(report, "answers")) {
    const bool compared = answer.find("reference") != nullptr;
    const bool same = compared && textOf(answer, "reference") == textOf(answer, "answer");
    out += "<section class=\"card\"><p class=\"ask\">" + escaped(textOf(answer, "prompt")) +
           "</p><div class=\"pair\">";
    if (compared)
      out +=
          "<div><small>Reference</small><p>" + escaped(textOf(answer, "reference")) + "</p></div>";
    out += "<div><small" + std::string(same ? " class=\"same\"" : "") + ">" +
           (same ? "Quantized, the same" : "Quantized") + "</small><p>" +
           escaped(textOf(answer, "answer")) + "</p></div></div></section>";
  }
  if (out.empty())
    return "";
  return section("Answers", "Greedy answers to the same prompts.",
                 "<div class=\"answers\">" + out + "</div>");
}

std::string speedSection(const Json &report) {
  const Json *speed = report.find("speed");
  if (!speed)
    return "";
  auto meters = [&](const char *key, const std::string &prefix) {
    double most = 1e-9;
    for (const auto &[length, value] : membersOf(speed->find(key)))
      most = std::max(most, value.number());
    std::string rows;
    for (const auto &[length, value] : membersOf(speed->find(key)))
      rows += "<span>" + prefix + escaped(length) +
              "</span><div><i style=\"width:" + shortNumber(100 * value.number() / most) +
              "%\"></i></div><span>" + shortNumber(value.number()) + " tok/s</span>";
    return "<div class=\"meter\">" + rows + "</div>";
  };
  char seconds[96];
  std::snprintf(seconds, sizeof seconds, "%.0f ms to load", 1e3 * numberOf(*speed, "load_seconds"));
  std::string lead = seconds;
  if (speed->find("session_bytes")) {
    std::snprintf(seconds, sizeof seconds, ", %.0f ms to the first token, ",
                  1e3 * numberOf(*speed, "first_token_seconds"));
    lead += seconds + bytesText(numberOf(*speed, "session_bytes")) + " for a session";
  }
  lead += "; code for " + textOf(*speed, "target") + ", " +
          plot::tickNumber(numberOf(*speed, "threads")) + " threads.";
  std::string cards;
  if (speed->find("decode_tokens_per_second"))
    cards += card("Decoding, by context", meters("decode_tokens_per_second", "at "));
  if (const Json *texts = textsOf(report))
    cards +=
        card("Texts",
             "<p>" + shortNumber(1e3 * numberOf(*texts, "short_text_seconds")) +
                 " ms for a short text alone; " + plot::tickNumber(numberOf(*texts, "texts")) +
                 " of mixed length together: " + shortNumber(numberOf(*texts, "texts_per_second")) +
                 " texts/s, " + shortNumber(numberOf(*texts, "tokens_per_second")) + " tok/s.</p>");
  if (speed->find("prefill_tokens_per_second"))
    cards += card("Reading a prompt, by length", meters("prefill_tokens_per_second", ""));
  return section("Speed on this machine", lead, "<div class=\"cards\">" + cards + "</div>");
}

std::string originSection(const Json &report) {
  std::string rows;
  auto row = [&](const std::string &name, const std::string &value) {
    rows += "<tr><th>" + escaped(name) + "</th><td>" + escaped(value) + "</td></tr>";
  };
  auto valueText = [](const Json &value) {
    return value.string() ? *value.string() : value.dump();
  };
  for (const char *group : {"source", "options", "numerics", "statistics", "folds"})
    for (const auto &[name, value] : membersOf(report.find(group)))
      if (std::string shown = valueText(value); !shown.empty())
        row(std::string(group) + " " + name, shown);
  return section("How it was made", "The same source and options give the same bytes.",
                 "<div class=\"card\"><table><tbody>" + rows + "</tbody></table></div>");
}

} // namespace

std::string reportHtml(const Json &report) {
  const std::string file = textOf(report, "file");
  const Json *source = report.find("source");
  std::string page =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\"><title>" +
      escaped(file) + " – smelt report</title><style>" +
      std::string(styleSheet, sizeof styleSheet) + "</style></head><body><main>\n";
  page += "<header><p class=\"eyebrow\">smelt report</p><h1>" + escaped(file) + "</h1><p>";
  if (source)
    page += "from " + escaped(textOf(*source, "file")) + ", " +
            bytesText(numberOf(*source, "bytes")) + "; made by " +
            escaped(textOf(report, "producer"));
  page += "</p></header>" + tiles(report) + qualitySection(report) + partsSection(report) +
          layersSection(report) + weightsSection(report) + answersSection(report) +
          speedSection(report) + originSection(report);
  page += "<footer>Everything on this page is also in the report's JSON: smelt report MODEL "
          "--json.</footer>\n</main></body></html>\n";
  return page;
}

} // namespace smelt
