// Handmade tensor programs over the fake kernels.
#pragma once

#include "support/fake_model.h"

#include <initializer_list>
#include <string>

namespace smelt::test {

/// Builds a TensorProgramImage by names instead of indices.
class TensorBuilder {
public:
  explicit TensorBuilder(TensorProgramImage &image) : image(image) {}

  uint32_t tensor(format::ElementType type, std::initializer_list<int64_t> dims);
  uint32_t constant(format::ElementType type, std::initializer_list<int64_t> dims, uint64_t offset);
  /// A port; State ports get their partner from partners().
  uint32_t input(const std::string &name, uint32_t tensor,
                 format::PortRole role = format::PortRole::Other, int32_t growAxis = -1);
  uint32_t output(const std::string &name, uint32_t tensor,
                  format::PortRole role = format::PortRole::Other);
  void partners(uint32_t input, uint32_t output);

  /// Appends an instruction of the node `node` and returns it for further changes.
  format::TensorInstruction &kernel(const std::string &node, const std::string &shape,
                                    const std::string &compute, uint32_t outputs,
                                    std::initializer_list<uint32_t> operands);
  format::TensorInstruction &alias(const std::string &node, const std::string &shape,
                                   std::initializer_list<uint32_t> operands);
  format::TensorInstruction &rows(const std::string &node, uint32_t out, uint32_t in,
                                  uint32_t first, uint32_t count);
  format::TensorInstruction &jump(uint32_t target);
  format::TensorInstruction &jumpIfFalse(uint32_t condition, uint32_t target);
  format::TensorInstruction &take(uint32_t out, uint32_t in);

private:
  format::TensorInstruction &add(format::TensorAction action, const std::string &node,
                                 uint32_t outputs, std::initializer_list<uint32_t> operands);
  uint32_t kernelIndex(const std::string &name);
  TensorProgramImage &image;
};

/// Makes the model a tensor program that gives the same logits: ids, mask, positions and a state
/// that holds the ids so far.
void makeTensorDecoder(FakeModel &model);
/// The same without a state: every run needs all ids.
void makeStatelessDecoder(FakeModel &model);
/// Makes the model hold the tensor program that `build` makes, and nothing of the fake model's own.
void makeTensorModel(FakeModel &model, const std::function<void(TensorBuilder &)> &build);

} // namespace smelt::test
