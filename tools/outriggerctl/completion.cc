#include "completion.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

namespace outrigger::ctl {
namespace {

std::string options_of(const CLI::App& app) {
  std::string out;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) out += (out.empty() ? "--" : " --") + name;
  return out;
}

std::string bash(CLI::App& app) {
  std::string commands, cases;
  for (const CLI::App* command : app.get_subcommands({})) {
    commands += (commands.empty() ? "" : " ") + command->get_name();
    cases += fmt::format("      {}) words=\"{} {}\" ;;\n", command->get_name(), options_of(*command), options_of(app));
  }
  return fmt::format(R"(_outriggerctl() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" words="" word
  case "$previous" in
    -o|--output) COMPREPLY=($(compgen -W "table json yaml" -- "$current")); return ;;
    --color) COMPREPLY=($(compgen -W "auto always never" -- "$current")); return ;;
    completion) COMPREPLY=($(compgen -W "bash zsh fish" -- "$current")); return ;;
  esac
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "$word" in
{}    esac
  done
  if [[ -z $words ]]; then
    COMPREPLY=($(compgen -W "{} {}" -- "$current"))
  elif [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  else
    COMPREPLY=($(compgen -f -- "$current"))
  fi
}}
complete -o filenames -F _outriggerctl outriggerctl
)",
                     cases, commands, options_of(app));
}

std::string quoted(std::string text) {
  std::string out;
  for (const char c : text) out += c == '\'' ? "\\'" : std::string(1, c);
  return "'" + out + "'";
}

std::string fish(CLI::App& app) {
  std::string out;
  for (const CLI::App* command : app.get_subcommands({})) {
    out += fmt::format("complete -c outriggerctl -n __fish_use_subcommand -a {} -d {}\n", command->get_name(),
                       quoted(command->get_description()));
    for (const CLI::Option* option : command->get_options())
      for (const std::string& name : option->get_lnames())
        out += fmt::format("complete -c outriggerctl -n '__fish_seen_subcommand_from {}' -l {} -d {}\n",
                           command->get_name(), name, quoted(option->get_description()));
  }
  return out;
}

}  // namespace

std::string completion_script(CLI::App& app, const std::string& shell) {
  if (shell == "fish") return fish(app);
  const std::string script = bash(app);
  return shell == "bash" ? script : "autoload -U +X bashcompinit && bashcompinit\n" + script;
}

}  // namespace outrigger::ctl
