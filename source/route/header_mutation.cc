#include "route/header_mutation.h"

#include <algorithm>

namespace outrigger::route {
namespace {

using Action = config::HeaderAddSpec::Action;

constexpr std::string_view kForbidden("\r\n\0", 3);

std::string sanitised(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (kForbidden.find(c) != std::string_view::npos) c = ' ';
  return out;
}

bool present(const HeaderMap& headers, HeaderId id, std::string_view name) {
  return id != HeaderId::kNone ? headers.has(id) : headers.find(name) != nullptr;
}

}  // namespace

std::string_view sanitize_header_value(std::string_view text, Arena& arena) {
  if (text.find_first_of(kForbidden) == std::string_view::npos) return text;
  char* out = static_cast<char*>(arena.try_allocate(text.size(), 1));
  if (out == nullptr) return {};
  std::replace_copy_if(
      text.begin(), text.end(), out, [](char c) { return kForbidden.find(c) != std::string_view::npos; }, ' ');
  return {out, text.size()};
}

HeaderMutations::HeaderMutations(const config::HeaderMutationSpec& spec) {
  adds_.reserve(spec.add.size());
  for (const config::HeaderAddSpec& add : spec.add) {
    Formatter formatter = Formatter::compile(add.value);
    const bool constant = formatter.constant();
    std::string value = constant ? sanitised(formatter.constant_text()) : std::string();
    adds_.push_back({.name = add.name,
                     .id = find_header_id(add.name),
                     .action = add.action,
                     .keep_empty_value = add.keep_empty_value,
                     .constant = constant,
                     .value = std::move(value),
                     .formatter = constant ? Formatter() : std::move(formatter)});
  }
  removes_.reserve(spec.remove.size());
  for (const std::string& name : spec.remove) removes_.push_back({name, find_header_id(name)});
}

std::string_view HeaderMutations::evaluate(const Add& add, Arena& arena, const FormatContext& context) {
  if (add.constant) return add.value;
  TextOut out(arena);
  add.formatter.format(context, Formatter::Missing::kEmpty, out);
  if (out.truncated()) return {};
  return out.size() == 0 ? std::string_view("", 0) : sanitize_header_value(out.view(), arena);
}

void HeaderMutations::apply(HeaderMap& headers, const FormatContext& context) const {
  for (const Remove& remove : removes_) {
    if (remove.id != HeaderId::kNone) {
      headers.remove(remove.id);
    } else {
      headers.remove(remove.name);
    }
  }
  if (adds_.empty()) return;

  // What each addition comes to, decided on the headers as they are now; data() == nullptr: nothing.
  auto* values = static_cast<std::string_view*>(
      headers.arena().try_allocate(sizeof(std::string_view) * adds_.size(), alignof(std::string_view)));
  if (values == nullptr) return headers.mark_overflowed();
  for (size_t i = 0; i < adds_.size(); ++i) {
    const Add& add = adds_[i];
    new (&values[i]) std::string_view();
    if (add.action == Action::kAddIfAbsent && present(headers, add.id, add.name)) continue;
    if (add.action == Action::kOverwriteIfExists && !present(headers, add.id, add.name)) continue;
    const std::string_view value = evaluate(add, headers.arena(), context);
    if (value.data() == nullptr) return headers.mark_overflowed();
    if (!value.empty() || add.keep_empty_value) values[i] = value;
  }
  for (size_t i = 0; i < adds_.size(); ++i) {
    const Add& add = adds_[i];
    if (add.action != Action::kOverwriteIfExistsOrAdd && add.action != Action::kOverwriteIfExists) continue;
    if (values[i].data() == nullptr) continue;
    if (add.id != HeaderId::kNone) {
      headers.set_view(add.id, values[i]);
    } else {
      headers.set(add.name, values[i]);
    }
  }
  for (size_t i = 0; i < adds_.size(); ++i) {
    const Add& add = adds_[i];
    if (add.action != Action::kAppendIfExistsOrAdd && add.action != Action::kAddIfAbsent) continue;
    if (values[i].data() != nullptr) headers.add_view(add.name, values[i], add.id);
  }
}

}  // namespace outrigger::route
