#include "http/h1_rows.h"

namespace outrigger::http {
namespace {

TranscriptOptions http_10(bool accept, std::string_view host = {}) {
  TranscriptOptions o;
  o.h1.accept_http_10 = accept;
  o.h1.default_host_for_http_10 = host;
  return o;
}
TranscriptOptions small_limits() {
  TranscriptOptions o;
  o.h1.max_head_bytes = 64;
  o.h1.max_headers_count = 3;
  return o;
}
TranscriptOptions no_absolute() {
  TranscriptOptions o;
  o.h1.allow_absolute_url = false;
  return o;
}
TranscriptOptions with_trailers() {
  TranscriptOptions o;
  o.h1.enable_trailers = true;
  return o;
}

std::string get(const std::string& fields) { return "GET / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n"; }
std::string chunked(const std::string& body) {
  return "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body;
}
std::string got(const std::string& fields, const std::string& line = "HEAD 1.1 keep") {
  return line + "\n:method=GET\n:path=/\n:authority=a\n" + fields + "END\n";
}
std::string line(const std::string& request_line) { return request_line + "\r\nHost: a\r\n\r\n"; }
const std::string kChunkedHead = "HEAD 1.1 keep chunked\n:method=POST\n:path=/\n:authority=a\n";

void add_targets(std::vector<Row>& rows) {
  const auto target = [](const std::string& method, const std::string& authority, const std::string& path,
                         const std::string& scheme = "", const std::string& flags = "") {
    std::string out = "HEAD 1.1 keep" + flags + "\n:method=" + method + "\n";
    if (!scheme.empty()) out += ":scheme=" + scheme + "\n";
    if (!scheme.empty() || path.empty()) out += ":authority=" + authority + "\n";
    if (!path.empty()) out += ":path=" + path + "\n";
    if (scheme.empty() && !path.empty()) out += ":authority=" + authority + "\n";
    return out + "END\n";
  };
  rows.push_back({"origin form", line("GET /a/b?c=d HTTP/1.1"), target("GET", "a", "/a/b?c=d")});
  rows.push_back(
      {"odd but legal bytes", line("GET /%zz|{}\\^`\"<>[]? HTTP/1.1"), target("GET", "a", "/%zz|{}\\^`\"<>[]?")});
  rows.push_back({"methods are any token, case kept", line("gEt!#$%&'*+-.^_`|~9 / HTTP/1.1"),
                  target("gEt!#$%&'*+-.^_`|~9", "a", "/")});
  rows.push_back(
      {"absolute form wins over Host", line("GET http://b:81/x HTTP/1.1"), target("GET", "b:81", "/x", "http")});
  rows.push_back({"absolute form https, any case", line("GET HTTPS://B/ HTTP/1.1"), target("GET", "B", "/", "https")});
  rows.push_back({"absolute form without a path", line("GET http://b HTTP/1.1"), target("GET", "b", "/", "http")});
  rows.push_back({"absolute form, only a query", line("GET http://bcd:8?x=/y HTTP/1.1"),
                  target("GET", "bcd:8", "/?x=/y", "http")});
  rows.push_back({"absolute form, OPTIONS without a path", line("OPTIONS http://b HTTP/1.1"),
                  target("OPTIONS", "b", "*", "http")});
  rows.push_back(
      {"absolute form needs Host all the same", "GET http://b/ HTTP/1.1\r\n\r\n", "FAULT 400 missing_host_header"});
  rows.push_back(
      {"absolute form, IPv6", line("GET http://[::1]:80/ HTTP/1.1"), target("GET", "[::1]:80", "/", "http")});
  rows.push_back({"asterisk form", line("OPTIONS * HTTP/1.1"), target("OPTIONS", "a", "*")});
  rows.push_back({"authority form", line("CONNECT b:443 HTTP/1.1"), target("CONNECT", "b:443", "", "", " connect")});
  rows.push_back({"HEAD", line("HEAD / HTTP/1.1"), target("HEAD", "a", "/", "", " head")});
  rows.push_back(
      {"absolute form forbidden", line("GET http://b/ HTTP/1.1"), "FAULT 400 http1.invalid_url", no_absolute()});
  for (const char* bad : {"GET * HTTP/1.1",
                          "OPTIONS ** HTTP/1.1",
                          "GET b:443 HTTP/1.1",
                          "GET b HTTP/1.1",
                          "GET ftp://b/ HTTP/1.1",
                          "GET http:///x HTTP/1.1",
                          "GET http:/b/ HTTP/1.1",
                          "GET http://u@b/ HTTP/1.1",
                          "GET http://b:99999/ HTTP/1.1",
                          "GET http://b:8x/ HTTP/1.1",
                          "GET ://b/ HTTP/1.1",
                          "GET ?x HTTP/1.1",
                          "GET /a#b HTTP/1.1",
                          "GET # HTTP/1.1",
                          "CONNECT b HTTP/1.1",
                          "CONNECT b: HTTP/1.1",
                          "CONNECT /x HTTP/1.1",
                          "CONNECT http://b:1/ HTTP/1.1",
                          "CONNECT b:443x HTTP/1.1",
                          "CONNECT * HTTP/1.1",
                          "GET /\xc3\xa4 HTTP/1.1",
                          "GET /a\tb HTTP/1.1",
                          "GET http://[::1/ HTTP/1.1",
                          "GET http://[]/ HTTP/1.1",
                          "GET http://[::1]x/ HTTP/1.1",
                          "GET \\ HTTP/1.1"})
    rows.push_back({std::string("bad target: ") + bad, line(bad), "FAULT 400 http1.invalid_url"});
}

void add_request_lines(std::vector<Row>& rows) {
  for (const char* bad : {"GET  / HTTP/1.1",
                          "GET / HTTP/1.1 ",
                          "GET /  HTTP/1.1",
                          " GET / HTTP/1.1",
                          "GET /",
                          "GET",
                          "GET / ",
                          "GET / http/1.1",
                          "GET / HTTP/11",
                          "GET / HTTP/1.1x",
                          "GET / HTTP/1.",
                          "GET / HTTP/1.10",
                          "GET / HTTP/01.1",
                          "GET / HTTP/x.1",
                          "GET / HTTP/1,1",
                          "GET / HTTP 1.1",
                          "G(T / HTTP/1.1",
                          "\"GET\" / HTTP/1.1",
                          "GET: / HTTP/1.1",
                          "GET / / HTTP/1.1",
                          "G\xc3\x84T / HTTP/1.1",
                          "/ HTTP/1.1"})
    rows.push_back({std::string("bad line: ") + bad, line(bad), "FAULT 400 http1.invalid_request_line"});
  rows.push_back({"tab after the method", line("GET\t/ HTTP/1.1"), "FAULT 400 http1.invalid_request_line"});
  for (const char* version : {"HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/3.0", "HTTP/9.9", "HTTP/0.1"})
    rows.push_back({version, line(std::string("GET / ") + version), "FAULT 505 http1.unsupported_version"});
  rows.push_back({"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "FAULT 505 http1.unsupported_version"});
  rows.push_back(
      {"TLS hello", std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03", 10), "FAULT 400 http1.invalid_characters"});
  rows.push_back({"SSH", "SSH-2.0-OpenSSH_9.2\r\n", "FAULT 400 http1.invalid_request_line"});
  rows.push_back({"a bare line", "hello\r\n", "FAULT 400 http1.invalid_request_line"});
  rows.push_back({"nothing", "", ""});
  rows.push_back({"only an empty line", "\r\n", ""});
  rows.push_back({"one empty line before", "\r\n" + get(""), got("")});
  rows.push_back({"two empty lines before", "\r\n\r\n" + get(""), "FAULT 400 http1.invalid_characters"});
  rows.push_back({"bare LF before", "\n" + get(""), "FAULT 400 http1.invalid_characters"});
  rows.push_back({"bare CR before", "\r" + get(""), "FAULT 400 http1.invalid_characters"});
  rows.push_back({"an empty line between requests", get("") + "\r\n" + get(""), got("") + got("")});
  rows.push_back({"pipelined", get("") + get("x: y\r\n"), got("") + got("x=y\n")});
  rows.push_back({"incomplete line", "GET / HT", "INCOMPLETE\n"});
  rows.push_back({"incomplete head", "GET / HTTP/1.1\r\nHost: a\r\n\r", "INCOMPLETE\n"});
  rows.push_back({"1.0 is refused", "GET / HTTP/1.0\r\nHost: a\r\n\r\n", "FAULT 426 low_version"});
  rows.push_back({"1.0", "GET / HTTP/1.0\r\nHost: a\r\n\r\n", got("", "HEAD 1.0"), http_10(true)});
  rows.push_back({"1.0 keep-alive", "GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n",
                  got("", "HEAD 1.0 keep"), http_10(true)});
  rows.push_back({"1.0 keep-alive and close", "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n",
                  got("", "HEAD 1.0"), http_10(true)});
  rows.push_back({"1.0 without Host", "GET / HTTP/1.0\r\n\r\n", "FAULT 400 missing_host_header", http_10(true)});
  rows.push_back({"1.0 with the default host", "GET / HTTP/1.0\r\n\r\n", got("", "HEAD 1.0"), http_10(true, "a")});
  rows.push_back({"1.0 with chunks", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                  "FAULT 400 http1.transfer_encoding_not_allowed", http_10(true)});
}

void add_fields(std::vector<Row>& rows) {
  rows.push_back({"names fold, values are trimmed", get("X-Foo: \t bar baz \t\r\nEmpty:\r\nTab:\ta\tb\r\n"),
                  got("x-foo=bar baz\nempty=\ntab=a\tb\n")});
  rows.push_back({"obs-text in a value", get("x: \xff\x80\r\n"), got("x=\xff\x80\n")});
  rows.push_back({"order and repeats stay", get("b: 1\r\na: 2\r\nb: 3\r\n"), got("b=1\na=2\nb=3\n")});
  rows.push_back({"colons in values", get("x: a:b: c\r\nAccept::\r\n"), got("x=a:b: c\naccept=:\n")});
  for (const char* bad : {"x : y\r\n", "x\t: y\r\n", ": y\r\n", "x\r\n", "x y: z\r\n", "x(y): z\r\n", "\xc3\xa4: z\r\n",
                          "x/y: z\r\n", "Host : a\r\n", "Content-Length : 5\r\n", "Transfer-Encoding : chunked\r\n",
                          "\"x\": y\r\n", "x@: y\r\n", "{x}: y\r\n"})
    rows.push_back({std::string("bad name: ") + bad, get(bad), "FAULT 400 http1.invalid_header_name"});
  rows.push_back({"obs-fold", get("x: y\r\n z\r\n"), "FAULT 400 http1.obsolete_line_folding"});
  rows.push_back({"obs-fold with a tab", get("x: y\r\n\tz: w\r\n"), "FAULT 400 http1.obsolete_line_folding"});
  rows.push_back(
      {"obs-fold hiding a length", get("Content-Length:\r\n 5\r\n"), "FAULT 400 http1.obsolete_line_folding"});
  rows.push_back({"white space before the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
                  "FAULT 400 http1.obsolete_line_folding"});
  rows.push_back({"white space line", get(" \r\n"), "FAULT 400 http1.obsolete_line_folding"});
  for (const std::string& bad : {std::string("x: a\nb: c\r\n"), std::string("x: a\rb: c\r\n"),
                                 std::string("x: a\n\r\n"), std::string("x: a\r\r\n"), std::string("x: a\0b\r\n", 8),
                                 std::string("x\0: b\r\n", 7), std::string("x: \x01\r\n"),
                                 std::string("x: \x0b"
                                             "chunked\r\n"),
                                 std::string("x: \x7f\r\n"), std::string("x: a\n\n"),
                                 std::string("Transfer-Encoding:\x0c chunked\r\n"), std::string("x: \x1b[31m\r\n")})
    rows.push_back({"control byte in " + bad, get(bad), "FAULT 400 http1.invalid_characters"});
  rows.push_back({"bare LF ends the line", "GET / HTTP/1.1\nHost: a\n\n", "FAULT 400 http1.invalid_characters"});
  rows.push_back({"bare LF ends the head", "GET / HTTP/1.1\r\nHost: a\r\n\n", "FAULT 400 http1.invalid_characters"});
  rows.push_back({"bare CR ends the line", "GET / HTTP/1.1\rHost: a\r\r", "FAULT 400 http1.invalid_characters"});
  rows.push_back({"exactly the limit", "GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa HTTP/1.1\r\nHost: a\r\nb: c\r\n\r\n",
                  "HEAD 1.1 keep\n:method=GET\n:path=/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n:authority=a\nb=c\nEND\n",
                  small_limits()});
  rows.push_back({"one byte over the limit",
                  "GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa HTTP/1.1\r\nHost: a\r\nb: c\r\n\r\n",
                  "FAULT 431 http1.headers_too_large", small_limits()});
  rows.push_back({"a long request line", "GET /" + std::string(80, 'a') + " HTTP/1.1\r\n",
                  "FAULT 431 http1.headers_too_large", small_limits()});
  rows.push_back({"endless line", std::string(200, 'a'), "FAULT 431 http1.headers_too_large", small_limits()});
  rows.push_back({"as many fields as allowed", get("b:\r\nc:\r\n"), got("b=\nc=\n"), small_limits()});
  rows.push_back({"one field too many", get("b:\r\nc:\r\nd:\r\n"), "FAULT 431 http1.too_many_headers", small_limits()});
}

void add_host(std::vector<Row>& rows) {
  rows.push_back({"no Host", "GET / HTTP/1.1\r\n\r\n", "FAULT 400 missing_host_header"});
  rows.push_back({"two Hosts", get("Host: a\r\n"), "FAULT 400 http1.multiple_hosts"});
  rows.push_back({"two different Hosts", get("HOST: b\r\n"), "FAULT 400 http1.multiple_hosts"});
  rows.push_back({"two Hosts, absolute form", "GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
                  "FAULT 400 http1.multiple_hosts"});
  rows.push_back(
      {"bad Host, absolute form", "GET http://a/ HTTP/1.1\r\nHost: a/b\r\n\r\n", "FAULT 400 http1.invalid_host"});
  for (const char* bad :
       {"",         "a b",     "a/b",      "a?b",  "a#b", "u@a",      "a,b",   "a\tb", "a:b",  "a:80:81",
        "a:123456", "a:65536", ":80",      "[::1", "::1", "[::1]a",   "[g::]", "[]",   "[1]",  "a%",
        "a%2",      "a%zz",    "\xc3\xa4", "a\\b", "<a>", "http://a", "a|b",   "a\"b", "a:-1", "a:+1"})
    rows.push_back({std::string("bad Host: ") + bad, "GET / HTTP/1.1\r\nHost: " + std::string(bad) + "\r\n\r\n",
                    "FAULT 400 http1.invalid_host"});
  for (const char* good : {"a", "A.b-c_d~e", "1.2.3.4:80", "[::1]", "[::ffff:1.2.3.4]:8080", "a:65535", "a:", "a%20b",
                           "x!$&'()*+;=y", "a."})
    rows.push_back({std::string("good Host: ") + good, "GET / HTTP/1.1\r\nhOST: " + std::string(good) + "\r\n\r\n",
                    "HEAD 1.1 keep\n:method=GET\n:path=/\n:authority=" + std::string(good) + "\nEND\n"});
}

void add_lengths(std::vector<Row>& rows) {
  const auto post = [](const std::string& fields, const std::string& body) {
    return "POST / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n" + body;
  };
  const std::string head = "\n:method=POST\n:path=/\n:authority=a\n";
  rows.push_back({"fixed", post("Content-Length: 5\r\n", "hello"),
                  "HEAD 1.1 keep fixed:5" + head + "content-length=5\nBODY hello\nEND\n"});
  rows.push_back({"fixed, then another", post("Content-Length: 2\r\n", "hi" + get("")),
                  "HEAD 1.1 keep fixed:2" + head + "content-length=2\nBODY hi\nEND\n" + got("")});
  rows.push_back({"zero", post("Content-Length: 0\r\n", ""), "HEAD 1.1 keep" + head + "content-length=0\nEND\n"});
  rows.push_back({"leading zeros", post("Content-Length: 0002\r\n", "hi"),
                  "HEAD 1.1 keep fixed:2" + head + "content-length=0002\nBODY hi\nEND\n"});
  rows.push_back({"incomplete body", post("Content-Length: 5\r\n", "hell"),
                  "HEAD 1.1 keep fixed:5" + head + "content-length=5\nBODY hell\nINCOMPLETE\n"});
  rows.push_back(
      {"the largest", post("Content-Length: 9223372036854775807\r\n", "x"),
       "HEAD 1.1 keep fixed:9223372036854775807" + head + "content-length=9223372036854775807\nBODY x\nINCOMPLETE\n"});
  rows.push_back({"a body with GET", get("Content-Length: 1\r\n") + "x",
                  "HEAD 1.1 keep fixed:1\n:method=GET\n:path=/\n:authority=a\ncontent-length=1\nBODY x\nEND\n"});
  for (const char* bad : {"", "-1", "+5", "5 5", "5,5", "5, 5", "5;", "0x5", "5a", "a", "5.0", "9223372036854775808",
                          "18446744073709551616", "99999999999999999999999", "1e3", "\xef\xbc\x95", "5\t5",
                          "000000000000000000000000000000000005"})
    rows.push_back({std::string("bad Content-Length: ") + bad,
                    post("Content-Length: " + std::string(bad) + "\r\n", "hello"),
                    "FAULT 400 http1.invalid_content_length"});
  rows.push_back({"two equal lengths", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
                  "FAULT 400 http1.multiple_content_lengths"});
  rows.push_back({"two lengths", post("Content-Length: 5\r\ncontent-length: 6\r\n", "hello"),
                  "FAULT 400 http1.multiple_content_lengths"});
  rows.push_back({"CL.TE", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
                  "FAULT 400 http1.content_length_and_chunked_not_allowed"});
  rows.push_back({"TE.CL", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
                  "FAULT 400 http1.content_length_and_chunked_not_allowed"});
  rows.push_back({"TE and CL 0", post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", "0\r\n\r\n"),
                  "FAULT 400 http1.content_length_and_chunked_not_allowed"});
  for (const char* bad : {"", "chunked, chunked", "chunked,", ", chunked", "chunked, gzip", "chunked;x=y",
                          "chunked, identity", "chunked chunked", "gzip, chunked, chunked", "\"chunked\"",
                          "gzip,,chunked", "chun ked", "chunked;", "=", "chunked\xff",
                          "\xc2\xa0"
                          "chunked"})
    rows.push_back({std::string("bad Transfer-Encoding: ") + bad,
                    post("Transfer-Encoding: " + std::string(bad) + "\r\n", "0\r\n\r\n"),
                    "FAULT 400 http1.invalid_transfer_encoding"});
  for (const char* unknown : {"gzip", "gzip, chunked", "identity", "identity, chunked", "xchunked", "chunked1",
                              "compress;q=1, chunked", "cow"})
    rows.push_back({std::string("unknown Transfer-Encoding: ") + unknown,
                    post("Transfer-Encoding: " + std::string(unknown) + "\r\n", "0\r\n\r\n"),
                    "FAULT 501 http1.unsupported_transfer_encoding"});
  rows.push_back({"two Transfer-Encodings",
                  post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
                  "FAULT 400 http1.invalid_transfer_encoding"});
  rows.push_back({"two Transfer-Encodings, one hidden",
                  post("Transfer-Encoding: chunked\r\ntransfer-encoding: x\r\n", "0\r\n\r\n"),
                  "FAULT 400 http1.invalid_transfer_encoding"});
  rows.push_back({"underscore is another name", get("Transfer_Encoding: chunked\r\nContent_Length: 5\r\n"),
                  got("transfer_encoding=chunked\ncontent_length=5\n")});
  rows.push_back({"CONNECT with a length", "CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\nContent-Length: 0\r\n\r\n",
                  "FAULT 400 http1.body_disallowed"});
  rows.push_back({"CONNECT with chunks", "CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\nTransfer-Encoding: chunked\r\n\r\n",
                  "FAULT 400 http1.body_disallowed"});
}

void add_chunks(std::vector<Row>& rows) {
  const auto body = [](const std::string& text) {
    return kChunkedHead + (text.empty() ? "" : "BODY " + text + "\n") + "END\n";
  };
  rows.push_back({"chunks", chunked("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), body("hello world")});
  rows.push_back({"no chunk", chunked("0\r\n\r\n"), body("")});
  rows.push_back({"chunked in any case", "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: \tChUnKeD \r\n\r\n0\r\n\r\n",
                  body("")});
  rows.push_back({"hex, zeros", chunked("00000000000000a\r\n0123456789\r\n000\r\n\r\n"), body("0123456789")});
  rows.push_back(
      {"hex in both cases", chunked("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"), body("01234567890123456789")});
  rows.push_back({"extensions are dropped", chunked("2;a=b;c=\"d; e\"\r\nhi\r\n0;x\r\n\r\n"), body("hi")});
  rows.push_back({"CRLF inside a chunk", chunked("4\r\n\r\n\r\n\r\n0\r\n\r\n"), body("\r\n\r\n")});
  rows.push_back({"the next request follows", chunked("0\r\n\r\n") + get(""), body("") + got("")});
  rows.push_back({"incomplete chunk", chunked("5\r\nhel"), kChunkedHead + "BODY hel\nINCOMPLETE\n"});
  rows.push_back({"incomplete last chunk", chunked("0\r\n"), kChunkedHead + "INCOMPLETE\n"});
  for (const char* bad : {"\r\n",
                          "x\r\n",
                          "-1\r\n",
                          "+1\r\n",
                          "0x1\r\nh\r\n",
                          " 1\r\nh\r\n",
                          "1 \r\nh\r\n",
                          "1\t;a\r\nh\r\n",
                          "1\nh\r\n",
                          "1\rh",
                          "1\r\nhi\r\n",
                          "1\r\nh\n0\r\n\r\n",
                          "1\r\nh\r0\r\n\r\n",
                          "1\r\nh0\r\n\r\n",
                          "2;a\nhi\r\n",
                          "2;\x01\r\nhi\r\n",
                          "2;a\r\r\nhi\r\n",
                          "1g\r\n",
                          ";a\r\n",
                          "\n",
                          "1,0\r\n",
                          "1\x0b\r\n",
                          "1\x7f\r\n",
                          "2;\x7f\r\nhi\r\n"})
    rows.push_back({std::string("bad chunk: ") + bad, chunked(bad), "FAULT 400 http1.invalid_chunk"});
  rows.push_back({"the largest chunk", chunked("7fffffffffffffff\r\nx"), kChunkedHead + "BODY x\nINCOMPLETE\n"});
  rows.push_back({"chunk overflows", chunked("8000000000000000\r\n"), "FAULT 400 http1.chunk_too_large"});
  rows.push_back({"chunk wraps", chunked("10000000000000002\r\nhi\r\n"), "FAULT 400 http1.chunk_too_large"});
  rows.push_back({"seventeen zeros", chunked("00000000000000000\r\n\r\n"), "FAULT 400 http1.chunk_too_large"});
  rows.push_back({"as long an extension as allowed", chunked("0;" + std::string(4095, 'a') + "\r\n\r\n"), body("")});
  rows.push_back({"extension too long", chunked("0;" + std::string(4096, 'a') + "\r\n\r\n"),
                  "FAULT 400 http1.chunk_extension_too_large"});
  rows.push_back({"bare LF after the last chunk", chunked("0\r\n\n"), "FAULT 400 http1.invalid_characters"});
  rows.push_back({"bare CR after the last chunk", chunked("0\r\n\rx"), "FAULT 400 http1.invalid_characters"});
  rows.push_back({"trailers", chunked("0\r\nA: b\r\nc:\td \r\n\r\n"), kChunkedHead + "TRAILERS\na=b\nc=d\nEND\n",
                  with_trailers()});
  rows.push_back({"forbidden trailers",
                  chunked("1\r\nx\r\n0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: b\r\nAuthorization: "
                          "x\r\nok: 1\r\nX-Envoy-Foo: 1\r\nTrailer: x\r\n\r\n"),
                  kChunkedHead + "BODY x\nTRAILERS\nok=1\nEND\n"});
  rows.push_back({"bad trailer", chunked("0\r\na b: c\r\n\r\n"), "FAULT 400 http1.invalid_header_name"});
  rows.push_back({"folded trailer", chunked("0\r\na: b\r\n c\r\n\r\n"), "FAULT 400 http1.obsolete_line_folding"});
  rows.push_back({"white space trailer", chunked("0\r\n a: b\r\n\r\n"), "FAULT 400 http1.obsolete_line_folding"});
  rows.push_back({"bare LF in a trailer", chunked("0\r\na: b\n\r\n"), "FAULT 400 http1.invalid_characters"});
  TranscriptOptions small = small_limits();
  small.h1.max_head_bytes = 60;
  rows.push_back({"trailers too large", chunked("0\r\na: " + std::string(80, 'b') + "\r\n\r\n"),
                  "FAULT 431 http1.trailers_too_large", small});
  rows.push_back(
      {"too many trailers", chunked("0\r\na:\r\nb:\r\nc:\r\nd:\r\n\r\n"), "FAULT 431 http1.too_many_headers", small});
}

void add_connection(std::vector<Row>& rows) {
  rows.push_back({"close", get("Connection: close\r\n"), got("", "HEAD 1.1")});
  rows.push_back({"close among others, any case", get("Connection: foo ,\tCLOSE\r\nFoo: x\r\n"), got("", "HEAD 1.1")});
  rows.push_back({"hop-by-hop fields",
                  get("Keep-Alive: 5\r\nProxy-Connection: close\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nConnection: "
                      "Upgrade, HTTP2-Settings\r\nTrailer: x\r\nTE: gzip\r\nb: c\r\n"),
                  got("b=c\n")});
  const auto upgrade = [&](const std::string& name, const std::string& fields, const std::string& kept) {
    rows.push_back(
        {name, get(fields), kept.empty() ? got("") : got("upgrade=" + kept + "\n", "HEAD 1.1 keep upgrade")});
  };
  upgrade("upgrade", "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n", "WebSocket");
  upgrade("upgrade to h2c or something", "Connection: upgrade\r\nUpgrade: h2c, x/1 ,\r\n", "x/1");
  upgrade("upgrade to one of several", "Connection: upgrade\r\nUpgrade: a, b\r\n", "a, b");
  upgrade("upgrade that is not nominated", "Upgrade: websocket\r\n", "");
  upgrade("two upgrades", "Connection: upgrade\r\nUpgrade: a\r\nUpgrade: a\r\n", "");
  upgrade("upgrade to nothing", "Connection: upgrade\r\nUpgrade: ,\r\n", "");
  rows.push_back({"te: trailers is kept", get("TE: gzip, Trailers\r\nConnection: te\r\n"), got("te=trailers\n")});
  rows.push_back(
      {"nominated fields", get("Foo: 1\r\nConnection: foo, bar\r\nBar: 2\r\nBaz: 3\r\nfoo: 4\r\n"), got("baz=3\n")});
  rows.push_back(
      {"two Connection lines", get("Connection: foo\r\nFoo: 1\r\nConnection: close\r\n"), got("", "HEAD 1.1")});
  rows.push_back({"end-to-end fields cannot be nominated",
                  get("Connection: host, content-length, cookie, authorization, x-forwarded-for, X-Forwarded-Foo, "
                      "x-envoy-foo, forwarded, x-real-ip\r\n"
                      "Cookie: a\r\nAuthorization: b\r\nX-Forwarded-For: c\r\nX-Forwarded-Foo: d\r\nX-Envoy-Foo: "
                      "e\r\nForwarded: f\r\nX-Real-IP: g\r\n"),
                  got("cookie=a\nauthorization=b\nx-forwarded-for=c\nx-forwarded-foo=d\nx-envoy-foo=e\nforwarded=f\nx-"
                      "real-ip=g\n")});
  rows.push_back({"nominated length stays", get("Connection: Content-Length\r\nContent-Length: 0\r\n"),
                  got("content-length=0\n")});
  rows.push_back({"empty elements", get("Connection: , ,close,\r\n"), got("", "HEAD 1.1")});
  for (const char* bad : {"a b", ":path", "\"x\"", "a;b", "a=b", "(x)", "close;q=1", "x/y"})
    rows.push_back({std::string("bad Connection: ") + bad, get("Connection: " + std::string(bad) + "\r\n"),
                    "FAULT 400 http1.connection_header_rejected"});
  rows.push_back({"too many nominated", get("Connection: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q\r\n"),
                  "FAULT 400 http1.connection_header_rejected"});
  rows.push_back({"too many Connection lines",
                  get("Connection: a\r\nConnection: a\r\nConnection: a\r\nConnection: a\r\nConnection: a\r\n"),
                  "FAULT 400 http1.connection_header_rejected"});
}

}  // namespace

std::vector<Row> request_rows() {
  std::vector<Row> rows;
  add_targets(rows);
  add_request_lines(rows);
  add_fields(rows);
  add_host(rows);
  add_lengths(rows);
  add_chunks(rows);
  add_connection(rows);
  return rows;
}

}  // namespace outrigger::http
