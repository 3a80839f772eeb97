// What tests ask of the fake driver beside the functions of libcuda.so.1.
#pragma once

/// How many objects (memories, modules, streams, graphs, uses of the context) are left.
extern "C" int fakeCudaObjects();
/// How many graphs were launched, and kernels that were launched outside of any.
extern "C" int fakeCudaGraphLaunches();
extern "C" int fakeCudaPlainLaunches();
