// Harness: compiles a filter's messages as translation does and keeps what its config refers to.
//
// Use:  Harness h;  auto config = h.compile<proto::ApiKeyAuth>(api_key_auth_filter_type(), R"(credentials {...})");
#pragma once

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "base/check.h"
#include "config/extension.h"
#include "fake_stream.h"
#include "stats/stats.h"

namespace outrigger::test {

template <class Message>
Message parse(const std::string& text) {
  Message message;
  CHECK(google::protobuf::TextFormat::ParseFromString(text, &message));
  return message;
}

class Harness {
 public:
  static constexpr uint16_t kFilterId = 7;

  stats::Registry stats{4};
  config::StateRegistry states;
  config::Faults faults;

  // nullptr after faults.
  template <class Message>
  std::shared_ptr<const FilterConfig> compile(const config::FilterType& type, const std::string& text,
                                              const std::string& scope = "listener/chain/filter") {
    const Message message = parse<Message>(text);
    CHECK(message.GetDescriptor()->full_name() == type.config_type);
    config::CompileContext context = make_context(scope);
    auto part = type.compile(message, config::FieldPath("typed_config"), context);
    CHECK((part != nullptr) == faults.ok());
    return part;
  }
  template <class Message>
  std::shared_ptr<const FilterPart> compile_route(const config::FilterType& type, const std::string& text,
                                                  const std::string& scope = "table/host/route/filter") {
    const Message message = parse<Message>(text);
    CHECK(message.GetDescriptor()->full_name() == type.route_type);
    config::CompileContext context = make_context(scope);
    auto part = type.compile_route(message, config::FieldPath("per_route"), context);
    CHECK((part != nullptr) == faults.ok());
    return part;
  }
  // The faults so far, and forgets them.
  std::string take_faults() {
    std::string out = faults.str();
    faults = {};
    return out;
  }

 private:
  config::CompileContext make_context(const std::string& scope) {
    return {.faults = faults,
            .states = states,
            .stats = stats,
            .scope = scope,
            .filter_id = kFilterId,
            .node_cluster = "edge",
            .http_prefix = "ingress"};
  }
};

}  // namespace outrigger::test
