#include "http/h1_rows.h"

namespace outrigger::http {
namespace {

TranscriptOptions response(bool to_head = false, bool to_connect = false, bool eof = false) {
  TranscriptOptions o;
  o.kind = H1Parser::Kind::kResponse;
  o.to_head = to_head;
  o.to_connect = to_connect;
  o.eof = eof;
  return o;
}

}  // namespace

std::vector<Row> response_rows() {
  std::vector<Row> rows;
  const auto add = [&](const std::string& name, const std::string& input, const std::string& expect,
                       TranscriptOptions o = response()) {
    rows.push_back({name, input, expect, o});
  };
  const std::string ok = "HTTP/1.1 200 OK\r\n";
  add("fixed", ok + "Content-Length: 2\r\n\r\nhi",
      "HEAD 1.1 keep fixed:2\n:status=200\ncontent-length=2\nBODY hi\nEND\n");
  add("empty", ok + "Content-Length: 0\r\n\r\n", "HEAD 1.1 keep\n:status=200\ncontent-length=0\nEND\n");
  add("close", ok + "Content-Length: 0\r\nConnection: close\r\n\r\n", "HEAD 1.1\n:status=200\ncontent-length=0\nEND\n");
  add("chunked", ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
      "HEAD 1.1 keep chunked\n:status=200\nBODY hi\nEND\n");
  add("until close", ok + "\r\nhello", "HEAD 1.1 until-close\n:status=200\nBODY hello\nEND\n",
      response(false, false, true));
  add("until close, not yet", ok + "\r\nhello", "HEAD 1.1 until-close\n:status=200\nBODY hello\nINCOMPLETE\n");
  add("1.0", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "HEAD 1.0\n:status=200\ncontent-length=0\nEND\n");
  add("1.0 keep-alive", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
      "HEAD 1.0 keep\n:status=200\ncontent-length=0\nEND\n");
  add("no reason", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", "HEAD 1.1 keep\n:status=200\ncontent-length=0\nEND\n");
  add("no space for a reason", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
      "HEAD 1.1 keep\n:status=200\ncontent-length=0\nEND\n");
  add("odd reason", "HTTP/1.1 299 \t\xff x\r\nContent-Length: 0\r\n\r\n",
      "HEAD 1.1 keep\n:status=299\ncontent-length=0\nEND\n");
  add("to HEAD", ok + "Content-Length: 5\r\n\r\n", "HEAD 1.1 keep\n:status=200\ncontent-length=5\nEND\n",
      response(true));
  add("to HEAD, chunked", ok + "Transfer-Encoding: chunked\r\n\r\n", "HEAD 1.1 keep\n:status=200\nEND\n",
      response(true));
  add("to HEAD with a body", ok + "Content-Length: 5\r\n\r\nhello",
      "HEAD 1.1 keep\n:status=200\ncontent-length=5\nEND\nEXTRA\n", response(true));
  add("204", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "HEAD 1.1 keep\n:status=204\nEND\n");
  add("304 keeps its length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
      "HEAD 1.1 keep\n:status=304\ncontent-length=5\nEND\n");
  add("100, then 200", "HTTP/1.1 100 Continue\r\n\r\n" + ok + "Content-Length: 0\r\n\r\n",
      "HEAD 1.1 keep\n:status=100\nHEAD 1.1 keep\n:status=200\ncontent-length=0\nEND\n");
  add("103, 103, 204",
      "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
      "HEAD 1.1 keep\n:status=103\nlink=x\nHEAD 1.1 keep\n:status=103\nHEAD 1.1 keep\n:status=204\nEND\n");
  add("only 100", "HTTP/1.1 100 Continue\r\n\r\n", "HEAD 1.1 keep\n:status=100\n");
  add("100 with a length", "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n", "HEAD 1.1 keep\n:status=100\n");
  add("Host is a field like any other", ok + "Host: x\r\nContent-Length: 0\r\n\r\n",
      "HEAD 1.1 keep\n:status=200\nhost=x\ncontent-length=0\nEND\n");
  add("nominated", ok + "Connection: foo\r\nFoo: x\r\nKeep-Alive: y\r\nContent-Length: 0\r\n\r\n",
      "HEAD 1.1 keep\n:status=200\ncontent-length=0\nEND\n");
  add("two responses", ok + "Content-Length: 0\r\n\r\n" + ok,
      "HEAD 1.1 keep\n:status=200\ncontent-length=0\nEND\nEXTRA\n");
  add("101", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
      "FAULT 502 http1.unexpected_switching_protocols");
  TranscriptOptions to_upgrade = response(false, false, true);
  to_upgrade.to_upgrade = true;
  const std::string switching = "HTTP/1.1 101 Switching Protocols\r\n";
  add("101 to an upgrade", switching + "Upgrade: x\r\nConnection: upgrade\r\nContent-Length: 1\r\n\r\nany \r\n",
      "HEAD 1.1 until-close upgrade\n:status=101\nupgrade=x\nBODY any \r\n\nEND\n", to_upgrade);
  add("100, then 101", "HTTP/1.1 100 Continue\r\n\r\n" + switching + "Upgrade: x\r\n\r\n",
      "HEAD 1.1 keep\n:status=100\nHEAD 1.1 until-close upgrade\n:status=101\nupgrade=x\nEND\n", to_upgrade);
  add("101 to nothing", switching + "\r\n", "FAULT 502 http1.unexpected_switching_protocols", to_upgrade);
  add("200 to an upgrade", ok + "Content-Length: 0\r\nUpgrade: x\r\n\r\n",
      "HEAD 1.1 keep\n:status=200\ncontent-length=0\nEND\n", to_upgrade);
  add("200 to CONNECT", ok + "Content-Length: 1\r\n\r\nany \r\n",
      "HEAD 1.1 until-close upgrade\n:status=200\nBODY any \r\n\nEND\n", response(false, true, true));
  add("204 to CONNECT", "HTTP/1.1 204 Fine\r\n\r\nx", "HEAD 1.1 until-close upgrade\n:status=204\nBODY x\nEND\n",
      response(false, true, true));
  add("101 to CONNECT", switching + "Upgrade: x\r\n\r\n", "FAULT 502 http1.unexpected_switching_protocols",
      response(false, true));
  add("403 to CONNECT", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
      "HEAD 1.1 keep\n:status=403\ncontent-length=0\nEND\n", response(false, true));
  for (const char* bad :
       {"HTTP/1.1 20 OK", "HTTP/1.1 2000 OK", "HTTP/1.1 099 OK", "HTTP/1.1 abc OK", "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK", "HTTP/1.2 200 OK", "HTTP/2.0 200 OK", "http/1.1 200 OK", "ICY 200 OK", " HTTP/1.1 200 OK",
        "HTTP/1.1 200\tOK", "HTTP/1.1 -20 OK", "200 OK", "", "HTTP/1.1", "HTTP/1.1 200x"})
    add(std::string("bad status line: ") + bad, std::string(bad) + "\r\nContent-Length: 0\r\n\r\n",
        "FAULT 502 http1.invalid_status_line");
  add("garbage", std::string("\x00\x01\x02", 3), "FAULT 400 http1.invalid_characters");
  add("an empty line first", "\r\n" + ok, "FAULT 502 http1.invalid_status_line");
  add("bare LF", "HTTP/1.1 200 OK\nContent-Length: 0\n\n", "FAULT 400 http1.invalid_characters");
  add("length and chunks", ok + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
      "FAULT 400 http1.content_length_and_chunked_not_allowed");
  add("two lengths", ok + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
      "FAULT 400 http1.multiple_content_lengths");
  add("gzip", ok + "Transfer-Encoding: gzip\r\n\r\n", "FAULT 501 http1.unsupported_transfer_encoding");
  add("chunks in 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
      "FAULT 400 http1.transfer_encoding_not_allowed");
  add("obs-fold", ok + "x: y\r\n z\r\n\r\n", "FAULT 400 http1.obsolete_line_folding");
  add("space before the colon", ok + "x : y\r\n\r\n", "FAULT 400 http1.invalid_header_name");
  add("bad chunk", ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "FAULT 400 http1.invalid_chunk");
  add("incomplete", ok + "Content-Le", "INCOMPLETE\n");
  return rows;
}

}  // namespace outrigger::http
