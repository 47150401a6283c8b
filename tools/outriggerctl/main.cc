// outriggerctl: the command line for people who run Outrigger.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <string>

#include "base/log.h"
#include "commands.h"
#include "completion.h"
#include "status.h"

namespace {

using namespace outrigger::ctl;

constexpr const char* kFooter = R"(Examples:
  outriggerctl validate bootstrap.yaml conf.d
  outriggerctl explain --host shop.example --path /cart -H 'x-api-key: KEY'
  outriggerctl explain --file bootstrap.yaml --host shop.example --path /cart
  outriggerctl status --control 10.0.0.2:18000
  outriggerctl diff conf.d http://127.0.0.1:9901
  source <(outriggerctl completion bash)

Exit codes: 0 good; 1 the answer is no (faults, differences, a refused request or resource); 2 wrong usage; 3 nobody
answers there.)";

Output output_of(const std::string& format, const std::string& colour) {
  const bool terminal = isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr;
  const bool coloured = colour == "always" || (colour == "auto" && terminal);
  const auto kind = format == "json"   ? Output::Format::kJson
                    : format == "yaml" ? Output::Format::kYaml
                                       : Output::Format::kTable;
  return {kind, coloured};
}

int run(int argc, char** argv) {
  CLI::App app{"Asks and checks Outrigger: configurations, running proxies and control planes.", "outriggerctl"};
  app.set_version_flag("--version", std::string("outriggerctl ") + OUTRIGGER_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  app.footer(kFooter);
  std::string format = "table", colour = "auto", admin = "127.0.0.1:9901";
  app.add_option("-o,--output", format, "table, json or yaml")->check(CLI::IsMember({"table", "json", "yaml"}));
  app.add_option("--color", colour, "auto (on a terminal), always or never")
      ->check(CLI::IsMember({"auto", "always", "never"}));
  const auto with_admin = [&](CLI::App* command) {
    command->add_option("--admin", admin, "admin port of a proxy: HOST:PORT or unix:/PATH")
        ->envname("OUTRIGGER_ADMIN")
        ->capture_default_str();
  };

  std::vector<std::string> paths;
  CLI::App* validate_command = app.add_subcommand("validate", "all faults of files, with file, line and field path");
  validate_command->add_option("FILES", paths, "bootstraps, resource files, directories of them")->required();

  ExplainOptions asked;
  CLI::App* explain_command = app.add_subcommand("explain", "what would become of a request, and why");
  with_admin(explain_command);
  explain_command->add_option("-f,--file", asked.files, "ask these files (a bootstrap, resources), not a proxy");
  constexpr const char* kGroupHelp = "what this group of a directory's groups.yaml is served";
  explain_command->add_option("--group", asked.group, kGroupHelp)->needs("--file");
  explain_command->add_option("--listener", asked.listener, "needed if there are several");
  explain_command->add_option("-X,--method", asked.method, "GET if not given");
  explain_command->add_option("--host", asked.host, "the request's host");
  explain_command->add_option("--path", asked.path, "the request's path and query");
  explain_command->add_option("-H,--header", asked.headers, "\"Name: value\"; any number")->allow_extra_args(false);
  explain_command->add_option("--remote", asked.remote, "the client's address");
  explain_command->add_option("--random", asked.random, "the random number that decides fractions and weights");
  explain_command->add_option("--misses", asked.misses, "how many earlier routes to tell");

  std::string before, after, group;
  CLI::App* diff_command = app.add_subcommand("diff", "what differs between two configurations");
  diff_command->add_option("A", before, "file, directory or http://HOST:PORT of a proxy's admin port")->required();
  diff_command->add_option("B", after, "likewise")->required();
  diff_command->add_option("--group", group, kGroupHelp);

  std::string name_regex;
  CLI::App* dump_command = app.add_subcommand("dump", "what a proxy runs, holds back and refused; secrets are hidden");
  with_admin(dump_command);
  dump_command->add_option("NAME", name_regex, "regular expression that names must match");

  StatusOptions control{.control = "127.0.0.1:18000"};
  const auto with_control = [&](CLI::App* command) {
    command->add_option("--control", control.control, "address of the control plane")
        ->envname("OUTRIGGER_CONTROL")
        ->capture_default_str();
    command->add_option("--tls-ca", control.tls_ca, "TLS, its certificate signed by one of these (PEM)");
    command->add_option("--tls-cert", control.tls_cert, "TLS, with this certificate of ours (PEM)");
    command->add_option("--tls-key", control.tls_key, "the key of --tls-cert");
    command->add_option("--tls-server-name", control.tls_server_name, "TLS, its certificate is for this name");
    command->add_option("--token-file", control.token_file, "send the first bearer token of this file")
        ->envname("OUTRIGGER_TOKEN_FILE");
    return command;
  };
  CLI::App* status_command =
      with_control(app.add_subcommand("status", "the proxies of a control plane: version, in sync or not, last NACK"));
  status_command->add_flag("--types", control.types, "a row for each type of each proxy");
  CLI::App* watch_command = with_control(app.add_subcommand("watch", "the same as it changes, a line for each change"));
  watch_command->add_flag("--until-sync", control.until_sync, "end when at least one proxy is there, and all in sync");
  watch_command->add_option("--timeout", control.timeout_s, "give up after so many seconds, with exit code 1");

  std::string shell;
  CLI::App* completion_command = app.add_subcommand("completion", "completion script of a shell");
  completion_command->add_option("SHELL", shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kGood : kUsage;
  }
  const Output out = output_of(format, colour);
  asked.admin = admin;
  if (validate_command->parsed()) return validate(out, paths);
  if (explain_command->parsed()) return explain(out, asked);
  if (diff_command->parsed()) return diff(out, before, after, group);
  if (dump_command->parsed()) return dump(out, admin, name_regex);
  if (status_command->parsed()) return status(out, control);
  if (watch_command->parsed()) return watch(out, control);
  std::fputs(completion_script(app, shell).c_str(), stdout);
  return kGood;
}

}  // namespace

int main(int argc, char** argv) {
  outrigger::log::set_level(outrigger::log::Level::kOff);  // what is to be said is the answer
  return run(argc, argv);
}
