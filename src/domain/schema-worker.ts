import { LRUCache } from 'lru-cache';
import type { ValidateFunction } from 'ajv/dist/2020';
import { workerData } from 'piscina';
import type { FairTask } from '../platform/fair-pool';
import { checkData, compileAlone, schemaFault, type FieldError, type JsonSchema } from './schema-check';

/** Runs in a worker thread of the pool, and ends with it when it takes too long. */

/** A schema that a tenant wants to store, with its example. */
export interface SchemaTask {
  kind: 'schema';
  schema: JsonSchema;
  example: JsonSchema | null;
}

/** Data of events as JSON text, each with the schema of its type; `key` names the type with its version. */
export interface DataTask {
  kind: 'data';
  events: { key: string; schema: JsonSchema; data: string }[];
}

export interface SchemaAnswer {
  /** What is wrong with the schema. */
  fault?: string;
  /** What of the example does not satisfy it. */
  errors: FieldError[];
}

/** One for each event: what is wrong with its data; `tooComplex` when the thread's stack does not suffice to tell. */
export type DataAnswer = (FieldError[] | 'tooComplex')[];

/** Of schemas that are kept compiled, as JSON: compiled they take some ten times as much of the thread's memory. */
const MAX_CACHED_CHARACTERS = 4_000_000;

const compiled = new LRUCache<string, ValidateFunction>({
  max: (workerData as { cacheEntries: number }).cacheEntries,
  maxSize: MAX_CACHED_CHARACTERS,
});

/** The function of the thread. Its counters: when it began, and which event it is at. */
export function runSchemaTask({
  payload,
  state,
}: FairTask<SchemaTask | DataTask>): SchemaAnswer | DataAnswer {
  Atomics.store(state, 0, process.hrtime.bigint());
  if (payload.kind === 'schema') return checkSchema(payload);
  return payload.events.map((event, index) => {
    Atomics.store(state, 1, BigInt(index));
    return checkEvent(event);
  });
}

function checkSchema({ schema, example }: SchemaTask): SchemaAnswer {
  const fault = schemaFault(schema);
  if (fault !== undefined) return { fault, errors: [] };
  return { errors: example === null ? [] : checkData(compileAlone(schema), example) };
}

function checkEvent({ key, schema, data }: DataTask['events'][number]): DataAnswer[number] {
  try {
    let validate = compiled.get(key);
    if (!validate) {
      validate = compileAlone(schema);
      compiled.set(key, validate, { size: JSON.stringify(schema).length });
    }
    return checkData(validate, JSON.parse(data));
  } catch (error) {
    if (error instanceof RangeError) return 'tooComplex';
    return [
      { path: '', message: `can’t be checked: ${error instanceof Error ? error.message : String(error)}` },
    ];
  }
}
