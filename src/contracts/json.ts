import { isUtf8 } from 'node:buffer';
import { isSafeNumber, LosslessNumber, parse } from 'lossless-json';

/**
 * How JSON is read wherever somebody else wrote it: UTF-8 and nothing else (RFC 8259), no name twice in an object with
 * different values (readers disagree on which counts), bounded nesting, and numbers that are what was written.
 */

/** Everything that walks JSON, here and behind us, may recurse. */
export const MAX_LEVELS = 500;
/** A longer number is left as it is written: whether a double holds it would take long to tell. */
const MAX_NUMBER_CHARACTERS = 200;

/** The bytes are no JSON that we read; `message` says why. */
export class JsonError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'JsonError';
  }
}

/**
 * The text of JSON bytes.
 * @throws JsonError when they are not UTF-8, or begin with a byte order mark.
 */
export function decodeJson(bytes: Buffer): string {
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf)
    throw new JsonError('begins with a byte order mark; send UTF-8 without one');
  if (!isUtf8(bytes)) throw new JsonError('is not UTF-8');
  return bytes.toString('utf8');
}

/**
 * Parses JSON without changing a number: one that JavaScript can't hold exactly (0.1 can: it is printed as 0.1 again) is a
 * LosslessNumber, which has the text that was written.
 * @throws JsonError
 */
export function parseExactly(text: string, maxLevels = MAX_LEVELS): unknown {
  requireFewLevels(text, maxLevels);
  try {
    return parse(text, undefined, exactNumber);
  } catch (error) {
    throw new JsonError(error instanceof Error ? error.message : String(error));
  }
}

function exactNumber(text: string): number | LosslessNumber {
  return text.length <= MAX_NUMBER_CHARACTERS && isSafeNumber(text) ? Number(text) : new LosslessNumber(text);
}

/** @throws JsonError when arrays and objects are nested deeper than we follow. */
function requireFewLevels(text: string, maxLevels: number): void {
  // Short of so many characters there is no room for as many levels.
  if (text.length <= maxLevels) return;
  let levels = 0;
  for (let at = 0; at < text.length; at += 1) {
    switch (text.charCodeAt(at)) {
      case 0x22: {
        at = endOfString(text, at);
        break;
      }
      case 0x5b:
      case 0x7b:
        levels += 1;
        if (levels > maxLevels) throw new JsonError(`is nested deeper than ${maxLevels} levels`);
        break;
      case 0x5d:
      case 0x7d:
        levels -= 1;
        break;
    }
  }
}

/** Where the closing quote of a string is; the end of the text when there is none. */
function endOfString(text: string, open: number): number {
  for (let close = text.indexOf('"', open + 1); close >= 0; close = text.indexOf('"', close + 1)) {
    let backslashes = 0;
    while (text.charCodeAt(close - 1 - backslashes) === 0x5c) backslashes += 1;
    if (backslashes % 2 === 0) return close;
  }
  return text.length;
}
