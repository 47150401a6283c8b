// read_file: a whole file, bounded.
//
// Thread rule: any thread but a worker.
// Use:  TRY(std::string text, read_file("/etc/outrigger/bootstrap.yaml", 64u << 20));
#pragma once

#include <cstddef>
#include <string>

#include "outrigger/result.h"

namespace outrigger::server {

// An error names the path.
Result<std::string> read_file(const std::string& path, size_t max_bytes);

}  // namespace outrigger::server
