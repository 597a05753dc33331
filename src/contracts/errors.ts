/**
 * Every error code that leaves remit: in problem documents (`type` is `urn:remit:error:<code>`), in dead-letter
 * headers and in the `failure_code` of payments, payouts and orders. A closed set, so that clients can switch on it.
 */
export const PROBLEM_STATUS = {
  invalid_request: 400,
  invalid_json: 400,
  unauthenticated: 401,
  signature_invalid: 401,
  forbidden: 403,
  not_found: 404,
  method_not_allowed: 405,
  request_timeout: 408,
  account_exists: 409,
  conflict: 409,
  precondition_failed: 412,
  body_too_large: 413,
  unsupported_media_type: 415,
  idempotency_in_progress: 409,
  idempotency_key_reused: 422,
  account_missing: 422,
  unprocessable: 422,
  schema_too_complex: 422,
  precondition_required: 428,
  rate_limited: 429,
  internal: 500,
  not_queued: 500,
  unavailable: 503,
} as const;

export type ProblemCode = keyof typeof PROBLEM_STATUS;

/** Why a Kafka message was dead-lettered (header `remit-error-code`). */
export const DEAD_LETTER_CODES = [
  'invalid_json',
  'invalid_message',
  'amount_invalid',
  'message_too_large',
  'unknown_provider',
  'unknown_transaction',
  'unknown_order',
  'unknown_event',
  'unknown_event_type',
  'reserved_event_type',
  'schema_mismatch',
  'schema_too_complex',
  'order_not_paid',
  'amount_mismatch',
  'type_mismatch',
  'user_mismatch',
  'payment_method_mismatch',
  'dispute_mismatch',
  'event_conflict',
  'too_many_waiting',
  'cancelled',
  'row_refused',
  'unreadable_batch',
  'delivery_exhausted',
] as const;

export type DeadLetterCode = (typeof DEAD_LETTER_CODES)[number];

/** Why a payment, payout or order ended without moving the money it asked for. Business outcomes, not errors. */
export const FAILURE_CODES = [
  'insufficient_funds',
  'account_missing',
  'currency_mismatch',
  'provider_declined',
  'expired',
] as const;

export type FailureCode = (typeof FAILURE_CODES)[number];

/** A refusal that the API answers with a problem document (RFC 9457); the API layer alone maps it to HTTP. */
export class RemitError extends Error {
  constructor(
    readonly code: ProblemCode,
    message: string,
    readonly fields: readonly { path: string; message: string }[] = [],
  ) {
    super(message);
    this.name = 'RemitError';
  }
}
