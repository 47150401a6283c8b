#include "config/ignored_fields.h"

#include <fmt/format.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <unordered_map>
#include <vector>

namespace outrigger::config {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

// Fields that are honoured with nothing to add.
struct Honoured {
  std::string_view message;
  std::string_view fields;  // separated by blanks
};

constexpr Honoured kHonoured[] = {
    {"envoy.config.accesslog.v3.AccessLog", "name typed_config"},
    {"envoy.config.bootstrap.v3.Admin", "access_log address"},
    {"envoy.config.bootstrap.v3.Bootstrap", "node static_resources dynamic_resources admin"},
    {"envoy.config.bootstrap.v3.Bootstrap.DynamicResources", "lds_config cds_config ads_config"},
    {"envoy.config.bootstrap.v3.Bootstrap.StaticResources", "listeners clusters secrets"},
    {"envoy.config.cluster.v3.CircuitBreakers", "thresholds"},
    {"envoy.config.cluster.v3.CircuitBreakers.Thresholds",
     "max_connections max_pending_requests max_requests max_retries"},
    {"envoy.config.cluster.v3.Cluster",
     "name alt_stat_name type eds_cluster_config connect_timeout per_connection_buffer_limit_bytes "
     "lb_policy "
     "load_assignment max_requests_per_connection circuit_breakers common_http_protocol_options "
     "http2_protocol_options typed_extension_protocol_options dns_refresh_rate respect_dns_ttl dns_lookup_family "
     "least_request_lb_config transport_socket upstream_bind_config upstream_connection_options "
     "common_lb_config metadata ignore_health_on_host_removal close_connections_on_host_health_failure"},
    {"envoy.config.cluster.v3.Cluster.CommonLbConfig", "healthy_panic_threshold"},
    {"envoy.config.cluster.v3.UpstreamConnectionOptions", "tcp_keepalive happy_eyeballs_config"},
    {"envoy.config.cluster.v3.UpstreamConnectionOptions.HappyEyeballsConfig",
     "first_address_family_version first_address_family_count"},
    {"envoy.config.cluster.v3.Cluster.PreconnectPolicy", "per_upstream_preconnect_ratio predictive_preconnect_ratio"},
    {"envoy.config.core.v3.BindConfig", "socket_options"},
    {"envoy.config.core.v3.ProxyProtocolConfig", "version"},
    {"envoy.config.core.v3.SocketOption", "ip_version"},
    {"envoy.config.core.v3.TcpKeepalive", "keepalive_probes keepalive_time keepalive_interval"},
    {"envoy.config.cluster.v3.Cluster.CustomClusterType", "typed_config"},
    {"envoy.config.cluster.v3.Cluster.EdsClusterConfig", "eds_config service_name"},
    {"envoy.config.cluster.v3.Cluster.LbSubsetConfig", "fallback_policy default_subset panic_mode_any list_as_any"},
    {"envoy.config.cluster.v3.Cluster.LbSubsetConfig.LbSubsetSelector",
     "keys fallback_policy fallback_keys_subset single_host_per_subset"},
    {"envoy.config.cluster.v3.Cluster.LeastRequestLbConfig", "choice_count"},
    {"envoy.config.core.v3.Address", "socket_address pipe"},
    {"envoy.config.core.v3.ApiConfigSource", "transport_api_version grpc_services set_node_on_first_message_only"},
    {"envoy.config.core.v3.CidrRange", "address_prefix prefix_len"},
    {"envoy.config.core.v3.ConfigSource",
     "path path_config_source api_config_source ads initial_fetch_timeout resource_api_version"},
    {"envoy.config.core.v3.DataSource", "filename inline_bytes inline_string environment_variable"},
    {"envoy.config.core.v3.GrpcService", "envoy_grpc google_grpc initial_metadata"},
    {"envoy.config.core.v3.GrpcService.EnvoyGrpc", "cluster_name authority"},
    {"envoy.config.core.v3.GrpcService.GoogleGrpc", "target_uri channel_credentials"},
    {"envoy.config.core.v3.GrpcService.GoogleGrpc.CallCredentials", "access_token"},
    {"envoy.config.core.v3.GrpcService.GoogleGrpc.ChannelCredentials", "ssl_credentials local_credentials"},
    {"envoy.config.core.v3.GrpcService.GoogleGrpc.SslCredentials", "root_certs private_key cert_chain"},
    {"envoy.config.core.v3.HeaderValue", "key value"},
    {"envoy.config.core.v3.HeaderValueOption", "header append append_action keep_empty_value"},
    {"envoy.config.core.v3.HealthCheck",
     "timeout interval initial_jitter interval_jitter interval_jitter_percent unhealthy_threshold healthy_threshold "
     "reuse_connection http_health_check tcp_health_check grpc_health_check no_traffic_interval "
     "no_traffic_healthy_interval unhealthy_interval unhealthy_edge_interval healthy_edge_interval "
     "always_log_health_check_failures always_log_health_check_success tls_options"},
    {"envoy.config.core.v3.HealthCheck.GrpcHealthCheck", "service_name authority"},
    {"envoy.config.core.v3.HealthCheck.HttpHealthCheck",
     "host path expected_statuses retriable_statuses codec_client_type method"},
    {"envoy.config.core.v3.HealthCheck.Payload", "text binary"},
    {"envoy.config.core.v3.HealthCheck.TcpHealthCheck", "send receive"},
    {"envoy.config.core.v3.HealthCheck.TlsOptions", "alpn_protocols"},
    {"envoy.config.core.v3.Http1ProtocolOptions",
     "allow_absolute_url accept_http_10 default_host_for_http_10 enable_trailers"},
    {"envoy.config.core.v3.Http2ProtocolOptions",
     "max_concurrent_streams initial_stream_window_size initial_connection_window_size max_outbound_control_frames "
     "max_consecutive_inbound_frames_with_empty_payload max_inbound_priority_frames_per_stream "
     "max_inbound_window_update_frames_per_data_frame_sent connection_keepalive"},
    {"envoy.config.core.v3.KeepaliveSettings", "interval timeout"},
    {"envoy.config.core.v3.HttpProtocolOptions",
     "idle_timeout max_connection_duration max_headers_count max_requests_per_connection"},
    {"envoy.config.core.v3.Locality", "region zone sub_zone"},
    {"envoy.config.core.v3.Node", "id cluster metadata locality client_features"},
    {"envoy.config.core.v3.PathConfigSource", "path watched_directory"},
    {"envoy.config.core.v3.Pipe", "path mode"},
    {"envoy.config.core.v3.RuntimeFractionalPercent", "default_value"},
    {"envoy.config.core.v3.SelfConfigSource", "transport_api_version"},
    {"envoy.config.core.v3.SocketAddress", "protocol address port_value"},
    {"envoy.config.core.v3.SubstitutionFormatString", "text_format text_format_source omit_empty_values"},
    {"envoy.config.core.v3.TransportSocket", "name"},
    {"envoy.config.core.v3.TypedExtensionConfig", "name typed_config"},
    {"envoy.config.core.v3.WatchedDirectory", "path"},
    {"envoy.config.endpoint.v3.ClusterLoadAssignment", "cluster_name endpoints"},
    {"envoy.config.endpoint.v3.Endpoint", "address hostname health_check_config additional_addresses"},
    {"envoy.config.endpoint.v3.Endpoint.AdditionalAddress", "address"},
    {"envoy.config.endpoint.v3.Endpoint.HealthCheckConfig", "port_value hostname address disable_active_health_check"},
    {"envoy.config.endpoint.v3.LbEndpoint", "endpoint load_balancing_weight metadata"},
    {"envoy.config.endpoint.v3.LocalityLbEndpoints", "lb_endpoints"},
    {"envoy.config.listener.v3.AdditionalAddress", "address"},
    {"envoy.config.listener.v3.Filter", "name"},
    {"envoy.config.listener.v3.FilterChain", "filter_chain_match filters transport_socket name"},
    {"envoy.config.listener.v3.FilterChainMatch",
     "destination_port prefix_ranges direct_source_prefix_ranges source_type source_prefix_ranges source_ports "
     "server_names application_protocols"},
    {"envoy.config.listener.v3.Listener",
     "name address additional_addresses filter_chains default_filter_chain per_connection_buffer_limit_bytes "
     "tcp_backlog_size listener_filters_timeout continue_on_listener_filters_timeout transparent socket_options "
     "tcp_keepalive tcp_fast_open_queue_length"},
    {"envoy.config.listener.v3.ListenerFilter", "name typed_config"},
    {"envoy.config.route.v3.DirectResponseAction", "status body"},
    {"envoy.config.route.v3.FilterConfig", "config is_optional disabled"},
    {"envoy.config.route.v3.HeaderMatcher",
     "name exact_match safe_regex_match range_match present_match prefix_match suffix_match contains_match "
     "string_match invert_match treat_missing_header_as_empty"},
    {"envoy.config.route.v3.QueryParameterMatcher", "name string_match present_match"},
    {"envoy.config.route.v3.RateLimit", "stage actions"},
    {"envoy.config.route.v3.RateLimit.Action",
     "source_cluster destination_cluster request_headers query_parameters remote_address generic_key "
     "header_value_match masked_remote_address query_parameter_value_match"},
    {"envoy.config.route.v3.RateLimit.Action.GenericKey", "descriptor_value descriptor_key"},
    {"envoy.config.route.v3.RateLimit.Action.HeaderValueMatch", "descriptor_value descriptor_key expect_match headers"},
    {"envoy.config.route.v3.RateLimit.Action.MaskedRemoteAddress", "v4_prefix_mask_len v6_prefix_mask_len"},
    {"envoy.config.route.v3.RateLimit.Action.QueryParameterValueMatch",
     "descriptor_value descriptor_key expect_match query_parameters"},
    {"envoy.config.route.v3.RateLimit.Action.QueryParameters", "query_parameter_name descriptor_key skip_if_absent"},
    {"envoy.config.route.v3.RateLimit.Action.RequestHeaders", "header_name descriptor_key skip_if_absent"},
    {"envoy.config.route.v3.RedirectAction",
     "https_redirect scheme_redirect host_redirect port_redirect path_redirect prefix_rewrite regex_rewrite "
     "response_code strip_query"},
    {"envoy.config.route.v3.RetryPolicy", "num_retries per_try_timeout retriable_status_codes retry_back_off"},
    {"envoy.config.route.v3.RetryPolicy.RetryBackOff", "base_interval max_interval"},
    {"envoy.config.route.v3.Route",
     "name match route redirect direct_response typed_per_filter_config request_headers_to_add "
     "request_headers_to_remove response_headers_to_add response_headers_to_remove metadata"},
    {"envoy.config.route.v3.RouteAction",
     "cluster cluster_header weighted_clusters cluster_not_found_response_code prefix_rewrite regex_rewrite "
     "host_rewrite_literal auto_host_rewrite host_rewrite_header append_x_forwarded_host timeout idle_timeout "
     "retry_policy request_mirror_policies rate_limits max_stream_duration max_grpc_timeout grpc_timeout_offset "
     "upgrade_configs metadata_match"},
    {"envoy.config.route.v3.RouteAction.MaxStreamDuration",
     "max_stream_duration grpc_timeout_header_max grpc_timeout_header_offset"},
    {"envoy.config.route.v3.RouteAction.RequestMirrorPolicy",
     "cluster cluster_header runtime_fraction disable_shadow_host_suffix_append"},
    {"envoy.config.route.v3.RouteAction.UpgradeConfig", "enabled upgrade_type connect_config"},
    {"envoy.config.route.v3.RouteAction.UpgradeConfig.ConnectConfig", "proxy_protocol_config"},
    {"envoy.config.route.v3.RouteConfiguration",
     "name virtual_hosts internal_only_headers response_headers_to_add response_headers_to_remove "
     "request_headers_to_add request_headers_to_remove most_specific_header_mutations_wins validate_clusters "
     "max_direct_response_body_size_bytes typed_per_filter_config ignore_port_in_host_matching "
     "request_mirror_policies"},
    {"envoy.config.route.v3.RouteMatch",
     "prefix path safe_regex path_separated_prefix connect_matcher case_sensitive runtime_fraction headers "
     "query_parameters grpc"},
    {"envoy.config.route.v3.VirtualHost",
     "name domains routes require_tls rate_limits request_headers_to_add request_headers_to_remove "
     "response_headers_to_add response_headers_to_remove typed_per_filter_config retry_policy "
     "request_mirror_policies metadata"},
    {"envoy.config.route.v3.WeightedCluster", "clusters"},
    {"envoy.config.route.v3.WeightedCluster.ClusterWeight",
     "name cluster_header weight request_headers_to_add request_headers_to_remove response_headers_to_add "
     "response_headers_to_remove typed_per_filter_config metadata_match"},
    {"envoy.extensions.clusters.aggregate.v3.ClusterConfig", "clusters"},
    {"envoy.extensions.access_loggers.file.v3.FileAccessLog", "path format log_format"},
    {"envoy.extensions.access_loggers.stream.v3.StderrAccessLog", "log_format"},
    {"envoy.extensions.access_loggers.stream.v3.StdoutAccessLog", "log_format"},
    {"envoy.extensions.filters.http.router.v3.Router", "suppress_envoy_headers respect_expected_rq_timeout"},
    {"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
     "codec_type stat_prefix rds route_config common_http_protocol_options http_protocol_options "
     "http2_protocol_options server_name "
     "server_header_transformation max_request_headers_kb stream_idle_timeout request_timeout "
     "request_headers_timeout drain_timeout delayed_close_timeout access_log use_remote_address "
     "xff_num_trusted_hops internal_address_config skip_xff_append via generate_request_id "
     "preserve_external_request_id always_set_request_id_in_response forward_client_cert_details "
     "set_current_client_cert_details normalize_path "
     "merge_slashes path_with_escaped_slashes_action strip_matching_host_port strip_any_host_port "
     "strip_trailing_host_dot upgrade_configs"},
    {"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig",
     "enabled upgrade_type"},
    {"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.InternalAddressConfig",
     "cidr_ranges"},
    {"envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
     "name typed_config is_optional disabled"},
    {"envoy.extensions.filters.network.http_connection_manager.v3.Rds", "config_source route_config_name"},
    {"envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
     "allow_requests_without_proxy_protocol disallowed_versions"},
    {"envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
     "close_connection_on_client_hello_parsing_errors"},
    {"envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit", "stat_prefix max_connections delay"},
    {"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
     "stat_prefix cluster weighted_clusters idle_timeout access_log max_connect_attempts "
     "max_downstream_connection_duration metadata_match"},
    {"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster", "clusters"},
    {"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight",
     "name weight metadata_match"},
    {"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.SetCurrentClientCertDetails",
     "subject cert dns uri"},
    {"envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext",
     "trusted_ca match_typed_subject_alt_names verify_certificate_hash verify_certificate_spki crl "
     "trust_chain_verification only_verify_leaf_cert_crl"},
    {"envoy.extensions.transport_sockets.tls.v3.CommonTlsContext",
     "tls_params validation_context validation_context_sds_secret_config combined_validation_context"},
    {"envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.CombinedCertificateValidationContext",
     "default_validation_context validation_context_sds_secret_config"},
    {"envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
     "common_tls_context session_ticket_keys session_ticket_keys_sds_secret_config "
     "disable_stateless_session_resumption session_timeout"},
    {"envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig", "name sds_config"},
    {"envoy.extensions.transport_sockets.tls.v3.Secret", "name tls_certificate session_ticket_keys validation_context"},
    {"envoy.extensions.transport_sockets.tls.v3.TlsCertificate", "certificate_chain private_key ocsp_staple"},
    {"envoy.extensions.transport_sockets.tls.v3.TlsSessionTicketKeys", "keys"},
    {"envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
     "common_tls_context sni max_session_keys auto_host_sni auto_sni_san_validation"},
    {"envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport", "config transport_socket"},
    {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
     "common_http_protocol_options explicit_http_config use_downstream_protocol_config auto_config"},
    {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions.AutoHttpConfig", "http2_protocol_options"},
    {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig", "http2_protocol_options"},
    {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig", "http2_protocol_options"},
    {"envoy.extensions.upstreams.tcp.v3.TcpProtocolOptions", "idle_timeout"},
    {"envoy.type.matcher.v3.RegexMatchAndSubstitute", "pattern substitution"},
    {"envoy.type.matcher.v3.RegexMatcher", "google_re2 regex"},
    {"envoy.type.matcher.v3.StringMatcher", "exact prefix suffix contains safe_regex ignore_case"},
    {"envoy.type.v3.FractionalPercent", "numerator denominator"},
    {"envoy.type.v3.Percent", "value"},
    {"envoy.type.v3.Int64Range", "start end"},
};

constexpr FieldUse kUsed = FieldUse::kHonoured;
constexpr FieldUse kIgnored = FieldUse::kIgnored;
constexpr FieldUse kRefused = FieldUse::kRefused;
constexpr std::string_view kHcm = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
constexpr std::string_view kNoRuntime = "there is no runtime layer; the configured value counts";
constexpr std::string_view kMetadata = "free-form data that nothing here reads";
constexpr std::string_view kSocketOptions =
    "SO_KEEPALIVE, SO_PRIORITY, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT, TCP_NOTSENT_LOWAT, IP_TOS, "
    "IPV6_TCLASS; of listeners TCP_DEFER_ACCEPT and TCP_FASTOPEN too";
constexpr std::string_view kLiteral = "values are literal: there is no request for command operators";

// Fields about which there is something to say.
constexpr FieldRule kNoted[] = {
    {"envoy.config.bootstrap.v3.Bootstrap", "stats_flush_interval", kIgnored,
     "nothing is pushed; metrics are read at the admin port"},
    {"envoy.config.cluster.v3.CircuitBreakers.Thresholds", "priority", kUsed,
     "thresholds of HIGH are accepted without effect: no request has that priority"},
    {"envoy.config.cluster.v3.Cluster", "cluster_type", kUsed,
     "of an aggregate's own settings max_retries and alt_stat_name count; all others are its members'"},
    {"envoy.config.cluster.v3.Cluster", "http_protocol_options", kUsed,
     "says that the cluster speaks HTTP/1; the options inside matter to listeners only"},
    {"envoy.config.cluster.v3.Cluster", "dns_failure_refresh_rate", kIgnored,
     "failed look-ups are repeated at dns_refresh_rate"},
    {"envoy.config.cluster.v3.Cluster", "wait_for_warm_on_init", kIgnored,
     "a cluster always warms before a route uses it"},
    {"envoy.config.cluster.v3.Cluster", "health_checks", kUsed, "at most one"},
    {"envoy.config.cluster.v3.Cluster", "lb_subset_config", kUsed,
     "without a selector without effect, as in Envoy; not of clusters with CLUSTER_PROVIDED"},
    {"envoy.config.cluster.v3.Cluster.LbSubsetConfig", "subset_selectors", kUsed, "no two with the same keys"},
    {"envoy.config.cluster.v3.Cluster.LbSubsetConfig", "locality_weight_aware", kRefused,
     "load is spread without regard to localities"},
    {"envoy.config.cluster.v3.Cluster.LbSubsetConfig", "scale_locality_weight", kRefused,
     "load is spread without regard to localities"},
    {"envoy.config.cluster.v3.Cluster.LbSubsetConfig", "metadata_fallback_policy", kUsed, "METADATA_NO_FALLBACK only"},
    {"envoy.config.cluster.v3.Cluster", "preconnect_policy", kUsed,
     "of tcp_proxy not where a connection is one client's: ORIGINAL_DST, upstream_proxy_protocol"},
    {"envoy.config.cluster.v3.Cluster.CustomClusterType", "name", kUsed, "envoy.clusters.aggregate only"},
    {"envoy.config.cluster.v3.Cluster.RefreshRate", "base_interval", kIgnored, "see dns_failure_refresh_rate"},
    {"envoy.config.cluster.v3.Cluster.RefreshRate", "max_interval", kIgnored, "see dns_failure_refresh_rate"},
    {"envoy.config.core.v3.ApiConfigSource", "api_type", kUsed,
     "all but REST; the AGGREGATED ones in dynamic_resources.ads_config only"},
    {"envoy.config.core.v3.ConfigSource", "self", kUsed, "in resources of xDS: the source that brought them"},
    {"envoy.config.core.v3.ControlPlane", "identifier", kIgnored, "part of responses, not of config"},
    {"envoy.config.core.v3.GrpcService", "timeout", kIgnored, "xDS streams have no deadline"},
    {"envoy.config.core.v3.GrpcService.GoogleGrpc", "call_credentials", kUsed,
     "at most one, and not without channel_credentials"},
    {"envoy.config.core.v3.GrpcService.GoogleGrpc", "stat_prefix", kIgnored, "metrics are by type of resource"},
    {"envoy.config.core.v3.HealthCheck.GrpcHealthCheck", "initial_metadata", kUsed, kLiteral},
    {"envoy.config.core.v3.HealthCheck.HttpHealthCheck", "request_headers_to_add", kUsed, kLiteral},
    {"envoy.config.core.v3.Http2ProtocolOptions", "allow_connect", kUsed,
     "in listeners; in clusters without effect: what the host offers counts"},
    {"envoy.config.core.v3.HttpProtocolOptions", "max_stream_duration", kUsed, "in listeners only"},
    {"envoy.config.core.v3.HttpProtocolOptions", "headers_with_underscores_action", kUsed,
     "in listeners; in clusters without effect, as in Envoy"},
    {"envoy.config.core.v3.Metadata", "filter_metadata", kUsed,
     "\"envoy.lb\" for subsets, all of it for access logs and headers"},
    {"envoy.config.core.v3.Node", "user_agent_name", kIgnored, "always \"outrigger\""},
    {"envoy.config.core.v3.Node", "user_agent_version", kIgnored, "not sent"},
    {"envoy.config.core.v3.RuntimeFractionalPercent", "runtime_key", kIgnored, kNoRuntime},
    {"envoy.config.core.v3.SocketOption", "description", kIgnored, "for people"},
    {"envoy.config.core.v3.SocketOption", "level", kUsed, kSocketOptions},
    {"envoy.config.core.v3.SocketOption", "name", kUsed, kSocketOptions},
    {"envoy.config.core.v3.SocketOption", "int_value", kUsed,
     "required; from -2147483648 to 2147483647, of SO_PRIORITY from 0 to 6"},
    {"envoy.config.core.v3.SocketOption", "state", kIgnored,
     "those that are supported work at any time: they are set before a socket is used, and again when they change"},
    {"envoy.config.core.v3.SubstitutionFormatString", "json_format", kUsed,
     "flat: every value a format string; keys are written in alphabetical order"},
    {"envoy.config.core.v3.TransportSocket", "typed_config", kUsed,
     "raw_buffer; DownstreamTlsContext in listeners; UpstreamTlsContext in clusters, and either of these two in a "
     "ProxyProtocolUpstreamTransport"},
    {"envoy.config.endpoint.v3.LbEndpoint", "health_status", kUsed,
     "UNKNOWN, HEALTHY and DEGRADED take requests alike; the rest take none"},
    {"envoy.config.endpoint.v3.LocalityLbEndpoints", "locality", kIgnored,
     "load is spread without regard to localities"},
    {"envoy.config.endpoint.v3.LocalityLbEndpoints", "load_balancing_weight", kIgnored,
     "load is spread without regard to localities"},
    {"envoy.config.endpoint.v3.LocalityLbEndpoints", "priority", kUsed, "0 only"},
    {"envoy.config.endpoint.v3.LocalityLbEndpoints", "metadata", kIgnored,
     "of the locality, not of its endpoints: subsets do not look at it in Envoy either"},
    {"envoy.config.listener.v3.ApiListener", "api_listener", kUsed, "in the control plane, for gRPC clients"},
    {"envoy.config.listener.v3.Filter", "typed_config", kUsed,
     "HttpConnectionManager or TcpProxy, last; ConnectionLimit before it"},
    {"envoy.config.listener.v3.FilterChain", "metadata", kIgnored, kMetadata},
    {"envoy.config.listener.v3.FilterChain", "transport_socket_connect_timeout", kUsed, "15s unless told, 0s: none"},
    {"envoy.config.listener.v3.FilterChainMatch", "transport_protocol", kUsed, "\"raw_buffer\" and \"tls\""},
    {"envoy.config.listener.v3.Listener", "stat_prefix", kIgnored, "metrics carry the listener's name"},
    {"envoy.config.listener.v3.Listener", "metadata", kUsed, "for access logs and headers"},
    {"envoy.config.listener.v3.Listener", "drain_type", kIgnored,
     "listeners drain when they change or go; there is no health check to fail"},
    {"envoy.config.listener.v3.Listener", "listener_filters", kUsed,
     "TlsInspector (added where a chain asks for what it sees), ProxyProtocol, OriginalDst; each once"},
    {"envoy.config.listener.v3.Listener", "traffic_direction", kIgnored, "informational"},
    {"envoy.config.listener.v3.Listener", "api_listener", kUsed, "in the control plane, for gRPC clients"},
    {"envoy.config.listener.v3.Listener", "max_connections_to_accept_per_socket_event", kUsed, "16 unless told"},
    {"envoy.config.listener.v3.Listener", "enable_reuse_port", kUsed,
     "true only: every worker has a socket of its own"},
    {"envoy.config.route.v3.RateLimit", "disable_key", kIgnored, kNoRuntime},
    {"envoy.config.route.v3.RetryPolicy", "retry_on", kUsed,
     "5xx, gateway-error, reset, reset-before-request, connect-failure, retriable-4xx, refused-stream, "
     "retriable-status-codes; of gRPC answers cancelled, deadline-exceeded, internal, resource-exhausted, unavailable"},
    {"envoy.config.route.v3.RetryPolicy", "host_selection_retry_max_attempts", kIgnored,
     "there are no host predicates that could refuse a host"},
    {"envoy.config.route.v3.Route", "stat_prefix", kIgnored, "there are no metrics of single routes"},
    {"envoy.config.route.v3.RouteAction", "priority", kUsed, "DEFAULT only"},
    {"envoy.config.route.v3.RouteAction.RequestMirrorPolicy", "trace_sampled", kIgnored, "nothing is traced yet"},
    {"envoy.config.route.v3.RouteConfiguration", "metadata", kIgnored, kMetadata},
    {"envoy.config.route.v3.WeightedCluster", "total_weight", kUsed, "must be the sum of the weights"},
    {"envoy.config.route.v3.WeightedCluster", "runtime_key_prefix", kIgnored, kNoRuntime},
    {"envoy.config.route.v3.WeightedCluster.ClusterWeight", "host_rewrite_literal", kRefused,
     "rewrite the host in the route instead"},
    {"envoy.extensions.filters.http.router.v3.Router", "dynamic_stats", kIgnored,
     "the router's metrics are always kept"},
    {"envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol", "stat_prefix", kIgnored,
     "metrics carry the listener's name"},
    {"envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector", "initial_read_buffer_size", kIgnored,
     "what is read grows with what comes"},
    {kHcm, "http_filters", kUsed, "the router is last"},
    {kHcm, "stream_error_on_invalid_http_message", kIgnored, "a malformed HTTP/1 message always ends its connection"},
    {"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.InternalAddressConfig",
     "unix_sockets", kRefused, "clients on Unix sockets are never internal"},
    {"envoy.extensions.transport_sockets.tls.v3.CommonTlsContext", "alpn_protocols", kUsed, "h2 and http/1.1 only"},
    {"envoy.extensions.transport_sockets.tls.v3.CommonTlsContext", "tls_certificates", kUsed,
     "one of each kind of key"},
    {"envoy.extensions.transport_sockets.tls.v3.CommonTlsContext", "tls_certificate_sds_secret_configs", kUsed,
     "one of each kind of key"},
    {"envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", "ocsp_staple_policy", kUsed,
     "where a staple is needed, one that is out of date when it is loaded is refused"},
    {"envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", "require_client_certificate", kUsed,
     "needs a validation_context"},
    {"envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", "disable_stateful_session_resumption", kIgnored,
     "sessions are resumed by tickets only"},
    {"envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher", "san_type", kUsed, "all but OTHER_NAME"},
    {"envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher", "matcher", kUsed, "all but safe_regex"},
    {"envoy.extensions.transport_sockets.tls.v3.TlsParameters", "tls_minimum_protocol_version", kUsed,
     "TLS 1.2 and 1.3"},
    {"envoy.extensions.transport_sockets.tls.v3.TlsParameters", "tls_maximum_protocol_version", kUsed,
     "TLS 1.2 and 1.3; 1.3 unless told, of upstreams too"},
    {"envoy.extensions.transport_sockets.tls.v3.TlsParameters", "cipher_suites", kUsed,
     "OpenSSL's names; [A|B] is A, then B"},
    {"envoy.extensions.transport_sockets.tls.v3.TlsParameters", "ecdh_curves", kUsed,
     "X25519, P-256, P-384, P-521, X448"},
    {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions.AutoHttpConfig", "http_protocol_options", kIgnored,
     "the options inside matter to listeners only"},
    {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig", "http_protocol_options", kUsed,
     "says that the cluster speaks HTTP/1; the options inside matter to listeners only"},
    {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig", "http_protocol_options",
     kIgnored, "the options inside matter to listeners only"},
};

std::vector<FieldRule> all_rules() {
  std::vector<FieldRule> rules(std::begin(kNoted), std::end(kNoted));
  for (const Honoured& row : kHonoured) {
    std::string_view rest = row.fields;
    while (!rest.empty()) {
      const size_t blank = std::min(rest.find(' '), rest.size());
      rules.push_back({row.message, rest.substr(0, blank), FieldUse::kHonoured, ""});
      rest.remove_prefix(std::min(blank + 1, rest.size()));
    }
  }
  std::stable_sort(rules.begin(), rules.end(),
                   [](const FieldRule& a, const FieldRule& b) { return a.message < b.message; });
  return rules;
}

bool is_ours(const Descriptor& message) { return message.full_name().starts_with("envoy."); }

std::string_view use_text(FieldUse use) {
  switch (use) {
    case FieldUse::kHonoured:
      return "honoured";
    case FieldUse::kIgnored:
      return "no effect";
    case FieldUse::kRefused:
      return "refused";
  }
  return "";
}

}  // namespace

std::span<const FieldRule> field_rules() {
  static const std::vector<FieldRule>* const rules = new std::vector<FieldRule>(all_rules());
  return *rules;
}

const FieldRule* find_field_rule(const FieldDescriptor& field) {
  using Map = std::unordered_map<const FieldDescriptor*, const FieldRule*>;
  static const Map* const by_field = [] {
    auto* map = new Map;
    for (const FieldRule& rule : field_rules()) {
      const auto* pool = google::protobuf::DescriptorPool::generated_pool();
      const Descriptor* message = pool->FindMessageTypeByName(std::string(rule.message));
      if (message == nullptr) continue;
      if (const FieldDescriptor* f = message->FindFieldByName(std::string(rule.field))) map->emplace(f, &rule);
    }
    return map;
  }();
  const auto it = by_field->find(&field);
  return it == by_field->end() ? nullptr : it->second;
}

namespace {

// A field that is a fault when it is set, or in whose messages there may be some.
struct FieldToCheck {
  const FieldDescriptor* field;
  const FieldRule* rule;  // nullptr: not supported
};

// Those of a message type, by number. A table of 10,000 routes has 40,000 messages, and most fields need no look.
const std::vector<FieldToCheck>& fields_to_check(const google::protobuf::Descriptor& type) {
  thread_local std::unordered_map<const google::protobuf::Descriptor*, std::vector<FieldToCheck>> known;
  const auto [at, fresh] = known.try_emplace(&type);
  if (!fresh) return at->second;
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor* field = type.field(i);
    const FieldRule* rule = find_field_rule(*field);
    const bool holds_ours =
        field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !field->is_map() && is_ours(*field->message_type());
    if (rule == nullptr || rule->use == FieldUse::kRefused || (rule->use == FieldUse::kHonoured && holds_ours))
      at->second.push_back({field, rule});
  }
  std::sort(at->second.begin(), at->second.end(),
            [](const FieldToCheck& a, const FieldToCheck& b) { return a.field->number() < b.field->number(); });
  return at->second;
}

}  // namespace

void check_field_use(const google::protobuf::Message& message, const FieldPath& path, Faults& faults) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  for (const auto& [field, rule] : fields_to_check(*message.GetDescriptor())) {
    if (field->is_repeated() ? reflection.FieldSize(message, field) == 0 : !reflection.HasField(message, field))
      continue;
    const FieldPath at = path.field(field->name());
    if (rule == nullptr) {
      faults.add(at, "is not supported; remove it");
      continue;
    }
    if (rule->use == FieldUse::kRefused) {
      faults.add(at, fmt::format("is not supported: {}", rule->note));
      continue;
    }
    if (!field->is_repeated()) {
      check_field_use(reflection.GetMessage(message, field), at, faults);
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i)
      check_field_use(reflection.GetRepeatedMessage(message, field, i), at.index(static_cast<size_t>(i)), faults);
  }
}

std::string xds_fields_document() {
  std::string out =
      "# The xDS fields\n\n"
      "Printed from source/config/ignored_fields.cc by config_test, which also compares the two. A field that is not\n"
      "listed does not exist here: when set, it is an error that names its path (`--unknown-fields=warn`: a warning).\n"
      "\"No effect\" fields are accepted and do nothing. \"Refused\" ones are errors when set. The messages of the "
      "HTTP\n"
      "filters are described in source/filters/*/README.md.\n";
  std::string_view message;
  for (const FieldRule& rule : field_rules()) {
    if (rule.message != message) {
      message = rule.message;
      out += fmt::format("\n## {}\n\n| field | | |\n| --- | --- | --- |\n", message);
    }
    out += fmt::format("| {} | {} | {} |\n", rule.field, use_text(rule.use), rule.note);
  }
  return out;
}

}  // namespace outrigger::config
