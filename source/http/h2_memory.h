// Memory of HTTP/2 streams and tables, recycled, so that a session in steady state asks the heap for nothing: lists of
// free chunks by size, one set a thread.
//
// Thread rule: a chunk goes back on the thread that took it (sessions stay on their loop).
// Use:  void* at = h2_allocate(bytes);   h2_free(at);
#pragma once

#include <cstddef>

namespace outrigger::http {

// Aligned to 8 bytes.
void* h2_allocate(size_t bytes);
void h2_free(void* at);  // nullptr: nothing

}  // namespace outrigger::http
