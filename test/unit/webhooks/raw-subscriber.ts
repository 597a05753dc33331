import net, { type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { listen } from '../../support/subscriber';

/** What a raw subscriber does with a connection once a request has come in on it; `nth` counts its requests from 1. */
export type Conduct = (socket: Socket, nth: number) => void | Promise<void>;

/** Plays a subscriber that speaks in bytes: every request whose end has come is answered by `conduct`. */
export async function rawSubscriber(conduct: Conduct) {
  const requests: string[] = [];
  const server = net.createServer((socket) => {
    let text = '';
    let nth = 0;
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      for (let length = requestLength(text); length > 0; length = requestLength(text)) {
        requests.push(text.slice(0, length));
        text = text.slice(length);
        void conduct(socket, ++nth);
      }
    });
  });
  return { requests, ...(await listen(server)) };
}

function requestLength(text: string): number {
  const headEnd = text.indexOf('\r\n\r\n');
  if (headEnd === -1) return 0;
  const length = headEnd + 4 + Number(/content-length: (\d+)/i.exec(text)?.[1] ?? 0);
  return text.length >= length ? length : 0;
}

/** Says the words and leaves the connection open. */
export const says =
  (words: string | Buffer): Conduct =>
  (socket) =>
    void socket.write(words);

/** Says the words and closes the connection. */
export const saysAndCloses =
  (words: string | Buffer): Conduct =>
  (socket) =>
    void socket.end(words);

/** Says the words and resets the connection. */
export const saysAndResets =
  (words: string | Buffer): Conduct =>
  (socket) =>
    void socket.write(words, () => setTimeout(() => socket.resetAndDestroy(), 20));

/** Says the words one byte at a time, forever the last one; `first` at once. */
export const drips =
  (words: string, pauseMs: number, first = ''): Conduct =>
  async (socket) => {
    socket.write(first);
    for (let at = 0; !socket.destroyed; at++) {
      socket.write(words[Math.min(at, words.length - 1)] ?? '');
      await sleep(pauseMs);
    }
  };
