import { z } from 'zod';
import { Instant, page } from './http';

/** What the installation as a whole is doing: of no tenant. */

const Count = z.int().min(0);

export const RefusedOutboxRow = z
  .object({
    id: z.string(),
    topic: z.string().meta({ description: 'logical name', example: 'domain.events' }),
    key: z.string(),
    value: z.string(),
    headers: z.record(z.string(), z.string()),
    reason: z.string(),
    createdAt: Instant,
    refusedAt: Instant,
  })
  .meta({ id: 'RefusedOutboxRow' });
export const RefusedOutboxPage = page(RefusedOutboxRow, 'RefusedOutboxPage');
export const OutboxRowsBody = z
  .strictObject({
    ids: z
      .array(z.string().regex(/^\d{1,18}$/, { error: 'not an id of a row' }))
      .min(1)
      .max(1_000)
      .optional()
      .meta({ description: 'these; the oldest 1,000 when left out' }),
  })
  .meta({ id: 'OutboxRows', example: { ids: ['1'] } });
export const OutboxRowsOperated = z.object({ rows: Count }).meta({ id: 'OutboxRowsOperated' });

export const ConsumerGroup = z
  .object({
    group: z.string(),
    topic: z.string(),
    state: z
      .string()
      .meta({ description: 'as the brokers report it: Stable, Empty, Dead, …', example: 'Stable' }),
    members: Count,
    lag: Count.meta({ description: 'messages that are not handled yet' }),
    partitions: z.array(z.object({ partition: z.int(), lag: Count })),
  })
  .meta({ id: 'ConsumerGroup' });

export const SystemProblem = z
  .object({
    severity: z.enum(['warning', 'error']),
    what: z.string(),
    where: z.enum(['dead-letters', 'outbox', 'consumers', 'workers', 'dependencies', 'reconciliation']),
    mend: z.string().meta({ description: 'what to do about it' }),
  })
  .meta({ id: 'SystemProblem' });

export const SystemStatus = z
  .object({
    at: Instant,
    dependencies: z
      .record(z.string(), z.string())
      .meta({ description: 'postgres, kafka, temporal, clickhouse: ok, or what is wrong' }),
    outbox: z.object({
      waiting: Count.meta({ description: 'at most 10,000 are counted' }),
      oldestSeconds: z.number(),
      refused: Count,
    }),
    consumers: z.array(ConsumerGroup),
    workers: z.array(
      z.object({
        taskQueue: z.string(),
        pollers: z.array(z.object({ identity: z.string(), lastSeenAt: Instant })),
        backlog: Count.nullable().meta({ description: 'tasks that wait; null: Temporal does not say' }),
      }),
    ),
    temporal: z.object({
      namespace: z.string(),
      uiUrl: z.string().nullable().meta({ description: 'where the Temporal UI is; null: not known' }),
    }),
    problems: z.array(SystemProblem),
  })
  .meta({ id: 'SystemStatus' });
export type SystemStatus = z.infer<typeof SystemStatus>;
