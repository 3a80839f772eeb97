// The sample set that lies in the compiler itself (examples/data/samples.jsonl).
#include "compiler/driver/dataset.h"

namespace smelt {

#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wc23-extensions"
static constexpr char samples[] = {
#embed SMELT_SAMPLES
};
#pragma clang diagnostic pop

Result<std::vector<Document>> builtInDocuments() {
  return parseJsonLines({samples, sizeof samples}, "the built-in samples");
}

} // namespace smelt
