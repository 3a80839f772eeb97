// The weights section of an artifact as passes see it.
#pragma once

#include "passes/weight_sink.h"
#include "runtime/artifact/writer.h"
#include "runtime/formats/formats.h"

namespace smelt {

/// Streams into the writer's open section; without a writer it only counts, for runs that stop
/// before there is an artifact.
class ArtifactSink : public WeightSink {
public:
  explicit ArtifactSink(ArtifactWriter *writer) : writer(writer) {}

  Result<int64_t> begin() override {
    if (writer)
      SMELT_TRY(writer->align(alignment));
    bytes = roundUp(bytes, alignment);
    return bytes;
  }
  Status write(std::span<const std::byte> data) override {
    bytes += int64_t(data.size());
    return writer ? writer->write(data) : Status();
  }

private:
  static constexpr int64_t alignment = 64;
  ArtifactWriter *writer;
  int64_t bytes = 0;
};

} // namespace smelt
