// A gRPC service on bytes and a client of it, both Debian's gRPC C++ library: for tests and the soak, with the proxy
// between them.
//
// Use:  BytesService service;   ...   BytesCall call(channel, "Echoes");   call.write("a");   call.read();
#pragma once

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "support/grpc_bytes.h"
#include "support/grpc_reactor.h"

namespace outrigger::test {

// /demo.Bytes/METHOD does what its name says: Gathers (one answer for all messages), Scatters (a hundred for each),
// Fails, FailsFirst, Hangs, Late; any other echoes.
class BytesService : public grpc::CallbackGenericService {
 public:
  BytesService() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterCallbackGenericService(this);
    server_ = builder.BuildAndStart();
  }
  ~BytesService() override { server_->Shutdown(std::chrono::system_clock::now()); }
  uint16_t port() const { return static_cast<uint16_t>(port_); }

  std::atomic<int> calls = 0, cancelled = 0;

 private:
  // Reads a message, answers with so many as the method wants, and so on.
  class Reactor : public ReactorInTurn {
   public:
    Reactor(BytesService& service, grpc::GenericCallbackServerContext& context) : service_(service) {
      method_ = context.method().substr(context.method().rfind('/') + 1);
      hangs_ = method_ == "Hangs" || method_ == "Late";
      const int call = ++service_.calls;
      context.AddTrailingMetadata("x-call", "here");
      begin([this, call] {
        if (method_ == "Fails") {
          Finish({grpc::StatusCode::NOT_FOUND, "nö such thing"});
        } else if (method_ == "FailsFirst" && call == 1) {
          Finish({grpc::StatusCode::UNAVAILABLE, "not yet"});
        } else if (!hangs_) {
          StartRead(&request_);
        }
      });
    }

   private:
    void on_read(bool ok) override {
      if (ok) {
        ++messages_;
        text_ = text_of(request_);
        if (method_ == "Gathers") return StartRead(&request_);
        to_write_ = method_ == "Scatters" ? 100 : 1;
        return write();
      }
      if (method_ != "Gathers") return Finish(grpc::Status::OK);
      text_ = std::to_string(messages_);
      to_write_ = 1;
      write();
    }
    void on_written(bool ok) override {
      if (!ok) return Finish({grpc::StatusCode::UNKNOWN, "not written"});
      if (--to_write_ > 0) return write();
      if (method_ == "Gathers") return Finish(grpc::Status::OK);
      StartRead(&request_);
    }
    void on_cancel() override {
      ++service_.cancelled;
      if (hangs_) Finish({grpc::StatusCode::CANCELLED, "cancelled"});
    }
    void write() {
      answer_ = bytes_of(text_);
      StartWrite(&answer_);
    }
    BytesService& service_;
    std::string method_, text_;
    grpc::ByteBuffer request_, answer_;
    int messages_ = 0, to_write_ = 0;
    bool hangs_ = false;
  };
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override {
    return new Reactor(*this, *context);
  }

  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

// One call, an operation at a time.
class BytesCall {
 public:
  BytesCall(const std::shared_ptr<grpc::Channel>& channel, const std::string& method, int deadline_ms = 20'000)
      : stub_(channel) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(deadline_ms));
    call_ = stub_.PrepareCall(&context, "/demo.Bytes/" + method, &queue_);
    call_->StartCall(this);
    done();
  }
  bool write(const std::string& text) {
    call_->Write(bytes_of(text), this);
    return done();
  }
  void writes_done() {
    call_->WritesDone(this);
    done();
  }
  std::optional<std::string> read() {
    grpc::ByteBuffer buffer;
    call_->Read(&buffer, this);
    if (!done()) return std::nullopt;
    return text_of(buffer);
  }
  grpc::Status finish() {
    grpc::Status status;
    call_->Finish(&status, this);
    done();
    return status;
  }
  // A whole unary call: the answer, or the status.
  std::string unary(const std::string& text) {
    write(text);
    writes_done();
    const auto answer = read();
    const grpc::Status status = finish();
    return status.ok() ? answer.value_or("nothing")
                       : std::to_string(status.error_code()) + ": " + status.error_message();
  }

  grpc::ClientContext context;

 private:
  bool done() {
    void* tag = nullptr;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }
  grpc::GenericStub stub_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
};

}  // namespace outrigger::test
