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

/**
 * JSON as somebody wrote it, and what it says: for what is passed on byte for byte. `value` has JavaScript's numbers, which
 * may be rounded; the text is never made from it.
 */
export class JsonText {
  constructor(
    readonly text: string,
    readonly value: unknown,
  ) {}

  static of(value: object): JsonText {
    return new JsonText(JSON.stringify(value), value);
  }

  /** So that whatever compares requests as JSON compares what was written. */
  toJSON(): string {
    return this.text;
  }
}

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

// ---------------------------------------------------------------------------------------------------- kept text

/**
 * Parses JSON as JavaScript does, but for the values at `path`, which are kept as they were written (JsonText). A step of
 * the path is a name, or `*` for every element of an array; what the path does not lead to is parsed like the rest.
 * @throws JsonError also when an object on the way has a name twice: readers disagree on which counts.
 */
export function parseKeeping(text: string, path: readonly string[]): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new JsonError(error instanceof Error ? error.message : String(error));
  }
  return keep(text, skipSpace(text, 0), value, path);
}

/** @param at where in the text the value begins. The text is known to be JSON. */
function keep(text: string, at: number, value: unknown, [step, ...rest]: readonly string[]): unknown {
  if (step === undefined) return new JsonText(text.slice(at, endOfValue(text, at)), value);
  if (step === '*') {
    if (Array.isArray(value)) keepElements(text, at, value, rest);
  } else if (typeof value === 'object' && value !== null && !Array.isArray(value))
    keepMember(text, at, value as Record<string, unknown>, step, rest);
  return value;
}

function keepElements(text: string, open: number, values: unknown[], rest: readonly string[]): void {
  let at = open + 1;
  for (let index = 0; index < values.length; index += 1) {
    at = skipSpace(text, at);
    values[index] = keep(text, at, values[index], rest);
    at = skipSpace(text, endOfValue(text, at)) + 1;
  }
}

function keepMember(
  text: string,
  open: number,
  value: Record<string, unknown>,
  wanted: string,
  rest: readonly string[],
): void {
  const seen = new Set<string>();
  for (let at = skipSpace(text, open + 1); text.charCodeAt(at) === 0x22;) {
    const close = endOfString(text, at);
    const written = text.slice(at + 1, close);
    const name = written.includes('\\') ? (JSON.parse(`"${written}"`) as string) : written;
    if (seen.has(name)) throw new JsonError(`Duplicate key '${name}'`);
    seen.add(name);
    at = skipSpace(text, skipSpace(text, close + 1) + 1);
    if (name === wanted) value[name] = keep(text, at, value[name], rest);
    at = skipSpace(text, endOfValue(text, at));
    if (text.charCodeAt(at) !== 0x2c) return;
    at = skipSpace(text, at + 1);
  }
}

function skipSpace(text: string, from: number): number {
  let at = from;
  for (let code = text.charCodeAt(at); code <= 0x20; code = text.charCodeAt(at)) at += 1;
  return at;
}

/** Where the value that begins at `from` is over, in a text that is known to be JSON. */
function endOfValue(text: string, from: number): number {
  let levels = 0;
  for (let at = from; at < text.length; at += 1) {
    switch (text.charCodeAt(at)) {
      case 0x22:
        at = endOfString(text, at);
        if (levels === 0) return at + 1;
        break;
      case 0x5b:
      case 0x7b:
        levels += 1;
        break;
      case 0x5d:
      case 0x7d:
        if (levels <= 1) return levels === 0 ? at : at + 1;
        levels -= 1;
        break;
      case 0x2c:
      case 0x20:
      case 0x09:
      case 0x0a:
      case 0x0d:
        if (levels === 0) return at;
        break;
    }
  }
  return text.length;
}

const NUMBER = /-?\d+(?:\.\d+)?(?:[eE][+-]?(\d+))?/y;
/** What a number may take, so that everything behind us can hold it as it is: PostgreSQL's numeric has a limit far beyond. */
const NUMBER_MAX_CHARACTERS = 1_000;
const NUMBER_MAX_EXPONENT = 1_000;

/** Why a JSON text, known to be one, can't be handed on as it is; undefined when it can. */
export function keptTextFault(text: string, maxLevels: number): string | undefined {
  let levels = 0;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === 0x22) at = endOfString(text, at);
    else if (code === 0x7b || code === 0x5b) {
      levels += 1;
      if (levels > maxLevels) return `must not be nested deeper than ${maxLevels} levels`;
    } else if (code === 0x7d || code === 0x5d) levels -= 1;
    else if (code === 0x2d || (code >= 0x30 && code <= 0x39)) {
      NUMBER.lastIndex = at;
      const [number = '', exponent = '0'] = NUMBER.exec(text) ?? [];
      if (number.length > NUMBER_MAX_CHARACTERS || Number(exponent) > NUMBER_MAX_EXPONENT)
        return `has a number of more than ${NUMBER_MAX_CHARACTERS} characters, or with an exponent beyond ±${NUMBER_MAX_EXPONENT}`;
      at += number.length - 1;
    }
  }
  return undefined;
}

/**
 * Whether two JSON texts say the same: numbers by their decimal value (1.10 is 1.1, and 9007199254740993 is not …992),
 * names in any order, whitespace and escapes as they may be. Of a name that stands twice the last counts.
 * Both are known to be JSON that keptTextFault takes.
 */
export function saySame(one: string, other: string): boolean {
  return canonical(one) === canonical(other);
}

function canonical(text: string): string {
  const [form] = canonicalAt(text, skipSpace(text, 0));
  return form;
}

/** The value at `at` in a form that all that say the same have, and where it is over. */
function canonicalAt(text: string, at: number): [form: string, end: number] {
  const code = text.charCodeAt(at);
  if (code !== 0x7b && code !== 0x5b) {
    const end = endOfValue(text, at);
    const written = text.slice(at, end);
    if (code === 0x22) return [JSON.stringify(JSON.parse(written)), end];
    return [code === 0x2d || (code >= 0x30 && code <= 0x39) ? decimalForm(written) : written, end];
  }
  const members = new Map<string, string>();
  const closing = code === 0x7b ? 0x7d : 0x5d;
  let next = skipSpace(text, at + 1);
  while (text.charCodeAt(next) !== closing) {
    let name = String(members.size);
    if (code === 0x7b) {
      const close = endOfString(text, next);
      name = JSON.stringify(JSON.parse(text.slice(next, close + 1)));
      next = skipSpace(text, skipSpace(text, close + 1) + 1);
    }
    const [form, end] = canonicalAt(text, next);
    members.set(name, form);
    next = skipSpace(text, end);
    if (text.charCodeAt(next) === 0x2c) next = skipSpace(text, next + 1);
  }
  if (code === 0x5b) return [`[${[...members.values()].join(',')}]`, next + 1];
  const sorted = [...members].sort(([a], [b]) => (a < b ? -1 : 1));
  return [`{${sorted.map(([name, form]) => `${name}:${form}`).join(',')}}`, next + 1];
}

/** A number as its digits without zeros around them, and the power of ten that they are multiplied with. */
function decimalForm(number: string): string {
  const [mantissa = '', power = '0'] = number.toLowerCase().split('e');
  const [whole = '', fraction = ''] = mantissa.replace('-', '').split('.');
  const digits = (whole + fraction).replace(/^0+/, '');
  const significant = digits.replace(/0+$/, '');
  if (significant === '') return '0';
  const exponent = Number(power) - fraction.length + (digits.length - significant.length);
  return `${number.startsWith('-') ? '-' : ''}${significant}e${exponent}`;
}
