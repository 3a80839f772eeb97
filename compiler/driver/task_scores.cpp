// Running of task files.
#include "compiler/driver/task_scores.h"

#include "llvm/ADT/StringRef.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <numeric>

namespace smelt {

namespace {

int64_t itemsOf(const TaskFile &file) {
  return int64_t(file.choices.size() + file.generations.size() + file.pairs.size());
}

/// Code points of a text.
double characters(const std::string &text) {
  return double(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

double logProbability(std::span<const float> logits, int32_t token) {
  double shift = *std::max_element(logits.begin(), logits.end()), sum = 0;
  for (float logit : logits)
    sum += std::exp(logit - shift);
  return logits[size_t(token)] - shift - std::log(sum);
}

/// log p(choice | context).
Result<double> logLikelihood(EvaluatedModel &model, const ChoiceItem &item,
                             const std::string &choice) {
  auto isSpace = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
  const bool parted = item.context.empty() || isSpace(item.context.back()) || isSpace(choice[0]);
  // White space at the end of the context belongs to the first token of the choice.
  llvm::StringRef context = llvm::StringRef(item.context).rtrim();
  std::string whole = item.context + (parted ? "" : " ") + choice;
  SMELT_ASSIGN(std::vector<int32_t> before, model.encode(context, true, false));
  SMELT_ASSIGN(std::vector<int32_t> tokens, model.encode(whole, true, false));
  // Predicting the first token needs one before it.
  const size_t first = std::clamp<size_t>(before.size(), 1, tokens.size() - 1);
  std::vector<int32_t> fed(tokens.begin(), tokens.end() - 1);
  if (fed.empty())
    return invalidArgument("the choice '" + choice + "' has no context to follow");
  double sum = 0;
  SMELT_TRY(model.logits(fed, int64_t(first) - 1,
                         [&](int64_t position, std::span<const float> logits) -> Status {
                           sum += logProbability(logits, tokens[size_t(position) + 1]);
                           return {};
                         }));
  if (!std::isfinite(sum))
    return corrupt("the logits of a choice are not finite numbers");
  return sum;
}

Status scoreChoice(EvaluatedModel &model, const ChoiceItem &item, TaskScores &scores) {
  std::vector<double> sums, perCharacter;
  for (const std::string &choice : item.choices) {
    SMELT_ASSIGN(double sum, logLikelihood(model, item, choice));
    sums.push_back(sum);
    perCharacter.push_back(sum / characters(choice));
  }
  auto best = [](const std::vector<double> &values) {
    return size_t(std::max_element(values.begin(), values.end()) - values.begin());
  };
  scores.right.push_back(best(sums) == item.answer);
  scores.rightNorm.push_back(best(perCharacter) == item.answer);
  scores.answers.push_back(std::to_string(best(sums)));
  return {};
}

Status scoreGeneration(EvaluatedModel &model, const GenerationItem &item, TaskScores &scores) {
  std::string prompt = item.prompt;
  if (!item.messages.empty()) {
    SMELT_ASSIGN(prompt, model.renderChat(item.messages));
  }
  // Templates write the special tokens themselves.
  SMELT_ASSIGN(std::vector<int32_t> ids, model.encode(prompt, item.messages.empty(), true));
  SMELT_ASSIGN(std::string answer, model.answer(ids, item.maxTokens));
  scores.right.push_back(passes(item, answer));
  scores.answers.push_back(std::move(answer));
  return {};
}

Status scorePair(EvaluatedModel &model, const PairItem &item, TaskScores &scores) {
  const std::string texts[] = {item.a, item.b};
  SMELT_ASSIGN(std::vector<std::vector<float>> rows, model.embed(texts));
  double product = 0, a2 = 0, b2 = 0;
  for (size_t k = 0; k < rows[0].size(); ++k) {
    product += double(rows[0][k]) * rows[1][k];
    a2 += double(rows[0][k]) * rows[0][k];
    b2 += double(rows[1][k]) * rows[1][k];
  }
  const double cosine = product / std::sqrt(a2 * b2);
  if (!std::isfinite(cosine))
    return corrupt("an embedding is zero or not finite");
  scores.cosines.push_back(cosine);
  return {};
}

std::vector<double> ranks(std::span<const double> values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> rank(values.size());
  for (size_t first = 0, last; first < order.size(); first = last) {
    for (last = first; last < order.size() && values[order[last]] == values[order[first]];)
      ++last;
    for (size_t i = first; i < last; ++i)
      rank[order[i]] = double(first + last - 1) / 2;
  }
  return rank;
}

int64_t count(const std::vector<bool> &values) {
  return std::count(values.begin(), values.end(), true);
}

Flips flipsOf(const TaskScores &model, const TaskScores &reference) {
  Flips flips;
  for (size_t i = 0; i < model.right.size(); ++i) {
    flips.lost += reference.right[i] && !model.right[i];
    flips.won += !reference.right[i] && model.right[i];
    flips.changed += model.answers[i] != reference.answers[i];
  }
  flips.rate = rateOf(flips.lost + flips.won, int64_t(model.right.size()));
  return flips;
}

} // namespace

Rate rateOf(int64_t hits, int64_t items) {
  if (items == 0)
    return {};
  constexpr double z = 1.959963984540054; // 97.5 % of the normal distribution lie below
  const double n = double(items), p = double(hits) / n, z2n = z * z / n;
  const double middle = (p + z2n / 2) / (1 + z2n);
  const double half = z / (1 + z2n) * std::sqrt(p * (1 - p) / n + z2n / (4 * n));
  return {hits, items, p, std::max(0.0, middle - half), std::min(1.0, middle + half)};
}

double spearman(std::span<const double> a, std::span<const double> b) {
  const std::vector<double> x = ranks(a), y = ranks(b);
  const double mean = (double(x.size()) - 1) / 2;
  double xy = 0, xx = 0, yy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mean) * (y[i] - mean);
    xx += (x[i] - mean) * (x[i] - mean);
    yy += (y[i] - mean) * (y[i] - mean);
  }
  return xx > 0 && yy > 0 ? xy / std::sqrt(xx * yy) : 0;
}

Result<TaskScores> scoreTask(EvaluatedModel &model, const TaskFile &file, int64_t limit,
                             const ItemProgress &progress) {
  if (!model.tokenizer())
    return unsupported("the model has no tokenizer, so it cannot read text");
  if (model.isEncoder() != !file.pairs.empty())
    return invalidArgument(model.isEncoder()
                               ? "the model gives embeddings; expected pairs of texts with scores"
                               : "the model predicts tokens; pairs of texts need an encoder");
  const int64_t items = limit > 0 ? std::min(limit, itemsOf(file)) : itemsOf(file);
  TaskScores scores;
  for (int64_t i = 0; i < items; ++i) {
    Status status = !file.choices.empty() ? scoreChoice(model, file.choices[size_t(i)], scores)
                    : !file.generations.empty()
                        ? scoreGeneration(model, file.generations[size_t(i)], scores)
                        : scorePair(model, file.pairs[size_t(i)], scores);
    if (!status.ok())
      return std::move(status).withContext("'" + file.path + "', item " + std::to_string(i + 1));
    progress(i + 1);
  }
  return scores;
}

TaskResult summarizeTask(const TaskFile &file, const TaskScores &scores,
                         const TaskScores *reference) {
  TaskResult result;
  result.path = file.path;
  result.kind = !file.choices.empty()       ? "choice"
                : !file.generations.empty() ? "generation"
                                            : "similarity";
  result.items = int64_t(std::max(scores.right.size(), scores.cosines.size()));
  std::vector<double> wanted;
  for (size_t i = 0; i < scores.cosines.size(); ++i)
    wanted.push_back(file.pairs[i].score);
  auto fill = [&](auto &into, const TaskScores &from) {
    into.accuracy = rateOf(count(from.right), int64_t(from.right.size()));
    into.accuracyNorm = rateOf(count(from.rightNorm), int64_t(from.rightNorm.size()));
    into.spearman = spearman(from.cosines, wanted);
  };
  fill(result, scores);
  if (!reference)
    return result;
  TaskResult::Compared &compared = result.reference.emplace();
  fill(compared, *reference);
  compared.flips = flipsOf(scores, *reference);
  compared.spearmanOfCosines = spearman(scores.cosines, reference->cosines);
  for (size_t i = 0; i < scores.cosines.size(); ++i) {
    const double shift = std::fabs(scores.cosines[i] - reference->cosines[i]);
    compared.meanCosineShift += shift / double(scores.cosines.size());
    compared.largestCosineShift = std::max(compared.largestCosineShift, shift);
  }
  return result;
}

} // namespace smelt
