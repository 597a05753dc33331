import { z } from 'zod';
import { PROBLEM_STATUS, type ProblemCode } from './errors';
import { Timestamp } from './times';

/**
 * What the HTTP API takes and answers, whatever it is about; the rest is in `accounts`, `orders`, `payments`,
 * `subscriptions`, `events` and `replays`. The OpenAPI document is generated from these schemas, so that it can't differ
 * from what the server checks. Requests are strict: an unknown field is a mistake and is named.
 */

/** No control characters: PostgreSQL stores no NUL, and the others have no place in a line of text. */
export const NO_CONTROLS = /^[^\u0000-\u001f\u007f-\u009f]*$/;
/** Half a surrogate pair has no UTF-8 form. */
export const isWellFormed = (text: string) => !/\p{Surrogate}/u.test(text);
export const cleanText = (maxLength: number) =>
  z
    .string()
    .max(maxLength)
    .regex(NO_CONTROLS, { error: 'must not contain control characters' })
    .refine(isWellFormed, { error: 'must not contain lone surrogates' });

/** A user's id as the gateway, the token or the caller names it: 1 to 128 printable ASCII characters. */
export const UserId = z
  .string()
  .regex(/^[\x21-\x7e](?:[\x20-\x7e]{0,126}[\x21-\x7e])?$/, {
    error: 'must be 1 to 128 printable ASCII characters without spaces around them',
  })
  .meta({ description: 'User id, 1 to 128 printable ASCII characters', example: 'user123' });

/** A tenant's name, as tokens carry it. */
export const TenantId = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, { error: 'must be 1 to 64 of A-Z a-z 0-9 . _ -' });

/** What a caller may send as X-Correlation-Id. Anything else is replaced by an id of our own. */
export const CORRELATION_ID = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/;

export const IdParams = z.strictObject({ id: z.string().max(200) });
export const Uuid = z.guid({ error: 'not a UUID' }).transform((value) => value.toLowerCase());
/** A UUID in a path, in lower case; undefined when it is none, which a route answers like an id that does not exist. */
export function uuidOrUndefined(text: string): string | undefined {
  const parsed = Uuid.safeParse(text);
  return parsed.success ? parsed.data : undefined;
}

/** A moment that remit answers with. */
export const Instant = z.iso.datetime({ offset: true });
export const DecimalAmount = z
  .string()
  .regex(/^-?\d+(\.\d+)?$/)
  .meta({ description: 'Major units, with exactly the decimals of the currency', example: '100.00' });

// ---------------------------------------------------------------------------------------------------- pages

const PAGE_ROWS = 50;

export const PageQuery = z.strictObject({
  limit: z
    .string()
    .regex(/^[1-9]\d{0,5}$/, { error: 'must be a whole number from 1' })
    .default(String(PAGE_ROWS))
    .meta({
      // On the wire it is text; in the document it is what it means.
      type: 'integer',
      minimum: 1,
      maximum: 999_999,
      default: PAGE_ROWS,
      description: 'Rows on the page; more than the server allows is lowered to that',
    }),
  cursor: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,200}$/, { error: 'not a cursor that a list returned' })
    .optional()
    .meta({ description: 'nextCursor of the page before' }),
});

/** Lists that can be cut to a time. */
export const createdTime = {
  since: Timestamp.optional().meta({ description: 'made from this moment on' }),
  until: Timestamp.optional().meta({ description: 'made before this moment' }),
};

export const page = <T extends z.ZodType>(item: T, id: string) =>
  z
    .object({
      items: z.array(item),
      nextCursor: z
        .string()
        .nullable()
        .meta({ description: 'cursor of the next page; null on the last one' }),
    })
    .meta({ id });

// ---------------------------------------------------------------------------------------------------- problems

export const Problem = z
  .object({
    type: z
      .string()
      .meta({ description: 'urn:remit:error:<code>', example: 'urn:remit:error:invalid_request' }),
    title: z.string(),
    status: z.int().min(400).max(599),
    detail: z.string(),
    instance: z.string().meta({ description: 'path of the request' }),
    code: z.enum(Object.keys(PROBLEM_STATUS) as [ProblemCode, ...ProblemCode[]]),
    errors: z
      .array(z.object({ path: z.string(), message: z.string() }))
      .meta({ description: 'every field that is wrong, where fields are' }),
    correlationId: z.string(),
  })
  .meta({ id: 'Problem', description: 'RFC 9457 problem document' });
export type Problem = z.infer<typeof Problem>;

// ---------------------------------------------------------------------------------------------------- provider webhooks, health

export const Accepted = z
  .object({ accepted: z.literal(true), correlationId: z.string() })
  .meta({ id: 'Accepted', description: 'Kafka has the event on all in-sync replicas' });

export const Alive = z.object({ alive: z.literal(true) }).meta({ id: 'Alive' });
export const Readiness = z
  .object({ ready: z.boolean(), dependencies: z.record(z.string(), z.string()) })
  .meta({ id: 'Readiness', description: 'each dependency: ok, or what is wrong with it' });
