#include "status.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <ctime>
#include <map>
#include <thread>

#include "config/names.h"
#include "control/read_text.h"
#include "control/token_file.h"
#include "outrigger/control/v1/status.grpc.pb.h"

namespace outrigger::ctl {
namespace {

namespace v1 = control::v1;
using Clock = std::chrono::steady_clock;

constexpr auto kPatience = std::chrono::seconds(10);
constexpr auto kEvery = std::chrono::milliseconds(500);

class Client {
 public:
  // Refused: a file that cannot be read.
  static Result<Client> open(const StatusOptions& options) {
    Client client;
    if (!options.token_file.empty()) {
      TRY(client.token_, control::TokenFile::first(options.token_file));
    }
    TRY(const auto credentials, credentials_of(options));
    client.stub_ = v1::ProxyStatusService::NewStub(
        grpc::CreateCustomChannel(options.control, credentials, arguments(options.tls_server_name)));
    return client;
  }

  grpc::Status get(v1::StatusResponse& response) {
    grpc::ClientContext context;
    if (!token_.empty()) context.AddMetadata("authorization", "Bearer " + token_);
    context.set_deadline(std::chrono::system_clock::now() + kPatience);
    return stub_->GetStatus(&context, {}, &response);
  }

 private:
  static Result<std::shared_ptr<grpc::ChannelCredentials>> credentials_of(const StatusOptions& options) {
    if (options.tls_ca.empty() && options.tls_cert.empty() && options.tls_key.empty() &&
        options.tls_server_name.empty())
      return grpc::InsecureChannelCredentials();
    grpc::SslCredentialsOptions tls;
    for (const auto& [file, text] :
         {std::pair(&options.tls_ca, &tls.pem_root_certs), std::pair(&options.tls_cert, &tls.pem_cert_chain),
          std::pair(&options.tls_key, &tls.pem_private_key)}) {
      if (file->empty()) continue;
      Result<std::string> read = control::read_text(*file);
      if (!read) return fail(Errc::kInvalidArgument, *file + ": " + read.error().detail);
      *text = std::move(*read);
    }
    return grpc::SslCredentials(tls);
  }
  static grpc::ChannelArguments arguments(const std::string& server_name) {
    grpc::ChannelArguments arguments;
    if (!server_name.empty()) arguments.SetSslTargetNameOverride(server_name);
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    return arguments;
  }
  std::unique_ptr<v1::ProxyStatusService::Stub> stub_;
  std::string token_;
};

std::string time_of(int64_t unix_ms) {
  if (unix_ms == 0) return "-";
  const std::time_t seconds = unix_ms / 1000;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}Z", utc);
}

// What a client sent, fit for a line.
std::string one_line(std::string_view text) {
  std::string out(text.substr(0, 400));
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return out;
}

enum class State { kSync, kWaiting, kRefused };

State state_of(const v1::TypeStatus& type) {
  if (type.in_sync()) return State::kSync;
  return type.refused_version().empty() ? State::kWaiting : State::kRefused;
}

std::string_view name_of(State state) {
  return state == State::kSync ? "in sync" : state == State::kWaiting ? "waiting" : "refused";
}

Colour colour_of(State state) {
  return state == State::kSync ? Colour::kGreen : state == State::kWaiting ? Colour::kYellow : Colour::kRed;
}

// A proxy as a whole: the worst of its types.
struct Row {
  State state = State::kSync;
  std::string what;  // "refused Listener, waiting Cluster"
  int64_t since = 0;
  std::string last_nack;
};

Row row_of(const v1::ProxyStatus& proxy) {
  Row row{.since = proxy.connected_unix_ms()};
  int64_t nack_at = 0;
  for (const v1::TypeStatus& type : proxy.types()) {
    const State state = state_of(type);
    row.since = std::max(row.since, type.answered_unix_ms());
    if (type.last_nack_unix_ms() > nack_at) {
      nack_at = type.last_nack_unix_ms();
      row.last_nack =
          fmt::format("{} {}: {}", time_of(nack_at), config::short_type(type.type_url()), one_line(type.last_nack()));
    }
    if (state == State::kSync) continue;
    row.state = std::max(row.state, state);
    row.what +=
        fmt::format("{}{} {}", row.what.empty() ? "" : ", ", name_of(state), config::short_type(type.type_url()));
  }
  if (row.what.empty()) row.what = "in sync";
  return row;
}

Json json_of(const v1::StatusResponse& response) {
  Json proxies = Json::array();
  for (const v1::ProxyStatus& proxy : response.proxies()) {
    Json types = Json::array();
    for (const v1::TypeStatus& type : proxy.types())
      types.push_back({{"type_url", type.type_url()},
                       {"state", name_of(state_of(type))},
                       {"wildcard", type.wildcard()},
                       {"names", type.names()},
                       {"sent_version", type.sent_version()},
                       {"acked_version", type.acked_version()},
                       {"refused_version", type.refused_version()},
                       {"awaiting_answer", type.awaiting_answer()},
                       {"acks", type.acks()},
                       {"nacks", type.nacks()},
                       {"answered", time_of(type.answered_unix_ms())},
                       {"last_nack", type.last_nack()},
                       {"last_nack_at", time_of(type.last_nack_unix_ms())}});
    proxies.push_back({{"node_id", proxy.node_id()},
                       {"node_cluster", proxy.node_cluster()},
                       {"group", proxy.group()},
                       {"user_agent", proxy.user_agent()},
                       {"peer", proxy.peer()},
                       {"stream_id", proxy.stream_id()},
                       {"incremental", proxy.incremental()},
                       {"connected", time_of(proxy.connected_unix_ms())},
                       {"served_version", proxy.served_version()},
                       {"in_sync", proxy.in_sync()},
                       {"types", std::move(types)}});
  }
  return {{"control_plane", response.control_plane()}, {"proxies", std::move(proxies)}};
}

Table table_of(const v1::StatusResponse& response, bool types) {
  Table table(types ? std::vector<std::string>{"NODE", "TYPE", "VERSION", "STATE", "SINCE", "LAST NACK"}
                    : std::vector<std::string>{"NODE", "CLUSTER", "GROUP", "SERVED", "STATE", "SINCE", "LAST NACK"});
  for (const v1::ProxyStatus& proxy : response.proxies()) {
    const std::string node = one_line(proxy.node_id());
    if (!types) {
      const Row row = row_of(proxy);
      table.add({node, one_line(proxy.node_cluster()), proxy.group().empty() ? "default" : one_line(proxy.group()),
                 proxy.served_version(), row.what, time_of(row.since), row.last_nack.empty() ? "-" : row.last_nack},
                colour_of(row.state));
      continue;
    }
    for (const v1::TypeStatus& type : proxy.types())
      table.add({node, one_line(config::short_type(type.type_url())),
                 type.acked_version().empty() ? "-" : type.acked_version(), std::string(name_of(state_of(type))),
                 time_of(type.answered_unix_ms()), type.last_nack().empty() ? "-" : one_line(type.last_nack())},
                colour_of(state_of(type)));
  }
  return table;
}

bool all_in_sync(const v1::StatusResponse& response) {
  for (const v1::ProxyStatus& proxy : response.proxies())
    if (!proxy.in_sync()) return false;
  return true;
}

void cannot_reach(const std::string& address, const grpc::Status& status) {
  complain(fmt::format("cannot reach the control plane at {}: {} (--control names it)", address,
                       one_line(status.error_message())));
}

}  // namespace

int status(const Output& out, const StatusOptions& options) {
  v1::StatusResponse response;
  Result<Client> client = Client::open(options);
  if (!client) {
    complain(client.error().detail);
    return kUsage;
  }
  if (const grpc::Status got = client->get(response); !got.ok()) {
    cannot_reach(options.control, got);
    return kUnreachable;
  }
  if (!out.for_people()) {
    out.print(json_of(response));
  } else if (response.proxies().empty()) {
    out.line("no proxy is connected");
  } else {
    out.print(table_of(response, options.types));
  }
  return all_in_sync(response) ? kGood : kBad;
}

int watch(const Output& out, const StatusOptions& options) {
  Result<Client> client = Client::open(options);
  if (!client) {
    complain(client.error().detail);
    return kUsage;
  }
  const auto end = Clock::now() + std::chrono::seconds(options.timeout_s);
  std::map<uint64_t, std::string> told;  // by stream
  bool reached = true;
  for (;; std::this_thread::sleep_for(kEvery)) {
    if (options.timeout_s != 0 && Clock::now() >= end) return kBad;
    v1::StatusResponse response;
    const grpc::Status got = client->get(response);
    if (!got.ok()) {
      if (std::exchange(reached, false)) cannot_reach(options.control, got);
      continue;
    }
    reached = true;
    std::map<uint64_t, std::string> now;
    for (const v1::ProxyStatus& proxy : response.proxies()) {
      const Row row = row_of(proxy);
      const std::string text = fmt::format("{} version {} {}{}", one_line(proxy.node_id()), proxy.served_version(),
                                           row.what, row.state == State::kRefused ? ": " + row.last_nack : "");
      now[proxy.stream_id()] = text;
      if (told[proxy.stream_id()] == text) continue;
      if (out.for_people()) {
        out.line(time_of(row.since) + "  " + text, colour_of(row.state));
      } else {
        out.print(Json{{"time", time_of(row.since)},
                       {"node_id", proxy.node_id()},
                       {"in_sync", proxy.in_sync()},
                       {"served_version", proxy.served_version()},
                       {"state", row.what},
                       {"last_nack", row.last_nack}});
      }
    }
    for (const auto& [stream, text] : told)
      if (!now.contains(stream) && out.for_people()) out.line("gone: " + text, Colour::kYellow);
    std::fflush(stdout);
    told = std::move(now);
    if (options.until_sync && !response.proxies().empty() && all_in_sync(response)) return kGood;
  }
}

}  // namespace outrigger::ctl
