import { createRequire } from 'node:module';
import Ajv2020, { type ErrorObject, type ValidateFunction } from 'ajv/dist/2020';
import addFormats from 'ajv-formats';
import { isMultipleOf } from './multiple-of';

/** A tenant's JSON Schema, as it was stored. */
export type JsonSchema = Record<string, unknown>;

export interface FieldError {
  path: string;
  message: string;
}

/**
 * Compiles tenants' schemas and checks data with them. How long that takes is up to the tenant, so it happens in a
 * worker thread with a deadline (`schema-worker.ts`), and nowhere else. The limits here only say early and by name what
 * would come to nothing.
 */

/** A schema with its references written out has at most this many parts: what bounds the time of one validation. */
const MAX_PARTS = 5_000;
const MAX_ERRORS = 20;
const MAX_UNIQUE_ITEMS = 1_000;
const MAX_PATTERN_CHARACTERS = 500;
const MAX_PATTERNS = 100;

/** Would name the schema, refer out of it, or make references depend on who refers. */
const FORBIDDEN_KEYWORDS = ['$id', '$anchor', '$dynamicRef', '$dynamicAnchor', '$recursiveRef', '$async'];
const DIALECT = 'https://json-schema.org/draft/2020-12/schema';

/** Its types are an ES module's, which TypeScript does not let a CommonJS module import; its code is not. */
const { RE2JS } = createRequire(__filename)('re2js') as {
  RE2JS: { compile(pattern: string): { test(text: string): boolean } };
};

/** Patterns run on RE2, whose time is linear in the text: a tenant's regular expression can't stop the server. */
const linearRegExp = Object.assign(
  (pattern: string) => {
    const compiled = RE2JS.compile(pattern);
    return {
      // Whether it matches, and not where: an automaton says that, many times faster than a search does.
      test: (text: string) => compiled.test(text),
      // ajv tells patterns apart by this.
      toString: () => `re2:${pattern}`,
    };
  },
  { code: 'linearRegExp' },
);

function newAjv(options: { meta?: false; validateSchema?: false } = {}): Ajv2020 {
  const ajv = new Ajv2020({
    ...options,
    strict: false,
    allErrors: false,
    addUsedSchema: false,
    logger: false,
    // Optimizing takes time that grows with the square of the schema.
    code: { regExp: linearRegExp, optimize: false },
  });
  addFormats(ajv);
  ajv.removeKeyword('multipleOf');
  ajv.addKeyword({
    keyword: 'multipleOf',
    type: 'number',
    schemaType: 'number',
    validate: isMultipleOf,
    error: { message: ({ schema }) => `must be multiple of ${String(schema)}` },
  });
  return ajv;
}

/** Says whether a schema is one. */
const dialect = newAjv();

/**
 * What is wrong with a JSON Schema that a tenant wants to store; undefined when it is fine. Refused are, as well as what is no
 * schema: references out of the document, recursion that goes nowhere, and what would take long to check.
 */
export function schemaFault(schema: JsonSchema): string | undefined {
  const dialect = schema['$schema'];
  if (dialect !== undefined && dialect !== DIALECT) return `$schema must be ${DIALECT} or left out`;
  const fault = keywordFault(schema);
  if (fault !== undefined) return fault;
  try {
    if (countPatterns(schema) > MAX_PATTERNS) return `a schema has at most ${MAX_PATTERNS} patterns`;
    new PartCounter(schema).count();
    // Its code is made when it runs for the first time.
    checkData(compileNew(schema), {});
    return undefined;
  } catch (error) {
    if (error instanceof RangeError) return 'is nested or branched too much to be checked';
    return error instanceof Error ? error.message : String(error);
  }
}

/** Walks every object of the schema; `jsonFault` has bounded its depth. */
function keywordFault(node: unknown): string | undefined {
  if (typeof node !== 'object' || node === null) return undefined;
  const { $ref: reference, uniqueItems, maxItems, pattern, patternProperties } = node as JsonSchema;
  if (typeof reference === 'string' && !reference.startsWith('#'))
    return '$ref must refer to a place in this document (#/…)';
  const forbidden = FORBIDDEN_KEYWORDS.find((keyword) => keyword in node);
  if (forbidden !== undefined && !Array.isArray(node)) return `${forbidden} is not supported`;
  if (uniqueItems === true && !(typeof maxItems === 'number' && maxItems <= MAX_UNIQUE_ITEMS))
    return `uniqueItems needs a maxItems of at most ${MAX_UNIQUE_ITEMS} next to it`;
  const patterns = [pattern, ...Object.keys(patternProperties ?? {})];
  if (patterns.some((each) => typeof each === 'string' && each.length > MAX_PATTERN_CHARACTERS))
    return `a pattern has at most ${MAX_PATTERN_CHARACTERS} characters`;
  for (const each of Object.values(node)) {
    const fault = keywordFault(each);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

/** Every regular expression of the schema: each keeps an automaton in memory. */
function countPatterns(node: unknown): number {
  if (typeof node !== 'object' || node === null) return 0;
  const { pattern, patternProperties } = node as JsonSchema;
  const own =
    (typeof pattern === 'string' ? 1 : 0) +
    (typeof patternProperties === 'object' && patternProperties !== null
      ? Object.keys(patternProperties).length
      : 0);
  return Object.values(node).reduce((sum: number, each) => sum + countPatterns(each), own);
}

/** Keywords whose subschemas judge the same value as the schema that has them. */
const IN_PLACE_LISTS = ['allOf', 'anyOf', 'oneOf'];
const IN_PLACE = ['not', 'if', 'then', 'else'];

/**
 * Counts the parts of a schema as if every reference were written out, one that leads back to where it stands once. A
 * schema that refers to itself is followed as deep as the data goes, which is bounded; one that comes back to itself for
 * the same value would be followed forever, and is refused.
 */
class PartCounter {
  private readonly counted = new Map<unknown, number>();
  private readonly open = new Set<unknown>();

  constructor(private readonly root: JsonSchema) {}

  count(): void {
    this.partsOf(this.root);
  }

  /** Schemas of which it is known that they end, or is being found out, for one value. */
  private readonly ends = new Map<unknown, boolean>();

  private requireEnd(node: unknown): void {
    if (typeof node !== 'object' || node === null) return;
    const known = this.ends.get(node);
    if (known === false)
      throw new Error('a schema that refers to itself without going into the data is not supported');
    if (known) return;
    this.ends.set(node, false);
    const schema = node as JsonSchema;
    if (typeof schema['$ref'] === 'string') this.requireEnd(this.resolve(schema['$ref']));
    for (const keyword of IN_PLACE) this.requireEnd(schema[keyword]);
    for (const keyword of IN_PLACE_LISTS)
      if (Array.isArray(schema[keyword])) schema[keyword].forEach((each) => this.requireEnd(each));
    const { dependentSchemas, dependencies } = schema;
    for (const given of [dependentSchemas, dependencies])
      if (typeof given === 'object' && given !== null)
        for (const each of Object.values(given)) this.requireEnd(each);
    this.ends.set(node, true);
  }

  private partsOf(node: unknown): number {
    if (typeof node !== 'object' || node === null) return 0;
    const known = this.counted.get(node);
    if (known !== undefined) return known;
    if (this.open.has(node)) return 0;
    this.requireEnd(node);
    this.open.add(node);
    let parts = 1;
    for (const each of Object.values(node)) parts += this.partsOf(each);
    const reference = (node as JsonSchema)['$ref'];
    if (typeof reference === 'string') parts += this.partsOf(this.resolve(reference));
    if (parts > MAX_PARTS)
      throw new Error(`with its references written out the schema has more than ${MAX_PARTS} parts`);
    this.open.delete(node);
    this.counted.set(node, parts);
    return parts;
  }

  private resolve(reference: string): unknown {
    let node: unknown = this.root;
    for (const token of reference.split('/').slice(1)) {
      const key = decodeURIComponent(token).replaceAll('~1', '/').replaceAll('~0', '~');
      node =
        typeof node === 'object' && node !== null && Object.hasOwn(node, key)
          ? (node as JsonSchema)[key]
          : undefined;
    }
    if (node === undefined) throw new Error(`can't resolve reference ${reference}`);
    return node;
  }
}

/**
 * An instance keeps whatever it has compiled forever, so each schema gets its own. What it looks up of itself (formats,
 * keywords) is made in a fraction of a millisecond; the schema was checked against the dialect before.
 */
export function compileAlone(schema: JsonSchema): ValidateFunction {
  // Without a name of its own, ajv does not find `#` in a schema that it is not to remember.
  return newAjv({ meta: false, validateSchema: false }).compile({ $id: 'remit:schema', ...schema });
}

/** @throws Error when it is no JSON Schema. */
function compileNew(schema: JsonSchema): ValidateFunction {
  if (dialect.validateSchema(schema) !== true) throw new Error(dialect.errorsText(dialect.errors));
  return compileAlone(schema);
}

/**
 * What of the data does not satisfy the schema: paths are dotted, within the data. Empty when it does.
 * @throws RangeError when the schema needs more stack than there is.
 */
export function checkData(validate: ValidateFunction, data: unknown): FieldError[] {
  if (validate(data)) return [];
  return (validate.errors ?? []).slice(0, MAX_ERRORS).map(fieldError);
}

function fieldError({ instancePath, message, params }: ErrorObject): FieldError {
  const path = instancePath.slice(1).replaceAll('/', '.').replaceAll('~1', '/').replaceAll('~0', '~');
  const extra: unknown = (params as { additionalProperty?: unknown }).additionalProperty;
  return {
    path,
    message: `${message ?? 'is not valid'}${typeof extra === 'string' ? ` (${extra})` : ''}`,
  };
}
