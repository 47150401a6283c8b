// Nothing is dropped in silence: every field of every xDS message that we have is either honoured, or listed as without
// effect, or refused; and the document that says so is current.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <set>

#include "config/ignored_fields.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb.h"
#include "envoy/config/route/v3/route_components.pb.h"

namespace outrigger::config {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::FileDescriptor;

// Messages of HTTP filters are the filters' own business; so are those that only they use.
bool filter_owned(const std::string& name) {
  for (const std::string_view prefix : {"envoy.extensions.common.ratelimit.", "envoy.type.v3.TokenBucket",
                                        "envoy.type.v3.HttpStatus", "envoy.config.core.v3.GrpcMethodList"}) {
    if (name.starts_with(prefix)) return true;
  }
  return name.starts_with("envoy.extensions.filters.http.") &&
         !name.starts_with("envoy.extensions.filters.http.router.");
}

void visit(const Descriptor& message, const std::function<void(const Descriptor&)>& f) {
  if (message.options().map_entry()) return;
  f(message);
  for (int i = 0; i < message.nested_type_count(); ++i) visit(*message.nested_type(i), f);
}

// "envoy/config/core/v3/base.proto" and so on: every schema in the tree.
std::set<std::string> proto_files() {
  std::set<std::string> files;
  const std::filesystem::path root = std::filesystem::path(OUTRIGGER_SOURCE_DIR) / "proto";
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    if (entry.path().extension() == ".proto") files.insert(entry.path().lexically_relative(root).string());
  }
  return files;
}

std::vector<const Descriptor*> our_messages() {
  std::vector<const Descriptor*> out;
  for (const std::string& file : proto_files()) {
    // What services say is no configuration.
    const bool service = file.starts_with("envoy/service/") || file.starts_with("envoy/admin/");
    if (!file.starts_with("envoy/") || service) continue;
    const FileDescriptor* descriptor = DescriptorPool::generated_pool()->FindFileByName(file);
    EXPECT_NE(descriptor, nullptr) << file << " is not linked";
    if (descriptor == nullptr) continue;
    for (int i = 0; i < descriptor->message_type_count(); ++i) {
      visit(*descriptor->message_type(i), [&](const Descriptor& message) {
        if (!filter_owned(message.full_name())) out.push_back(&message);
      });
    }
  }
  return out;
}

TEST(XdsFields, EveryFieldHasARule) {
  for (const Descriptor* message : our_messages()) {
    for (int i = 0; i < message->field_count(); ++i) {
      EXPECT_NE(find_field_rule(*message->field(i)), nullptr)
          << message->field(i)->full_name()
          << " is in proto/ but source/config/ignored_fields.cc does not say what becomes of it";
    }
  }
}

TEST(XdsFields, EveryRuleHasAFieldAndThereIsOneForEach) {
  std::set<std::pair<std::string_view, std::string_view>> seen;
  for (const FieldRule& rule : field_rules()) {
    const Descriptor* message = DescriptorPool::generated_pool()->FindMessageTypeByName(std::string(rule.message));
    ASSERT_NE(message, nullptr) << rule.message;
    EXPECT_NE(message->FindFieldByName(std::string(rule.field)), nullptr) << rule.message << "." << rule.field;
    EXPECT_TRUE(seen.emplace(rule.message, rule.field).second) << rule.message << "." << rule.field << " has two rules";
    if (rule.use != FieldUse::kHonoured) {
      EXPECT_FALSE(rule.note.empty()) << rule.message << "." << rule.field;
    }
  }
}

TEST(XdsFields, RefusedFieldsAreFaults) {
  envoy::config::route::v3::WeightedCluster weighted;
  weighted.set_runtime_key_prefix("without effect");
  weighted.add_clusters()->set_name("good");
  weighted.add_clusters()->set_host_rewrite_literal("a");
  Faults faults;
  check_field_use(weighted, FieldPath("w"), faults);
  ASSERT_EQ(faults.all().size(), 1u);
  EXPECT_EQ(faults.all()[0].path, "w.clusters[1].host_rewrite_literal");
}

TEST(XdsFields, DocumentIsCurrent) {
  const std::string name = std::string(OUTRIGGER_SOURCE_DIR) + "/source/docs/xds_fields.md";
  if (std::getenv("OUTRIGGER_WRITE_DOCS") != nullptr) {
    std::filesystem::create_directories(std::filesystem::path(name).parent_path());
    std::ofstream(name) << xds_fields_document();
  }
  std::ifstream in(name);
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  EXPECT_EQ(text, xds_fields_document()) << "run this test with OUTRIGGER_WRITE_DOCS=1 to write it again";
}

}  // namespace
}  // namespace outrigger::config
