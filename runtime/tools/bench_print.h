// The results of `smelt bench` for people.
#pragma once

#include "runtime/base/json.h"

namespace smelt::cli {

/// Prints what measureSpeed() found to stdout; what it did not measure is left out.
void printSpeed(const Json &speed);

} // namespace smelt::cli
