import {
  INLINE_AFTER_USES,
  INLINE_MAX_CHARACTERS,
  InlineChecks,
  isCheap,
} from '../../../src/domain/schema-inline';
import { checkData, compileAlone, type JsonSchema } from '../../../src/domain/schema-check';

const ORDER: JsonSchema = {
  type: 'object',
  required: ['id', 'items'],
  properties: {
    id: { type: 'string', minLength: 1, maxLength: 20 },
    state: { enum: ['new', 'paid', null] },
    items: {
      type: 'array',
      maxItems: 3,
      items: { type: 'object', properties: { sku: { type: 'string' } }, additionalProperties: false },
    },
  },
  additionalProperties: { type: 'number', minimum: 0 },
};

describe('a schema that is checked without a thread', () => {
  it.each<[JsonSchema]>([[{}], [ORDER], [{ const: 1, description: 'x', default: { a: [1] } }]])(
    'is one whose cost is known: %j',
    (schema) => {
      expect(isCheap(schema)).toBe(true);
    },
  );

  it.each<[string, JsonSchema]>([
    ['a reference', { $defs: { a: {} }, properties: { a: { $ref: '#/$defs/a' } } }],
    ['branches', { anyOf: [{ type: 'string' }] }],
    ['all of several', { properties: { a: { allOf: [{}] } } }],
    ['a negation', { not: {} }],
    ['a pattern', { properties: { a: { pattern: 'a' } } }],
    ['a pattern of names', { patternProperties: { a: {} } }],
    ['a format', { properties: { a: { format: 'email' } } }],
    ['unique items', { uniqueItems: true, maxItems: 5 }],
    ['contains', { contains: {} }],
    ['items one by one', { prefixItems: [{}] }],
    ['a multiple', { multipleOf: 0.01 }],
    ['values that are compared deeply', { enum: [{ a: 1 }] }],
    ['a keyword that nobody knows', { mystery: 1 }],
    ['many values', { enum: Array.from({ length: 101 }, (_, n) => n) }],
    ['many properties', { properties: Object.fromEntries(Array.from({ length: 100 }, (_, n) => [n, {}])) }],
    ['many levels', Array.from({ length: 10 }).reduce<JsonSchema>((inner) => ({ items: inner }), {})],
  ])('never has %s', (_what, schema) => {
    expect(isCheap(schema)).toBe(false);
  });

  const text = (value: unknown) => ({ text: JSON.stringify(value), value });

  it('has been used before, and says what a thread would say', () => {
    const checks = new InlineChecks();
    for (let n = 0; n < INLINE_AFTER_USES; n += 1)
      expect(checks.check('order:1', ORDER, text({ id: 'a', items: [] }))).toBeUndefined();
    const validate = compileAlone(ORDER);
    for (const data of [
      { id: 'a', items: [] },
      { id: '', items: [] },
      { id: 'a', items: [{ sku: 1 }] },
      { id: 'a', items: [{ other: 1 }], n: 1 },
      { id: 'a', items: [], n: -1 },
      {},
    ])
      expect(checks.check('order:1', ORDER, text(data))).toEqual(checkData(validate, data));
    expect(checks.check('order:2', ORDER, text({}))).toBeUndefined();
  });

  it('is checked in a thread all the same when the data is large', () => {
    const checks = new InlineChecks();
    const large = text({ id: 'a', items: [], note: 'x'.repeat(INLINE_MAX_CHARACTERS) });
    for (let n = 0; n <= INLINE_AFTER_USES + 1; n += 1)
      expect(checks.check('order:1', ORDER, large)).toBeUndefined();
  });
});
