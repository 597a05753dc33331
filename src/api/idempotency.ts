import { createHash, randomUUID } from 'node:crypto';
import stableStringify from 'safe-stable-stringify';
import { PROBLEM_STATUS, RemitError, type ProblemCode } from '../contracts/errors';
import {
  answerContext,
  claimKey,
  forgetKey,
  releaseKey,
  storeAnswer,
  type KeyScope,
} from '../domain/idempotency';
import { metrics } from '../platform/metrics';
import { isDatabaseUnavailable } from '../platform/postgres-errors';
import { toFault } from './problem';
import { takesIdempotencyKey, type Answer, type ApiDeps, type Caller, type RouteDoc } from './routes/route';

/** A structured-header string in quotes, as the IETF draft has it, or the bare key that most clients send. */
const QUOTED = /^"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"$/;
const MAX_KEY_CHARACTERS = 255;
/** Refused before anything was done, and perhaps not the next time: depends on what is sent, or on what else is going on. */
const NOT_EXECUTED: ReadonlySet<string> = new Set<ProblemCode>([
  'invalid_request',
  'schema_too_complex',
  'rate_limited',
]);

/** @throws RemitError invalid_request when the header is no key: 1 to 255 printable ASCII characters. */
function readIdempotencyKey(header: string | string[] | undefined): string | undefined {
  if (header === undefined) return undefined;
  const text = Array.isArray(header) ? header.join(', ') : header;
  const quoted = QUOTED.exec(text.trim())?.[1];
  const key = quoted === undefined ? text.trim() : quoted.replace(/\\(["\\])/g, '$1');
  if (key.length === 0 || key.length > MAX_KEY_CHARACTERS || !/^[\x20-\x7e]+$/.test(key))
    throw new RemitError('invalid_request', 'Idempotency-Key is not valid.', [
      { path: 'Idempotency-Key', message: 'must be 1 to 255 printable ASCII characters' },
    ]);
  return key;
}

export interface OnceRequest {
  route: Pick<RouteDoc, 'method' | 'path' | 'access' | 'answersSecret'>;
  header: string | string[] | undefined;
  caller: Caller;
  /** All that the request asks for, as it was checked. */
  input: { params: unknown; query: unknown; body: unknown };
}

type Stored =
  | { answer: Answer }
  /** Its answer was of a kind that is not kept. */
  | { executed: true }
  | { problem: { code: RemitError['code']; detail: string; errors: RemitError['fields'] } };

/**
 * Carries out a request once for each Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): a repetition gets
 * the first answer with `Idempotency-Replayed: true`, refusals (4xx) included. What failed on our side (5xx) is not
 * kept: a repetition executes again, under the same operation id, which is what makes that harmless. Without a key the
 * request is simply executed. Every request of a known caller passes here; every POST among them takes a key.
 *
 * Requests that are refused before they are executed (not authenticated, not valid) leave their key unused.
 *
 * An answer with a secret is not kept: a repetition is executed again as one that makes nothing new (`repeats`), so that whoever
 * asks is authenticated for it, finds what is true now, and is in the audit log where seeing it is noted.
 * @throws RemitError idempotency_key_reused for another request under the same key, idempotency_in_progress while
 *   another request with it is being executed; whatever `execute` throws.
 */
export async function once(
  { database, config, keyring, log }: Pick<ApiDeps, 'database' | 'config' | 'keyring' | 'log'>,
  { route, header, caller, input }: OnceRequest,
  execute: (operationId: string, repeats: boolean) => Promise<Answer>,
): Promise<Answer> {
  const key = takesIdempotencyKey(route) ? readIdempotencyKey(header) : undefined;
  if (key === undefined) return execute(randomUUID(), false);

  const scope: KeyScope = {
    tenantId: caller.tenantId,
    subject: caller.actor,
    route: `${route.method.toUpperCase()} ${route.path}`,
    key,
  };
  const count = (result: string) => metrics.idempotentReplays.inc({ route: scope.route, result });
  const hash = createHash('sha256')
    .update(stableStringify(input) ?? '')
    .digest('hex');
  const claim = await claimKey(database, scope, hash, {
    ttlMs: config.IDEMPOTENCY_KEY_TTL_MS,
    leaseMs: config.IDEMPOTENCY_LEASE_MS,
  });
  if (claim.state === 'reused') {
    count('reused');
    throw new RemitError('idempotency_key_reused', 'This Idempotency-Key was used for another request.');
  }
  if (claim.state === 'in_progress') {
    count('in_progress');
    throw new RemitError(
      'idempotency_in_progress',
      'A request with this Idempotency-Key is in progress; repeat it to get its answer.',
    );
  }
  const context = answerContext(claim.operationId);
  if (claim.state === 'replay') {
    count('replayed');
    const stored = JSON.parse(keyring.decrypt(claim.answer, context)) as Stored;
    return 'executed' in stored ? replayed(await execute(claim.operationId, true)) : replay(stored);
  }

  count(claim.takenOver ? 'taken_over' : 'executed');
  const keep = (stored: Stored) =>
    storeAnswer(database, scope, claim.operationId, keyring.encrypt(JSON.stringify(stored), context)).catch(
      // What was asked for is done; without its answer a repetition finds that out by its operation id.
      (error: unknown) => log.warn({ err: error, route: scope.route }, 'an idempotent answer was not stored'),
    );
  try {
    const answer = await execute(claim.operationId, false);
    await keep(route.answersSecret ? { executed: true } : { answer });
    return answer;
  } catch (error) {
    const { code, detail, errors, unexpected } = toFault(error);
    if (unexpected || PROBLEM_STATUS[code] >= 500) {
      const released = releaseKey(database, scope, claim.operationId).catch(() => undefined);
      // The answer does not wait for a database that is away a second time; the lease ends by itself.
      if (!isDatabaseUnavailable(error)) await released;
    } else if (NOT_EXECUTED.has(code))
      await forgetKey(database, scope, claim.operationId).catch(() => undefined);
    else await keep({ problem: { code, detail, errors } });
    throw error;
  }
}

function replay(stored: Exclude<Stored, { executed: true }>): Answer {
  if ('answer' in stored) return replayed(stored.answer);
  const { code, detail, errors } = stored.problem;
  throw new ReplayedRefusal(code, detail, errors);
}

const replayed = (answer: Answer): Answer => ({
  ...answer,
  headers: { ...answer.headers, 'Idempotency-Replayed': 'true' },
});

/** A refusal that was stored: sent with the header that says so. */
export class ReplayedRefusal extends RemitError {}
