// Texts through an encoder: embeddings, classes of a text, classes of its tokens.
#pragma once

#include "runtime/base/status.h"
#include "runtime/model/session.h"
#include "runtime/model/tensor_session.h"

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace smelt {

/// A text, or two that the model reads together.
struct EncoderText {
  std::string_view text;
  std::optional<std::string_view> second = {};
};

struct EncoderOptions {
  uint32_t threads = 0;                        ///< 0: defaultThreads()
  std::optional<format::Pooling> pooling = {}; ///< of hidden states; none: the model's own
  std::optional<bool> normalize = {};          ///< none: the model's own
  size_t maxTokens = 0; ///< of a text, which is cut there; 0: the model's own
};

/// Scores of the classes of a text or token as probabilities.
struct Classification {
  std::vector<float> probabilities; ///< by class
  size_t best = 0;                  ///< the likeliest
};
struct ClassifiedToken {
  int32_t id;
  Classification classes;
};

/// Runs an encoder's artifact, token program or tensor program. Not for several threads at once.
class Encoder {
public:
  /// Unsupported: the artifact has no tokenizer, or gives neither hidden states, embeddings nor
  /// classes.
  static Result<std::unique_ptr<Encoder>> create(std::shared_ptr<const Model> model,
                                                 const EncoderOptions &options);

  /// What the model gives: HiddenState or Embedding for embed(), Classes for classify(),
  /// TokenClasses for classifyTokens().
  format::PortRole output() const { return role; }
  format::Pooling pooling() const { return pool; }
  const Model &sharedModel() const { return *model; }
  bool normalizes() const { return normalize; }
  /// Columns of an embedding, or classes; 0: only a run tells.
  size_t width() const;
  /// Longest text in tokens: longer ones are cut there.
  size_t mostTokens() const { return maxTokens; }
  /// The name of a class; "LABEL_3" where the model names none.
  std::string label(size_t index) const;

  /// One embedding a text. Unsupported for models that give classes.
  Result<std::vector<std::vector<float>>> embed(std::span<const EncoderText> texts);
  /// Classes of each text. Unsupported for models that give none.
  Result<std::vector<Classification>> classify(std::span<const EncoderText> texts);
  /// Classes of the tokens of a text, special ones left out.
  Result<std::vector<ClassifiedToken>> classifyTokens(const EncoderText &text);

private:
  Encoder() = default;
  Status readMetadata();
  Status plan(const EncoderOptions &options);
  struct Tokens {
    std::vector<int32_t> ids, types; ///< types: empty, or as many
  };
  /// Rows that a text gives, [count, width].
  struct RowsOfText {
    std::vector<float> values;
    size_t width = 0;
    size_t count() const { return width ? values.size() / width : 0; }
    std::span<const float> row(size_t i) const {
      return std::span(values).subspan(i * width, width);
    }
  };
  Result<Tokens> tokenize(const EncoderText &text) const;
  Result<std::vector<RowsOfText>> run(std::span<const Tokens> texts);
  Status runTokens(std::span<const Tokens> texts, std::vector<RowsOfText> &out);
  Result<RowsOfText> runTensors(const Tokens &text);
  std::vector<float> pooled(const RowsOfText &rows) const;
  Classification classified(std::span<const float> scores) const;

  std::shared_ptr<const Model> model;
  std::unique_ptr<Session> session; ///< of a token program
  std::shared_ptr<ThreadTeam> team;
  std::unique_ptr<TensorSession> tensors; ///< of a tensor program
  size_t tensorOutput = 0;
  format::PortRole role = format::PortRole::Other;
  format::Pooling pool = format::Pooling::None;
  bool normalize = false;
  size_t maxTokens = 0;
  std::vector<std::string> labels;
  std::string activation = "softmax";
};

} // namespace smelt
