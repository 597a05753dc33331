import type { ValidateFunction } from 'ajv/dist/2020';
import { LRUCache } from 'lru-cache';
import { checkData, compileAlone, type FieldError, type JsonSchema } from './schema-check';

/**
 * The one exception from the rule that tenants' schemas run in threads (ADR 0022): schemas of which it can be read off
 * that they are cheap, on data that is small, once they have been used often enough for compiling them to be nothing.
 */

/** Longer data goes to a thread. */
export const INLINE_MAX_CHARACTERS = 8_192;
/** A schema with more subschemas, properties, required names and enumerated values together is not called cheap. */
const MAX_PARTS = 100;
const MAX_LEVELS = 10;
/** Checks in threads before a schema is compiled here, which takes about as long as so many of them. */
export const INLINE_AFTER_USES = 50;
const MAX_SCHEMAS = 1_000;

/** Each looks at one value, in a time that its size and the schema's bound. */
const ASSERTIONS = new Set([
  ...['type', 'enum', 'const', 'required', 'minLength', 'maxLength', 'minimum', 'maximum'],
  ...['exclusiveMinimum', 'exclusiveMaximum', 'minItems', 'maxItems', 'minProperties', 'maxProperties'],
]);
const ANNOTATIONS = new Set([
  ...['$schema', '$comment', 'title', 'description', 'default', 'examples'],
  ...['deprecated', 'readOnly', 'writeOnly'],
]);

interface Known {
  cheap: boolean;
  uses: number;
  validate?: ValidateFunction;
}

/** Schemas by the key of their type and version. */
export class InlineChecks {
  private readonly known = new LRUCache<string, Known>({ max: MAX_SCHEMAS });

  /** What of the data does not satisfy the schema; undefined when it has to be checked in a thread. */
  check(
    key: string,
    schema: JsonSchema,
    { text, value }: { text: string; value: unknown },
  ): FieldError[] | undefined {
    if (text.length > INLINE_MAX_CHARACTERS) return undefined;
    let known = this.known.get(key);
    if (!known) this.known.set(key, (known = { cheap: isCheap(schema), uses: 0 }));
    known.uses += 1;
    if (!known.cheap || known.uses <= INLINE_AFTER_USES) return undefined;
    known.validate ??= compileAlone(schema);
    return checkData(known.validate, value);
  }
}

/**
 * Whether checking takes at most the number of values in the data times the parts of the schema: every value is looked at
 * by one subschema (`properties`, `additionalProperties` and `items` share the values out), without references, branches,
 * patterns, formats or comparisons of values with each other.
 */
export function isCheap(schema: JsonSchema): boolean {
  return partsOf(schema, 1) <= MAX_PARTS;
}

function partsOf(schema: unknown, level: number): number {
  if (typeof schema === 'boolean') return 1;
  if (typeof schema !== 'object' || schema === null || Array.isArray(schema) || level > MAX_LEVELS)
    return Infinity;
  let parts = 1;
  for (const [keyword, given] of Object.entries(schema)) {
    if (keyword === 'properties') parts += ofProperties(given, level);
    else if (keyword === 'additionalProperties' || keyword === 'items') parts += partsOf(given, level + 1);
    else if (ASSERTIONS.has(keyword)) parts += ofAssertion(given);
    else if (!ANNOTATIONS.has(keyword)) return Infinity;
    if (parts > MAX_PARTS) return Infinity;
  }
  return parts;
}

function ofProperties(given: unknown, level: number): number {
  if (typeof given !== 'object' || given === null) return Infinity;
  return Object.values(given).reduce((sum: number, each) => sum + partsOf(each, level + 1), 0);
}

/** A list of names, types or values counts by its length; a value that is no scalar is compared at unknown cost. */
function ofAssertion(given: unknown): number {
  const values = Array.isArray(given) ? given : [given];
  return values.some((each) => typeof each === 'object' && each !== null) ? Infinity : values.length;
}
