// StatusServices: what AdsServer tells about its clients over gRPC: Envoy's ClientStatusDiscoveryService and our own
// ProxyStatusService. They carry no contents of resources, which may hold secrets.
//
// Thread rule: the functions given are called on gRPC's threads.
// Use:  StatusServices status({...});  for (grpc::Service* service : status.services())
// builder.RegisterService(service);
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "outrigger/control/ads_server.h"

namespace grpc {
class ServerContextBase;
class Service;
}  // namespace grpc

namespace outrigger::control {

struct StatusSource {
  std::string identifier;
  std::function<std::vector<ClientStatus>(bool with_resources)> clients;
  std::function<bool(const grpc::ServerContextBase& context)> admit;  // whether the call is taken
};

class StatusServices {
 public:
  explicit StatusServices(StatusSource source);
  ~StatusServices();
  std::vector<grpc::Service*> services();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace outrigger::control
