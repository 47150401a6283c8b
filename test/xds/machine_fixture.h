// MachineTest: what the scripted conversations with both machines have in common.
//
// Use:  class SotwTest : public MachineTest<Sotw> {};   TEST_F(SotwTest, ...) { machine.stream_opened(); request(); }
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "xds/machine.h"

namespace outrigger::xds {

using Names = std::vector<std::string>;

template <class M>
class MachineTest : public ::testing::Test {
 protected:
  Request request() {
    auto r = machine.next_request(now);
    EXPECT_TRUE(r.has_value());
    return r.value_or(Request{});
  }
  bool silent() { return !machine.next_request(now).has_value(); }
  uint64_t receive(Response r) {
    auto update = machine.receive(std::move(r));
    EXPECT_TRUE(update.has_value());
    return update ? update->id : 0;
  }
  // Subscribes on an open stream and pulls the request.
  void open(Type type, Subscription subscription) {
    machine.subscribe(type, std::move(subscription));
    machine.stream_opened();
    request();
  }
  void open_clusters() { open(Type::kCluster, {.wildcard = true}); }
  Machine::State state(Type type = Type::kCluster) { return machine.type(type).state; }

  M machine;
  int64_t now = 1'000;
};

template <class M>
void expect_node_on_first_message_only_is_honoured() {
  for (bool first_only : {false, true}) {
    M machine({.node_on_first_message_only = first_only});
    machine.subscribe(Type::kCluster, {.wildcard = true});
    machine.subscribe(Type::kListener, {.wildcard = true});
    for (int stream = 0; stream < 2; ++stream) {
      machine.stream_opened();
      EXPECT_TRUE(machine.next_request(0)->with_node);
      EXPECT_EQ(machine.next_request(0)->with_node, !first_only);
      machine.stream_closed();
    }
  }
}

}  // namespace outrigger::xds
