// The list of (kernel, target) pairs, worked off by threads; what is cached is not compiled.
#include "compiler/codegen/codegen.h"

#include "compiler/codegen/link.h"
#include "compiler/codegen/object_emitter.h"

#include "passes/lower/kernels.h"

#include "llvm/TargetParser/Triple.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <set>
#include <thread>
#include <variant>

namespace smelt {

namespace {

struct Kernel {
  std::variant<KernelSpec, TensorSpec> spec;
  std::string name;
};

std::vector<Kernel> distinctKernels(std::span<const KernelSpec> specs,
                                    std::span<const TensorSpec> tensorSpecs) {
  std::vector<Kernel> kernels;
  std::set<std::string> names;
  auto add = [&](Kernel kernel) {
    if (names.insert(kernel.name).second)
      kernels.push_back(std::move(kernel));
  };
  for (const KernelSpec &spec : specs) {
    for (std::optional<KernelSpec> next = spec; next; next = calledForm(*next))
      add({*next, next->name()});
  }
  for (const TensorSpec &spec : tensorSpecs)
    add({spec, spec.name()});
  return kernels;
}

std::string keyOf(const Kernel &kernel, const KernelTarget &target) {
  return kernel.name + "\n" + std::string(target.name) + " " + std::string(target.triple) + " " +
         std::string(target.cpu) + " " + std::string(target.features) + "\n" + generatorVersion();
}

/// The work of one call of generateCode.
class Generation {
public:
  Generation(std::vector<Kernel> kernels, std::span<const KernelTarget *const> targets,
             const CodegenOptions &options)
      : kernels(std::move(kernels)), targets(targets), options(options),
        objects(targets.size(), std::vector<std::string>(this->kernels.size())), assembly(objects) {
  }

  Status compile();
  Result<std::vector<std::byte>> link(size_t target);

private:
  struct Item {
    size_t target, kernel;
  };

  std::vector<Kernel> kernels;
  std::span<const KernelTarget *const> targets;
  const CodegenOptions &options;
  std::vector<std::vector<std::string>> objects, assembly; ///< [target][kernel]
  std::vector<Item> missing;
  std::atomic<size_t> next = 0;

  void lookUp();
  Status work(bool reports);
  Status compileItem(const Item &item, ObjectEmitter &emitter);
};

/// Takes from the cache what is there; `missing` is the rest.
void Generation::lookUp() {
  for (size_t t = 0; t < targets.size(); ++t)
    for (size_t i = 0; i < kernels.size(); ++i) {
      std::optional<std::string> known;
      if (options.cache && options.dumpAssembly.empty())
        known = options.cache->find(keyOf(kernels[i], *targets[t]));
      if (known)
        objects[t][i] = *std::move(known);
      else
        missing.push_back({t, i});
    }
}

Status Generation::compileItem(const Item &item, ObjectEmitter &emitter) {
  const Kernel &kernel = kernels[item.kernel];
  std::string *text = options.dumpAssembly.empty() ? nullptr : &assembly[item.target][item.kernel];
  Result<std::string> object =
      std::visit([&](const auto &spec) { return emitter.emit(spec, text); }, kernel.spec);
  if (!object)
    return Status(object.status())
        .withContext("kernel " + kernel.name + " for " + std::string(targets[item.target]->name));
  if (options.cache)
    options.cache->keep(keyOf(kernel, *targets[item.target]), *object);
  objects[item.target][item.kernel] = *std::move(object);
  return {};
}

/// One thread: the next item, until there is none.
Status Generation::work(bool reports) {
  std::map<size_t, std::unique_ptr<ObjectEmitter>> emitters; // by target
  for (size_t i = next++; i < missing.size(); i = next++) {
    std::unique_ptr<ObjectEmitter> &emitter = emitters[missing[i].target];
    if (!emitter) {
      SMELT_ASSIGN(emitter, ObjectEmitter::create(*targets[missing[i].target]));
    }
    SMELT_TRY(compileItem(missing[i], *emitter));
    if (reports && options.progress)
      options.progress(double(i + 1) / double(missing.size()));
  }
  return {};
}

Status Generation::compile() {
  lookUp();
  size_t workers = options.threads > 0 ? size_t(options.threads)
                                       : std::max(1u, std::thread::hardware_concurrency());
  workers = std::max<size_t>(1, std::min(workers, missing.size()));
  std::vector<Status> statuses(workers);
  std::vector<std::thread> others;
  for (size_t i = 1; i < workers; ++i)
    others.emplace_back([this, &statuses, i] { statuses[i] = work(false); });
  statuses[0] = work(true);
  for (std::thread &thread : others)
    thread.join();
  for (Status &status : statuses)
    SMELT_TRY(std::move(status));
  if (options.cache && !missing.empty())
    options.cache->trim();
  return {};
}

Result<std::vector<std::byte>> Generation::link(size_t target) {
  if (!options.dumpAssembly.empty())
    SMELT_TRY(writeFile(options.dumpAssembly + "/" + std::string(targets[target]->name) + ".s",
                        assembly[target]));
  return linkSharedObject(objects[target], llvm::Triple(llvm::StringRef(targets[target]->triple)));
}

} // namespace

Result<std::vector<std::vector<std::byte>>>
generateCode(std::span<const KernelSpec> specs, std::span<const TensorSpec> tensorSpecs,
             std::span<const KernelTarget *const> targets, const CodegenOptions &options) {
  Generation generation(distinctKernels(specs, tensorSpecs), targets, options);
  SMELT_TRY(generation.compile());
  std::vector<std::vector<std::byte>> code;
  for (size_t t = 0; t < targets.size(); ++t) {
    Result<std::vector<std::byte>> linked = generation.link(t);
    if (!linked)
      return Status(linked.status()).withContext("code for " + std::string(targets[t]->name));
    code.push_back(*std::move(linked));
  }
  return code;
}

} // namespace smelt
