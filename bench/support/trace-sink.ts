import http from 'node:http';
import type { AddressInfo } from 'node:net';

/** A collector that takes spans and forgets them, as a process of its own. */
let batches = 0;
const server = http.createServer((request, response) => {
  if (request.method === 'GET') return void response.end(String(batches));
  batches += 1;
  request.resume().on('end', () => response.writeHead(200).end());
});
server.listen(Number(process.env['TRACE_SINK_PORT']), '127.0.0.1', () =>
  process.send?.({ port: (server.address() as AddressInfo).port }),
);
