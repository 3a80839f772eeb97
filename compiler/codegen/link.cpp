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

} // namespace

Result<std::vector<std::byte>> linkSharedObject(std::span<const char> object,
                                                std::string_view emulation) {
  TemporaryFolder folder;
  if (folder.failure)
    return internalError("no temporary folder for linking: " + folder.failure.message());
  std::string objectPath = (folder.path + "/kernels.o").str(),
              sharedPath = (folder.path + "/kernels.so").str();
  {
    std::error_code failure;
    llvm::raw_fd_ostream out(objectPath, failure);
    if (!failure)
      out.write(object.data(), object.size());
    out.close();
    if (failure || out.has_error())
      return exhausted("cannot write " + objectPath + ": " +
                       (failure ? failure : out.error()).message());
  }

  std::string errors, emulationText(emulation);
  llvm::raw_string_ostream errorStream(errors);
  const char *arguments[] = {"ld.lld",      "-shared", "--no-undefined",      "-z",
                             "now",         "-m",      emulationText.c_str(), "--build-id=none",
                             "--threads=1", "-o",      sharedPath.c_str(),    objectPath.c_str()};
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
