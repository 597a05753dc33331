import http from 'node:http';
import https from 'node:https';

/** What a subscriber answered, as far as it came. */
export interface Answer {
  statusCode: number;
  /** The values of each header; undefined when they could not be read. */
  headers: NodeJS.Dict<string[]> | undefined;
  body: Buffer;
}

/** There was no status line. */
export interface NoAnswer {
  error: Error;
  /** The connection had served a request before, so the subscriber may have closed it without seeing this one. */
  reusedConnection: boolean;
}

export interface ExchangeInput {
  /** Node's own for all when left out. */
  agent?: http.Agent;
  headers: Record<string, string>;
  body: string;
  /** Reading ends after this many bytes of the answer's body. */
  maxBodyBytes: number;
  /** Ends the exchange at once, whatever it is waiting for. */
  deadline: AbortSignal;
}

/**
 * What may come before an answer's body: interim answers and headers. Node's own bound is 16 KiB, which proxies that
 * repeat a policy in every header exceed.
 */
const HEAD_MAX_BYTES = 262_144;

class HeadTooLongError extends Error {
  readonly code = 'HEAD_TOO_LONG';
}

/**
 * Posts once and reads the answer. The final status line decides: what comes after it may be missing, broken, endless or
 * late, and the answer is its outcome (RFC 9112 §8: an answer that is cut off has said what its status says, unless
 * that depends on headers, and no status that counts here does). Interim answers (1xx but 101) are passed over.
 * By Node's own client: undici gives up a connection on which 100 Continue comes unasked, and while it connects it heeds
 * no deadline but its own.
 * @throws what Node says of a request that can't be made: a header with a line break, for one.
 */
export function exchange(url: URL, input: ExchangeInput): Promise<Answer | NoAnswer> {
  const { agent, headers, body, maxBodyBytes, deadline } = input;
  const statusLine = new StatusLine();
  const chunks: Buffer[] = [];
  let bodyBytes = 0;
  let headBytes = 0;
  const { request: open } = url.protocol === 'https:' ? https : http;
  // The agent's timeout is for idle connections: while one is in use, the deadline is all that holds.
  const options = { method: 'POST', agent, headers, maxHeaderSize: HEAD_MAX_BYTES, timeout: 0 };
  const request = open(url, options);

  return new Promise((resolve) => {
    const readHead = (chunk: Buffer) => {
      statusLine.read(chunk);
      headBytes += chunk.length;
      if (headBytes > HEAD_MAX_BYTES) end(new HeadTooLongError());
    };
    let response: http.IncomingMessage | undefined;
    let ended = false;
    const end = (error?: Error, complete = false) => {
      if (ended) return;
      ended = true;
      deadline.removeEventListener('abort', outOfTime);
      request.socket?.off('data', readHead);
      // What came in one packet with what could not be read still waits to be taken.
      response?.read();
      if (!complete) request.destroy();
      const statusCode = response?.statusCode ?? statusLine.status;
      if (statusCode !== undefined) {
        const body = Buffer.concat(chunks);
        resolve({ statusCode, headers: response && headersOf(response), body });
      } else resolve({ error: error ?? new Error('no answer'), reusedConnection: request.reusedSocket });
    };
    const outOfTime = () => end(new Error('out of time'));

    deadline.addEventListener('abort', outOfTime);
    // Errors may follow the end; they say nothing more.
    request.on('error', end);
    // Alongside Node's parser, which tells nothing of an answer whose headers it can't read.
    request.on('socket', (socket) => socket.prependListener('data', readHead));
    request.on('upgrade', () => end());
    request.on('response', (answer) => {
      response = answer;
      request.socket?.off('data', readHead);
      answer.on('error', end);
      answer.on('close', () => end(undefined, answer.complete));
      answer.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        bodyBytes += chunk.length;
        if (bodyBytes > maxBodyBytes) end();
      });
    });
    request.end(body);
    if (deadline.aborted) outOfTime();
  });
}

/** By lower-case name. From what came: Node's own headersDistinct throws at a header named `__proto__` before 22.22.2 (CVE-2026-21710). */
function headersOf({ rawHeaders }: http.IncomingMessage): NodeJS.Dict<string[]> {
  const headers = Object.create(null) as NodeJS.Dict<string[]>;
  for (let i = 0; i + 1 < rawHeaders.length; i += 2)
    (headers[rawHeaders[i]!.toLowerCase()] ??= []).push(rawHeaders[i + 1]!);
  return headers;
}

/** Longest status line that is looked at; what Node takes for one is far shorter. */
const LINE_MAX_CHARS = 1_024;

/** Finds the final status in the bytes of an HTTP/1 answer, however they are cut into chunks. */
class StatusLine {
  /** Of the final answer; undefined until its line has come to its end. */
  status: number | undefined;
  private line = '';
  private part: 'status' | 'interim headers' | 'no HTTP' = 'status';

  read(chunk: Buffer): void {
    let at = 0;
    while (this.status === undefined && this.part !== 'no HTTP' && at < chunk.length) {
      const lineEnd = chunk.indexOf(0x0a, at);
      this.line += chunk.toString('latin1', at, lineEnd === -1 ? chunk.length : lineEnd);
      this.line = this.line.slice(0, LINE_MAX_CHARS);
      if (lineEnd === -1) return;
      this.endLine(this.line.replace(/\r$/, ''));
      this.line = '';
      at = lineEnd + 1;
    }
  }

  private endLine(line: string): void {
    if (this.part === 'interim headers') {
      if (line === '') this.part = 'status';
      return;
    }
    if (line === '') return;
    const code = Number(/^HTTP\/1\.[01] +(\d{3})( |$)/.exec(line)?.[1]);
    if (Number.isNaN(code)) this.part = 'no HTTP';
    else if (code >= 100 && code < 200 && code !== 101) this.part = 'interim headers';
    else this.status = code;
  }
}
