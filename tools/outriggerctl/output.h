// What outriggerctl prints: tables for people (in colour on a terminal), JSON or YAML for scripts; and the exit codes.
//
// Thread rule: one thread.
// Use:  Output out(Output::Format::kTable, use_colour);  Table t({"NAME", "STATE"});  t.add({"a", "live"});
//       out.print(t);
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace outrigger::ctl {

using Json = nlohmann::ordered_json;

// For scripts; documented in --help.
enum ExitCode : int { kGood = 0, kBad = 1, kUsage = 2, kUnreachable = 3 };

enum class Colour { kNone, kRed, kGreen, kYellow, kBold };

class Table {
 public:
  explicit Table(std::vector<std::string> head) : rows_{std::move(head)} {}
  void add(std::vector<std::string> row, Colour colour = Colour::kNone) {
    rows_.push_back(std::move(row));
    colours_.push_back(colour);
  }
  bool empty() const { return rows_.size() == 1; }

 private:
  friend class Output;
  std::vector<std::vector<std::string>> rows_;
  std::vector<Colour> colours_;
};

class Output {
 public:
  enum class Format { kTable, kJson, kYaml };
  Output(Format format, bool colour) : format_(format), colour_(colour) {}

  bool for_people() const { return format_ == Format::kTable; }
  // JSON or YAML; not for people.
  void print(const Json& value) const;
  void print(const Table& table) const;
  void line(std::string_view text, Colour colour = Colour::kNone) const;

 private:
  std::string painted(std::string_view text, Colour colour) const;
  Format format_;
  bool colour_;
};

// A message for people on stderr: "outriggerctl: ...".
void complain(std::string_view text);
std::string to_yaml(const Json& value);

}  // namespace outrigger::ctl
