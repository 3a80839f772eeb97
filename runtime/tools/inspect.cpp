// smelt inspect: sections, formats, numerics, memory and provenance of an artifact.
#include "runtime/base/json.h"
#include "runtime/formats/caches.h"
#include "runtime/formats/formats.h"
#include "runtime/model/model.h"
#include "runtime/model/tensor.h"
#include "runtime/tools/commands.h"
#include "runtime/tools/common.h"

#include <cinttypes>
#include <cstdio>
#include <map>

namespace smelt::cli {

using namespace format;

namespace {

/// What `target` of a section means; empty: nothing.
std::string targetName(const SectionEntry &entry) {
  switch (entry.kind) {
  case SectionKind::Code:
    for (const CpuTarget &target : cpuTargets())
      if (target.row == entry.target)
        return std::string(target.name);
    return "target " + std::to_string(entry.target);
  case SectionKind::GpuCode:
  case SectionKind::GpuArgmax:
  case SectionKind::GpuCandidates:
    return std::string(gpuCodeName(GpuCodeKind(entry.target)));
  case SectionKind::Program:
    return entry.target == uint32_t(ProgramKind::Divisible) ? "divisible" : "";
  default:
    return "";
  }
}

Json sectionsJson(const Artifact &artifact) {
  Json::Array list;
  for (const SectionEntry &entry : artifact.sections()) {
    Json row;
    row.set("kind", sectionName(entry.kind));
    if (std::string target = targetName(entry); !target.empty())
      row.set("target", target);
    row.set("offset", entry.offset);
    row.set("bytes", entry.bytes);
    list.push_back(std::move(row));
  }
  return list;
}

Json configJson(const ModelConfig &c) {
  Json row;
  row.set("vocabulary", c.vocabSize);
  row.set("hidden_size", c.hiddenSize);
  row.set("attention_layers", c.layers);
  row.set("max_context", c.maxContext);
  row.set("max_step_tokens", c.maxTokens);
  row.set("max_logit_rows", c.maxLogitRows);
  row.set("cache", std::string(cacheInfo(CacheFormat(c.cacheFormat)).name));
  row.set("bos_token", c.bosToken);
  Json::Array ends;
  for (int32_t token : c.eosTokens)
    if (token >= 0)
      ends.push_back(token);
  row.set("end_tokens", std::move(ends));
  row.set("temperature", double(c.temperature));
  row.set("top_k", c.topK);
  row.set("top_p", double(c.topP));
  row.set("repetition_penalty", double(c.repetitionPenalty));
  constexpr const char *outputs[] = {"logits",      "ids",     "mask",         "positions",
                                     "token types", "state",   "logits",       "hidden state",
                                     "embedding",   "classes", "token classes"};
  constexpr const char *poolings[] = {"none", "mean", "first", "last"};
  row.set("output", outputs[uint32_t(c.output)]);
  row.set("bidirectional", c.bidirectional);
  if (c.output == PortRole::HiddenState || c.output == PortRole::Embedding) {
    row.set("pooling", poolings[uint32_t(c.pooling)]);
    row.set("normalize", c.normalize);
  }
  return row;
}

/// Peak bytes of a session = fixed + slots * roundUp(context, block) * per position.
Json memoryJson(const ModelConfig &c) {
  uint64_t logits = uint64_t(c.maxLogitRows) * c.vocabSize * sizeof(float);
  uint64_t perPosition = c.keyBytesPerPosition + c.valueBytesPerPosition;
  Json row;
  row.set("fixed_bytes", c.scratchBytes + logits);
  row.set("bytes_per_position", perPosition);
  row.set("position_block", c.positionBlock);
  row.set("bytes_at_max_context",
          c.scratchBytes + logits + uint64_t(roundUp(c.maxContext, c.positionBlock)) * perPosition);
  return row;
}

Json programJson(const TokenProgram &program) {
  std::map<std::string, int> labels;
  for (const Instruction &instruction : program.instructions)
    ++labels[std::string(opLabelName(instruction.label))];
  Json row;
  row.set("kernels", program.kernelNames.size());
  row.set("instructions", program.instructions.size());
  for (const auto &[label, count] : labels)
    row.set(label, count);
  return row;
}

/// The tensor program: how much of it there is, and its inputs and outputs.
Json tensorProgramJson(const TensorProgram &program) {
  constexpr const char *actions[] = {"kernel", "alias", "rows", "jump", "jump if false", "take"};
  Json row;
  row.set("kernels", program.kernelNames.size());
  row.set("tensors", program.tensors.size());
  row.set("instructions", program.instructions.size());
  std::map<std::string, int> counts;
  for (const TensorInstruction &instruction : program.instructions)
    ++counts[actions[uint32_t(instruction.action)]];
  for (const auto &[action, count] : counts)
    row.set(action, count);
  auto ports = [&](std::span<const TensorPort> list) {
    Json out;
    for (const TensorPort &port : list) {
      const TensorEntry &entry = program.tensors[port.tensor];
      out.set(program.name(port.nameOffset),
              TensorValue::view(entry.type, {entry.dims, entry.rank}, nullptr).text());
    }
    return out;
  };
  row.set("inputs", ports(program.inputs));
  row.set("outputs", ports(program.outputs));
  return row;
}

/// What the linears with the same role and formats add up to.
struct LinearSum {
  int count = 0;
  double weights = 0, bytes = 0;
};
std::map<std::string, LinearSum> sumLinears(const Json &metadata) {
  std::map<std::string, LinearSum> sums;
  const Json *linears = metadata.find("linears");
  if (!linears || !linears->array())
    return sums;
  for (const Json &linear : *linears->array()) {
    auto text = [&](const char *key) {
      const Json *value = linear.find(key);
      return value && value->string() ? *value->string() : std::string("?");
    };
    auto number = [&](const char *key) {
      const Json *value = linear.find(key);
      return value ? value->number() : 0.0;
    };
    for (const std::string &key :
         {text("role") + ": weights " + text("weights") + ", inputs " + text("activations"),
          "all of role " + text("role")}) {
      LinearSum &sum = sums[key];
      sum.count += 1;
      sum.weights += number("rows") * number("cols");
      sum.bytes += number("bytes");
    }
  }
  return sums;
}

void printObject(const char *title, const Json &object) {
  if (!object.object() || object.object()->empty())
    return;
  std::printf("%s\n", title);
  for (const auto &[key, value] : *object.object())
    std::printf("  %-22s %s\n", key.c_str(),
                value.string() ? value.string()->c_str() : value.dump().c_str());
}

void printText(const std::string &path, const Artifact &artifact, const Json &metadata) {
  std::printf("%s: smelt artifact, format %u.%u, %s\n", path.c_str(), majorVersion, minorVersion,
              bytesText(double(artifact.fileBytes())).c_str());
  std::printf("sections (all checksums match)\n");
  for (const SectionEntry &entry : artifact.sections())
    std::printf("  %-14s %-16s %12" PRIu64 " bytes at %" PRIu64 "\n",
                std::string(sectionName(entry.kind)).c_str(), targetName(entry).c_str(),
                entry.bytes, entry.offset);
  printObject("model", configJson(artifact.config()));
  printObject("program", programJson(artifact.program()));
  if (artifact.isDivided())
    printObject("program for GPUs", programJson(artifact.divisibleProgram()));
  if (const TensorProgram *tensors = artifact.tensorProgram())
    printObject("tensor program", tensorProgramJson(*tensors));
  printObject("memory of a session: fixed + slots * context rounded up to the block * per position",
              memoryJson(artifact.config()));
  if (auto sums = sumLinears(metadata); !sums.empty()) {
    std::printf("linears\n");
    for (const auto &[name, sum] : sums)
      std::printf("  %-52s %4d  %10s  %5.2f bits per weight\n", name.c_str(), sum.count,
                  bytesText(sum.bytes).c_str(),
                  sum.weights > 0 ? sum.bytes * 8 / sum.weights : 0.0);
  }
  Json rest;
  if (metadata.object())
    for (const auto &[key, value] : *metadata.object())
      if (key != "linears") {
        if (value.object())
          printObject(key.c_str(), value);
        else
          rest.set(key, value);
      }
  printObject("other", rest);
}

} // namespace

Status commandInspect(const Arguments &arguments) {
  const std::string &path = arguments.operands[0];
  std::shared_ptr<const Model> model;
  std::unique_ptr<const Artifact> opened;
  if (arguments.flag("verify")) {
    SMELT_ASSIGN(model, Model::open(path));
  } else {
    SMELT_ASSIGN(opened, Artifact::open(path));
  }
  const Artifact &artifact = model ? model->artifact() : *opened;
  Json metadata;
  if (std::string_view text = artifact.text(SectionKind::Metadata); !text.empty()) {
    SMELT_ASSIGN(metadata, Json::parse(text));
  }
  if (!arguments.flag("json")) {
    printText(path, artifact, metadata);
    if (model)
      std::printf("verified: %s\n", model->onCpu().ok()
                                        ? ("runs here as " + std::string(model->target())).c_str()
                                        : model->onCpu().message().c_str());
    return {};
  }
  Json out;
  out.set("file", path);
  out.set("bytes", artifact.fileBytes());
  out.set("sections", sectionsJson(artifact));
  out.set("model", configJson(artifact.config()));
  out.set("program", programJson(artifact.program()));
  if (artifact.isDivided())
    out.set("gpu_program", programJson(artifact.divisibleProgram()));
  if (const TensorProgram *tensors = artifact.tensorProgram())
    out.set("tensor_program", tensorProgramJson(*tensors));
  out.set("memory", memoryJson(artifact.config()));
  Json bits;
  for (const auto &[name, sum] : sumLinears(metadata))
    bits.set(name, sum.weights > 0 ? sum.bytes * 8 / sum.weights : 0.0);
  out.set("bits_per_weight", std::move(bits));
  out.set("metadata", std::move(metadata));
  if (model)
    out.set("verified_target", model->target());
  std::puts(out.dump(2).c_str());
  return {};
}

} // namespace smelt::cli
