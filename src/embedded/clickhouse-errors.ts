/** A ClickHouse exception as its HTTP interface reports it: a code, a name, a text, and the status that belongs to it. */
export class ClickHouseException extends Error {
  constructor(
    readonly code: number,
    readonly type: string,
    message: string,
    readonly status: number = httpStatus(code),
  ) {
    super(message);
    this.name = 'ClickHouseException';
  }

  /** `Code: 62. DB::Exception: Syntax error … (SYNTAX_ERROR) (version …)`: the form that clients parse. */
  text(version: string): string {
    return `Code: ${this.code}. DB::Exception: ${this.message} (${this.type}) (version ${version} (embedded engine))\n`;
  }
}

const BAD_REQUEST = [
  6, 26, 27, 28, 36, 38, 41, 42, 43, 44, 53, 57, 61, 62, 63, 69, 70, 72, 115, 117, 130, 131, 167, 168, 190, 191, 279,
  321, 377, 407, 441, 456, 457, 467, 469, 691,
]; // prettier-ignore
const NOT_FOUND = [16, 17, 46, 47, 50, 56, 60, 73, 78, 81];

/** The status that ClickHouse's HTTPHandler gives to an exception code; 500 for what it does not list. */
function httpStatus(code: number): number {
  if (BAD_REQUEST.includes(code)) return 400;
  if (NOT_FOUND.includes(code)) return 404;
  switch (code) {
    case 194: // REQUIRED_PASSWORD
      return 401;
    case 192: // UNKNOWN_USER
    case 193: // WRONG_PASSWORD
    case 516: // AUTHENTICATION_FAILED
      return 403;
    case 159: // TIMEOUT_EXCEEDED
    case 209: // SOCKET_TIMEOUT
      return 408;
    case 223: // QUERY_IS_TOO_LARGE
    case 307: // TOO_MANY_BYTES
      return 413;
    case 48: // NOT_IMPLEMENTED
      return 501;
    case 202: // TOO_MANY_SIMULTANEOUS_QUERIES
      return 503;
    default:
      return 500;
  }
}

/**
 * What the engine threw, without what only the embedding adds: the prefix said twice, and the path of the
 * spool file that held the body. Row numbers `(at row N)` stay.
 */
export function fromEngine(error: unknown): ClickHouseException {
  if (error instanceof ClickHouseException) return error;
  const raw = (error instanceof Error ? error.message : String(error)).trim();
  const code = /Code: (\d+)\. DB::Exception/.exec(raw)?.[1];
  if (code === undefined) return new ClickHouseException(1002, 'UNKNOWN_EXCEPTION', raw);
  let text = raw.replace(/^(?:Code: \d+\. DB::Exception: )+/, '');
  let type = 'UNKNOWN_EXCEPTION';
  for (;;) {
    const end = /\.?\s*\((?:(version [^)]*(?:\([^)]*\))?)|([A-Z][A-Z0-9_]{2,}))\)\.?\s*$/.exec(text);
    if (end === null) break;
    type = end[2] ?? type;
    text = text.slice(0, end.index);
  }
  text = text
    .replace(/:? ?\(in file\/uri [^)]*\)/g, '')
    .replace(/: data for INSERT was parsed from file/g, ': data for INSERT was parsed from the body');
  return new ClickHouseException(Number(code), type, `${text}.`);
}
