// The `smelt` program of a build without the compiler.
#include "runtime/tools/commands.h"

int main(int argc, char **argv) {
  return smelt::cli::runMain(argc, argv, smelt::cli::runtimeCommands());
}
