// completion_script: a shell's completion of this program, made from its own commands and options.
//
// Thread rule: pure function.
// Use:  fputs(completion_script(app, "bash").c_str(), stdout);
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace outrigger::ctl {

std::string completion_script(CLI::App& app, const std::string& shell);

}  // namespace outrigger::ctl
