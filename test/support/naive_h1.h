// A second HTTP/1 parser: whole strings, no state, no speed. It takes the same messages as H1Parser and must agree with
// it on every input. Its output is h1_transcript.h's, with every fault just "FAULT".
#pragma once

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "support/h1_transcript.h"

namespace outrigger::http {

class NaiveH1 {
 public:
  NaiveH1(std::string input, const TranscriptOptions& options) : in_(std::move(input)), o_(options) {}

  std::string run() {
    bool again = true;
    while (again) again = message() && request();
    return out_;
  }

 private:
  using Fields = std::vector<std::pair<std::string, std::string>>;
  enum class Got { kOk, kFault, kIncomplete };

  bool request() const { return o_.kind == H1Parser::Kind::kRequest; }
  size_t max_bytes() const { return std::min<size_t>(o_.h1.max_head_bytes, H1Parser::kMaxHeadBytes); }
  bool fault() {
    out_ += "FAULT\n";
    return false;
  }
  bool incomplete() {
    out_ += "INCOMPLETE\n";
    return false;
  }
  bool not_ok(Got got) { return got == Got::kFault ? fault() : incomplete(); }

  static bool token_char(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           std::string("!#$%&'*+-.^_`|~").find(c) != std::string::npos;
  }
  static bool token(const std::string& s) {
    for (char c : s)
      if (c == 0 || !token_char(c)) return false;
    return !s.empty();
  }
  static std::string lower(std::string s) {
    for (char& c : s)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    return s;
  }
  static std::string trim(const std::string& s) {
    const size_t a = s.find_first_not_of(" \t");
    return a == std::string::npos ? "" : s.substr(a, s.find_last_not_of(" \t") - a + 1);
  }
  static std::vector<std::string> split(const std::string& s, char at) {
    std::vector<std::string> parts(1);
    for (char c : s) {
      if (c == at) {
        parts.emplace_back();
      } else {
        parts.back() += c;
      }
    }
    return parts;
  }
  static bool digits(const std::string& s) {
    return !s.empty() && s.find_first_not_of("0123456789") == std::string::npos;
  }

  // Lines from pos_ up to and with the empty one. The first may be a start line.
  Got section(bool start_line, std::vector<std::string>& lines) {
    const size_t begin = pos_;
    size_t line = pos_;
    size_t fields = 0;
    for (size_t i = pos_;; ++i) {
      if (i - begin >= max_bytes()) return Got::kFault;
      if (i == in_.size()) return Got::kIncomplete;
      const auto c = static_cast<unsigned char>(in_[i]);
      if (c >= 0x20 && c != 0x7f) continue;
      if (c == '\t') continue;
      if (c != '\r') return Got::kFault;
      if (i + 1 - begin >= max_bytes()) return Got::kFault;
      if (i + 1 == in_.size()) return Got::kIncomplete;
      if (in_[i + 1] != '\n') return Got::kFault;
      const std::string text = in_.substr(line, i - line);
      line = i + 2;
      const bool first = start_line && lines.empty();
      if (first) {
        if (!read_start(text)) return Got::kFault;
      } else if (text.empty()) {
        pos_ = line;
        return Got::kOk;
      } else {
        if (text[0] == ' ' || text[0] == '\t') return Got::kFault;
        if (++fields > o_.h1.max_headers_count) return Got::kFault;
      }
      lines.push_back(text);
      ++i;
    }
  }

  bool read_start(const std::string& text) {
    http_10_ = false;
    if (!request()) {
      if (text.size() < 12 || (text.substr(0, 9) != "HTTP/1.1 " && text.substr(0, 9) != "HTTP/1.0 ")) return false;
      http_10_ = text[7] == '0';
      status_ = text.substr(9, 3);
      return digits(status_) && status_ >= "100" && (text.size() == 12 || text[12] == ' ');
    }
    const std::vector<std::string> parts = split(text, ' ');
    if (parts.size() != 3 || !token(parts[0]) || parts[1].empty()) return false;
    for (const char c : parts[1])
      if (c <= 0x20 || c >= 0x7f || c == '#') return false;
    if (parts[2] != "HTTP/1.1" && parts[2] != "HTTP/1.0") return false;
    method_ = parts[0];
    http_10_ = parts[2] == "HTTP/1.0";
    return read_target(parts[1]);
  }

  bool read_target(const std::string& target) {
    path_ = authority_ = scheme_ = "";
    if (method_ == "CONNECT") {
      authority_ = target;
      return authority_ok(target) && target.back() != ':' && target.rfind(':') != std::string::npos &&
             target.find(']', target.rfind(':')) == std::string::npos;
    }
    if (target[0] == '/') {
      path_ = target;
      return true;
    }
    if (target == "*") {
      path_ = target;
      return method_ == "OPTIONS";
    }
    const size_t sep = target.find("://");
    if (sep == std::string::npos) return false;
    scheme_ = lower(target.substr(0, sep));
    if (scheme_ != "http" && scheme_ != "https") return false;
    const std::string rest = target.substr(sep + 3);
    const size_t end = std::min(rest.find_first_of("/?"), rest.size());
    authority_ = rest.substr(0, end);
    path_ = rest.substr(end);
    if (path_.empty()) {
      path_ = method_ == "OPTIONS" ? "*" : "/";
    } else if (path_[0] == '?') {
      path_ = "/" + path_;
    }
    return authority_ok(authority_);
  }

  static bool authority_ok(const std::string& text) {
    std::string host = text, port;
    if (!text.empty() && text[0] == '[') {
      const size_t close = text.find(']');
      if (close == std::string::npos) return false;
      host = text.substr(1, close - 1);
      if (host.size() < 2 || host.find(':') == std::string::npos) return false;
      if (host.find_first_not_of("0123456789abcdefABCDEF:.") != std::string::npos) return false;
      const std::string rest = text.substr(close + 1);
      if (!rest.empty() && rest[0] != ':') return false;
      port = rest.empty() ? "" : rest.substr(1);
    } else {
      const size_t colon = text.find(':');
      host = text.substr(0, colon);
      port = colon == std::string::npos ? "" : text.substr(colon + 1);
      if (host.empty()) return false;
      for (size_t i = 0; i < host.size(); ++i) {
        const char c = host[i];
        if (c == '%') {
          if (i + 2 >= host.size() || std::isxdigit(static_cast<unsigned char>(host[i + 1])) == 0 ||
              std::isxdigit(static_cast<unsigned char>(host[i + 2])) == 0)
            return false;
        } else if (c == 0 || (std::isalnum(static_cast<unsigned char>(c)) == 0 &&
                              std::string("-._~!$&'()*+;=").find(c) == std::string::npos)) {
          return false;
        }
      }
    }
    return port.empty() || (digits(port) && port.size() <= 5 && std::stol(port) <= 65535);
  }

  static bool split_fields(const std::vector<std::string>& lines, size_t from, Fields& fields) {
    for (size_t i = from; i < lines.size(); ++i) {
      const size_t colon = lines[i].find(':');
      if (colon == std::string::npos || !token(lines[i].substr(0, colon))) return false;
      fields.emplace_back(lower(lines[i].substr(0, colon)), trim(lines[i].substr(colon + 1)));
    }
    return true;
  }

  static std::vector<std::string> values(const Fields& fields, const std::string& name) {
    std::vector<std::string> found;
    for (const auto& [n, v] : fields)
      if (n == name) found.push_back(v);
    return found;
  }

  bool message() {
    if (request()) {
      if (pos_ < in_.size() && in_[pos_] == '\r') {
        if (pos_ + 1 == in_.size()) return false;
        if (in_[pos_ + 1] != '\n') return fault();
        pos_ += 2;
        if (pos_ < in_.size() && in_[pos_] == '\r') return fault();
      }
    }
    if (pos_ == in_.size()) return false;
    std::vector<std::string> lines;
    if (const Got got = section(true, lines); got != Got::kOk) return not_ok(got);
    Fields fields;
    if (request() && http_10_ && !o_.h1.accept_http_10) return fault();
    if (request() && !scheme_.empty() && !o_.h1.allow_absolute_url) return fault();
    if (!split_fields(lines, 1, fields) || !head(fields)) return fault();
    if (!request() && status_[0] == '1' && status_ != "101") return message();
    return body();
  }

  bool head(const Fields& fields) {
    const auto hosts = values(fields, "host");
    if (request()) {
      if (hosts.size() > 1 || (hosts.size() == 1 && !authority_ok(hosts[0]))) return false;
      if (hosts.empty() && !http_10_) return false;
      if (hosts.empty() && authority_.empty() && o_.h1.default_host_for_http_10.empty()) return false;
    }
    const auto lengths = values(fields, "content-length");
    if (lengths.size() > 1) return false;
    length_ = 0;
    if (lengths.size() == 1) {
      if (!digits(lengths[0]) || lengths[0].size() > 32) return false;
      std::string number = lengths[0];
      number.erase(0, std::min(number.find_first_not_of('0'), number.size() - 1));
      if (number.size() > 19 || (number.size() == 19 && number > "9223372036854775807")) return false;
      length_ = std::stoull(number);
    }
    const auto te = values(fields, "transfer-encoding");
    if (te.size() > 1 || (te.size() == 1 && (http_10_ || !lengths.empty() || lower(te[0]) != "chunked"))) return false;
    chunked_ = te.size() == 1;
    if (method_ == "CONNECT" && request() && (chunked_ || !lengths.empty())) return false;
    bool close = false, keep = false, nominated = false;
    std::set<std::string> gone{"transfer-encoding", "connection", "keep-alive",
                               "proxy-connection",  "upgrade",    "http2-settings"};
    if (!o_.h1.enable_trailers) gone.insert("trailer");
    size_t tokens = 0;
    if (values(fields, "connection").size() > 4) return false;
    for (const std::string& value : values(fields, "connection")) {
      for (const std::string& part : split(value, ',')) {
        const std::string name = lower(trim(part));
        if (name.empty()) continue;
        if (!token(name) || ++tokens > 16) return false;
        close = close || name == "close";
        keep = keep || name == "keep-alive";
        nominated = nominated || name == "upgrade";
        const HeaderId id = find_header_id(name);
        const bool ours = id == HeaderId::kNone
                              ? name.rfind("x-forwarded-", 0) != 0 && name.rfind("x-envoy-", 0) != 0 &&
                                    name != "forwarded" && name != "x-real-ip"
                              : name == "trailer" || name == "proxy-authenticate" || name == "proxy-authorization";
        if (ours && name != "close" && name != "keep-alive") gone.insert(name);
      }
    }
    keep_ = !close && (!http_10_ || keep);
    const auto upgrades = values(fields, "upgrade");
    upgrade_.clear();
    if (upgrades.size() == 1 && (nominated || !request())) upgrade_ = wanted_upgrade(upgrades[0]);
    return request() ? write_request(fields, gone) : write_response(fields, gone, !lengths.empty());
  }

  void write_fields(const Fields& fields, const std::set<std::string>& gone, bool authority_known) {
    bool te_written = false;
    for (const auto& [name, value] : fields) {
      if (gone.count(name) != 0) continue;
      if (name == "te") {
        for (const std::string& part : split(value, ',')) {
          if (lower(trim(part)) != "trailers" || te_written) continue;
          te_written = true;
          out_ += "te=trailers\n";
        }
        continue;
      }
      if (request() && name == "host") continue;
      out_ += name + "=" + value + "\n";
    }
    if (!request() || authority_known) return;
    const auto hosts = values(fields, "host");
    out_ += ":authority=" + (hosts.empty() ? std::string(o_.h1.default_host_for_http_10) : hosts[0]) + "\n";
  }

  // What is asked for beside h2c; of a response, all of it.
  std::string wanted_upgrade(const std::string& value) const {
    if (!request()) return value;
    std::string wanted;
    int count = 0;
    for (const std::string& part : split(value, ',')) {
      const std::string protocol = trim(part);
      if (protocol.empty() || lower(protocol) == "h2c") continue;
      wanted = protocol;
      ++count;
    }
    return count > 1 ? value : wanted;
  }

  bool write_request(const Fields& fields, const std::set<std::string>& gone) {
    out_ += http_10_ ? "HEAD 1.0" : "HEAD 1.1";
    if (keep_) out_ += " keep";
    if (chunked_) out_ += " chunked";
    if (length_ > 0) out_ += " fixed:" + std::to_string(length_);
    if (method_ == "HEAD") out_ += " head";
    if (method_ == "CONNECT") out_ += " connect";
    const bool upgrade = !upgrade_.empty() && !http_10_ && method_ != "CONNECT" && !chunked_ && length_ == 0;
    if (upgrade) out_ += " upgrade";
    out_ += "\n:method=" + method_ + "\n";
    if (!scheme_.empty()) out_ += ":scheme=" + scheme_ + "\n";
    if (!authority_.empty()) out_ += ":authority=" + authority_ + "\n";
    if (!path_.empty()) out_ += ":path=" + path_ + "\n";
    write_fields(fields, gone, !authority_.empty());
    if (upgrade) out_ += "upgrade=" + upgrade_ + "\n";
    until_close_ = false;
    return true;
  }

  bool write_response(const Fields& fields, std::set<std::string> gone, bool has_length) {
    const bool upgrade = status_ == "101";
    if (upgrade && (!o_.to_upgrade || upgrade_.empty())) return false;
    if (upgrade || (o_.to_connect && status_[0] == '2')) {
      gone.insert("content-length");
      chunked_ = false;
      length_ = 0;
      until_close_ = true;
      out_ += http_10_ ? "HEAD 1.0 until-close upgrade\n" : "HEAD 1.1 until-close upgrade\n";
      out_ += ":status=" + status_ + "\n";
      write_fields(fields, gone, true);
      if (upgrade) out_ += "upgrade=" + upgrade_ + "\n";
      return true;
    }
    const bool interim = status_[0] == '1';
    const bool none = interim || status_ == "204" || status_ == "304" || o_.to_head;
    if (interim || status_ == "204") gone.insert("content-length");
    if (none) chunked_ = false;
    if (none) length_ = 0;
    until_close_ = !none && !chunked_ && !has_length;
    out_ += http_10_ ? "HEAD 1.0" : "HEAD 1.1";
    if (keep_ && !until_close_) out_ += " keep";
    if (chunked_) out_ += " chunked";
    if (length_ > 0) out_ += " fixed:" + std::to_string(length_);
    if (until_close_) out_ += " until-close";
    out_ += "\n:status=" + status_ + "\n";
    write_fields(fields, gone, true);
    return true;
  }

  void write_body(const std::string& body) {
    if (!body.empty()) out_ += "BODY " + body + "\n";
  }

  bool body() {
    std::string body;
    if (until_close_) {
      write_body(in_.substr(pos_));
      pos_ = in_.size();
      if (!o_.eof) return incomplete();
      return end();
    }
    if (!chunked_) {
      body = in_.substr(pos_, std::min<uint64_t>(length_, in_.size() - pos_));
      write_body(body);
      pos_ += body.size();
      return body.size() < length_ ? incomplete() : end();
    }
    const Got got = chunks(body);
    write_body(body);
    if (got != Got::kOk) return not_ok(got);
    if (pos_ < in_.size() && in_[pos_] == '\r') {
      if (pos_ + 1 == in_.size()) return incomplete();
      if (in_[pos_ + 1] != '\n') return fault();
      pos_ += 2;
      return end();
    }
    if (pos_ == in_.size()) return incomplete();
    std::vector<std::string> lines;
    if (const Got trailers = section(false, lines); trailers != Got::kOk) return not_ok(trailers);
    Fields fields;
    if (!split_fields(lines, 0, fields)) return fault();
    static const std::set<std::string> kForbidden{"host",
                                                  "authorization",
                                                  "cache-control",
                                                  "connection",
                                                  "content-encoding",
                                                  "content-length",
                                                  "content-type",
                                                  "cookie",
                                                  "date",
                                                  "age",
                                                  "expect",
                                                  "expires",
                                                  "http2-settings",
                                                  "if-modified-since",
                                                  "if-none-match",
                                                  "keep-alive",
                                                  "location",
                                                  "proxy-authenticate",
                                                  "proxy-authorization",
                                                  "proxy-connection",
                                                  "range",
                                                  "retry-after",
                                                  "set-cookie",
                                                  "te",
                                                  "trailer",
                                                  "transfer-encoding",
                                                  "upgrade",
                                                  "vary",
                                                  "www-authenticate",
                                                  "x-forwarded-for",
                                                  "x-forwarded-host",
                                                  "x-forwarded-proto",
                                                  "content-range",
                                                  "max-forwards",
                                                  "if-match",
                                                  "if-unmodified-since",
                                                  "if-range",
                                                  "warning",
                                                  "pragma",
                                                  "forwarded"};
    out_ += "TRAILERS\n";
    for (const auto& [name, value] : fields)
      if (kForbidden.count(name) == 0 && name.rfind("x-envoy-", 0) != 0) out_ += name + "=" + value + "\n";
    return end();
  }

  Got chunks(std::string& body) {
    size_t extensions = 0;
    for (;;) {
      std::string size;
      for (; pos_ < in_.size() && std::isxdigit(static_cast<unsigned char>(in_[pos_])) != 0; ++pos_) {
        size += in_[pos_];
        if (size.size() > 16 || std::stoull(size, nullptr, 16) > INT64_MAX) return Got::kFault;
      }
      if (pos_ == in_.size()) return Got::kIncomplete;
      if (size.empty()) return Got::kFault;
      if (in_[pos_] != ';' && in_[pos_] != '\r') return Got::kFault;
      for (; pos_ < in_.size() && in_[pos_] != '\r'; ++pos_) {
        const auto c = static_cast<unsigned char>(in_[pos_]);
        if ((c < 0x20 && c != '\t') || c == 0x7f || ++extensions > H1Parser::kMaxChunkExtensionBytes)
          return Got::kFault;
      }
      if (pos_ + 1 >= in_.size()) return Got::kIncomplete;
      if (in_[pos_ + 1] != '\n') return Got::kFault;
      pos_ += 2;
      const uint64_t n = std::stoull(size, nullptr, 16);
      if (n == 0) return Got::kOk;
      const std::string data = in_.substr(pos_, std::min<uint64_t>(n, in_.size() - pos_));
      body += data;
      pos_ += data.size();
      if (data.size() < n || pos_ == in_.size()) return Got::kIncomplete;
      if (in_[pos_] != '\r') return Got::kFault;
      if (pos_ + 1 == in_.size()) return Got::kIncomplete;
      if (in_[pos_ + 1] != '\n') return Got::kFault;
      pos_ += 2;
    }
  }

  bool end() {
    out_ += "END\n";
    if (!request() && pos_ < in_.size()) out_ += "EXTRA\n";
    return request() && pos_ < in_.size();
  }

  const std::string in_;
  const TranscriptOptions o_;
  size_t pos_ = 0;
  std::string out_;
  std::string method_, path_, authority_, scheme_, status_, upgrade_;
  bool http_10_ = false, chunked_ = false, keep_ = false, until_close_ = false;
  uint64_t length_ = 0;
};

// A transcript with what only H1Parser says taken out: statuses and texts of faults, where :authority stands.
inline std::string comparable(const std::string& transcript) {
  std::string out;
  std::string held;  // the authority, moved to the end of its head
  size_t at = 0;
  const auto is_field = [](std::string_view line) { return line.find('=') != std::string_view::npos; };
  while (at < transcript.size()) {
    const size_t eol = transcript.find('\n', at);
    std::string line = transcript.substr(at, eol - at);
    at = eol + 1;
    if (line.rfind("FAULT", 0) == 0) line = "FAULT";
    if (line.rfind(":authority=", 0) == 0) {
      held = line + "\n";
      continue;
    }
    if (!held.empty() && (!is_field(line) || line.rfind("BODY ", 0) == 0)) {
      out += held;
      held.clear();
    }
    out += line + "\n";
  }
  return out + held;
}

}  // namespace outrigger::http
