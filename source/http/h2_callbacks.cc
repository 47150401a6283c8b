// nghttp2's C callbacks, and how a session is made.
#include "http/h2_callbacks.h"

#include "base/check.h"
#include "http/h2_memory.h"

namespace outrigger::http {

struct H2Callbacks {
  static H2Session& self(void* user) { return *static_cast<H2Session*>(user); }
  static int on_begin_frame(nghttp2_session*, const nghttp2_frame_hd* head, void* user) {
    return self(user).on_begin_frame(*head);
  }
  static int on_begin_headers(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    return self(user).on_begin_headers(*frame);
  }
  static int on_header(nghttp2_session*, const nghttp2_frame* frame, nghttp2_rcbuf* name, nghttp2_rcbuf* value, uint8_t,
                       void* user) {
    H2Stream* const stream = self(user).find(frame->hd.stream_id);
    if (stream == nullptr) return 0;
    const nghttp2_vec n = nghttp2_rcbuf_get_buf(name), v = nghttp2_rcbuf_get_buf(value);
    return self(user).on_field(*stream, {reinterpret_cast<const char*>(n.base), n.len},
                               {reinterpret_cast<const char*>(v.base), v.len});
  }
  // A bad name or value: nghttp2 would leave the field out; a message that holds one is malformed (RFC 9113 8.2.1).
  static int on_invalid_header(nghttp2_session* session, const nghttp2_frame* frame, nghttp2_rcbuf*, nghttp2_rcbuf*,
                               uint8_t, void* user) {
    self(user).count(self(user).counting_.stats->rx_messaging_error);
    nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_PROTOCOL_ERROR);
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  }
  static int on_invalid_frame(nghttp2_session*, const nghttp2_frame*, int, void* user) {
    self(user).count(self(user).counting_.stats->rx_messaging_error);
    return 0;
  }
  static int on_frame(nghttp2_session*, const nghttp2_frame* frame, void* user) { return self(user).on_frame(*frame); }
  static int on_data(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* data, size_t size, void* user) {
    H2Stream* const stream = self(user).find(id);
    if (stream != nullptr) return self(user).on_data(*stream, reinterpret_cast<const char*>(data), size);
    nghttp2_session_consume_connection(session, size);
    return 0;
  }
  static int on_sent(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    self(user).on_sent(*frame);
    return 0;
  }
  static int on_closed(nghttp2_session*, int32_t id, uint32_t error_code, void* user) {
    if (H2Stream* const stream = self(user).find(id); stream != nullptr) {
      self(user).on_stream_closed(*stream, error_code);
    }
    return 0;
  }
  static ssize_t read_body(nghttp2_session*, int32_t, uint8_t*, size_t most, uint32_t* flags,
                           nghttp2_data_source* source, void* user) {
    return self(user).read_body(*static_cast<H2Stream*>(source->ptr), most, flags);
  }
  static int write_body(nghttp2_session*, nghttp2_frame*, const uint8_t* head, size_t size, nghttp2_data_source* source,
                        void* user) {
    self(user).write_body(*static_cast<H2Stream*>(source->ptr), head, size);
    return 0;
  }
};

namespace {

constexpr uint32_t kFramePayload = 16 * 1024;  // a frame's, unless SETTINGS allow more

nghttp2_session_callbacks* make_callbacks() {
  nghttp2_session_callbacks* c = nullptr;
  CHECK(nghttp2_session_callbacks_new(&c) == 0);
  nghttp2_session_callbacks_set_on_begin_frame_callback(c, H2Callbacks::on_begin_frame);
  nghttp2_session_callbacks_set_on_begin_headers_callback(c, H2Callbacks::on_begin_headers);
  nghttp2_session_callbacks_set_on_header_callback2(c, H2Callbacks::on_header);
  nghttp2_session_callbacks_set_on_invalid_header_callback2(c, H2Callbacks::on_invalid_header);
  nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(c, H2Callbacks::on_invalid_frame);
  nghttp2_session_callbacks_set_on_frame_recv_callback(c, H2Callbacks::on_frame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, H2Callbacks::on_data);
  nghttp2_session_callbacks_set_on_frame_send_callback(c, H2Callbacks::on_sent);
  nghttp2_session_callbacks_set_on_stream_close_callback(c, H2Callbacks::on_closed);
  nghttp2_session_callbacks_set_send_data_callback(c, H2Callbacks::write_body);
  return c;
}

}  // namespace

nghttp2_data_provider body_of(H2Stream& stream) {
  nghttp2_data_provider provider;
  provider.source.ptr = &stream;
  provider.read_callback = H2Callbacks::read_body;
  return provider;
}

nghttp2_session* make_session(bool server, const H2Options& options, H2Session& self, H2Memory& memory) {
  static nghttp2_session_callbacks* const callbacks = make_callbacks();
  nghttp2_option* option = nullptr;
  CHECK(nghttp2_option_new(&option) == 0);
  nghttp2_option_set_no_auto_window_update(option, 1);
  nghttp2_option_set_no_closed_streams(option, 1);
  nghttp2_option_set_no_auto_ping_ack(option, 0);
  nghttp2_option_set_peer_max_concurrent_streams(option, 100);
  nghttp2_option_set_max_deflate_dynamic_table_size(option, 4096);
  nghttp2_option_set_max_outbound_ack(option, 10'000);  // ours are fewer, and counted
  nghttp2_option_set_stream_reset_rate_limit(option, UINT32_MAX, UINT32_MAX);
  // As many frames as the largest head that is allowed may need, and a few for those who send small ones.
  nghttp2_option_set_max_continuations(option, options.max_head_bytes / kFramePayload + 8);
  nghttp2_session* session = nullptr;
  nghttp2_mem functions = memory.functions();
  const int rc = server ? nghttp2_session_server_new3(&session, callbacks, &self, option, &functions)
                        : nghttp2_session_client_new3(&session, callbacks, &self, option, &functions);
  nghttp2_option_del(option);
  CHECK(rc == 0);
  nghttp2_settings_entry settings[5];
  size_t count = 0;
  settings[count++] = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, options.initial_stream_window_bytes};
  settings[count++] = {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, options.max_head_bytes};
  if (server) {
    settings[count++] = {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, options.max_concurrent_streams};
    settings[count++] = {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1};
    if (options.allow_connect) settings[count++] = {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1};
  } else {
    settings[count++] = {NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
  }
  CHECK(nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, count) == 0);
  const auto window = static_cast<int32_t>(options.initial_connection_window_bytes);
  CHECK(nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, window) == 0);
  return session;
}

}  // namespace outrigger::http
