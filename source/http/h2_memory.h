// nghttp2's memory, recycled: lists of free chunks by size, one set a thread, so that a session in steady state asks
// the heap for nothing.
//
// Thread rule: a chunk goes back on the thread that took it (sessions stay on their loop).
// Use:  nghttp2_session_server_new3(&session, callbacks, self, options, h2_memory());
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstddef>

namespace outrigger::http {

nghttp2_mem* h2_memory();

// The same lists, for objects of the codec's own.
void* h2_allocate(size_t bytes);
void h2_free(void* at);

}  // namespace outrigger::http
