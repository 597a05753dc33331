import { createReadStream } from 'node:fs';
import { access, constants, stat } from 'node:fs/promises';

/** A line that is a message: neither blank nor a comment. */
export interface MessageLine {
  /** From 1, as editors count. */
  number: number;
  /** Its length, without what ends it. */
  bytes: number;
  /** The bytes as they stand in the file; nothing when there are more of them than the limit. */
  value: Buffer | undefined;
  /** Bytes of the file up to the end of this line. */
  end: number;
}

const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const COMMENT = 0x23;
/** ASCII alone: what else a decoder might call a blank are bytes of a message. */
const ONLY_BLANKS = /^[\t\v\f\r ]*$/;

/**
 * The size of a file that is going to be read; 0 of a pipe.
 * @throws when it is a folder, missing, or not readable.
 */
export async function readableSize(file: string): Promise<number> {
  const found = await stat(file);
  if (found.isDirectory()) throw new Error('it is a folder');
  await access(file, constants.R_OK);
  return found.size;
}

/**
 * Reads the messages of a file, one a line, without ever holding more than one line of `maxBytes` and one piece of the
 * file. Lines end with LF or CRLF, the last one also with the file; nothing is decoded, so that a message of any bytes
 * stays what it is. Blank lines and lines that begin with `#` are left out, and counted in the numbers.
 * @throws when the file can't be read (any more).
 */
export async function* messageLines(file: string, maxBytes: number): AsyncGenerator<MessageLine, void> {
  let number = 1;
  let end = 0;
  let bytes = 0;
  let parts: Buffer[] = [];
  let comment = false;
  let lastByte: number | undefined;

  const add = (part: Buffer): void => {
    if (bytes === 0) comment = part[0] === COMMENT;
    bytes += part.length;
    lastByte = part.at(-1) ?? lastByte;
    // One more than the limit may be the CR of the line's end.
    if (comment || bytes > maxBytes + 1) parts = [];
    else parts.push(part);
  };
  const endOfLine = (ended: boolean): MessageLine | undefined => {
    const length = ended && bytes > 0 && lastByte === CARRIAGE_RETURN ? bytes - 1 : bytes;
    const value = length <= maxBytes ? Buffer.concat(parts, length) : undefined;
    const isLeftOut = comment || (value !== undefined && ONLY_BLANKS.test(value.toString('latin1')));
    const found = { number, bytes: length, value, end };
    number += 1;
    bytes = 0;
    parts = [];
    comment = false;
    return isLeftOut ? undefined : found;
  };

  for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
    let start = 0;
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, start)) {
      add(chunk.subarray(start, at));
      end += at + 1 - start;
      start = at + 1;
      const line = endOfLine(true);
      if (line) yield line;
    }
    if (start < chunk.length) add(chunk.subarray(start));
    end += chunk.length - start;
  }
  const last = endOfLine(false);
  if (last) yield last;
}
