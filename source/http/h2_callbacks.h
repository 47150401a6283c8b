// How an H2Session's nghttp2 session is made: its callbacks, limits and first SETTINGS.
//
// Thread rule: the session's thread.
// Use:  session_ = make_session(server, options, *this, memory_);   // in an H2Memory::Framing
#pragma once

#include <nghttp2/nghttp2.h>

#include "http/h2_session.h"

namespace outrigger::http {

nghttp2_session* make_session(bool server, const H2Options& options, H2Session& self, H2Memory& memory);
nghttp2_data_provider body_of(H2Stream& stream);

}  // namespace outrigger::http
