// A gRPC service that answers every greeting with its name: node greeter.js NAME
'use strict';
const grpc = require('@grpc/grpc-js');

const bytes = x => x;
const greet = {path: '/demo.Greeter/Greet', requestStream: false, responseStream: false, requestSerialize: bytes,
               requestDeserialize: bytes, responseSerialize: bytes, responseDeserialize: bytes};
const server = new grpc.Server();
server.addService({greet}, {greet: (call, done) => done(null, Buffer.from(process.argv[2]))});
server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(`greeting on ${port}`);
});
