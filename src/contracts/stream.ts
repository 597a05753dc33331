import { z } from 'zod';
import { Instant } from './http';
import { SubjectRef } from './timeline';

/** What happens now, as server-sent events. */

export const STREAM_KINDS = [
  'payment',
  'payout',
  'order',
  'dispute',
  'event',
  'delivery',
  'attempt',
] as const;

export const StreamQuery = z.strictObject({
  kinds: z
    .string()
    .regex(/^[a-z]+(,[a-z]+)*$/, { error: 'must be kinds, separated by commas' })
    .refine((text) => text.split(',').every((kind) => (STREAM_KINDS as readonly string[]).includes(kind)), {
      error: `must be of ${STREAM_KINDS.join(', ')}`,
    })
    .optional()
    .meta({ description: `of ${STREAM_KINDS.join(', ')}, separated by commas; all when left out` }),
  lastEventId: z
    .string()
    .regex(/^\d{1,15}$/, { error: 'not an id that this stream gave' })
    .optional()
    .meta({ description: 'as the header Last-Event-ID, for clients that can’t set one' }),
  seconds: z
    .string()
    .regex(/^[1-9]\d{0,2}$/, { error: 'must be a whole number from 1 to 900' })
    .refine((text) => Number(text) <= 900, { error: 'must be a whole number from 1 to 900' })
    .default('900')
    .meta({
      type: 'integer',
      minimum: 1,
      maximum: 900,
      default: 900,
      description: 'the stream ends after that',
    }),
});

/** The data of each event of the stream, whose type is `happened`. */
export const Happened = z
  .object({
    id: z
      .string()
      .meta({ description: 'the same id is the same happening: after a resumption some come twice' }),
    at: Instant,
    kind: z.enum(STREAM_KINDS),
    type: z.string().meta({ description: 'such as payment.created, order.finished, attempt.http_error' }),
    subject: SubjectRef,
    title: z.string(),
    status: z.string().nullable(),
    userId: z.string().nullable(),
  })
  .meta({ id: 'Happened' });
export type Happened = z.infer<typeof Happened>;
