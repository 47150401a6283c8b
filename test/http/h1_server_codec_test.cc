#include <fcntl.h>
#include <unistd.h>

#include "http/h1_fixture.h"

namespace outrigger::http {
namespace {

using test::Socket;

class H1Server : public H1CodecTest {
 protected:
  void SetUp() override { serve(owner, peer); }
  // Answers every complete or bad request at once.
  void answer_all() {
    owner.new_stream_hook = [](TestSink& sink) {
      sink.end_hook = [](TestSink& s) { reply(s, "200", "ok"); };
      sink.bad_hook = [](TestSink& s) { reply(s, std::to_string(s.bad_status), ""); };
    };
  }
  static void reply(TestSink& sink, const std::string& status, const std::string& body) {
    const std::string length = std::to_string(body.size());
    Fields head{{":status", status}, {"content-length", length}};
    CodecStream& stream = *sink.stream;
    if (body.empty()) return stream.encode_headers(head.map, true);
    stream.encode_headers(head.map, false);
    stream.encode_data(Buffer(body), true);
  }
  TestOwner& owner = new_owner();
  Socket peer;
};

const std::string kGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const std::string kOk = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

TEST_F(H1Server, OneRequest) {
  answer_all();
  send(peer, kGet);
  EXPECT_EQ(peer.recv_exactly(kOk.size()), kOk);
  EXPECT_EQ(owner.last().log, "headers(:method=GET :path=/ :authority=a) end ");
  EXPECT_EQ(owner.ends, std::vector<bool>{true});
  EXPECT_TRUE(owner.codec->idle());
  EXPECT_FALSE(h1_head_incomplete(*owner.codec));
}

TEST_F(H1Server, PipelinedRequestsAreAnsweredInOrder) {
  answer_all();
  std::string all, expect;
  for (int i = 0; i < 500; ++i) {
    all += kGet;
    expect += kOk;
  }
  send(peer, all);
  EXPECT_EQ(peer.recv_exactly(expect.size()), expect);
  EXPECT_EQ(owner.ends.size(), 500u);
}

}  // namespace
}  // namespace outrigger::http
