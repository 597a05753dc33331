import { z } from 'zod';
import { cleanText, Instant, page, PageQuery } from './http';

/** Dead letters of every topic. They belong to the installation: what could not be read has no tenant. */

const Count = z.int().min(0);

export const DeadLetterTopic = z
  .object({
    topic: z.string().meta({ description: 'the dead-letter topic' }),
    sourceTopic: z.string().nullable().meta({ description: 'whose messages it holds; null: deliveries' }),
    exists: z.boolean().meta({ description: 'false: run remit migrate' }),
    messages: Count.meta({ description: 'all that lie there' }),
    waiting: Count.meta({ description: 'those that were neither redriven nor purged' }),
    reasons: z
      .array(z.object({ code: z.string(), waiting: Count, oldest: Instant, newest: Instant }))
      .meta({ description: 'of those that wait, the most frequent first' }),
    complete: z
      .boolean()
      .meta({ description: 'false: more wait than are read for the reasons; they are of the first' }),
  })
  .meta({ id: 'DeadLetterTopic' });
export type DeadLetterTopic = z.infer<typeof DeadLetterTopic>;
export const DeadLetterTopics = z
  .object({ items: z.array(DeadLetterTopic) })
  .meta({ id: 'DeadLetterTopics' });

export const DeadLetterTopicParams = z.strictObject({ topic: z.string().max(255) });
export const DeadLetterParams = DeadLetterTopicParams.extend({ id: z.string().max(40) });

export const DeadLettersQuery = PageQuery.extend({
  code: cleanText(64)
    .optional()
    .meta({ description: 'of this reason alone', example: 'unknown_transaction' }),
  state: z.enum(['waiting', 'done', 'any']).default('waiting').meta({
    description: 'done: redriven, or purged and not deleted yet',
  }),
});

const letterFields = {
  id: z.string().meta({ description: '<partition>-<offset>', example: '0-17' }),
  topic: z.string(),
  partition: z.int(),
  offset: z.string(),
  at: Instant.meta({ description: 'when it came here' }),
  state: z.enum(['waiting', 'done']),
  code: z.string().nullable(),
  reason: z.string().nullable(),
  attempts: z.int().nullable(),
  firstFailedAt: z.string().nullable(),
  key: z.string().nullable().meta({ description: 'as text; what is not printable is escaped' }),
  source: z.object({ topic: z.string(), partition: z.string(), offset: z.string() }).nullable(),
  valueBytes: z.int().nullable(),
};
export const DeadLetter = z.object(letterFields).meta({ id: 'DeadLetter' });
export type DeadLetter = z.infer<typeof DeadLetter>;
export const DeadLetterPage = page(DeadLetter, 'DeadLetterPage');
export const DeadLetterDetail = z
  .object({
    ...letterFields,
    keyBase64: z.string().nullable(),
    valueBase64: z.string().nullable(),
    headersBase64: z
      .array(z.tuple([z.string(), z.string()]))
      .meta({ description: '[name, value] of each header' }),
  })
  .meta({ id: 'DeadLetterDetail' });

const LETTER_ID = /^\d{1,6}-\d{1,18}$/;
const selection = {
  letters: z
    .array(z.string().regex(LETTER_ID, { error: 'must be <partition>-<offset>' }))
    .min(1)
    .max(500)
    .optional()
    .meta({ description: 'exactly these' }),
  code: z.string().min(1).max(64).optional().meta({ description: 'those of this reason' }),
};
export const RedriveBody = z
  .strictObject({
    ...selection,
    limit: z
      .int()
      .min(1)
      .max(1_000)
      .default(100)
      .meta({ description: 'at most this many, the oldest first' }),
  })
  .meta({ id: 'RedriveDeadLetters', example: { code: 'unknown_transaction', limit: 10 } });
export const Redriven = z
  .object({
    redriven: Count,
    passedOver: z
      .array(z.object({ id: z.string(), why: z.string() }))
      .meta({ description: 'those that can’t be redriven, and why; they stay' }),
    waiting: Count.meta({ description: 'how many of the topic wait afterwards' }),
  })
  .meta({ id: 'DeadLettersRedriven' });

export const PurgeBody = z
  .strictObject({
    ...selection,
    done: z.boolean().default(false).meta({ description: 'those that were redriven before' }),
    limit: z.int().min(1).max(10_000).default(1_000),
  })
  .refine(({ letters, code, done }) => done || letters !== undefined || code !== undefined, {
    error: 'name letters, a code, or done',
  })
  .meta({ id: 'PurgeDeadLetters', example: { done: true } });
export const Purged = z
  .object({
    purged: Count.meta({ description: 'they do not wait any more' }),
    deleted: Count.meta({
      description:
        'those whose bytes are gone. Kafka deletes only from the beginning: one behind a letter that waits is deleted together with that one',
    }),
    waiting: Count,
  })
  .meta({ id: 'DeadLettersPurged' });
