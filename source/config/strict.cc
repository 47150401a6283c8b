#include "config/strict.h"

#include <fmt/format.h>
#include <google/protobuf/any.pb.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/unknown_field_set.h>

#include <algorithm>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "config/any.h"

namespace outrigger::config {

namespace {

using google::protobuf::Any;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr int kMaxDepth = 32;  // Anys inside Anys; the depth of each is bounded by protobuf's parser

// The fields of a message type whose values may be unknown: enums, and messages, where more may be. The others need no
// look, and a table of 10,000 routes has 40,000 messages.
const std::vector<const FieldDescriptor*>& fields_to_check(const google::protobuf::Descriptor& type) {
  thread_local std::unordered_map<const google::protobuf::Descriptor*, std::vector<const FieldDescriptor*>> known;
  const auto [at, fresh] = known.try_emplace(&type);
  if (!fresh) return at->second;
  for (int i = 0; i < type.field_count(); ++i) {
    const auto kind = type.field(i)->cpp_type();
    if (kind == FieldDescriptor::CPPTYPE_MESSAGE || kind == FieldDescriptor::CPPTYPE_ENUM)
      at->second.push_back(type.field(i));
  }
  std::sort(at->second.begin(), at->second.end(),
            [](const FieldDescriptor* a, const FieldDescriptor* b) { return a->number() < b->number(); });
  return at->second;
}

class Checker {
 public:
  Checker(Faults& faults, UnknownFields mode) : faults_(faults), mode_(mode) {}

  size_t unknown() const { return unknown_; }

  void check(const Message& message, const FieldPath& path, int depth) {
    if (message.GetDescriptor() == Any::descriptor()) {
      check_any(static_cast<const Any&>(message), path, depth, false);
      return;
    }
    const Reflection& reflection = *message.GetReflection();
    const google::protobuf::UnknownFieldSet& unknown = reflection.GetUnknownFields(message);
    for (int i = 0; i < unknown.field_count(); ++i) {
      report(path, fmt::format("{} has no supported field number {}", message.GetDescriptor()->full_name(),
                               unknown.field(i).number()));
    }
    for (const FieldDescriptor* field : fields_to_check(*message.GetDescriptor())) {
      if (field->is_repeated() ? reflection.FieldSize(message, field) == 0 : !reflection.HasField(message, field))
        continue;
      const FieldPath at = path.field(field->name());
      if (field->is_map()) {
        check_map(message, *field, at, depth);
      } else if (field->is_repeated()) {
        for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
          check_value(message, *field, i, at.index(static_cast<size_t>(i)), depth);
        }
      } else {
        check_value(message, *field, -1, at, depth);
      }
    }
  }

 private:
  void report(const FieldPath& path, std::string message) {
    ++unknown_;
    if (mode_ == UnknownFields::kWarn) {
      faults_.warn(path, std::move(message));
    } else {
      faults_.add(path, std::move(message));
    }
  }

  // One value of a field; index -1: the field is not repeated.
  void check_value(const Message& message, const FieldDescriptor& field, int index, const FieldPath& path, int depth) {
    const Reflection& reflection = *message.GetReflection();
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
      const int number = index < 0 ? reflection.GetEnumValue(message, &field)
                                   : reflection.GetRepeatedEnumValue(message, &field, index);
      if (field.enum_type()->FindValueByNumber(number) == nullptr) {
        report(path, fmt::format("{} has no supported value {}", field.enum_type()->full_name(), number));
      }
    } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      const Message& sub =
          index < 0 ? reflection.GetMessage(message, &field) : reflection.GetRepeatedMessage(message, &field, index);
      if (field.message_type() == Any::descriptor()) {
        check_any(static_cast<const Any&>(sub), path, depth, is_optional(message));
      } else {
        check(sub, path, depth);
      }
    }
  }

  void check_map(const Message& message, const FieldDescriptor& field, const FieldPath& path, int depth) {
    const FieldDescriptor& key = *field.message_type()->map_key();
    const FieldDescriptor& value = *field.message_type()->map_value();
    const Reflection& reflection = *message.GetReflection();
    for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
      const Message& entry = reflection.GetRepeatedMessage(message, &field, i);
      std::string name;
      if (key.cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
        name = entry.GetReflection()->GetString(entry, &key);
      } else {
        name = std::to_string(i);
      }
      check_value(entry, value, -1, path.key(name), depth);
    }
  }

  void check_any(const Any& any, const FieldPath& path, int depth, bool optional) {
    const google::protobuf::UnknownFieldSet& unknown = any.GetReflection()->GetUnknownFields(any);
    for (int i = 0; i < unknown.field_count(); ++i) {
      report(path, fmt::format("google.protobuf.Any has no field number {}", unknown.field(i).number()));
    }
    if (any.type_url().empty()) {
      if (!any.value().empty()) faults_.add(path, "bytes without a type");
      return;
    }
    if (find_type(type_name(any)) == nullptr) {
      if (!optional) report(path, fmt::format("type {} is not supported", type_name(any)));
      return;
    }
    if (depth >= kMaxDepth) {
      faults_.add(path, fmt::format("messages nested deeper than {} levels", kMaxDepth));
      return;
    }
    if (std::unique_ptr<Message> inner = unpack(any, path, faults_)) check(*inner, path, depth + 1);
  }

  static bool is_optional(const Message& message) {
    const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName("is_optional");
    return field != nullptr && !field->is_repeated() && field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL &&
           message.GetReflection()->GetBool(message, field);
  }

  Faults& faults_;
  const UnknownFields mode_;
  size_t unknown_ = 0;
};

}  // namespace

size_t check_strict(const Message& message, const FieldPath& path, Faults& faults, UnknownFields mode) {
  Checker checker(faults, mode);
  checker.check(message, path, 0);
  return checker.unknown();
}

}  // namespace outrigger::config
