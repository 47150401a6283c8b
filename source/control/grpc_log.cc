#include "control/grpc_log.h"

#include <grpc/support/log.h>

#include <string>
#include <string_view>

#include "base/log.h"
#include "control/line_budget.h"

namespace outrigger::control {
namespace {

constexpr size_t kMaxBytes = 500;

void write_line(gpr_log_func_args* args) {
  static LineBudget budget;
  const auto left_out = budget.take();
  if (!left_out) return;
  std::string text(std::string_view(args->message).substr(0, kMaxBytes));
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  const std::string more = *left_out == 0 ? "" : fmt::format(" ({} lines before this one were left out)", *left_out);
  OUTRIGGER_LOG(kWarning, "grpc", "{}{}", text, more);
}

}  // namespace

void take_over_grpc_log() {
  gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR);
  gpr_set_log_function(write_line);
}

}  // namespace outrigger::control
