// 10,000 certificates as secrets, and a listener whose 10,000 chains name them: how long they take to load, to change
// and to be used first, and what they take in memory. CPU time of one thread; prints a table.
#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <fstream>
#include <vector>

#include "config/translate.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb.h"
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb.h"
#include "envoy/extensions/transport_sockets/tls/v3/tls.pb.h"
#include "proxy/store.h"
#include "support/certificates.h"

namespace outrigger {
namespace {

namespace tls = envoy::extensions::transport_sockets::tls::v3;

constexpr size_t kCertificates = 10'000;
constexpr size_t kFirstUses = 1'000;

double cpu_ms() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

size_t resident_kb() {
  size_t pages = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return resident * 4;
}

template <class F>
void measure(std::string_view what, F&& f) {
  malloc_trim(0);
  const size_t before_kb = resident_kb();
  const double from = cpu_ms();
  f();
  const double took = cpu_ms() - from;
  malloc_trim(0);
  fmt::print("{:<52} {:>9.2f} ms {:>9} KB\n", what, took,
             static_cast<long>(resident_kb()) - static_cast<long>(before_kb));
}

std::string secret(const std::string& name, const test::Certificate& from) {
  tls::Secret message;
  message.set_name(name);
  message.mutable_tls_certificate()->mutable_certificate_chain()->set_inline_string(from.pem);
  message.mutable_tls_certificate()->mutable_private_key()->set_inline_string(from.private_key);
  return message.SerializeAsString();
}

std::string name_of(size_t i) { return fmt::format("host-{}.example", i); }

std::string listener() {
  envoy::config::listener::v3::Listener message;
  message.set_name("main");
  auto& address = *message.mutable_address()->mutable_socket_address();
  address.set_address("127.0.0.1");
  address.set_port_value(0);
  envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy carry;
  carry.set_stat_prefix("tcp");
  carry.set_cluster("none");
  for (size_t i = 0; i < kCertificates; ++i) {
    auto& chain = *message.add_filter_chains();
    chain.set_name(name_of(i));
    chain.mutable_filter_chain_match()->add_server_names(name_of(i));
    auto& filter = *chain.add_filters();
    filter.set_name("tcp");
    filter.mutable_typed_config()->PackFrom(carry);
    tls::DownstreamTlsContext context;
    auto& named = *context.mutable_common_tls_context()->add_tls_certificate_sds_secret_configs();
    named.set_name(name_of(i));
    named.mutable_sds_config()->mutable_ads();
    chain.mutable_transport_socket()->set_name("tls");
    chain.mutable_transport_socket()->mutable_typed_config()->PackFrom(context);
  }
  return message.SerializeAsString();
}

class Load {
 public:
  void accept(config::ResourceType type, const std::string& bytes) {
    config::TranslatedResource read = translator_.resource(config::type_url(type), bytes, config::FieldPath("r"));
    if (!read.spec) {
      fmt::print(stderr, "{}\n", read.faults.str().substr(0, 1'000));
      std::abort();
    }
    if (auto verdict = store_.accept(std::move(*read.spec), std::move(read.bytes), proxy::Source::kXds, "1");
        !verdict) {
      fmt::print(stderr, "{}\n", verdict.error().detail);
      std::abort();
    }
  }
  proxy::Store& store() { return store_; }

 private:
  stats::Registry registry_{1};
  config::StateRegistry states_;
  config::Translator translator_{{}, states_, registry_, {}};
  proxy::Store store_{{.stats = &registry_, .bind = false, .now_ms = [this] { return now_ += 1'000'000; }}};
  int64_t now_ = 0;
};

void run() {
  using config::ResourceType;
  test::CertificateAuthority issuer;
  std::vector<std::string> secrets;
  for (size_t i = 0; i < kCertificates; ++i)
    secrets.push_back(secret(name_of(i), issuer.issue(name_of(i), {"DNS:" + name_of(i)})));
  const std::string one_listener = listener();
  Load load;
  measure("the listener, 10,000 chains, without its secrets", [&] {
    load.accept(ResourceType::kListener, one_listener);
    load.store().assemble();
  });
  measure("10,000 secrets parsed, checked, staged", [&] {
    for (const std::string& one : secrets) load.accept(ResourceType::kSecret, one);
  });
  measure("... and live", [&] {
    load.store().assemble();
    load.store().assemble();
  });
  measure("the same 10,000 again", [&] {
    for (const std::string& one : secrets) load.accept(ResourceType::kSecret, one);
    load.store().assemble();
  });
  const std::string fresh = secret(name_of(7), issuer.issue(name_of(7)));
  measure("one of them rotates", [&] {
    load.accept(ResourceType::kSecret, fresh);
    load.store().assemble();
  });
  const auto snapshot = load.store().live();
  const proxy::LinkedListener& main = *snapshot->listeners.find("main");
  std::vector<double> first;
  measure(fmt::format("first use of {} of them", kFirstUses), [&] {
    for (size_t i = 0; i < kFirstUses; ++i) {
      const double from = cpu_ms();
      main.chains[i].tls->server_session();
      first.push_back(cpu_ms() - from);
    }
  });
  std::sort(first.begin(), first.end());
  fmt::print("first use: median {:.3f} ms, 99 % {:.3f} ms, longest {:.3f} ms\n", first[first.size() / 2],
             first[first.size() * 99 / 100], first.back());
}

}  // namespace
}  // namespace outrigger

int main() { outrigger::run(); }
