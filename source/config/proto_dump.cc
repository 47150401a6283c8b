#include "config/proto_dump.h"

#include <fmt/format.h>
#include <google/protobuf/any.pb.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/message.h>
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/timestamp.pb.h>
#include <google/protobuf/util/time_util.h>
#include <google/protobuf/wrappers.pb.h>

#include <cmath>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

#include "config/any.h"
#include "config/scalars.h"
#include "config/sensitive.h"

namespace outrigger::config {

namespace {

using google::protobuf::Any;
using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr int kMaxAnyDepth = 32;  // as check_strict; deeper ones are shown as bytes

std::string base64(std::string_view bytes) {
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j) {
      group = group << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0U);
    }
    for (size_t j = 0; j < 4; ++j) {
      out += i + j > bytes.size() ? '=' : kAlphabet[group >> (18 - 6 * j) & 63];
    }
  }
  return out;
}

class Printer {
 public:
  std::string take() { return std::move(out_); }

  void message(const Message& message) {
    if (well_known(message)) return;
    open('{');
    fields(message);
    close('}');
  }

 private:
  void fields(const Message& message) {
    const Reflection& reflection = *message.GetReflection();
    std::vector<const FieldDescriptor*> set;
    reflection.ListFields(message, &set);
    for (const FieldDescriptor* field : set) {
      name(field->name());
      if (field->is_map()) {
        map(message, *field);
      } else if (field->is_repeated()) {
        open('[');
        for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
          element();
          value(message, *field, i);
        }
        close(']');
      } else {
        value(message, *field, -1);
      }
    }
  }

  void map(const Message& message, const FieldDescriptor& field) {
    const Reflection& reflection = *message.GetReflection();
    std::map<std::string, const Message*> sorted;
    const FieldDescriptor& key = *field.message_type()->map_key();
    for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
      const Message& entry = reflection.GetRepeatedMessage(message, &field, i);
      std::string text;
      if (key.cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
        text = entry.GetReflection()->GetString(entry, &key);
      } else {
        Printer printer;
        printer.value(entry, key, -1);
        text = printer.take();
      }
      sorted[text] = &entry;
    }
    open('{');
    for (const auto& [text, entry] : sorted) {
      name(text);
      value(*entry, *field.message_type()->map_value(), -1);
    }
    close('}');
  }

  void value(const Message& message, const FieldDescriptor& field, int index) {
    const Reflection& r = *message.GetReflection();
    const bool one = index < 0;
    if (is_sensitive(field)) return text(kRedacted);
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32:
        return raw(fmt::format("{}", one ? r.GetInt32(message, &field) : r.GetRepeatedInt32(message, &field, index)));
      case FieldDescriptor::CPPTYPE_UINT32:
        return raw(fmt::format("{}", one ? r.GetUInt32(message, &field) : r.GetRepeatedUInt32(message, &field, index)));
      case FieldDescriptor::CPPTYPE_INT64:  // JSON numbers are doubles, so 64 bits are written as text
        return raw(
            fmt::format("\"{}\"", one ? r.GetInt64(message, &field) : r.GetRepeatedInt64(message, &field, index)));
      case FieldDescriptor::CPPTYPE_UINT64:
        return raw(
            fmt::format("\"{}\"", one ? r.GetUInt64(message, &field) : r.GetRepeatedUInt64(message, &field, index)));
      case FieldDescriptor::CPPTYPE_DOUBLE:
        return number(one ? r.GetDouble(message, &field) : r.GetRepeatedDouble(message, &field, index));
      case FieldDescriptor::CPPTYPE_FLOAT:
        return number(one ? r.GetFloat(message, &field) : r.GetRepeatedFloat(message, &field, index));
      case FieldDescriptor::CPPTYPE_BOOL:
        return raw((one ? r.GetBool(message, &field) : r.GetRepeatedBool(message, &field, index)) ? "true" : "false");
      case FieldDescriptor::CPPTYPE_ENUM: {
        const int v = one ? r.GetEnumValue(message, &field) : r.GetRepeatedEnumValue(message, &field, index);
        const google::protobuf::EnumValueDescriptor* known = field.enum_type()->FindValueByNumber(v);
        return known == nullptr ? raw(fmt::format("{}", v)) : text(known->name());
      }
      case FieldDescriptor::CPPTYPE_STRING: {
        const std::string v = one ? r.GetString(message, &field) : r.GetRepeatedString(message, &field, index);
        return text(field.type() == FieldDescriptor::TYPE_BYTES ? base64(v) : v);
      }
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return this->message(one ? r.GetMessage(message, &field) : r.GetRepeatedMessage(message, &field, index));
    }
  }

  bool well_known(const Message& message) {
    const Descriptor* type = message.GetDescriptor();
    switch (type->well_known_type()) {
      case Descriptor::WELLKNOWNTYPE_ANY:
        any(static_cast<const Any&>(message));
        return true;
      case Descriptor::WELLKNOWNTYPE_DURATION: {
        const auto& duration = static_cast<const google::protobuf::Duration&>(message);
        text(valid_duration(duration.seconds(), duration.nanos())
                 ? google::protobuf::util::TimeUtil::ToString(duration)
                 : fmt::format("{}s {}ns", duration.seconds(), duration.nanos()));
        return true;
      }
      case Descriptor::WELLKNOWNTYPE_TIMESTAMP: {
        const auto& time = static_cast<const google::protobuf::Timestamp&>(message);
        text(valid_timestamp(time.seconds(), time.nanos()) ? google::protobuf::util::TimeUtil::ToString(time)
                                                           : fmt::format("{}s {}ns", time.seconds(), time.nanos()));
        return true;
      }
      case Descriptor::WELLKNOWNTYPE_DOUBLEVALUE:
      case Descriptor::WELLKNOWNTYPE_FLOATVALUE:
      case Descriptor::WELLKNOWNTYPE_INT64VALUE:
      case Descriptor::WELLKNOWNTYPE_UINT64VALUE:
      case Descriptor::WELLKNOWNTYPE_INT32VALUE:
      case Descriptor::WELLKNOWNTYPE_UINT32VALUE:
      case Descriptor::WELLKNOWNTYPE_STRINGVALUE:
      case Descriptor::WELLKNOWNTYPE_BYTESVALUE:
      case Descriptor::WELLKNOWNTYPE_BOOLVALUE:
        value(message, *type->field(0), -1);
        return true;
      case Descriptor::WELLKNOWNTYPE_STRUCT:
        map(message, *type->field(0));
        return true;
      case Descriptor::WELLKNOWNTYPE_LISTVALUE:
        open('[');
        for (const auto& item : static_cast<const google::protobuf::ListValue&>(message).values()) {
          element();
          this->message(item);
        }
        close(']');
        return true;
      case Descriptor::WELLKNOWNTYPE_VALUE: {
        std::vector<const FieldDescriptor*> set;
        message.GetReflection()->ListFields(message, &set);
        if (set.empty() || set[0]->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
          raw("null");
        } else {
          value(message, *set[0], -1);
        }
        return true;
      }
      default:
        return false;
    }
  }

  void any(const Any& any) {
    Faults ignored;
    std::unique_ptr<Message> inner;
    if (any_depth_ < kMaxAnyDepth) inner = unpack(any, FieldPath(), ignored);
    ++any_depth_;
    open('{');
    if (!any.type_url().empty()) {
      name("@type");
      text(any.type_url());
    }
    if (inner == nullptr) {
      if (!any.value().empty()) {
        name("value");
        text(base64(any.value()));
      }
    } else if (inner->GetDescriptor()->well_known_type() != Descriptor::WELLKNOWNTYPE_UNSPECIFIED) {
      name("value");
      message(*inner);
    } else {
      fields(*inner);
    }
    close('}');
    --any_depth_;
  }

  void number(double v) {
    if (std::isnan(v)) return text("NaN");
    if (std::isinf(v)) return text(v > 0 ? "Infinity" : "-Infinity");
    raw(fmt::format("{}", v));
  }

  void text(std::string_view s) {
    out_ += '"';
    for (char c : s) {
      switch (c) {
        case '"':
          out_ += "\\\"";
          break;
        case '\\':
          out_ += "\\\\";
          break;
        case '\n':
          out_ += "\\n";
          break;
        case '\r':
          out_ += "\\r";
          break;
        case '\t':
          out_ += "\\t";
          break;
        default:
          if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
            out_ += fmt::format("\\u{:04x}", static_cast<int>(c));
          } else {
            out_ += c;
          }
      }
    }
    out_ += '"';
  }

  void raw(std::string_view s) { out_ += s; }

  void open(char bracket) {
    out_ += bracket;
    ++depth_;
    empty_ = true;
  }

  void close(char bracket) {
    --depth_;
    if (!empty_) new_line();
    out_ += bracket;
    empty_ = false;
  }

  void element() {
    if (!empty_) out_ += ',';
    new_line();
    empty_ = false;
  }

  void name(std::string_view s) {
    element();
    text(s);
    out_ += ": ";
  }

  void new_line() {
    out_ += '\n';
    out_.append(static_cast<size_t>(depth_) * 2, ' ');
  }

  std::string out_;
  int depth_ = 0;
  int any_depth_ = 0;
  bool empty_ = true;
};

}  // namespace

std::string deterministic_bytes(const Message& message) {
  std::string out(message.ByteSizeLong(), '\0');  // exactly: many are kept
  google::protobuf::io::ArrayOutputStream stream(out.data(), static_cast<int>(out.size()));
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializePartialToCodedStream(&coded);
  coded.Trim();
  return out;
}

std::string to_json(const Message& message) {
  Printer printer;
  printer.message(message);
  return printer.take();
}

}  // namespace outrigger::config
