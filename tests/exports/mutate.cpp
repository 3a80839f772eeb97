// Random edits of real graphs through the compiler: whatever a file says, the compiler ends with an
// artifact's program or with a readable refusal.
//
// usage: smelt_mutate CASES_DIR EDITS [SEED]
// Each edit runs in a child of its own, which must neither crash nor hang nor report a defect of
// smelt.
#include "compiler/driver/compile.h"
#include "passes/lower/target.h"

#include <onnx/onnx_pb.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>

#include <sys/wait.h>
#include <unistd.h>

namespace fs = std::filesystem;

namespace smelt {

namespace {

class Mutator {
public:
  Mutator(onnx::ModelProto &model, uint64_t seed) : graph(*model.mutable_graph()), random(seed) {}

  /// One edit; its name is for the report.
  const char *apply();

private:
  onnx::GraphProto &graph;
  std::mt19937_64 random;

  int below(int count) { return count > 0 ? int(random() % uint64_t(count)) : 0; }
  onnx::NodeProto &node() { return *graph.mutable_node(below(graph.node_size())); }
  /// Numbers that break things.
  int64_t number() {
    constexpr int64_t list[] = {
        0, 1, -1, 2, 3, 7, 64, -64, 1 << 20, int64_t(1) << 31, INT64_MAX, INT64_MIN, -2, 5};
    return list[below(std::size(list))];
  }
  std::string anyName() {
    const onnx::NodeProto &from = node();
    if (from.output_size() > 0 && below(4) != 0)
      return from.output(below(from.output_size()));
    if (graph.initializer_size() > 0 && below(2) != 0)
      return graph.initializer(below(graph.initializer_size())).name();
    return graph.input_size() > 0 ? graph.input(below(graph.input_size())).name() : "nothing";
  }
  void editAttribute(onnx::AttributeProto &attribute);
  void editTensor(onnx::TensorProto &tensor);
  void editType(onnx::ValueInfoProto &info);
};

void Mutator::editAttribute(onnx::AttributeProto &attribute) {
  switch (below(4)) {
  case 0:
    attribute.set_i(number());
    break;
  case 1:
    attribute.set_f(float(number()));
    break;
  case 2:
    for (int64_t &value : *attribute.mutable_ints())
      value = below(2) ? number() : value;
    attribute.add_ints(number());
    break;
  default:
    attribute.set_type(onnx::AttributeProto::AttributeType(below(14)));
  }
}

void Mutator::editTensor(onnx::TensorProto &tensor) {
  switch (below(6)) {
  case 0:
    if (tensor.dims_size() > 0)
      tensor.set_dims(below(tensor.dims_size()), number());
    break;
  case 1:
    tensor.add_dims(below(2) ? 1 : number());
    break;
  case 2:
    tensor.set_data_type(below(24));
    break;
  case 3:
    if (tensor.has_raw_data())
      tensor.mutable_raw_data()->resize(size_t(below(int(tensor.raw_data().size()) + 1)));
    break;
  case 4:
    if (tensor.has_raw_data() && !tensor.raw_data().empty())
      (*tensor.mutable_raw_data())[size_t(below(int(tensor.raw_data().size())))] = char(random());
    break;
  default: {
    tensor.set_data_location(onnx::TensorProto::EXTERNAL);
    auto &entry = *tensor.add_external_data();
    entry.set_key(below(2) ? "location" : "offset");
    entry.set_value(below(2) ? "../elsewhere" : "-1");
  }
  }
}

void Mutator::editType(onnx::ValueInfoProto &info) {
  auto &type = *info.mutable_type()->mutable_tensor_type();
  if (below(2))
    type.set_elem_type(below(24));
  auto &shape = *type.mutable_shape();
  if (shape.dim_size() > 0 && below(2))
    shape.mutable_dim(below(shape.dim_size()))->set_dim_value(number());
  else if (shape.dim_size() > 0 && below(2))
    shape.mutable_dim()->RemoveLast();
  else
    shape.add_dim()->set_dim_value(number());
}

const char *Mutator::apply() {
  onnx::NodeProto &target = node();
  switch (below(12)) {
  case 0:
    if (target.attribute_size() > 0)
      target.mutable_attribute()->DeleteSubrange(below(target.attribute_size()), 1);
    return "attribute dropped";
  case 1:
    if (target.attribute_size() > 0)
      editAttribute(*target.mutable_attribute(below(target.attribute_size())));
    return "attribute changed";
  case 2:
    target.set_op_type(node().op_type());
    return "op changed";
  case 3:
    if (target.input_size() > 0)
      target.mutable_input()->DeleteSubrange(below(target.input_size()), 1);
    return "input dropped";
  case 4:
    if (target.input_size() > 0)
      target.set_input(below(target.input_size()), anyName());
    return "input replaced";
  case 5:
    target.add_input(below(2) ? anyName() : "");
    return "input added";
  case 6:
    if (target.output_size() > 0)
      target.set_output(below(target.output_size()), below(2) ? anyName() : "");
    return "output renamed";
  case 7:
    if (graph.initializer_size() > 0)
      editTensor(*graph.mutable_initializer(below(graph.initializer_size())));
    return "initializer changed";
  case 8:
    if (graph.input_size() > 0)
      editType(*graph.mutable_input(below(graph.input_size())));
    return "input's type changed";
  case 9:
    graph.mutable_node()->DeleteSubrange(below(graph.node_size()), 1);
    return "node dropped";
  case 10:
    graph.mutable_node()->SwapElements(below(graph.node_size()), below(graph.node_size()));
    return "nodes swapped";
  default:
    target.set_domain(below(2) ? "com.microsoft" : "");
    return "domain changed";
  }
}

/// Compiles up to machine code, which is the same for every graph; 0: compiled, 1: refused, 2: a
/// refusal that nobody can read.
int compileOnce(const std::string &model, bool isQuantized) {
  CompileOptions options;
  options.model = model;
  options.pipeline.quiet = true;
  options.pipeline.stopAfter = Phase::Lowered;
  options.threads = 1;
  options.lower.maxContext = 128;
  if (!isQuantized) {
    options.scheme = {WeightFormat::F32, WeightFormat::F32, WeightFormat::F32,
                      ActivationFormat::F32};
    options.cache = CacheFormat::F32;
  }
  Status status = compileModel(options);
  if (status.ok())
    return 0;
  bool isReadable = !status.message().empty() && status.code() != StatusCode::Internal;
  for (unsigned char c : status.message())
    isReadable &= c >= ' ' || c == '\n' || c == '\t';
  if (!isReadable)
    std::fprintf(stderr, "unreadable: %s\n", status.message().c_str());
  return isReadable ? 1 : 2;
}

struct Counts {
  int64_t compiled = 0, refused = 0, bad = 0;
};

int run(const fs::path &cases, int64_t edits, uint64_t seed) {
  std::vector<fs::path> models;
  for (const auto &entry : fs::recursive_directory_iterator(cases))
    if (entry.path().filename() == "model.onnx" && entry.file_size() < (4 << 20))
      models.push_back(entry.path());
  std::sort(models.begin(), models.end());
  if (models.empty()) {
    std::fprintf(stderr, "no model.onnx below %s\n", cases.c_str());
    return 1;
  }
  const fs::path folder = fs::temp_directory_path() / ("smelt_mutate_" + std::to_string(getpid()));
  fs::create_directories(folder);
  Counts counts;
  for (int64_t edit = 0; edit < edits; ++edit) {
    std::mt19937_64 random(seed + uint64_t(edit));
    const fs::path &source = models[random() % models.size()];
    onnx::ModelProto model;
    std::ifstream stream(source, std::ios::binary);
    if (!model.ParseFromIstream(&stream))
      return 1;
    Mutator mutator(model, random());
    std::string names;
    for (uint64_t i = 0, count = 1 + random() % 3; i < count && model.graph().node_size() > 0; ++i)
      names += std::string(i ? ", " : "") + mutator.apply();
    const fs::path path = folder / "model.onnx";
    std::ofstream(path, std::ios::binary) << model.SerializeAsString();
    pid_t child = fork();
    if (child == 0) {
      alarm(60); // its default action ends the child: a hang is a crash
      std::freopen("/dev/null", "w", stdout);
      _exit(compileOnce(path, random() % 2));
    }
    int status = 0;
    waitpid(child, &status, 0);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    counts.compiled += code == 0;
    counts.refused += code == 1;
    if (code > 1) {
      ++counts.bad;
      std::printf("edit %lld (seed %llu) of %s: %s: exit %d\n", (long long)edit,
                  (unsigned long long)seed, source.c_str(), names.c_str(), code);
      fs::copy_file(path, "mutant_" + std::to_string(seed + uint64_t(edit)) + ".onnx",
                    fs::copy_options::overwrite_existing);
    }
  }
  fs::remove_all(folder);
  std::printf("%lld edits: %lld compiled, %lld refused, %lld crashed, hung or unreadable\n",
              (long long)edits, (long long)counts.compiled, (long long)counts.refused,
              (long long)counts.bad);
  return counts.bad == 0 ? 0 : 1;
}

} // namespace

} // namespace smelt

int main(int argc, char **argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: smelt_mutate CASES_DIR EDITS [SEED]\n");
    return 1;
  }
  return smelt::run(argv[1], std::atoll(argv[2]),
                    argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 1);
}
