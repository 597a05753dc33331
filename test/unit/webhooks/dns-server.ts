import dgram from 'node:dgram';
import { once } from 'node:events';

const TYPE_A = 1;
const NXDOMAIN = 3;

/** A DNS server on a free UDP port, as one for `setServers`. */
export interface DnsServer {
  address: string;
  /** The names that were asked for. */
  asked: string[];
  close(): Promise<void>;
}

/**
 * Plays DNS. `answer` says what there is for a name: its IPv4 address, `nothing` (it does not exist), or `silence`.
 */
export async function dnsServer(answer: (name: string) => string): Promise<DnsServer> {
  const socket = dgram.createSocket('udp4');
  const asked: string[] = [];
  socket.on('message', (query, peer) => {
    const { name, type, end } = questionOf(query);
    asked.push(name);
    const found = answer(name);
    if (found === 'silence') return;
    const address = found !== 'nothing' && type === TYPE_A ? found : undefined;
    socket.send(
      reply(query.subarray(0, end), found === 'nothing' ? NXDOMAIN : 0, address),
      peer.port,
      peer.address,
    );
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return {
    address: `127.0.0.1:${socket.address().port}`,
    asked,
    close: () => new Promise((resolve) => socket.close(() => resolve())),
  };
}

/** RFC 1035 §4.1.2: labels with their lengths, then type and class. */
function questionOf(query: Buffer): { name: string; type: number; end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = query.readUInt8(at); length > 0; length = query.readUInt8(at)) {
    labels.push(query.toString('ascii', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join('.').toLowerCase(), type: query.readUInt16BE(at + 1), end: at + 5 };
}

function reply(question: Buffer, code: number, address: string | undefined): Buffer {
  const head = Buffer.from(question);
  head.writeUInt16BE(0x8180 | code, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(address === undefined ? 0 : 1, 6);
  head.writeUInt32BE(0, 8);
  if (address === undefined) return head;
  const record = Buffer.from([
    0xc0,
    12,
    0,
    TYPE_A,
    0,
    1,
    0,
    0,
    0,
    0,
    0,
    4,
    ...address.split('.').map(Number),
  ]);
  return Buffer.concat([head, record]);
}
