#include "output.h"

#include <algorithm>
#include <cstdio>

#include "config/names.h"

namespace outrigger::ctl {
namespace {

// Text that YAML would read as something else, or that needs escapes, is written as JSON, which YAML reads.
std::string yaml_scalar(const Json& value) {
  if (!value.is_string()) return value.dump();
  const auto& text = value.get_ref<const std::string&>();
  const bool plain =
      !text.empty() &&
      text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-") ==
          std::string::npos &&
      std::string_view("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/").find(text[0]) != std::string_view::npos;
  static constexpr std::string_view kWords[] = {"true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan"};
  const std::string lower = config::lower_ascii(text);
  const bool word = std::find(std::begin(kWords), std::end(kWords), lower) != std::end(kWords);
  return plain && !word ? text : value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void write_yaml(const Json& value, const std::string& indent, std::string& out) {
  if (value.empty() || !value.is_structured()) {
    out += " " + (value.is_structured() ? value.dump() : yaml_scalar(value)) + "\n";
    return;
  }
  out += "\n";
  for (const auto& [key, item] : value.items()) {
    out += indent + (value.is_array() ? "-" : yaml_scalar(Json(key)) + ":");
    write_yaml(item, indent + "  ", out);
  }
}

}  // namespace

std::string to_yaml(const Json& value) {
  std::string out;
  write_yaml(value, "", out);
  return out.substr(1);
}

void Output::print(const Json& value) const {
  const std::string text =
      format_ == Format::kYaml ? to_yaml(value) : value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  std::fwrite(text.data(), 1, text.size(), stdout);
}

std::string Output::painted(std::string_view text, Colour colour) const {
  static constexpr std::string_view kCodes[] = {"", "\033[31m", "\033[32m", "\033[33m", "\033[1m"};
  if (!colour_ || colour == Colour::kNone) return std::string(text);
  return std::string(kCodes[static_cast<size_t>(colour)]) + std::string(text) + "\033[0m";
}

void Output::line(std::string_view text, Colour colour) const { std::printf("%s\n", painted(text, colour).c_str()); }

void Output::print(const Table& table) const {
  std::vector<size_t> widths(table.rows_[0].size(), 0);
  for (const auto& row : table.rows_)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  for (size_t r = 0; r < table.rows_.size(); ++r) {
    const auto& row = table.rows_[r];
    std::string text;
    for (size_t i = 0; i < row.size(); ++i) {
      text += row[i];
      if (i + 1 < row.size()) text.append(widths[i] - row[i].size() + 2, ' ');
    }
    while (!text.empty() && text.back() == ' ') text.pop_back();
    line(text, r == 0 ? Colour::kBold : table.colours_[r - 1]);
  }
}

void complain(std::string_view text) {
  std::fprintf(stderr, "outriggerctl: %.*s\n", static_cast<int>(text.size()), text.data());
}

}  // namespace outrigger::ctl
