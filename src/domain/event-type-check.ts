import { LRUCache } from 'lru-cache';
import type { Pool } from 'pg';
import type { PublishEvent } from '../contracts/events';
import { isReservedEventType } from '../contracts/webhooks';
import { Coalescer } from '../platform/coalescer';
import { requireNone, type Mistake, type PathOf } from './event-refusals';
import type { EventSchemas, JsonSchema, TypedEvent } from './event-schemas';

/** Types that one statement looks up. */
const BATCH_TYPES = 200;
/** Event types that are remembered, and characters of their schemas. */
const MAX_TYPES = 10_000;
const MAX_TYPES_CHARACTERS = 16_000_000;

/** Whether events may be published by their types. What was read of these is remembered: one for each EventPublisher. */
export class EventTypeCheck {
  private readonly types: Coalescer<{ tenantId: string; name: string }, EventTypeRow | undefined>;
  /** What was read last: nothing is written by a version that no longer holds. */
  private readonly lastTypes = new LRUCache<string, EventTypeRow>({
    max: MAX_TYPES,
    maxSize: MAX_TYPES_CHARACTERS,
    sizeCalculation: ({ schema }) => 200 + (schema === null ? 0 : JSON.stringify(schema).length),
  });

  constructor(
    pool: Pick<Pool, 'query'>,
    private readonly schemas: EventSchemas,
  ) {
    this.types = new Coalescer({ maxItems: BATCH_TYPES, run: (wanted) => lookUpTypes(pool, wanted) });
  }

  /**
   * Types must exist, be the tenant's own, and allow the data. All mistakes of a batch are named.
   * @param reread what is remembered is read again.
   * @returns the types by name.
   * @throws EventRefused; RemitError schema_too_complex when data can't be checked in time.
   */
  async requireValid(
    tenantId: string,
    events: readonly PublishEvent[],
    pathOf: PathOf,
    reread: boolean,
  ): Promise<Map<string, EventTypeRow>> {
    const byName = new Map<string, EventTypeRow>();
    let remembered = false;
    await Promise.all(
      [...new Set(events.map(({ type }) => type))].map(async (name) => {
        const key = `${tenantId} ${name}`;
        const last = reread ? undefined : this.lastTypes.get(key);
        remembered ||= last !== undefined;
        const type = last ?? (await this.types.add({ tenantId, name }));
        if (!type) return void this.lastTypes.delete(key);
        if (!last) this.lastTypes.set(key, type);
        byName.set(name, type);
      }),
    );
    const toCheck: { index: number; event: TypedEvent }[] = [];
    const errors = events.flatMap(({ type, data }, index): Mistake[] => {
      const path = pathOf(index, 'type');
      if (isReservedEventType(type))
        return [{ fault: 'reserved_event_type', path, message: 'is emitted by remit alone' }];
      const known = byName.get(type);
      if (!known) return [{ fault: 'unknown_event_type', path, message: 'there is no such event type' }];
      if (known.schema !== null)
        toCheck.push({
          index,
          event: { key: `${known.id}:${known.version}`, schema: known.schema, data },
        });
      return [];
    });
    const checked = await this.schemas.check(
      tenantId,
      toCheck.map(({ event }) => event),
      (n) => pathOf(toCheck[n]!.index, 'data'),
    );
    for (const [n, { index }] of toCheck.entries())
      for (const { path, message } of checked[n]!)
        errors.push({
          fault: 'schema_mismatch',
          path: pathOf(index, path === '' ? 'data' : `data.${path}`),
          message,
        });
    // What was remembered may no longer hold: nobody is refused by it.
    if (errors.length > 0 && remembered) return this.requireValid(tenantId, events, pathOf, true);
    requireNone(errors);
    return byName;
  }
}

interface EventTypeRow {
  tenantId: string;
  name: string;
  id: string;
  version: number;
  schema: JsonSchema | null;
}

async function lookUpTypes(
  pool: Pick<Pool, 'query'>,
  wanted: readonly { tenantId: string; name: string }[],
): Promise<(EventTypeRow | undefined)[]> {
  const { rows } = await pool.query<EventTypeRow>({
    name: 'look_up_event_types',
    text: `SELECT t.tenant_id AS "tenantId", t.name, t.id, t.version, t.schema FROM event_types t
             JOIN (SELECT DISTINCT * FROM unnest($1::text[], $2::text[]) AS w (tenant_id, name)) AS w USING (tenant_id, name)`,
    values: [wanted.map(({ tenantId }) => tenantId), wanted.map(({ name }) => name)],
  });
  return wanted.map(({ tenantId, name }) =>
    rows.find((row) => row.tenantId === tenantId && row.name === name),
  );
}
