// @grpc/grpc-js-xds as client of xds:///greeter (GRPC_XDS_BOOTSTRAP_CONFIG says where the control plane is). Each GET
// /call makes a call and answers with what the service said, or with the error.
'use strict';
const http = require('http');
const grpc = require('@grpc/grpc-js');
require('@grpc/grpc-js-xds').register();

const bytes = x => x;
const client = new grpc.Client('xds:///greeter', grpc.credentials.createInsecure());
const control = http.createServer((request, response) => {
  const metadata = new grpc.Metadata({waitForReady: true});
  const options = {deadline: Date.now() + 10000};
  client.makeUnaryRequest('/demo.Greeter/Greet', bytes, bytes, Buffer.from('hello'), metadata, options,
                          (error, answer) => response.end(error ? `error: ${error.message}` : answer.toString()));
});
control.listen(0, '127.0.0.1', () => console.log(`control on ${control.address().port}`));
