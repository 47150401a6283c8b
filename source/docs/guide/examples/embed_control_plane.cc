// A control plane of your own: two groups, live changes, and word of who took what.
#include <signal.h>

#include <cstdio>

#include "envoy/config/cluster/v3/cluster.pb.h"
#include "outrigger/control/ads_server.h"
#include "outrigger/control/consistency.h"
#include "outrigger/control/groups.h"

using namespace outrigger::control;

Resource cluster(const std::string& name, uint32_t port) {
  envoy::config::cluster::v3::Cluster message;
  message.set_name(name);
  message.mutable_load_assignment()->set_cluster_name(name);
  auto& endpoint = *message.mutable_load_assignment()->add_endpoints()->add_lb_endpoints()->mutable_endpoint();
  endpoint.mutable_address()->mutable_socket_address()->set_address("127.0.0.1");
  endpoint.mutable_address()->mutable_socket_address()->set_port_value(port);
  return Resource::make("type.googleapis.com/" + message.GetDescriptor()->full_name(), name,
                        message.SerializeAsString());
}

void serve(ResourceCache& cache, const std::string& group, std::vector<Resource> resources) {
  const auto snapshot = ResourceSnapshot::make(std::move(resources), &cache.pool());
  if (!snapshot) return (void)printf("%s\n", snapshot.error().detail.c_str());
  for (const Inconsistency& one : check_consistency(**snapshot))
    printf("%s: %s\n", one.name.c_str(), one.problem.c_str());
  cache.set(*snapshot, group);
}

int main() {
  sigset_t signals;
  sigfillset(&signals);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // before any thread starts
  setvbuf(stdout, nullptr, _IOLBF, 0);

  ResourceCache cache;
  const std::vector<GroupRule> rules = {{"edge", {{.cluster = TextMatch::exact("edge")}}}};
  AdsServerOptions options;
  options.group_of = [&](const ClientInfo& client) { return group_of(rules, client); };
  const auto say = [](const ClientInfo& who, const char* what) { printf("%s %s\n", who.node_id.c_str(), what); };
  options.on_connect = [&](const ClientInfo& who) { say(who, "is here"); };
  options.on_ack = [&](const ClientInfo& who, const Answer& answer) { say(who, ("took " + answer.version).c_str()); };
  options.on_nack = [&](const ClientInfo& who, const Answer& answer) { say(who, answer.error.c_str()); };
  AdsServer server(cache, options);
  const auto port = server.start("127.0.0.1:0");
  if (!port) return printf("%s\n", port.error().detail.c_str()), 1;
  printf("serving on port %d\n", *port);
  uint32_t backend = 9000;  // each SIGHUP moves it
  for (int signal = SIGHUP; signal == SIGHUP; sigwait(&signals, &signal)) {
    serve(cache, "", {cluster("shared", 8000)});
    serve(cache, "edge", {cluster("shared", 8000), cluster("backend", backend++)});
  }
  server.stop();
}
