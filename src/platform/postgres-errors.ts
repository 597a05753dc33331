/** Errors of nodes between us and the server, of TLS, and of name resolution. */
const NETWORK =
  /^(ECONNREFUSED|ECONNRESET|ECONNABORTED|EPIPE|ENOTFOUND|ETIMEDOUT|EAI_AGAIN|EHOSTUNREACH|EHOSTDOWN|ENETUNREACH|ENETDOWN|EADDRNOTAVAIL|EMFILE|ENFILE|ERR_TLS_\w+|CERT_\w+)$/;

/**
 * SQLSTATEs of a server that can't do its work now, whoever asks: connection exceptions (08), authentication and database
 * missing while it is being restored (28, 3D), read-only after a failover (25006), time-outs of a transaction (25P03,
 * 25P04), resources such as memory, disk and connections (53), lock not available (55P03), intervention by an operator or
 * a statement time-out (57), errors of its system (58), and a transaction that lost against others (40001, 40P01).
 */
const SQLSTATE =
  /^(08\w{3}|28\w{3}|3D000|25006|25P03|25P04|53\w{3}|55P03|57\w{3}|58\w{3}|40001|40003|40P01)$/;

/** Prisma's codes of the same, P2028 being a transaction that did not begin or end in time. */
const PRISMA = /^(P1000|P1001|P1002|P1003|P1008|P1010|P1011|P1017|P2024|P2028|P2034|P2037)$/;

/** What Prisma's adapter makes of the same, where it keeps no code. */
const ADAPTER =
  /^(DatabaseNotReachable|ConnectionClosed|SocketTimeout|TooManyConnections|TlsConnectionError|AuthenticationFailed|DatabaseAccessDenied|DatabaseDoesNotExist|TransactionWriteConflict|TransactionAlreadyClosed)$/;

/** What `pg` says without a code. */
const MESSAGE =
  /timeout exceeded when trying to connect|Connection terminated|Query read timeout|not queryable|Cannot use a pool after calling end|SSL connection/;

const MAX_DEPTH = 6;

/**
 * Whether an error says that the database can't be used at the moment: it is away, hangs, is shutting down, starting,
 * full, read-only or overloaded, or the connection broke. Whether the statement was carried out is unknown. It looks
 * through the wrappings of `pg`, of Prisma and of its adapter.
 */
export function isDatabaseUnavailable(error: unknown, depth = 0): boolean {
  if (typeof error !== 'object' || error === null || depth > MAX_DEPTH) return false;
  const { code, originalCode, kind, message, cause, meta, errors } = error as Record<string, unknown>;
  for (const each of [code, originalCode])
    if (typeof each === 'string' && (NETWORK.test(each) || SQLSTATE.test(each) || PRISMA.test(each)))
      return true;
  if (typeof kind === 'string' && ADAPTER.test(kind)) return true;
  if (typeof message === 'string' && MESSAGE.test(message)) return true;
  // Node tries all addresses of a name and reports them together.
  const among: unknown[] = Array.isArray(errors) ? errors : [];
  return [cause, (meta as Record<string, unknown> | undefined)?.['driverAdapterError'], ...among].some(
    (each) => isDatabaseUnavailable(each, depth + 1),
  );
}

/** Whether `pg` gave up waiting for an answer: the server hangs, or the way to it is gone without a word. */
export function isReadTimeout(error: unknown): boolean {
  return error instanceof Error && error.message === 'Query read timeout';
}

/**
 * Whether the server refused to write because it is a standby, or was made read-only: it was the primary when the
 * connection was made, and another one is now. (None of remit's own read-only transactions writes.)
 */
export function isReadOnlyServer(error: unknown): boolean {
  return error instanceof Error && (error as { code?: unknown }).code === '25006';
}
