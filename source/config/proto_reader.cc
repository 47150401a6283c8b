#include "config/proto_reader.h"

#include <envoy/service/discovery/v3/discovery.pb.h>
#include <fmt/format.h>
#include <google/protobuf/any.pb.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/message.h>
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/timestamp.pb.h>
#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <unordered_map>

#include "config/any.h"
#include "config/scalars.h"

namespace outrigger::config {

namespace {

using google::protobuf::Any;
using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::OneofDescriptor;
using google::protobuf::Reflection;
using google::protobuf::util::TimeUtil;
using Node = YamlDocument::Node;
using NodeId = YamlDocument::NodeId;
using Kind = YamlDocument::Kind;

constexpr int kMaxDepth = YamlDocument::kMaxDepth;

std::string_view kind_name(const Node& node) {
  switch (node.kind) {
    case Kind::kNull:
      return "null";
    case Kind::kScalar:
      return "a scalar";
    case Kind::kSequence:
      return "a list";
    case Kind::kMapping:
      return "a mapping";
  }
  return "";
}

std::string quoted(std::string_view text) {
  constexpr size_t kShown = 60;
  if (text.size() <= kShown) return fmt::format("\"{}\"", text);
  size_t cut = kShown;
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xc0) == 0x80) --cut;
  return fmt::format("\"{}...\"", text.substr(0, cut));
}

std::string suggestion(std::string_view word, const std::vector<std::string_view>& candidates) {
  const std::string_view near = nearest(word, candidates);
  return near.empty() ? std::string() : fmt::format("; did you mean {}?", near);
}

bool is_wrapper(const Descriptor& type) {
  return type.well_known_type() >= Descriptor::WELLKNOWNTYPE_DOUBLEVALUE &&
         type.well_known_type() <= Descriptor::WELLKNOWNTYPE_BOOLVALUE;
}

// Where a scalar goes: a field of a message, set or added to.
struct Slot {
  Message& message;
  const FieldDescriptor& field;

  template <class Set, class Add, class Value>
  void put(Set set, Add add, Value value) const {
    const Reflection& reflection = *message.GetReflection();
    if (field.is_repeated()) {
      (reflection.*add)(&message, &field, value);
    } else {
      (reflection.*set)(&message, &field, value);
    }
  }

  Message& sub() const {
    const Reflection& reflection = *message.GetReflection();
    return field.is_repeated() ? *reflection.AddMessage(&message, &field)
                               : *reflection.MutableMessage(&message, &field);
  }
};

class Reader {
 public:
  Reader(const YamlDocument& document, UnknownFields mode, Faults& faults)
      : document_(document), mode_(mode), faults_(&faults) {}

  void set_faults(Faults& faults) {
    faults_ = &faults;
    errors_ = 0;
    reported_ = 0;
  }

  // Says how many faults were left out. True: no errors since the start or the last set_faults().
  bool finish() {
    if (reported_ > kMaxReadFaults) {
      std::string message = fmt::format("{} more faults", reported_ - kMaxReadFaults);
      if (errors_ > 0) {
        faults_->add_at({}, std::move(message));
      } else {
        faults_->warn(FieldPath(), std::move(message));
      }
      faults_->all().back().file = document_.file();
    }
    return errors_ == 0;
  }

  // The fields of `message` from a mapping; `skip`: a key that is the caller's ("@type").
  void fields(NodeId id, Message& message, const FieldPath& path, int depth, std::string_view skip = {}) {
    const Node& node = document_.node(id);
    if (node.kind != Kind::kMapping) {
      return fault(
          node, path,
          fmt::format("expected a mapping ({}), got {}", message.GetDescriptor()->full_name(), kind_name(node)));
    }
    if (!enter(node, path, depth)) return;
    const std::vector<YamlDocument::Entry> entries = entries_of(id, path);
    const bool optional = says_optional(entries, *message.GetDescriptor());
    Seen seen;
    for (const YamlDocument::Entry& entry : entries) {
      if (stopped_) return;
      const Node& key = document_.node(entry.key);
      if (key.kind != Kind::kScalar) {
        fault(key, path, fmt::format("a field name is expected, got {}", kind_name(key)));
        continue;
      }
      if (!skip.empty() && key.text == skip) continue;
      const FieldDescriptor* field = find_field(*message.GetDescriptor(), key.text);
      if (field == nullptr) {
        unknown_field(key, *message.GetDescriptor(), path);
      } else if (claim(entry, *field, path, seen)) {
        read_field(entry.value, message, *field, path.field(field->name()), depth, optional);
      }
    }
  }

  bool stopped() const { return stopped_; }

  std::vector<YamlDocument::Entry> entries_of(NodeId id, const FieldPath& path) {
    const Node* bad_merge = nullptr;
    std::vector<YamlDocument::Entry> entries = document_.entries(id, visited_, &bad_merge);
    if (bad_merge != nullptr) fault(*bad_merge, path, "a merge key takes a mapping or a list of mappings");
    if (visited_ > YamlDocument::kMaxNodes) stop(document_.node(id), path);
    return entries;
  }

  // A message of any type, well-known ones included. `optional`: if it is an Any, its type may be unknown.
  void value(NodeId id, Message& message, const FieldPath& path, int depth, bool optional = false) {
    const Node& node = document_.node(id);
    const Descriptor& type = *message.GetDescriptor();
    if (is_wrapper(type)) return scalar(node, Slot{message, *type.field(0)}, path);
    switch (type.well_known_type()) {
      case Descriptor::WELLKNOWNTYPE_ANY:
        return any(id, static_cast<Any&>(message), path, depth, optional);
      case Descriptor::WELLKNOWNTYPE_DURATION:
        return duration(id, static_cast<google::protobuf::Duration&>(message), path, depth);
      case Descriptor::WELLKNOWNTYPE_TIMESTAMP:
        return timestamp(id, static_cast<google::protobuf::Timestamp&>(message), path, depth);
      case Descriptor::WELLKNOWNTYPE_STRUCT:
        return structure(id, static_cast<google::protobuf::Struct&>(message), path, depth);
      case Descriptor::WELLKNOWNTYPE_VALUE:
        return free_value(id, static_cast<google::protobuf::Value&>(message), path, depth);
      case Descriptor::WELLKNOWNTYPE_LISTVALUE:
        return list(id, static_cast<google::protobuf::ListValue&>(message), path, depth);
      default:
        return fields(id, message, path, depth);
    }
  }

  void fault(const Node& node, const FieldPath& path, std::string message) {
    ++errors_;
    if (++reported_ > kMaxReadFaults) return;
    faults_->add(path, std::move(message));
    place(node);
  }

  void unknown(const Node& node, const FieldPath& path, std::string message) {
    if (mode_ == UnknownFields::kError) return fault(node, path, std::move(message));
    if (++reported_ > kMaxReadFaults) return;
    faults_->warn(path, std::move(message));
    place(node);
  }

 private:
  // Which fields and oneofs of a message are taken, and where.
  struct Seen {
    struct Taken {
      const FieldDescriptor* field;
      int line;
    };
    std::unordered_map<const void*, Taken> taken;
  };

  void place(const Node& node) {
    faults_->all().back().file = document_.file();
    faults_->all().back().line = node.line;
  }

  void stop(const Node& node, const FieldPath& path) {
    if (stopped_) return;
    stopped_ = true;
    fault(node, path, fmt::format("aliases make this file larger than {} nodes", YamlDocument::kMaxNodes));
  }

  // Bounds depth (aliases can make a file deeper than it is written) and work.
  bool enter(const Node& node, const FieldPath& path, int depth) {
    if (stopped_) return false;
    if (depth > kMaxDepth) {
      fault(node, path, fmt::format("nested deeper than {} levels", kMaxDepth));
      return false;
    }
    if (++visited_ > YamlDocument::kMaxNodes) {
      stop(node, path);
      return false;
    }
    return true;
  }

  static const FieldDescriptor* find_field(const Descriptor& type, const std::string& name) {
    const FieldDescriptor* field = type.FindFieldByName(name);
    return field != nullptr ? field : type.FindFieldByCamelcaseName(name);
  }

  void unknown_field(const Node& key, const Descriptor& type, const FieldPath& path) {
    std::vector<std::string_view> names;
    for (int i = 0; i < type.field_count(); ++i) names.push_back(type.field(i)->name());
    unknown(key, path.field(key.text),
            fmt::format("{} has no supported field of this name{}", type.full_name(), suggestion(key.text, names)));
  }

  // False with a fault if the field was given already, or another member of its oneof. What a merge key brings in gives
  // way to the mapping's own fields. Null is no value.
  bool claim(const YamlDocument::Entry& entry, const FieldDescriptor& field, const FieldPath& path, Seen& seen) {
    const Node& key = document_.node(entry.key);
    const bool null = document_.node(entry.value).kind == Kind::kNull;
    auto [same, fresh] = seen.taken.try_emplace(&field, Seen::Taken{&field, key.line});
    if (!fresh) {
      if (!entry.merged) {
        fault(key, path.field(field.name()), fmt::format("given twice, first on line {}", same->second.line));
      }
      return false;
    }
    const OneofDescriptor* oneof = field.real_containing_oneof();
    if (oneof == nullptr || (null && !takes_null(field))) return true;
    auto [other, first] = seen.taken.try_emplace(oneof, Seen::Taken{&field, key.line});
    if (first) return true;
    fault(key, path.field(field.name()),
          fmt::format("{} is given already (line {}); only one of \"{}\" may be", other->second.field->name(),
                      other->second.line, oneof->name()));
    return false;
  }

  static bool takes_null(const FieldDescriptor& field) {
    return field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
           field.message_type()->well_known_type() == Descriptor::WELLKNOWNTYPE_VALUE;
  }

  // `is_optional: true` beside an Any allows its type to be unknown.
  bool says_optional(const std::vector<YamlDocument::Entry>& entries, const Descriptor& type) const {
    const FieldDescriptor* field = type.FindFieldByName("is_optional");
    if (field == nullptr) return false;
    for (const YamlDocument::Entry& entry : entries) {
      const Node& key = document_.node(entry.key);
      if (key.kind != Kind::kScalar || find_field(type, key.text) != field) continue;
      const Node& node = document_.node(entry.value);
      return node.kind == Kind::kScalar && parse_bool(node.text, node.plain).value_or(false);
    }
    return false;
  }

  void read_field(NodeId id, Message& message, const FieldDescriptor& field, const FieldPath& path, int depth,
                  bool optional) {
    const Node& node = document_.node(id);
    if (node.kind == Kind::kNull && !takes_null(field)) return;
    if (field.is_map()) return map(id, message, field, path, depth);
    if (!field.is_repeated()) return element(id, Slot{message, field}, path, depth, optional);
    if (node.kind != Kind::kSequence) return element(id, Slot{message, field}, path.index(0), depth, optional);
    for (size_t i = 0; i < node.children.size() && !stopped_; ++i) {
      element(node.children[i], Slot{message, field}, path.index(i), depth, optional);
    }
  }

  // One value: of a single field, or to be added to a repeated one.
  void element(NodeId id, const Slot& slot, const FieldPath& path, int depth, bool optional) {
    const Node& node = document_.node(id);
    if (node.kind == Kind::kNull && !takes_null(slot.field)) {
      return fault(node, path, "null is not a value of a list or a map");
    }
    if (slot.field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      value(id, slot.sub(), path, depth + 1, optional);
    } else {
      scalar(node, slot, path);
    }
  }

  void map(NodeId id, Message& message, const FieldDescriptor& field, const FieldPath& path, int depth) {
    const Node& node = document_.node(id);
    if (node.kind != Kind::kMapping) {
      return fault(node, path, fmt::format("expected a mapping, got {}", kind_name(node)));
    }
    if (!enter(node, path, depth)) return;
    const FieldDescriptor& key_field = *field.message_type()->map_key();
    const FieldDescriptor& value_field = *field.message_type()->map_value();
    std::unordered_map<std::string_view, int> lines;
    for (const YamlDocument::Entry& entry : entries_of(id, path)) {
      if (stopped_) return;
      const Node& key = document_.node(entry.key);
      if (!fresh_key(key, path, lines)) continue;
      const FieldPath at = path.key(key.text);
      Message& pair = *message.GetReflection()->AddMessage(&message, &field);
      scalar(key, Slot{pair, key_field}, at);
      element(entry.value, Slot{pair, value_field}, at, depth, false);
    }
  }

  bool fresh_key(const Node& key, const FieldPath& path, std::unordered_map<std::string_view, int>& lines) {
    if (key.kind != Kind::kScalar) {
      fault(key, path, fmt::format("a key is expected, got {}", kind_name(key)));
      return false;
    }
    auto [it, fresh] = lines.try_emplace(key.text, key.line);
    if (!fresh) fault(key, path.key(key.text), fmt::format("given twice, first on line {}", it->second));
    return fresh;
  }

  void scalar(const Node& node, const Slot& slot, const FieldPath& path) {
    if (!enter(node, path, 0)) return;
    if (node.kind != Kind::kScalar) {
      return fault(node, path, fmt::format("expected {}, got {}", wanted(slot.field), kind_name(node)));
    }
    switch (slot.field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING:
        return text(node, slot, path);
      case FieldDescriptor::CPPTYPE_ENUM:
        return enumerator(node, slot, path);
      case FieldDescriptor::CPPTYPE_INT32:
        return integer<int32_t>(node, slot, path, &Reflection::SetInt32, &Reflection::AddInt32);
      case FieldDescriptor::CPPTYPE_UINT32:
        return integer<uint32_t>(node, slot, path, &Reflection::SetUInt32, &Reflection::AddUInt32);
      case FieldDescriptor::CPPTYPE_INT64:
        return integer<int64_t>(node, slot, path, &Reflection::SetInt64, &Reflection::AddInt64);
      case FieldDescriptor::CPPTYPE_UINT64:
        return integer<uint64_t>(node, slot, path, &Reflection::SetUInt64, &Reflection::AddUInt64);
      case FieldDescriptor::CPPTYPE_DOUBLE:
      case FieldDescriptor::CPPTYPE_FLOAT:
        return real(node, slot, path);
      case FieldDescriptor::CPPTYPE_BOOL: {
        const std::optional<bool> b = parse_bool(node.text, node.plain);
        if (!b) return mismatch(node, slot.field, path);
        return slot.put(&Reflection::SetBool, &Reflection::AddBool, *b);
      }
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return;  // element() and value() take these
    }
  }

  static std::string_view wanted(const FieldDescriptor& field) {
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING:
        return field.type() == FieldDescriptor::TYPE_BYTES ? "base64" : "a string";
      case FieldDescriptor::CPPTYPE_ENUM:
        return "an enum value";
      case FieldDescriptor::CPPTYPE_BOOL:
        return "true or false";
      case FieldDescriptor::CPPTYPE_DOUBLE:
      case FieldDescriptor::CPPTYPE_FLOAT:
        return "a number";
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return "a mapping";
      default:
        return "an integer";
    }
  }

  void mismatch(const Node& node, const FieldDescriptor& field, const FieldPath& path) {
    fault(node, path, fmt::format("expected {}, got {}", wanted(field), quoted(node.text)));
  }

  void text(const Node& node, const Slot& slot, const FieldPath& path) {
    std::string out = node.text;
    if (slot.field.type() == FieldDescriptor::TYPE_BYTES) {
      std::optional<std::string> bytes = parse_base64(node.text);
      if (!bytes) return fault(node, path, "not valid base64");  // may be a secret, so it is not shown
      out = std::move(*bytes);
    }
    if (slot.field.is_repeated()) {
      slot.message.GetReflection()->AddString(&slot.message, &slot.field, std::move(out));
    } else {
      slot.message.GetReflection()->SetString(&slot.message, &slot.field, std::move(out));
    }
  }

  template <class Int, class Set, class Add>
  void integer(const Node& node, const Slot& slot, const FieldPath& path, Set set, Add add) {
    const ParsedInt parsed = parse_int(node.text, node.plain);
    if (parsed.error == IntError::kNotANumber) return mismatch(node, slot.field, path);
    constexpr auto kMax = static_cast<uint64_t>(std::numeric_limits<Int>::max());
    constexpr uint64_t kMaxNegative = std::numeric_limits<Int>::is_signed ? kMax + 1 : 0;
    if (parsed.error || parsed.magnitude > (parsed.negative ? kMaxNegative : kMax)) {
      return fault(node, path,
                   fmt::format("{} is out of range ({} to {})", quoted(node.text), std::numeric_limits<Int>::min(),
                               std::numeric_limits<Int>::max()));
    }
    slot.put(set, add, static_cast<Int>(parsed.negative ? 0 - parsed.magnitude : parsed.magnitude));
  }

  void real(const Node& node, const Slot& slot, const FieldPath& path) {
    const std::optional<double> parsed = parse_double(node.text);
    if (!parsed) return mismatch(node, slot.field, path);
    if (slot.field.cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
      return slot.put(&Reflection::SetDouble, &Reflection::AddDouble, *parsed);
    }
    if (std::isfinite(*parsed) && std::fabs(*parsed) > std::numeric_limits<float>::max()) {
      return fault(node, path, fmt::format("{} is out of range", quoted(node.text)));
    }
    slot.put(&Reflection::SetFloat, &Reflection::AddFloat, static_cast<float>(*parsed));
  }

  void enumerator(const Node& node, const Slot& slot, const FieldPath& path) {
    const EnumDescriptor& type = *slot.field.enum_type();
    const EnumValueDescriptor* found = type.FindValueByName(node.text);
    if (found == nullptr) {
      const ParsedInt number = parse_int(node.text, node.plain);
      const uint64_t limit = std::numeric_limits<int32_t>::max();
      if (!number.error && number.magnitude <= limit) {
        const auto value = static_cast<int>(number.magnitude);
        found = type.FindValueByNumber(number.negative ? -value : value);
      }
    }
    if (found != nullptr) return slot.put(&Reflection::SetEnumValue, &Reflection::AddEnumValue, found->number());
    std::vector<std::string_view> names;
    std::string all;
    for (int i = 0; i < type.value_count(); ++i) {
      names.push_back(type.value(i)->name());
      if (i < 12) all += (i > 0 ? ", " : "") + type.value(i)->name();
    }
    if (type.value_count() > 12) all += ", ...";
    std::string hint = suggestion(node.text, names);
    if (hint.empty()) hint = fmt::format("; there are {}", all);
    fault(node, path, fmt::format("{} has no supported value {}{}", type.full_name(), quoted(node.text), hint));
  }

  void duration(NodeId id, google::protobuf::Duration& out, const FieldPath& path, int depth) {
    const Node& node = document_.node(id);
    if (node.kind != Kind::kScalar) {
      fields(id, out, path, depth);
      if (!valid_duration(out.seconds(), out.nanos()))
        fault(node, path, "not a duration: seconds or nanos are out of range");
      return;
    }
    const std::optional<ParsedDuration> parsed = parse_duration(node.text);
    if (!parsed) {
      return fault(node, path,
                   fmt::format("{} is not a duration; write seconds, such as 300s or 0.25s", quoted(node.text)));
    }
    out.set_seconds(parsed->seconds);
    out.set_nanos(parsed->nanos);
  }

  void timestamp(NodeId id, google::protobuf::Timestamp& out, const FieldPath& path, int depth) {
    const Node& node = document_.node(id);
    if (node.kind != Kind::kScalar) {
      fields(id, out, path, depth);
      if (!valid_timestamp(out.seconds(), out.nanos()))
        fault(node, path, "not a time: seconds or nanos are out of range");
    } else if (!TimeUtil::FromString(node.text, &out)) {
      fault(node, path, fmt::format("{} is not a time; write 2025-01-31T13:45:00Z", quoted(node.text)));
    }
  }

  void structure(NodeId id, google::protobuf::Struct& out, const FieldPath& path, int depth) {
    const Node& node = document_.node(id);
    if (node.kind != Kind::kMapping) {
      return fault(node, path, fmt::format("expected a mapping, got {}", kind_name(node)));
    }
    if (!enter(node, path, depth)) return;
    std::unordered_map<std::string_view, int> lines;
    for (const YamlDocument::Entry& entry : entries_of(id, path)) {
      if (stopped_) return;
      const Node& key = document_.node(entry.key);
      if (!fresh_key(key, path, lines)) continue;
      free_value(entry.value, (*out.mutable_fields())[key.text], path.field(key.text), depth + 1);
    }
  }

  void list(NodeId id, google::protobuf::ListValue& out, const FieldPath& path, int depth) {
    const Node& node = document_.node(id);
    if (!enter(node, path, depth)) return;
    if (node.kind != Kind::kSequence) return free_value(id, *out.add_values(), path.index(0), depth + 1);
    for (size_t i = 0; i < node.children.size() && !stopped_; ++i) {
      free_value(node.children[i], *out.add_values(), path.index(i), depth + 1);
    }
  }

  // Plain scalars by YAML 1.2's core schema.
  void free_value(NodeId id, google::protobuf::Value& out, const FieldPath& path, int depth) {
    const Node& node = document_.node(id);
    switch (node.kind) {
      case Kind::kNull:
        out.set_null_value(google::protobuf::NULL_VALUE);
        return;
      case Kind::kMapping:
        return structure(id, *out.mutable_struct_value(), path, depth);
      case Kind::kSequence:
        return list(id, *out.mutable_list_value(), path, depth);
      case Kind::kScalar:
        break;
    }
    if (!enter(node, path, depth)) return;
    if (node.plain) {
      const std::string& s = node.text;
      if (s == "true" || s == "True" || s == "TRUE") return out.set_bool_value(true);
      if (s == "false" || s == "False" || s == "FALSE") return out.set_bool_value(false);
      // JSON has no infinities, so ".inf" stays a text.
      const std::optional<double> number = parse_double(s);
      if (number && std::isfinite(*number)) return out.set_number_value(*number);
      if (const ParsedInt hex = parse_int(s, true); !hex.error) {
        const auto magnitude = static_cast<double>(hex.magnitude);
        return out.set_number_value(hex.negative ? -magnitude : magnitude);
      }
    }
    out.set_string_value(node.text);
  }

  // The value of "@type" in a mapping; empty with a fault if there is none.
  std::string_view any_type(NodeId id, const std::vector<YamlDocument::Entry>& entries, const FieldPath& path) {
    for (const YamlDocument::Entry& entry : entries) {
      if (document_.node(entry.key).text != "@type") continue;
      const Node& type = document_.node(entry.value);
      if (type.kind == Kind::kScalar && !type.text.empty()) return type.text;
      fault(type, path, "\"@type\" names a message type, such as type.googleapis.com/envoy.config.cluster.v3.Cluster");
      return {};
    }
    fault(document_.node(id), path, "\"@type\" is missing; it names the message's type");
    return {};
  }

  void any(NodeId id, Any& out, const FieldPath& path, int depth, bool optional) {
    const Node& node = document_.node(id);
    if (node.kind != Kind::kMapping) {
      return fault(node, path, fmt::format("expected a mapping with \"@type\", got {}", kind_name(node)));
    }
    if (!enter(node, path, depth)) return;
    const std::vector<YamlDocument::Entry> entries = entries_of(id, path);
    const std::string_view url = any_type(id, entries, path);
    if (url.empty()) return;
    const Descriptor* type = find_type(type_name(url));
    if (type == nullptr) {
      // Kept by name only: whoever reads on skips it (optional) or refuses it.
      out.set_type_url("type.googleapis.com/" + std::string(type_name(url)));
      if (!optional) unknown(node, path, fmt::format("type {} is not supported", type_name(url)));
      return;
    }
    std::unique_ptr<Message> message(google::protobuf::MessageFactory::generated_factory()->GetPrototype(type)->New());
    if (type->well_known_type() == Descriptor::WELLKNOWNTYPE_UNSPECIFIED) {
      fields(id, *message, path, depth + 1, "@type");
    } else {
      well_known_in_any(entries, *message, path, depth + 1);
    }
    pack(*message, out);
  }

  void well_known_in_any(const std::vector<YamlDocument::Entry>& entries, Message& message, const FieldPath& path,
                         int depth) {
    for (const YamlDocument::Entry& entry : entries) {
      const Node& key = document_.node(entry.key);
      if (key.text == "value") {
        value(entry.value, message, path.field("value"), depth);
      } else if (key.text != "@type") {
        unknown(key, path.field(key.text),
                fmt::format("a {} inside an Any stands under \"value\"", message.GetDescriptor()->full_name()));
      }
    }
  }

  const YamlDocument& document_;
  const UnknownFields mode_;
  Faults* faults_;
  size_t visited_ = 0;
  size_t errors_ = 0;
  size_t reported_ = 0;  // errors and warnings, those beyond kMaxReadFaults too
  bool stopped_ = false;
};

}  // namespace

bool read_message(const YamlDocument& document, Message& out, Faults& faults, UnknownFields mode) {
  Reader reader(document, mode, faults);
  reader.value(document.root(), out, FieldPath(), 0);
  return reader.finish();
}

bool read_yaml(std::string_view text, std::string_view file, Message& out, Faults& faults, UnknownFields mode) {
  YamlDocument document;
  return document.parse(text, file, faults) && read_message(document, out, faults, mode);
}

namespace {

// The resources of a DiscoveryResponse; what else it holds is read into `version_info` and `reader`'s faults.
std::vector<NodeId> response_items(const YamlDocument& document, Reader& reader, std::string& version_info) {
  envoy::service::discovery::v3::DiscoveryResponse response;
  reader.fields(document.root(), response, FieldPath(), 0, "resources");
  version_info = response.version_info();
  const Node* resources = nullptr;
  std::vector<NodeId> items;
  for (const YamlDocument::Entry& entry : reader.entries_of(document.root(), FieldPath())) {
    const Node& key = document.node(entry.key);
    if (key.kind != Kind::kScalar || key.text != "resources") continue;
    if (resources != nullptr) {
      reader.fault(key, FieldPath("resources"), fmt::format("given twice, first on line {}", resources->line));
      continue;
    }
    resources = &key;
    const Node& value = document.node(entry.value);
    if (value.kind == Kind::kSequence) {
      items = value.children;
    } else if (value.kind != Kind::kNull) {
      items.push_back(entry.value);
    }
  }
  return items;
}

bool has_type(const YamlDocument& document) {
  size_t visited = 0;
  const std::vector<YamlDocument::Entry> entries = document.entries(document.root(), visited);
  return std::any_of(entries.begin(), entries.end(),
                     [&](const YamlDocument::Entry& entry) { return document.node(entry.key).text == "@type"; });
}

}  // namespace

std::vector<ReadResource> read_resources(const YamlDocument& document, std::string& version_info, Faults& file_faults,
                                         UnknownFields mode) {
  Reader reader(document, mode, file_faults);
  const Node& root = document.node(document.root());
  const bool list = root.kind == Kind::kSequence;
  const bool single = !list && has_type(document);
  std::vector<NodeId> items;
  if (list) {
    items = root.children;
  } else if (single) {
    items = {document.root()};
  } else {
    items = response_items(document, reader, version_info);
  }
  reader.finish();

  if (reader.stopped()) return {};
  std::vector<ReadResource> out(items.size());
  const FieldPath top;
  const FieldPath resources("resources");
  for (size_t i = 0; i < items.size() && !reader.stopped(); ++i) {
    const FieldPath path = single ? top : (list ? top : resources).index(i);
    out[i].path = path.str();
    out[i].line = document.node(items[i]).line;
    reader.set_faults(out[i].faults);
    Any any;
    reader.value(items[i], any, path, 1);
    reader.finish();
    out[i].type_url = any.type_url();
    out[i].bytes = any.value();
  }
  if (!reader.stopped()) return out;
  reader.set_faults(file_faults);
  reader.fault(root, resources, fmt::format("aliases make this file larger than {} nodes", YamlDocument::kMaxNodes));
  return {};
}

}  // namespace outrigger::config
