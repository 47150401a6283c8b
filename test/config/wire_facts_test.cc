// Our schemas against the facts of the real API: whatever we declare has the same number, type, label and oneof there.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace outrigger::config {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using google::protobuf::MethodDescriptor;
using google::protobuf::ServiceDescriptor;

// "NAME kind MEMBER" -> the rest of the row; a message has no member.
using Facts = std::map<std::string, std::string>;

Facts read_facts() {
  Facts facts;
  std::ifstream in(OUTRIGGER_SOURCE_DIR "/test/data/xds_facts.tsv");
  EXPECT_TRUE(in.is_open());
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::vector<std::string> cells;
    std::istringstream row(line);
    for (std::string cell; std::getline(row, cell, '\t');) cells.push_back(cell);
    std::string key = cells[0] + " " + cells[1];
    if (cells.size() > 2) key += " " + cells[2];
    std::string rest;
    for (size_t i = 3; i < cells.size(); ++i) rest += (i > 3 ? "\t" : "") + cells[i];
    facts[key] = rest;
  }
  return facts;
}

std::string type_of(const FieldDescriptor& field) {
  if (field.is_map()) {
    return "map<" + type_of(*field.message_type()->map_key()) + "," + type_of(*field.message_type()->map_value()) + ">";
  }
  if (field.message_type() != nullptr) return field.message_type()->full_name();
  if (field.enum_type() != nullptr) return field.enum_type()->full_name();
  return field.type_name();
}

// Everything that our schemas say, as rows of facts.
class Claims {
 public:
  void file(const FileDescriptor& file) {
    for (int i = 0; i < file.message_type_count(); ++i) message(*file.message_type(i));
    for (int i = 0; i < file.enum_type_count(); ++i) enumeration(*file.enum_type(i));
    for (int i = 0; i < file.service_count(); ++i) service(*file.service(i));
  }

  const Facts& rows() const { return rows_; }

 private:
  void message(const Descriptor& type) {
    if (type.options().map_entry()) return;
    rows_[type.full_name() + " message"] = "";
    for (int i = 0; i < type.field_count(); ++i) {
      const FieldDescriptor& field = *type.field(i);
      const std::string label = field.is_map() ? "map" : field.is_repeated() ? "repeated" : "single";
      const auto* oneof = field.real_containing_oneof();
      rows_[type.full_name() + " field " + field.name()] = std::to_string(field.number()) + "\t" + label + "\t" +
                                                           type_of(field) + "\t" +
                                                           (oneof == nullptr ? "-" : oneof->name());
    }
    for (int i = 0; i < type.nested_type_count(); ++i) message(*type.nested_type(i));
    for (int i = 0; i < type.enum_type_count(); ++i) enumeration(*type.enum_type(i));
  }

  void enumeration(const EnumDescriptor& type) {
    for (int i = 0; i < type.value_count(); ++i) {
      rows_[type.full_name() + " value " + type.value(i)->name()] = std::to_string(type.value(i)->number());
    }
  }

  void service(const ServiceDescriptor& type) {
    for (int i = 0; i < type.method_count(); ++i) {
      const MethodDescriptor& method = *type.method(i);
      rows_[type.full_name() + " method " + method.name()] = streamed(method.client_streaming(), *method.input_type()) +
                                                             "\t" +
                                                             streamed(method.server_streaming(), *method.output_type());
    }
  }

  static std::string streamed(bool stream, const Descriptor& type) {
    return stream ? "stream " + type.full_name() : type.full_name();
  }

  Facts rows_;
};

std::vector<std::string> foreign_protos() {
  const std::filesystem::path root = OUTRIGGER_SOURCE_DIR "/proto";
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    if (entry.path().extension() != ".proto") continue;
    const std::string name = entry.path().lexically_relative(root).string();
    if (!name.starts_with("outrigger/")) names.push_back(name);
  }
  return names;
}

// An Any finds its type by name: a schema that the linker dropped would be an unknown type.
TEST(WireFacts, EverySchemaIsLinkedIn) {
  const std::vector<std::string> names = foreign_protos();
  EXPECT_GE(names.size(), 30U);
  for (const std::string& name : names) {
    EXPECT_NE(DescriptorPool::generated_pool()->FindFileByName(name), nullptr) << name;
  }
}

TEST(WireFacts, EverySchemaAgreesWithTheFacts) {
  const Facts facts = read_facts();
  Claims claims;
  for (const std::string& name : foreign_protos()) {
    if (const FileDescriptor* file = DescriptorPool::generated_pool()->FindFileByName(name)) claims.file(*file);
  }
  EXPECT_GE(claims.rows().size(), 500U);
  for (const auto& [key, rest] : claims.rows()) {
    auto fact = facts.find(key);
    if (fact == facts.end()) {
      ADD_FAILURE() << key << " is not in test/data/xds_facts.tsv (a new message: run tools/xds_facts)";
    } else {
      EXPECT_EQ(rest, fact->second) << key;
    }
  }
}

// A message is at the path where Envoy has it: the package is the path's folder.
TEST(WireFacts, PathsFollowPackages) {
  for (const std::string& name : foreign_protos()) {
    const FileDescriptor* file = DescriptorPool::generated_pool()->FindFileByName(name);
    if (file == nullptr) continue;
    std::string folder = std::filesystem::path(name).parent_path().string();
    std::replace(folder.begin(), folder.end(), '/', '.');
    EXPECT_EQ(file->package(), folder) << name;
  }
}

}  // namespace
}  // namespace outrigger::config
