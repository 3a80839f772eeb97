// The compiler's command line: option tables, and what they mean.
#pragma once

#include "compiler/driver/calibrate.h"
#include "compiler/driver/compile.h"
#include "compiler/driver/evaluate.h"
#include "compiler/driver/report.h"
#include "runtime/tools/cli.h"

#include <span>

namespace smelt {

/// All rows of options.def.
std::span<const cli::Option> compilerOptions();

/// Reads the options of each command. InvalidArgument says which option is wrong, or which two
/// contradict each other.
Result<CompileOptions> readCompileOptions(const cli::Arguments &arguments);
Result<CalibrateOptions> readCalibrateOptions(const cli::Arguments &arguments);
Result<MergeOptions> readMergeOptions(const cli::Arguments &arguments);
Result<EvaluateOptions> readEvaluateOptions(const cli::Arguments &arguments);
Result<ReportOptions> readReportOptions(const cli::Arguments &arguments);
/// Of `report --compare`, whose operands are the two reports.
Result<CompareLimits> readCompareLimits(const cli::Arguments &arguments);

} // namespace smelt
