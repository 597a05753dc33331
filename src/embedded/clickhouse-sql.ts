import { ClickHouseException } from './clickhouse-errors';

/** A statement as the engine gets it. Text is held as latin1, so that an index is the number of a byte. */
export type Statement =
  | { kind: 'statement'; sql: string }
  | {
      kind: 'insert';
      /** `INSERT INTO t (a, b)`, and its SETTINGS clause, which stands before FORMAT. */
      head: string;
      settings: string;
      format: string;
      /** Where inline data begins in the text; its length when there is none. */
      dataStart: number;
    };

interface Token {
  kind: 'word' | 'string' | 'other';
  text: string;
  start: number;
  end: number;
}

const WORD = /[A-Za-z0-9_$\x80-\xff]+/y;
const SPACE = /[\s\x00]+|--[^\n]*|#[! ][^\n]*|\/\*[\s\S]*?\*\//y;
const HEREDOC = /\$(\w*)\$[\s\S]*?\$\1\$/y;

/**
 * Tells an INSERT whose data follows (inline, or as the request's body) from everything else. Data must not
 * reach the engine as part of the statement: it ends inline data at an empty line and runs the rest as SQL.
 * Throws for several statements in one request, as the real server does.
 */
export function parseStatement(latin1: string): Statement {
  const insert = parseInsert(latin1);
  if (insert !== undefined) return insert;
  let end = latin1.length;
  let semicolon: number | undefined;
  for (const token of tokens(latin1)) {
    if (token.text === ';') semicolon ??= token.start;
    else if (semicolon !== undefined) {
      throw new ClickHouseException(
        62,
        'SYNTAX_ERROR',
        `Syntax error (Multi-statements are not allowed): failed at position ${semicolon + 1} (end of query): ;.`,
      );
    }
  }
  if (semicolon !== undefined) end = semicolon;
  return { kind: 'statement', sql: latin1.slice(0, end) };
}

function parseInsert(text: string): Statement | undefined {
  const iterator = tokens(text);
  if (!isWord(iterator.next().value, 'INSERT')) return undefined;
  let token = nextOf(iterator);
  if (isWord(token, 'INTO')) token = nextOf(iterator);
  if (isWord(token, 'TABLE')) token = nextOf(iterator);
  const isFunction = isWord(token, 'FUNCTION');
  if (isFunction) token = nextOf(iterator);
  // `token` is the first part of the name: a table may be called `values` or `format`.
  let depth = 0;
  let afterDot = false;
  let settingsStart: number | undefined;
  for (token = nextOf(iterator); token !== undefined; token = nextOf(iterator)) {
    if (token.text === '(') depth++;
    else if (token.text === ')') depth--;
    else if (token.kind === 'word' && depth === 0 && !afterDot) {
      switch (token.text.toUpperCase()) {
        case 'SETTINGS':
          settingsStart ??= token.start;
          break;
        case 'VALUES':
          return insertOf(text, settingsStart, token, 'Values', token.end);
        case 'FORMAT': {
          const format = nextOf(iterator);
          if (format?.kind !== 'word') return undefined;
          return insertOf(text, settingsStart, token, format.text, afterFormat(text, format.end));
        }
        case 'SELECT':
        case 'WITH':
        case 'FROM':
        case 'WATCH':
          return undefined;
        default:
      }
    }
    afterDot = token.text === '.';
  }
  return undefined;
}

function insertOf(
  text: string,
  settingsStart: number | undefined,
  clause: Token,
  format: string,
  dataStart: number,
): Statement {
  const headEnd = settingsStart ?? clause.start;
  return {
    kind: 'insert',
    head: text.slice(0, headEnd).trimEnd(),
    settings: settingsStart === undefined ? '' : text.slice(settingsStart, clause.start).trim(),
    format,
    dataStart,
  };
}

/** ClickHouse's own rule: data begins after the line of FORMAT, or after its spaces when it goes on. */
function afterFormat(text: string, end: number): number {
  let at = end;
  if (text[at] === ';') at++;
  while (text[at] === ' ' || text[at] === '\t' || text[at] === '\f') at++;
  if (text[at] === '\r') at++;
  if (text[at] === '\n') at++;
  return at;
}

function nextOf(iterator: Iterator<Token>): Token | undefined {
  const { value, done } = iterator.next() as IteratorResult<Token, undefined>;
  return done === true ? undefined : value;
}

function isWord(token: Token | undefined | void, word: string): boolean {
  return token !== undefined && token.kind === 'word' && token.text.toUpperCase() === word;
}

/** Lexes lazily: what follows the last token asked for, perhaps binary data, is never looked at. */
function* tokens(text: string): Generator<Token, undefined> {
  let at = 0;
  while (at < text.length) {
    const space = matchAt(SPACE, text, at);
    if (space !== undefined) {
      at += space.length;
      continue;
    }
    const char = text.charAt(at);
    let token: Token;
    if (char === "'" || char === '"' || char === '`') {
      token = {
        kind: char === "'" ? 'string' : 'other',
        text: char,
        start: at,
        end: quotedEnd(text, at, char),
      };
    } else {
      const heredoc = char === '$' ? matchAt(HEREDOC, text, at) : undefined;
      const word = heredoc ?? matchAt(WORD, text, at);
      const length = word?.length ?? 1;
      const kind = heredoc !== undefined ? 'string' : word !== undefined ? 'word' : 'other';
      token = {
        kind,
        text: kind === 'string' ? '$' : text.slice(at, at + length),
        start: at,
        end: at + length,
      };
    }
    yield token;
    at = token.end;
  }
  return undefined;
}

function matchAt(pattern: RegExp, text: string, at: number): string | undefined {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0];
}

/** Backslash escapes, and a doubled quote, keep a quoted text open. An unclosed one ends with the text. */
function quotedEnd(text: string, start: number, quote: string): number {
  for (let at = start + 1; at < text.length; at++) {
    const char = text[at];
    if (char === '\\') at++;
    else if (char === quote) {
      if (text[at + 1] !== quote) return at + 1;
      at++;
    }
  }
  return text.length;
}

/** A string literal. */
export function quoteString(value: string): string {
  return `'${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}

/** A quoted identifier. */
export function quoteIdentifier(name: string): string {
  return `\`${name.replaceAll('\\', '\\\\').replaceAll('`', '\\`')}\``;
}
