import { z } from 'zod';
import { cleanText, DecimalAmount, Instant } from './http';
import { Currency } from './money';

/** The past and the future of one thing: what `remit why` and the console's timeline show. */

/** Of several things with one id, the one whose kind comes first is meant: it has more of a history. */
export const SubjectKind = z.enum([
  'payment',
  'payout',
  'order',
  'dispute',
  'event',
  'delivery',
  'subscription',
  'replay',
  'user',
]);
export type SubjectKind = z.infer<typeof SubjectKind>;

const subjectFields = { kind: SubjectKind, id: z.string() };
export const SubjectRef = z.object(subjectFields).meta({ id: 'SubjectRef' });
export type SubjectRef = z.infer<typeof SubjectRef>;

export const TimelineParams = z.strictObject({ id: z.string().max(300) });

const nullableText = z.string().nullable();

export const TimelineSubject = z
  .object({
    ...subjectFields,
    title: z.string().meta({ description: 'one line of what it is', example: 'payment of 100.00 TRY' }),
    status: nullableText,
    userId: nullableText,
    amount: DecimalAmount.nullable(),
    currency: Currency.nullable(),
    correlationId: nullableText,
    createdAt: Instant,
    workflowId: nullableText.meta({ description: 'its workflow in Temporal; null when it has none' }),
  })
  .meta({ id: 'TimelineSubject' });
export type TimelineSubject = z.infer<typeof TimelineSubject>;

/** Where an entry was read from. */
export const TimelineSource = z
  .enum([
    'request',
    'state',
    'provider',
    'kafka',
    'workflow',
    'ledger',
    'audit',
    'event',
    'delivery',
    'attempt',
    'outbox',
    'dead_letter',
  ])
  .meta({
    description:
      'request: an HTTP request that created something; state: a row that reached a state; provider: what a provider reported; kafka: a message, with its topic, partition and offset; workflow: a Temporal event; ledger: a journal transaction; audit: an audit record; event, delivery, attempt: what subscribers are told; outbox: a message that waits for the relay; dead_letter: a message that could not be handled',
  });
export type TimelineSource = z.infer<typeof TimelineSource>;

export const TimelineEntry = z
  .object({
    at: Instant,
    source: TimelineSource,
    level: z.enum(['info', 'warning', 'error']),
    what: z.string().meta({ description: 'a sentence for people' }),
    subject: SubjectRef.nullable().meta({ description: 'what it is about, when that is something else' }),
    correlationId: nullableText,
    details: z.record(z.string(), z.unknown()).meta({
      description:
        'what belongs to the source: lines of a journal transaction, topic, partition and offset of a message, status and body of an answer',
    }),
  })
  .meta({ id: 'TimelineEntry' });
export type TimelineEntry = z.infer<typeof TimelineEntry>;

/** How what will happen can be hurried or stopped. */
export const TimelineAction = z
  .object({
    effect: z.enum(['hurry', 'stop', 'mend']),
    label: z.string().meta({ example: 'Attempt it now' }),
    method: z.enum(['POST', 'PATCH', 'GET']).nullable(),
    path: nullableText.meta({ example: '/api/v1/deliveries/…/try-now' }),
    body: z
      .record(z.string(), z.unknown())
      .nullable()
      .meta({ type: ['object', 'null'] }),
    command: nullableText.meta({ description: 'the same in a terminal' }),
  })
  .meta({ id: 'TimelineAction' });
export type TimelineAction = z.infer<typeof TimelineAction>;

export const TimelineNext = z
  .object({
    at: Instant.nullable().meta({ description: 'when; null: when what it waits for comes' }),
    what: z.string(),
    waitsFor: z
      .enum(['time', 'provider', 'subscriber', 'operator', 'worker', 'relay', 'order', 'evidence'])
      .meta({ description: 'who or what has to act for it to happen' }),
    subject: SubjectRef,
    actions: z.array(TimelineAction),
  })
  .meta({ id: 'TimelineNext' });
export type TimelineNext = z.infer<typeof TimelineNext>;

export const Timeline = z
  .object({
    at: Instant.meta({ description: 'when it was read' }),
    subject: TimelineSubject,
    why: z.string().meta({ description: 'why it is in its state, in a sentence or two' }),
    happened: z.array(TimelineEntry).meta({ description: 'oldest first' }),
    willHappen: z.array(TimelineNext).meta({ description: 'soonest first' }),
    related: z.array(
      z
        .object({ ...subjectFields, status: nullableText, relation: z.string() })
        .meta({ id: 'TimelineRelated' }),
    ),
    notes: z
      .array(z.string())
      .meta({ description: 'what could not be read, and what was left out because there is too much of it' }),
  })
  .meta({ id: 'Timeline' });
export type Timeline = z.infer<typeof Timeline>;

// ---------------------------------------------------------------------------------------------------- search

export const SearchQuery = z.strictObject({
  q: cleanText(300).min(1).meta({
    description:
      'an id, the first four or more characters of one, a provider’s reference, a workflow’s id, or the beginning of a user’s id',
    example: '3f6d',
  }),
  limit: z
    .string()
    .regex(/^[1-9]\d?$/, { error: 'must be a whole number from 1 to 99' })
    .default('20')
    .meta({ type: 'integer', minimum: 1, maximum: 99, default: 20 }),
});

export const SearchHit = z
  .object({
    ...subjectFields,
    title: z.string(),
    status: nullableText,
    createdAt: Instant.nullable(),
    workflowId: nullableText,
    matched: z.enum(['id', 'prefix', 'reference', 'workflow']),
  })
  .meta({ id: 'SearchHit' });
export type SearchHit = z.infer<typeof SearchHit>;
export const SearchResult = z
  .object({
    items: z.array(SearchHit),
    more: z.boolean().meta({ description: 'there are more than the limit' }),
  })
  .meta({ id: 'SearchResult' });
