// WebSocket by the npm package "ws": an echo server, and clients that speak to it through a proxy, over HTTP/1.1 and
// over HTTP/2 (RFC 8441, on node's own http2).
//
//   node websocket.js server            tells its port
//   node websocket.js client PORT       ends with "all echoed", or with what went wrong
//   node websocket.js client2 PORT
'use strict';
const http2 = require('http2');
const WebSocket = require('ws');

const [role, port] = process.argv.slice(2);

function fail(what) {
  console.log(`failed: ${what}`);
  process.exit(1);
}

function serve() {
  const server = new WebSocket.Server({host: '127.0.0.1', port: 0, handleProtocols: (protocols) => [...protocols][0]});
  server.on('listening', () => console.log(`websocket on ${server.address().port}`));
  server.on('connection', (socket) => {
    socket.on('message', (data, binary) => socket.send(data, {binary}));
    socket.on('close', (code, reason) => console.log(`closed ${code} ${reason}`));
  });
}

// Messages of all sizes, text and binary, one after the other and at once; pings; a close with a reason.
function converse(socket) {
  const sent = [];
  for (const size of [0, 1, 125, 126, 65535, 65536, 1000000]) sent.push('t'.repeat(size), Buffer.alloc(size, size % 251));
  let heard = 0;
  let pongs = 0;
  socket.on('error', (error) => fail(error.message));
  socket.on('pong', () => ++pongs);
  socket.on('message', (data, binary) => {
    const want = sent[heard++];
    if (binary !== Buffer.isBuffer(want) || !data.equals(Buffer.from(want))) fail(`message ${heard}`);
    if (heard < sent.length / 2) socket.send(sent[heard]);
    if (heard === sent.length / 2) for (const message of sent.slice(heard)) socket.send(message);
    if (heard === sent.length) socket.close(1000, 'enough');
  });
  socket.on('close', (code, reason) => {
    if (code !== 1000 || String(reason) !== 'enough' || pongs !== 1) fail(`close ${code} ${reason}, ${pongs} pongs`);
    console.log('all echoed');
    process.exit(0);
  });
  socket.ping();
  socket.send(sent[0]);
}

function client() {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/chat`, ['echo']);
  socket.on('error', (error) => fail(error.message));
  socket.on('open', () => {
    if (socket.protocol !== 'echo') fail(`protocol ${socket.protocol}`);
    converse(socket);
  });
}

function client2() {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  session.on('error', (error) => fail(error.message));
  session.on('remoteSettings', (settings) => {
    if (!settings.enableConnectProtocol) fail('extended CONNECT is not offered');
    const stream = session.request({':method': 'CONNECT', ':protocol': 'websocket', ':path': '/chat',
                                    'sec-websocket-version': '13', 'sec-websocket-protocol': 'echo'});
    stream.on('error', (error) => fail(error.message));
    stream.on('response', (headers) => {
      if (headers[':status'] !== 200) fail(`status ${headers[':status']}`);
      if (headers['sec-websocket-protocol'] !== 'echo') fail('no protocol');
      const socket = new WebSocket(null, undefined, {});
      socket._isServer = false;  // it masks, as clients must
      socket.setSocket(stream, Buffer.alloc(0), {allowSynchronousEvents: true, maxPayload: 0, skipUTF8Validation: false});
      converse(socket);
    });
  });
}

({server: serve, client, client2})[role]();
