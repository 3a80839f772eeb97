// lld as a library: it only reads and writes files, so object and result pass through a private
// temporary folder.
#include "compiler/codegen/link.h"

#include "lld/Common/Driver.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"

#include <mutex>
#include <string>

LLD_HAS_DRIVER(elf)

namespace smelt {

namespace {

/// A folder that goes away with everything in it.
class TemporaryFolder {
public:
  TemporaryFolder() { failure = llvm::sys::fs::createUniqueDirectory("smelt-link", path); }
  ~TemporaryFolder() {
    if (!failure)
      llvm::sys::fs::remove_directories(path);
  }
  std::error_code failure;
  llvm::SmallString<128> path;
};

/// lld's name of the target.
const char *emulationOf(const llvm::Triple &triple) {
  return triple.isAArch64() ? "aarch64elf" : triple.isRISCV64() ? "elf64lriscv" : "elf_x86_64";
}

} // namespace

Status writeFile(const std::string &path, std::span<const std::string> parts) {
  std::error_code failure;
  llvm::raw_fd_ostream out(path, failure);
  if (!failure)
    for (const std::string &part : parts)
      out << part;
  out.close();
  if (!failure)
    failure = out.error();
  out.clear_error();
  return failure ? exhausted("cannot write " + path + ": " + failure.message()) : Status();
}

Result<std::vector<std::byte>> linkSharedObject(std::span<const std::string> objects,
                                                const llvm::Triple &triple) {
  TemporaryFolder folder;
  if (folder.failure)
    return internalError("no temporary folder for linking: " + folder.failure.message());
  const std::string sharedPath = (folder.path + "/kernels.so").str();
  std::vector<std::string> paths;
  for (const std::string &object : objects) {
    paths.push_back((folder.path + "/" + llvm::Twine(paths.size()) + ".o").str());
    SMELT_TRY(writeFile(paths.back(), {&object, 1}));
  }

  std::string errors;
  llvm::raw_string_ostream errorStream(errors);
  std::vector<const char *> arguments = {"ld.lld",
                                         "-shared",
                                         "--no-undefined",
                                         "-z",
                                         "now",
                                         "-m",
                                         emulationOf(triple),
                                         "-Bsymbolic",
                                         "--build-id=none",
                                         "--threads=1",
                                         "-o",
                                         sharedPath.c_str()};
  for (const std::string &path : paths)
    arguments.push_back(path.c_str());
  {
    static std::mutex onlyOne; // lld keeps its state in globals
    std::lock_guard lock(onlyOne);
    lld::Result result =
        lld::lldMain(arguments, errorStream, errorStream, {{lld::Gnu, &lld::elf::link}});
    if (result.retCode != 0 || !result.canRunAgain)
      return internalError("linking the kernels failed: " + errors);
  }
  auto buffer = llvm::MemoryBuffer::getFile(sharedPath);
  if (!buffer)
    return internalError("cannot read the linked kernels: " + buffer.getError().message());
  auto *data = reinterpret_cast<const std::byte *>((*buffer)->getBufferStart());
  return std::vector<std::byte>(data, data + (*buffer)->getBufferSize());
}

} // namespace smelt
