import path from 'node:path';
import { RemitError } from '../contracts/errors';
import type { JsonText } from '../contracts/json';
import { CrowdedError, FairPool, OverrunError } from '../platform/fair-pool';
import type { FieldError, JsonSchema } from './schema-check';
import { InlineChecks } from './schema-inline';
import type { DataAnswer, DataTask, SchemaAnswer, SchemaTask } from './schema-worker';

export type { JsonSchema } from './schema-check';

/**
 * Longest time to compile a schema that is to be stored and to check its example with it, and to check a chunk of events.
 * A hundred times what ordinary ones take, so that a busy machine refuses none of them.
 */
export const DEADLINE_MS = 3_000;
/** Events that are checked in one go: what a tenant's thread is busy with before others have their turn. */
const CHUNK_EVENTS = 20;

/** What makes a schema slow, so that its owner knows where to begin. */
const ADVICE =
  'Use fewer branches (anyOf, oneOf, $ref), less uniqueItems, contains and patterns, or smaller data';

/** An event of one of the tenant's types; `key` names the type with its version: another version is another schema. */
export interface TypedEvent {
  key: string;
  schema: JsonSchema;
  data: JsonText;
}

/**
 * Checks tenants' schemas, and data against them, in worker threads with a deadline (but for what schema-inline.ts knows to be
 * cheap): nothing that a tenant stores or publishes can stop the event loop or take the threads from other tenants. One for
 * each process.
 */
export class EventSchemas {
  private readonly pool: FairPool;
  private readonly inline = new InlineChecks();

  /** @param cacheEntries EVENT_SCHEMA_CACHE_ENTRIES. */
  constructor(cacheEntries: number) {
    this.pool = new FairPool(path.join(__dirname, 'schema-worker'), 'runSchemaTask', { cacheEntries });
  }

  /**
   * What is wrong with a schema that a tenant wants to store, or with its example.
   * @throws RemitError schema_too_complex; rate_limited, unavailable when too much is waiting to be checked.
   */
  async inspect(tenantId: string, schema: JsonSchema, example: JsonSchema | null): Promise<SchemaAnswer> {
    const task: SchemaTask = { kind: 'schema', schema, example };
    return (await this.run(tenantId, task, ({ limit }) =>
      tooComplex([{ path: 'schema', message: `can’t be compiled ${within(limit)}. ${ADVICE}` }]),
    )) as SchemaAnswer;
  }

  /**
   * What of each event's data does not satisfy its schema.
   * @param pathOf names the data of an event in an error.
   * @throws RemitError schema_too_complex for the first that can't be checked in time; rate_limited, unavailable when too
   *   much is waiting to be checked.
   */
  async check(
    tenantId: string,
    events: readonly TypedEvent[],
    pathOf: (index: number) => string,
  ): Promise<FieldError[][]> {
    const answers = events.map(({ key, schema, data }) => this.inline.check(key, schema, data));
    const others = [...events.entries()].filter(([index]) => answers[index] === undefined);
    for (let first = 0; first < others.length; first += CHUNK_EVENTS) {
      const chunk = others.slice(first, first + CHUNK_EVENTS);
      const task: DataTask = {
        kind: 'data',
        events: chunk.map(([, { key, schema, data }]) => ({ key, schema, data: data.text })),
      };
      const refuse = (index: number, how: string) =>
        tooComplex([
          { path: pathOf(chunk[index]![0]), message: `can’t be checked by its schema ${how}. ${ADVICE}` },
        ]);
      const answer = (await this.run(tenantId, task, ({ limit, progress }) =>
        refuse(progress, within(limit)),
      )) as DataAnswer;
      for (const [n, each] of answer.entries()) {
        if (each === 'tooComplex') throw refuse(n, 'within the stack of a thread');
        answers[chunk[n]![0]] = each;
      }
    }
    return answers.map((each) => each ?? []);
  }

  /** Ends the threads. */
  close(): Promise<void> {
    return this.pool.close();
  }

  private async run(
    tenantId: string,
    task: SchemaTask | DataTask,
    overran: (error: OverrunError) => RemitError,
  ): Promise<unknown> {
    try {
      return await this.pool.run(tenantId, task, DEADLINE_MS);
    } catch (error) {
      if (error instanceof OverrunError) throw overran(error);
      if (error instanceof CrowdedError)
        throw error.who === 'owner'
          ? new RemitError(
              'rate_limited',
              'Too many events of yours wait to be checked; send fewer at a time.',
            )
          : new RemitError('unavailable', 'Too many events wait to be checked; try again.');
      throw error;
    }
  }
}

const within = (limit: OverrunError['limit']): string =>
  limit === 'time' ? `within ${DEADLINE_MS} ms` : 'within the memory of a thread';

function tooComplex(errors: FieldError[]): RemitError {
  return new RemitError('schema_too_complex', 'A schema takes too long to check.', errors);
}
