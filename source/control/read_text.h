// A file as a text.
//
// Thread rule: pure function.
// Use:  Result<std::string> text = read_text(path);
#pragma once

#include <string>

#include "outrigger/result.h"

namespace outrigger::control {

// The whole file. kNotFound: there is none (any more), or it is no regular file.
Result<std::string> read_text(const std::string& path);

}  // namespace outrigger::control
