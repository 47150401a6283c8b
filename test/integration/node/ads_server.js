// A discovery service on @grpc/grpc-js, with Envoy's own protos as @grpc/grpc-js-xds carries them: aggregated, both
// forms. It tells its ports and every request on standard output; POST /say changes what it has, one type at a time:
//   {"clusters": ["a"]}  {"endpoints": {"a": [8080]}}  {"listeners": {"main": "table"}}  {"routes": {"table": "a"}}
// (a route to "(" is one that the proxy must refuse), and POST /end ends all streams.
'use strict';
const http = require('http');
const path = require('path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const deps = path.join(path.dirname(require.resolve('@grpc/grpc-js-xds/package.json')), 'deps');
const api = loader.loadSync([
  'envoy/service/discovery/v3/ads.proto', 'envoy/config/cluster/v3/cluster.proto',
  'envoy/config/endpoint/v3/endpoint.proto', 'envoy/config/listener/v3/listener.proto',
  'envoy/config/route/v3/route.proto', 'envoy/extensions/filters/http/router/v3/router.proto',
  'envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto'
], {keepCase: true, includeDirs: ['envoy-api', 'xds', 'googleapis', 'protoc-gen-validate'].map(d => path.join(deps, d))});

const url = name => 'type.googleapis.com/envoy.' + name;
const urls = {
  clusters: url('config.cluster.v3.Cluster'), endpoints: url('config.endpoint.v3.ClusterLoadAssignment'),
  listeners: url('config.listener.v3.Listener'), routes: url('config.route.v3.RouteConfiguration')
};
const full = new Set([urls.clusters, urls.listeners]);
const ads = {ads: {}, resource_api_version: 'V3'};
const address = port => ({socket_address: {address: '127.0.0.1', port_value: port}});

const make = {
  clusters: name => ({name, type: 'EDS', connect_timeout: {seconds: 5}, eds_cluster_config: {eds_config: ads}}),
  endpoints: (name, ports) => ({
    cluster_name: name, endpoints: [{lb_endpoints: ports.map(port => ({endpoint: {address: address(port)}}))}]
  }),
  listeners: (name, table) => ({
    name, address: address(0), filter_chains: [{filters: [{
      name: 'envoy.filters.network.http_connection_manager',
      typed_config: {
        '@type': url('extensions.filters.network.http_connection_manager.v3.HttpConnectionManager'), stat_prefix: name,
        rds: {route_config_name: table, config_source: ads},
        http_filters: [{name: 'envoy.filters.http.router',
                        typed_config: {'@type': url('extensions.filters.http.router.v3.Router')}}]
      }
    }]}]
  }),
  routes: (name, cluster) => ({
    name, virtual_hosts: [{name: 'all', domains: ['*'], routes: [{
      match: cluster === '(' ? {safe_regex: {regex: '('}} : {prefix: '/'}, route: {cluster}
    }]}]
  })
};

const world = {};  // by type: by name: {version, resource}
for (const type of Object.values(urls)) world[type] = new Map();
let counter = 0;
const streams = new Set();

// What the client should have and was not told.
function push(stream, type, owed) {
  const t = stream.types.get(type);
  const wants = name => t.wildcard || t.names.has(name);
  const changed = [...world[type]].filter(([name, has]) => wants(name) && t.sent.get(name) !== has.version);
  const removed = [...t.sent.keys()].filter(name => !world[type].has(name));
  const all = !stream.incremental && full.has(type);
  if (!owed && changed.length === 0 && (removed.length === 0 || (!stream.incremental && !all))) return;
  for (const name of removed) t.sent.delete(name);
  for (const [name, has] of changed) t.sent.set(name, has.version);
  t.nonce = 'n' + ++counter;
  const any = has => ({'@type': type, ...has.resource});
  if (stream.incremental) {
    stream.call.write({
      type_url: type, nonce: t.nonce, system_version_info: 'v' + counter, removed_resources: removed,
      resources: changed.map(([name, has]) => ({name, version: has.version, resource: any(has)}))
    });
  } else {
    const told = all ? [...world[type]].filter(([name]) => wants(name)) : changed;
    stream.call.write({type_url: type, nonce: t.nonce, version_info: 'v' + counter,
                       resources: told.map(([, has]) => any(has))});
  }
}

function subscribe(stream, t, request, first) {
  const named = stream.incremental ? request.resource_names_subscribe || [] : request.resource_names || [];
  const names = new Set(named.filter(name => name !== '*'));
  if (stream.incremental) {
    if (first) t.sent = new Map(Object.entries(request.initial_resource_versions || {}));
    if (named.includes('*') || (first && named.length === 0)) t.wildcard = full.has(request.type_url);
    for (const name of names) t.names.has(name) ? t.sent.delete(name) : t.names.add(name);
    for (const name of request.resource_names_unsubscribe || []) {
      t.names.delete(name);
      t.sent.delete(name);
    }
    return;
  }
  t.wildcard = named.includes('*') || (named.length === 0 && !t.named && full.has(request.type_url));
  t.named = t.named || named.length > 0;
  if (!t.wildcard) for (const name of [...t.sent.keys()]) if (!names.has(name)) t.sent.delete(name);
  t.names = names;
}

function serve(call, incremental) {
  const stream = {call, incremental, types: new Map()};
  streams.add(stream);
  call.on('data', request => {
    const type = request.type_url;
    const first = !stream.types.has(type);
    if (first) stream.types.set(type, {names: new Set(), sent: new Map(), nonce: '', wildcard: false, named: false});
    const t = stream.types.get(type);
    const error = request.error_detail ? ' NACK: ' + JSON.stringify(request.error_detail.message) : '';
    const held = Object.keys(request.initial_resource_versions || {}).sort().join(',');
    console.log(`request of ${type.split('.').pop()} by ${(request.node || {}).id}, held: ${held};${error}`);
    const newest = (request.response_nonce || '') === t.nonce;
    if (!incremental && !first && !newest) return;
    subscribe(stream, t, request, first);
    push(stream, type, first && t.wildcard);
  });
  const gone = () => streams.delete(stream);
  call.on('end', () => { gone(); call.end(); });
  call.on('cancelled', gone);
  call.on('error', gone);
}

function say(news) {
  for (const [kind, list] of Object.entries(news)) {
    const entries = Array.isArray(list) ? list.map(name => [name]) : Object.entries(list);
    const before = world[urls[kind]];
    world[urls[kind]] = new Map(entries.map(([name, ...rest]) => {
      const resource = make[kind](name, ...rest);
      const old = before.get(name);
      const same = old && JSON.stringify(old.resource) === JSON.stringify(resource);
      return [name, same ? old : {version: 'r' + ++counter, resource}];
    }));
    for (const stream of streams) if (stream.types.has(urls[kind])) push(stream, urls[kind], false);
  }
}

const server = new grpc.Server({'grpc.max_receive_message_length': -1});
server.addService(api['envoy.service.discovery.v3.AggregatedDiscoveryService'], {
  StreamAggregatedResources: call => serve(call, false),
  DeltaAggregatedResources: call => serve(call, true)
});
const control = http.createServer((request, response) => {
  let body = '';
  request.on('data', piece => body += piece).on('end', () => {
    if (request.url === '/say') say(JSON.parse(body));
    if (request.url === '/end') for (const stream of streams) stream.call.end();
    response.end('done\n');
  });
});
server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  control.listen(0, '127.0.0.1', () => console.log(`discovery on ${port}, control on ${control.address().port}`));
});
