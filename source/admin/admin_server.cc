#include "admin/admin_server.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <list>

#include "base/hex.h"
#include "base/log.h"
#include "event/clock.h"
#include "http/h1_codec.h"
#include "net/connection.h"

namespace outrigger::admin {
namespace {

constexpr size_t kPieceBytes = 64 * 1024;
constexpr int64_t kPieceNs = 1'000'000;

std::string percent_decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && hex_digit(text[i + 1]) >= 0 && hex_digit(text[i + 2]) >= 0) {
      out += static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
      i += 2;
    } else {
      out += text[i] == '+' ? ' ' : text[i];
    }
  }
  return out;
}

}  // namespace

const std::string* AdminRequest::find(std::string_view name) const {
  for (const auto& [key, value] : query)
    if (key == name) return &value;
  return nullptr;
}

std::vector<std::pair<std::string, std::string>> parse_query(std::string_view query) {
  std::vector<std::pair<std::string, std::string>> out;
  while (!query.empty()) {
    const std::string_view part = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(part.size() + 1, query.size()));
    if (part.empty()) continue;
    const size_t equals = std::min(part.find('='), part.size());
    out.emplace_back(percent_decoded(part.substr(0, equals)),
                     percent_decoded(part.substr(std::min(equals + 1, part.size()))));
  }
  return out;
}

bool is_literal_host(std::string_view host) {
  if (host.starts_with('[')) {
    const size_t close = host.find(']');
    return close != std::string_view::npos && net::Address::parse(host.substr(1, close - 1), 0).has_value();
  }
  host = host.substr(0, host.rfind(':'));
  return host == "localhost" || net::Address::parse(host, 0).has_value();
}

Result<net::Address> parse_listen_address(std::string_view text) {
  if (text.starts_with("unix:")) text.remove_prefix(5);
  if (text.starts_with('/') || text.starts_with('@')) return net::Address::unix_path(text);
  const size_t colon = text.rfind(':');
  const auto bad = [&] { return fail(Errc::kInvalidArgument, fmt::format("\"{}\" is not HOST:PORT", text)); };
  if (colon == std::string_view::npos) return bad();
  std::string_view host = text.substr(0, colon), port = text.substr(colon + 1);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host == "localhost") host = "127.0.0.1";
  uint32_t number = 0;
  if (port.empty() || port.size() > 5) return bad();
  for (const char c : port) {
    if (c < '0' || c > '9') return bad();
    number = number * 10 + static_cast<uint32_t>(c - '0');
  }
  if (number > UINT16_MAX) return bad();
  return net::Address::parse(host, static_cast<uint16_t>(number));
}

// ---- one connection ----

struct AdminServer::Impl {
  class Client;

  void accept(int fd, const net::Address& local, const net::Address& remote);
  void forget(Client& client);
  void write_later(Client& client);
  void write_one();

  event::Loop* loop = nullptr;
  Handler handler;
  AdminOptions options;
  std::shared_ptr<net::SocketSet> sockets;
  std::unique_ptr<net::Acceptor> acceptor;
  std::list<std::unique_ptr<Client>> clients;
  // Those that have a piece to write: one of them a turn, so that many large pages make no long turn either.
  std::deque<Client*> writers;
  event::Timeout writers_timer{[](void* self) { static_cast<Impl*>(self)->write_one(); }, this};
};

class AdminServer::Impl::Client final : public event::Deferred,
                                        public net::ConnectionHandler,
                                        public http::CodecCallbacks,
                                        public http::StreamSink {
 public:
  Client(Impl& owner, int fd, const net::Address& local, const net::Address& remote)
      : owner_(owner), local_(local.str()), remote_(remote.str()) {
    connection_ = net::Connection::accept(*owner.loop, fd, local, remote, *this, {});
    codec_ = http::make_h1_server_codec(*connection_, *this, {});
    touch();
  }

  void drain() {
    codec_->drain();
    if (stream_ == nullptr) connection_->close(net::Close::kFlush);
  }
  void close_now() { connection_->close(net::Close::kNow); }

  // The next piece: so much as takes no longer than a turn of the loop should. The next one follows when the connection
  // takes it, and after those of others.
  void write_piece() {
    waiting_ = false;
    if (!sending_ || connection_->above_watermark()) return;
    std::string piece;
    bool more = true;
    if (response_.producer != nullptr) {
      const int64_t until_ns = event::steady_ns() + kPieceNs;
      do more = response_.producer(piece);
      while (more && piece.size() < kPieceBytes && event::steady_ns() < until_ns);
    } else {
      piece = response_.body.substr(sent_, kPieceBytes);
      sent_ += piece.size();
      more = sent_ < response_.body.size();
    }
    touch();
    info_.response_bytes += piece.size();
    sending_ = more;
    if (!more || !piece.empty()) stream_->encode_data(Buffer(piece), !more);
    write_soon();
  }

 private:
  // ConnectionHandler
  void on_read(net::Connection&, Block* block, const char* data, size_t size) override {
    touch();
    codec_->on_read(block, data, size);
  }
  void on_eof(net::Connection&) override { codec_->on_eof(); }
  void on_write_watermark(net::Connection&, bool above) override { codec_->on_write_watermark(above); }
  void on_close(net::Connection&, const Error*) override {
    codec_->on_close();
    idle_.disarm();
    owner_.forget(*this);
  }

  // CodecCallbacks
  http::StreamSink& on_new_stream(http::CodecStream& stream) override {
    stream_ = &stream;
    request_ = nullptr;
    info_ = {};
    info_.start_ns = owner_.loop->now_ns();
    info_.start_time_unix_us = owner_.loop->wall_us();
    info_.protocol = stream.protocol();
    info_.downstream_remote_address = info_.downstream_direct_remote_address = remote_;
    info_.downstream_local_address = local_;
    return *this;
  }
  void on_stream_end(bool reusable) override {
    finish();
    if (!reusable) return;
    touch();
  }

  // StreamSink
  Arena& arena() override { return arena_; }
  void on_1xx(HeaderMap&) override {}
  void on_headers(HeaderMap& headers, bool end_stream) override {
    request_ = &headers;
    if (end_stream) answer();
  }
  void on_data(Buffer& data, bool end_stream) override {
    info_.request_bytes += data.size();
    data.clear();
    if (end_stream) answer();
  }
  void on_trailers(HeaderMap&) override { answer(); }
  void on_bad_request(uint16_t status, std::string_view details) override {
    send({.status = status, .body = std::string(details) + "\n"});
  }
  void on_reset(http::ResetReason, std::string_view) override { finish(); }
  void on_write_watermark(bool above) override {
    if (!above) write_soon();
  }

  void answer() {
    const std::string_view method = request_->get(HeaderId::kMethod);
    const std::string_view host = request_->get(HeaderId::kAuthority);
    if (!is_literal_host(host)) {
      send({.status = 403, .body = "admin answers requests to an IP address or localhost only\n"});
      return;
    }
    const std::string_view origin = request_->get(HeaderId::kOrigin);
    if (method != "GET" && method != "HEAD" && !origin.empty() && origin != "http://" + std::string(host)) {
      send({.status = 403, .body = "changes cannot be asked for by a page of another origin\n"});
      return;
    }
    const std::string_view target = request_->get(HeaderId::kPath);
    const size_t mark = std::min(target.find('?'), target.size());
    AdminRequest request{.method = std::string(method),
                         .path = std::string(target.substr(0, mark)),
                         .query = parse_query(target.substr(std::min(mark + 1, target.size())))};
    send(owner_.handler(request));
  }

  void send(AdminResponse response) {
    if (stream_ == nullptr || sending_) return;
    response_ = std::move(response);
    sent_ = 0;
    const bool head_only = request_ != nullptr && request_->get(HeaderId::kMethod) == "HEAD";
    HeaderMap headers(arena_);
    headers.add(HeaderId::kStatus, std::to_string(response_.status));
    headers.add(HeaderId::kContentType, response_.content_type);
    headers.add(HeaderId::kCacheControl, "no-cache, max-age=0");
    headers.add("x-content-type-options", "nosniff");
    headers.add(HeaderId::kServer, "outrigger");
    if (!response_.allow.empty()) headers.add(HeaderId::kAllow, response_.allow);
    if (response_.producer == nullptr) headers.add(HeaderId::kContentLength, std::to_string(response_.body.size()));
    info_.response_code = response_.status;
    if (response_.hide_query && request_ != nullptr) {
      const std::string_view target = request_->get(HeaderId::kPath);
      request_->set_view(HeaderId::kPath, target.substr(0, target.find('?')));
    }
    const bool end = head_only || (response_.producer == nullptr && response_.body.empty());
    sending_ = !end;
    stream_->encode_headers(headers, end);
    // A short page leaves with its head.
    if (sending_) write_piece();
  }

  void write_soon() {
    if (!sending_ || waiting_ || connection_->above_watermark()) return;
    waiting_ = true;
    owner_.write_later(*this);
  }

  void finish() {
    if (stream_ == nullptr) return;
    stream_ = nullptr;
    sending_ = false;
    response_ = {};
    info_.end_ns = owner_.loop->now_ns();
    for (const auto& log : owner_.options.access_logs)
      log->log(owner_.options.access_log_ring, {.request = request_, .info = &info_});
    request_ = nullptr;
    arena_.reset();
  }

  void touch() { owner_.loop->timers().arm(idle_, owner_.options.idle_timeout_ms); }

  Impl& owner_;
  const std::string local_, remote_;
  net::Connection* connection_;
  std::unique_ptr<http::Codec> codec_;
  Arena arena_;
  http::CodecStream* stream_ = nullptr;  // a request is under way
  HeaderMap* request_ = nullptr;
  StreamInfo info_;
  AdminResponse response_;
  size_t sent_ = 0;
  bool sending_ = false;
  bool waiting_ = false;  // among the writers
  event::Timeout idle_{[](void* self) { static_cast<Client*>(self)->close_now(); }, this};
};

// ---- the server ----

void AdminServer::Impl::accept(int fd, const net::Address& local, const net::Address& remote) {
  if (clients.size() >= options.max_connections) {
    ::close(fd);
    return;
  }
  clients.push_back(std::make_unique<Client>(*this, fd, local, remote));
}

void AdminServer::Impl::write_later(Client& client) {
  writers.push_back(&client);
  if (!writers_timer.armed()) loop->timers().arm(writers_timer, 0);
}

void AdminServer::Impl::write_one() {
  Client& client = *writers.front();
  writers.pop_front();
  client.write_piece();
  if (!writers.empty() && !writers_timer.armed()) loop->timers().arm(writers_timer, 0);
}

void AdminServer::Impl::forget(Client& client) {
  std::erase(writers, &client);
  if (writers.empty()) writers_timer.disarm();
  const auto at = std::find_if(clients.begin(), clients.end(), [&](const auto& c) { return c.get() == &client; });
  loop->defer_delete(std::move(*at));
  clients.erase(at);
}

Result<std::unique_ptr<AdminServer>> AdminServer::listen(event::Loop& loop, const net::Address& address,
                                                         Handler handler, AdminOptions options) {
  auto impl = std::make_unique<Impl>();
  impl->loop = &loop;
  impl->handler = std::move(handler);
  impl->options = std::move(options);
  TRY(impl->sockets, net::SocketSet::create(address, 1, 0));
  Impl* raw = impl.get();
  impl->acceptor = std::make_unique<net::Acceptor>(
      loop, impl->sockets, 0,
      [raw](int fd, const net::Address& local, const net::Address& remote) { raw->accept(fd, local, remote); });
  auto server = std::unique_ptr<AdminServer>(new AdminServer());
  server->impl_ = std::move(impl);
  return server;
}

AdminServer::~AdminServer() = default;

const net::Address& AdminServer::address() const { return impl_->sockets->address(); }
bool AdminServer::idle() const { return impl_->clients.empty(); }

void AdminServer::drain() {
  impl_->acceptor.reset();
  for (auto& client : impl_->clients) client->drain();
}

void AdminServer::close_now() {
  impl_->acceptor.reset();
  for (auto& client : impl_->clients) client->close_now();
}

}  // namespace outrigger::admin
