// AMX on CPUs that have none: its instructions trap, and are carried out here.
#pragma once

namespace smelt::conformance {

/// Whether amxEmulator() can be used: on x86 under Linux.
bool canEmulateAmx();

/// From now on the AMX-TILE and AMX-INT8 instructions that this process executes do what Intel's
/// manual says (SDM volume 2; only what 64-bit code uses). What it would refuse, such as a register
/// without a shape, ends the process with a message.
void emulateAmx();

} // namespace smelt::conformance
