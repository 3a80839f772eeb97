// The devices that a model can run on, by the names that people give.
#pragma once

#include "runtime/model/backend.h"

#include <memory>
#include <string>

namespace smelt {

/// `name`: cpu; cuda, cuda:N, vulkan or vulkan:N; auto: the first real GPU that works and that the
/// artifact holds code for, else the CPU or, if it cannot run the model, what of Vulkan runs on it.
/// InvalidArgument: no such name; Unsupported: the artifact holds no code for it, or it cannot be
/// used.
Result<ChosenDevice> chooseDevice(const Model &model, const std::string &name);

} // namespace smelt
