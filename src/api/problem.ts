import type { Response } from 'express';
import type { z } from 'zod';
import { PROBLEM_STATUS, RemitError, type ProblemCode } from '../contracts/errors';
import type { Problem } from '../contracts/http';
import { AmountError } from '../contracts/money';
import { ConflictsExhaustedError, DataRefusedError } from '../domain/money-transaction';
import { NotQueuedError } from '../platform/kafka';
import { isDatabaseUnavailable } from '../platform/postgres-errors';

/** Everything the API refuses leaves as an RFC 9457 problem document; nothing of the inside does. */

const TITLES: Record<ProblemCode, string> = {
  invalid_request: 'The request is not valid',
  invalid_json: 'The body is not valid JSON',
  unauthenticated: 'Authentication is required',
  signature_invalid: 'The signature is not valid',
  forbidden: 'Not allowed',
  not_found: 'Not found',
  method_not_allowed: 'Method not allowed',
  request_timeout: 'The request took too long to arrive',
  account_exists: 'The account exists already',
  conflict: 'Conflict with the current state',
  precondition_failed: 'Changed in the meantime',
  body_too_large: 'The body is too large',
  unsupported_media_type: 'The content type is not supported',
  idempotency_in_progress: 'A request with this idempotency key is in progress',
  idempotency_key_reused: 'The idempotency key was used for another request',
  account_missing: 'The user has no account in this currency',
  unprocessable: 'The request can’t be carried out',
  schema_too_complex: 'The schema takes too long to check',
  precondition_required: 'If-Match is required',
  rate_limited: 'Too many requests',
  internal: 'Internal error',
  not_queued: 'The event could not be queued',
  unavailable: 'Not available at the moment',
};

const RETRY_AFTER_S: Partial<Record<ProblemCode, number>> = {
  not_queued: 1,
  unavailable: 1,
  idempotency_in_progress: 1,
  rate_limited: 1,
};
/** SQLSTATE of a number beyond bigint. */
const OUT_OF_RANGE = '22003';
const MAX_FIELDS = 20;
const MAX_TEXT_CHARACTERS = 200;

export interface Fault {
  code: ProblemCode;
  detail: string;
  errors: { path: string; message: string }[];
  /** Ours to look at: logged with its stack, and hidden from the client. */
  unexpected: boolean;
}

/** Translates whatever was thrown into what the client may know. Never throws. */
export function toFault(error: unknown): Fault {
  if (error instanceof RemitError)
    return fault(error.code, error.message, error.fields.slice(0, MAX_FIELDS).map(cut));
  if (error instanceof AmountError)
    return fault('invalid_request', 'A field is not valid.', [{ path: 'amount', message: error.message }]);
  if (error instanceof NotQueuedError)
    return fault('not_queued', 'The message broker did not take the event; send it again.');
  if (error instanceof DataRefusedError && error.code === OUT_OF_RANGE)
    return fault('unprocessable', 'A balance would become larger than can be kept; nothing was moved.', [
      { path: 'amount', message: 'makes a balance that is larger than can be kept' },
    ]);
  const parser = fromHttpError(error);
  if (parser) return parser;
  if (error instanceof ConflictsExhaustedError)
    return {
      ...fault('unavailable', 'Too many changes to the account at once; try again.'),
      unexpected: true,
    };
  if (isDatabaseUnavailable(error))
    return {
      ...fault('unavailable', 'The database can’t be used at the moment; try again.'),
      unexpected: true,
    };
  return { ...fault('internal', 'Something went wrong on our side; it has been logged.'), unexpected: true };
}

function fault(code: ProblemCode, detail: string, errors: Fault['errors'] = []): Fault {
  return { code, detail, errors, unexpected: false };
}

/** Errors of Express and its body parser carry a 4xx status and a `type`. */
function fromHttpError(error: unknown): Fault | undefined {
  if (typeof error !== 'object' || error === null) return undefined;
  const { status, type } = error as { status?: unknown; type?: unknown };
  if (typeof status !== 'number' || status < 400 || status > 499) return undefined;
  if (status === 413) return fault('body_too_large', 'The body is larger than the server accepts.');
  if (status === 415)
    return fault('unsupported_media_type', 'Send application/json in UTF-8, not compressed.');
  if (type === 'entity.parse.failed') return fault('invalid_json', 'The body is not valid JSON.');
  if (type === 'request.aborted') return fault('invalid_request', 'The body ended before its stated length.');
  if (error instanceof URIError)
    return fault('invalid_request', 'The path is not correctly percent-encoded.');
  return fault('invalid_request', 'The request can’t be read.');
}

/** A validation failure as a RemitError that names each field. */
export function invalidRequest(error: z.ZodError, detail = 'Some fields are not valid.'): RemitError {
  return new RemitError('invalid_request', detail, fieldErrors(error));
}

/** One entry a field; an unknown field is named itself. */
export function fieldErrors(error: z.ZodError): Fault['errors'] {
  return error.issues
    .flatMap((issue) => {
      const path = issue.path.map(String);
      if (issue.code === 'unrecognized_keys')
        return issue.keys.map((key) => ({ path: [...path, key].join('.'), message: 'unknown field' }));
      return [{ path: path.join('.') || 'body', message: issueMessage(issue) }];
    })
    .slice(0, MAX_FIELDS)
    .map(cut);
}

function issueMessage(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_union') {
    const inner = [...new Set(issue.errors.flatMap((issues) => issues.map(issueMessage)))];
    return inner.length > 0 ? inner.join(', or ') : issue.message;
  }
  if (issue.code === 'invalid_type' && issue.message.endsWith('received undefined')) return 'required';
  return issue.message.replace(/^Invalid input: /, '');
}

function cut(entry: { path: string; message: string }): { path: string; message: string } {
  return {
    path: entry.path.slice(0, MAX_TEXT_CHARACTERS),
    message: entry.message.slice(0, MAX_TEXT_CHARACTERS),
  };
}

/** The problem document of a fault. `path` is the request's, without its query. */
export function problemDocument(found: Fault, path: string, correlationId: string): Problem {
  return {
    type: `urn:remit:error:${found.code}`,
    title: TITLES[found.code],
    status: PROBLEM_STATUS[found.code],
    detail: found.detail,
    instance: path.slice(0, MAX_TEXT_CHARACTERS),
    code: found.code,
    errors: found.errors,
    correlationId,
  };
}

/** Answers with the problem document, unless the response has begun already. */
export function sendProblem(response: Response, found: Fault, path: string, correlationId: string): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const retryAfter = RETRY_AFTER_S[found.code];
  // The rate limit has said already how long its window still is.
  if (retryAfter !== undefined && !response.hasHeader('Retry-After'))
    response.setHeader('Retry-After', String(retryAfter));
  if (found.code === 'unauthenticated') response.setHeader('WWW-Authenticate', 'Bearer realm="remit"');
  response.statusCode = PROBLEM_STATUS[found.code];
  response.setHeader('Content-Type', 'application/problem+json');
  response.end(JSON.stringify(problemDocument(found, path, correlationId)));
}
