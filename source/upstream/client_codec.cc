#include "upstream/client_codec.h"

#include "http/h1_codec.h"
#include "upstream/h2_options.h"

namespace outrigger::upstream {

std::unique_ptr<http::Codec> make_client_codec(bool http2, net::Connection& connection, http::CodecCallbacks& owner,
                                               const config::ClusterSpec& spec, http::H2Counting counting) {
  if (!http2) {
    http::H1Options options;
    options.max_headers_count = spec.max_response_headers_count;
    options.enable_trailers = true;
    return http::make_h1_client_codec(connection, owner, options);
  }
  http::H2Options options = h2_options(spec.http2, spec.per_connection_buffer_limit_bytes);
  options.max_headers_count = spec.max_response_headers_count;
  return http::make_h2_client_codec(connection, owner, options, counting);
}

}  // namespace outrigger::upstream
