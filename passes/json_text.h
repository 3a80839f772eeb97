// JSON that others wrote, for those who read it with LLVM's parser.
#pragma once

#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"

#include <system_error>

namespace smelt {

/// Whether brackets open within each other more than `most` deep.
inline bool isNestedDeeper(llvm::StringRef text, int most) {
  int depth = 0;
  bool inString = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (inString && c == '\\')
      ++i; // what it escapes
    else if (c == '"')
      inString = !inString;
    else if (!inString && (c == '[' || c == '{') && ++depth > most)
      return true;
    else if (!inString && (c == ']' || c == '}'))
      --depth;
  }
  return false;
}

/// llvm::json::parse() recurses: what no stack would hold is refused before.
inline llvm::Expected<llvm::json::Value> parseJson(llvm::StringRef text) {
  constexpr int mostLevels = 512;
  if (isNestedDeeper(text, mostLevels))
    return llvm::createStringError(std::errc::invalid_argument, "more than %d levels", mostLevels);
  return llvm::json::parse(text);
}

} // namespace smelt
