#include "support/http_message.h"

#include <algorithm>
#include <cctype>
#include <charconv>

namespace outrigger::test {
namespace {

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

std::string describe(const Socket& socket, std::string_view where) {
  const char* what = socket.end() == Socket::End::kEof       ? "end of stream in the "
                     : socket.end() == Socket::End::kTimeout ? "timed out in the "
                                                             : "reset in the ";
  return what + std::string(where);
}

int ms(const Deadline& deadline) { return static_cast<int>(deadline.left().count()); }

// Takes the bytes up to and including `end` from the socket; nothing and an error if it does not come.
std::optional<std::string> take_until(Socket& socket, std::string_view end, std::string_view where,
                                      const Deadline& deadline, std::string& error) {
  std::string taken = socket.recv_until(end, ms(deadline));
  if (taken.ends_with(end)) return taken;
  error = taken.empty() && where == "head" && socket.end() == Socket::End::kEof ? "closed before a message"
                                                                                : describe(socket, where);
  return std::nullopt;
}

bool parse_fields(std::string_view lines, HttpMessage::Fields& fields, std::string& error) {
  while (!lines.empty()) {
    const size_t end = lines.find("\r\n");
    const std::string_view line = lines.substr(0, end);
    lines.remove_prefix(end + 2);
    if (line.empty()) return true;
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0 || line[colon - 1] == ' ' || line.front() == ' ') {
      error = "malformed field line: " + std::string(line);
      return false;
    }
    std::string_view value = line.substr(colon + 1);
    while (!value.empty() && (value.front() == ' ' || value.front() == '\t')) value.remove_prefix(1);
    while (!value.empty() && (value.back() == ' ' || value.back() == '\t')) value.remove_suffix(1);
    fields.emplace_back(lower(line.substr(0, colon)), std::string(value));
  }
  return true;
}

void read_chunks(Socket& socket, HttpMessage& message, const Deadline& deadline) {
  for (;;) {
    const auto line = take_until(socket, "\r\n", "body", deadline, message.error);
    if (!line) return;
    size_t size = 0;
    const auto [end, bad] = std::from_chars(line->data(), line->data() + line->size() - 2, size, 16);
    if (bad != std::errc() || (*end != '\r' && *end != ';')) {
      message.error = "malformed chunk line: " + *line;
      return;
    }
    if (size == 0) break;
    std::string data = socket.recv_exactly(size + 2, ms(deadline));
    if (data.size() < size + 2) {
      message.body += data.substr(0, size);
      message.error = describe(socket, "body");
      return;
    }
    if (data.substr(size) != "\r\n") {
      message.error = "a chunk is longer than its size";
      return;
    }
    message.body.append(data, 0, size);
  }
  std::string trailers;
  do {
    const auto line = take_until(socket, "\r\n", "trailers", deadline, message.error);
    if (!line) return;
    trailers += *line;
    if (*line == "\r\n") break;
  } while (true);
  parse_fields(trailers, message.trailers, message.error);
}

}  // namespace

int HttpMessage::status() const {
  if (start_line.size() < 12 || start_line.compare(0, 7, "HTTP/1.") != 0) return 0;
  int value = 0;
  std::from_chars(start_line.data() + 9, start_line.data() + 12, value);
  return value;
}

std::string HttpMessage::method() const { return start_line.substr(0, start_line.find(' ')); }

std::string HttpMessage::target() const {
  const size_t begin = start_line.find(' ');
  if (begin == std::string::npos) return {};
  return start_line.substr(begin + 1, start_line.find(' ', begin + 1) - begin - 1);
}

std::optional<std::string> HttpMessage::header(std::string_view name) const {
  const auto found =
      std::find_if(headers.begin(), headers.end(), [&](const auto& field) { return field.first == name; });
  if (found == headers.end()) return std::nullopt;
  return found->second;
}

size_t HttpMessage::count(std::string_view name) const {
  return static_cast<size_t>(
      std::count_if(headers.begin(), headers.end(), [&](const auto& field) { return field.first == name; }));
}

HttpMessage read_head(Socket& socket, Milliseconds patience) {
  HttpMessage message;
  const Deadline deadline(patience);
  const auto head = take_until(socket, "\r\n\r\n", "head", deadline, message.error);
  if (!head) return message;
  message.raw_head = *head;
  const size_t line_end = head->find("\r\n");
  message.start_line = head->substr(0, line_end);
  parse_fields(std::string_view(*head).substr(line_end + 2), message.headers, message.error);
  message.chunked = message.header("transfer-encoding") == "chunked";
  return message;
}

void read_body(Socket& socket, MessageKind kind, HttpMessage& message, Milliseconds patience) {
  const Deadline deadline(patience);
  const int status = message.status();
  if (!message.ok() || kind == MessageKind::kResponseToHead) return;
  if (kind == MessageKind::kResponse && (status < 200 || status == 204 || status == 304)) return;
  if (message.chunked) {
    read_chunks(socket, message, deadline);
  } else if (const auto length = message.header("content-length")) {
    size_t size = 0;
    const auto [end, bad] = std::from_chars(length->data(), length->data() + length->size(), size);
    if (bad != std::errc() || end != length->data() + length->size()) {
      message.error = "malformed content-length: " + *length;
      return;
    }
    message.body = socket.recv_exactly(size, ms(deadline));
    if (message.body.size() < size) message.error = describe(socket, "body");
  } else if (kind == MessageKind::kResponse) {  // up to the end of the connection
    message.body = socket.recv_to_eof(ms(deadline));
    if (socket.end() != Socket::End::kEof) message.error = describe(socket, "body");
  }
}

HttpMessage read_message(Socket& socket, MessageKind kind, Milliseconds patience) {
  const Deadline deadline(patience);
  HttpMessage message = read_head(socket, patience);
  read_body(socket, kind, message, deadline.left());
  return message;
}

std::string request_bytes(std::string_view method, std::string_view target, const HttpMessage::Fields& headers,
                          std::string_view body) {
  std::string bytes = std::string(method) + " " + std::string(target) + " HTTP/1.1\r\n";
  const bool has_host =
      std::any_of(headers.begin(), headers.end(), [](const auto& field) { return lower(field.first) == "host"; });
  if (!has_host) bytes += "host: localhost\r\n";
  for (const auto& [name, value] : headers) bytes += name + ": " + value + "\r\n";
  if (!body.empty()) bytes += "content-length: " + std::to_string(body.size()) + "\r\n";
  return bytes + "\r\n" + std::string(body);
}

std::string response_bytes(int status, std::string_view body, const HttpMessage::Fields& headers) {
  std::string bytes = "HTTP/1.1 " + std::to_string(status) + (status == 200 ? " OK\r\n" : " Status\r\n");
  for (const auto& [name, value] : headers) bytes += name + ": " + value + "\r\n";
  return bytes + "content-length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
}

std::string chunk(std::string_view data) {
  char size[20];
  const auto end = std::to_chars(size, size + sizeof size, data.size(), 16).ptr;
  return std::string(size, end) + "\r\n" + std::string(data) + "\r\n";
}

}  // namespace outrigger::test
