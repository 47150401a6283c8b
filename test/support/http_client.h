// HttpClient: a scripted HTTP/1 client on one connection. Everything blocks, with a deadline; what goes wrong is told
// in the answer's `error`.
//
// Thread rule: one thread at a time.
// Use:  HttpClient client(port);
//       HttpMessage answer = client.get("/users/1", {{"x-api-key", "k"}});
//       client.send("GET / HTTP/1.1\r\n...");  answer = client.read_response();
#pragma once

#include "support/http_message.h"

namespace outrigger::test {

class HttpClient {
 public:
  HttpClient() = default;
  explicit HttpClient(uint16_t port) : socket_(Socket::connect(port)) {}
  explicit HttpClient(Socket socket) : socket_(std::move(socket)) {}

  bool connected() const { return socket_.valid(); }
  Socket& socket() { return socket_; }

  // One request and its whole answer.
  HttpMessage request(std::string_view method, std::string_view target, const HttpMessage::Fields& headers = {},
                      std::string_view body = {}) {
    send(request_bytes(method, target, headers, body));
    return read_response(method == "HEAD");
  }
  HttpMessage get(std::string_view target, const HttpMessage::Fields& headers = {}) {
    return request("GET", target, headers);
  }

  bool send(std::string_view bytes) { return socket_.send(bytes) == bytes.size(); }
  HttpMessage read_response(bool to_head = false, Milliseconds patience = kPatience) {
    return read_message(socket_, to_head ? MessageKind::kResponseToHead : MessageKind::kResponse, patience);
  }
  // The peer closes or resets before another byte comes.
  bool wait_closed(Milliseconds patience = kPatience) {
    if (!socket_.recv_some(1, static_cast<int>(patience.count())).empty()) return false;
    return socket_.end() == Socket::End::kEof || socket_.end() == Socket::End::kReset;
  }

 private:
  Socket socket_;
};

// A request on a connection of its own.
inline HttpMessage http_get(uint16_t port, std::string_view target, const HttpMessage::Fields& headers = {}) {
  return HttpClient(port).get(target, headers);
}

}  // namespace outrigger::test
