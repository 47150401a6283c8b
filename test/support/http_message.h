// HttpMessage: one HTTP/1 request or response as it stood on the wire, read by a plain parser that shares no code with
// the proxy's. It is lenient about nothing: what is not well-formed is told in `error`.
//
// Use:  HttpMessage answer = read_message(socket, MessageKind::kResponse);
//       EXPECT_EQ(answer.error, "");  EXPECT_EQ(answer.status(), 200);  EXPECT_EQ(answer.header("server"),
//       "outrigger");
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/socket.h"
#include "support/wait.h"

namespace outrigger::test {

struct HttpMessage {
  using Fields = std::vector<std::pair<std::string, std::string>>;  // names in lower case, in wire order

  std::string start_line;
  Fields headers;
  std::string body;  // without the chunked framing
  Fields trailers;
  bool chunked = false;
  std::string raw_head;  // from the start line to the empty line, as it came
  // Why the message is not whole ("end of stream in the head", "timed out in the body", ...); empty: it is.
  std::string error;

  bool ok() const { return error.empty(); }
  int status() const;  // of a response; 0 if it is none
  std::string method() const;
  std::string target() const;
  // The value of the first field of that name (lower case).
  std::optional<std::string> header(std::string_view name) const;
  size_t count(std::string_view name) const;
};

enum class MessageKind {
  kRequest,
  kResponse,        // interim responses (1xx) are messages of their own
  kResponseToHead,  // no body whatever the head says
};

// Reads one message, leaving what follows in the socket.
HttpMessage read_message(Socket& socket, MessageKind kind, Milliseconds patience = kPatience);
// In two steps, for tests that act between head and body.
HttpMessage read_head(Socket& socket, Milliseconds patience = kPatience);
void read_body(Socket& socket, MessageKind kind, HttpMessage& message, Milliseconds patience = kPatience);

// The bytes of a request or response with a counted body (content-length is added unless the body is empty and the
// message a request).
std::string request_bytes(std::string_view method, std::string_view target, const HttpMessage::Fields& headers = {},
                          std::string_view body = {});
std::string response_bytes(int status, std::string_view body = {}, const HttpMessage::Fields& headers = {});
// One chunk of a chunked body; the empty one ends it.
std::string chunk(std::string_view data);

}  // namespace outrigger::test
