import { jsonFault } from '../../../src/contracts/events';
import {
  EventTypeName,
  EventTypePattern,
  isReservedEventType,
  SubscriptionFilter,
  SubscriptionHeaders,
  TEST_EVENT_TYPE,
  WEBHOOK_EVENT_TYPES,
} from '../../../src/contracts/webhooks';
import fc from 'fast-check';
import { isMultipleOf } from '../../../src/domain/multiple-of';
import { checkData, compileAlone, schemaFault, type JsonSchema } from '../../../src/domain/schema-check';

const dataErrors = (schema: JsonSchema, data: unknown) => checkData(compileAlone(schema), data);

const TREE: JsonSchema = {
  $defs: {
    node: {
      type: 'object',
      properties: { children: { type: 'array', items: { $ref: '#/$defs/node' } } },
      additionalProperties: false,
    },
  },
  $ref: '#/$defs/node',
};

describe('a JSON Schema of an event type', () => {
  it.each([
    [{ type: 'object', required: ['id'], properties: { id: { type: 'string', format: 'uuid' } } }],
    [{ $defs: { money: { type: 'string' } }, properties: { total: { $ref: '#/$defs/money' } } }],
    [{ properties: { tags: { type: 'array', maxItems: 10, uniqueItems: true } } }],
    [{}],
    [{ properties: { child: { $ref: '#' } } }],
    [TREE],
  ])('is taken: %j', (schema) => {
    expect(schemaFault(schema)).toBeUndefined();
  });

  it.each<[string, Record<string, unknown>, RegExp]>([
    ['is none', { type: 'nothing' }, /type/],
    ['refers elsewhere', { $ref: 'https://example.com/schema.json' }, /in this document/],
    ['refers to a file', { properties: { a: { $ref: 'other.json#/a' } } }, /in this document/],
    ['refers to nothing', { $ref: '#/$defs/missing' }, /resolve/],
    ['refers to itself in the same place', { $ref: '#' }, /without going into the data/],
    [
      'comes back to itself in the same place',
      {
        $defs: { a: { anyOf: [{ type: 'null' }, { $ref: '#/$defs/b' }] }, b: { if: { $ref: '#/$defs/a' } } },
        properties: { x: { $ref: '#/$defs/a' } },
      },
      /without going into the data/,
    ],
    ['names itself', { $id: 'https://example.com/mine' }, /\$id/],
    ['is of another dialect', { $schema: 'http://json-schema.org/draft-04/schema#' }, /\$schema/],
    ['compares unlimited items', { uniqueItems: true }, /maxItems/],
    ['has a pattern that is no RE2', { pattern: '(?=a)b' }, /./],
    ['has a long pattern', { pattern: 'a'.repeat(501) }, /500 characters/],
    ['has a long pattern of names', { patternProperties: { ['a'.repeat(501)]: {} } }, /500 characters/],
    ['has many patterns', { allOf: Array.from({ length: 101 }, () => ({ pattern: 'a' })) }, /100 patterns/],
    [
      'has many patterns of names',
      { patternProperties: Object.fromEntries(Array.from({ length: 101 }, (_, n) => [`^${n}`, {}])) },
      /100 patterns/,
    ],
  ])('is refused when it %s', (_why, schema, message) => {
    expect(schemaFault(schema)).toMatch(message);
  });

  it('may refer to itself: data is checked as deep as it goes', () => {
    expect(dataErrors(TREE, { children: [{ children: [{ children: [] }] }, {}] })).toEqual([]);
    expect(dataErrors(TREE, { children: [{ children: [{ children: [1] }] }] })).toMatchObject([
      { path: 'children.0.children.0.children.0' },
    ]);
  });

  it('is refused when its references multiply', () => {
    const $defs: Record<string, unknown> = { d0: { type: 'string' } };
    for (let n = 1; n <= 20; n += 1)
      $defs[`d${n}`] = { allOf: [{ $ref: `#/$defs/d${n - 1}` }, { $ref: `#/$defs/d${n - 1}` }] };
    expect(schemaFault({ $defs, $ref: '#/$defs/d20' })).toMatch(/more than/);
  });

  it('checks a pattern in linear time, whatever it is', () => {
    const startedAt = Date.now();
    const errors = dataErrors({ properties: { a: { pattern: '^(a+)+$' } } }, { a: `${'a'.repeat(5_000)}!` });
    expect(errors).toHaveLength(1);
    expect(Date.now() - startedAt).toBeLessThan(30_000);
  });

  it('only asks whether a pattern matches, which is fast, and where it matches not', () => {
    const pattern = `(${Array.from({ length: 40 }, (_, n) => `(a|b|ab){1,${n + 2}}`).join('|')})+c$`;
    const schema = { properties: { a: { pattern } } };
    expect(dataErrors(schema, { a: 'ab'.repeat(20_000) })).toHaveLength(1);
    expect(dataErrors(schema, { a: `${'ab'.repeat(20)}c` })).toEqual([]);
  });

  it('keeps two patterns of one schema apart', () => {
    const schema = { properties: { a: { pattern: '^x$' }, b: { pattern: '^y$' } } };
    expect(dataErrors(schema, { a: 'x', b: 'y' })).toEqual([]);
    expect(dataErrors(schema, { a: 'y', b: 'x' })).toMatchObject([{ path: 'a' }]);
  });

  it('names the field that is wrong', () => {
    const schema = { properties: { items: { items: { required: ['sku'] } } }, additionalProperties: false };
    expect(dataErrors(schema, { items: [{}] })).toMatchObject([{ path: 'items.0' }]);
    expect(dataErrors(schema, { other: 1 })[0]?.message).toContain('other');
  });

  it.each([19.99, 8.69, 143.48, 0.94, -19.99, 0, 100, 1.1e1])('knows %d for a multiple of 0.01', (value) => {
    expect(dataErrors({ properties: { a: { multipleOf: 0.01 } } }, { a: value })).toEqual([]);
  });

  it.each([19.999, 0.005, 1e-7, -0.011])('knows %d for no multiple of 0.01', (value) => {
    const [error] = dataErrors({ properties: { a: { multipleOf: 0.01 } } }, { a: value });
    expect(error).toEqual({ path: 'a', message: 'must be multiple of 0.01' });
  });
});

describe('a multiple', () => {
  it('is one by its decimal digits, whatever the exponents', () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: -(10n ** 7n), max: 10n ** 7n }),
        fc.bigInt({ min: 1n, max: 10n ** 7n }),
        fc.integer({ min: -300, max: 280 }),
        (factor, digits, exponent) => {
          const divisor = Number(`${digits}e${exponent}`);
          const product = factor * digits;
          expect(isMultipleOf(divisor, Number(`${product}e${exponent}`))).toBe(true);
          if (digits > 1n) expect(isMultipleOf(divisor, Number(`${product + 1n}e${exponent}`))).toBe(false);
        },
      ),
    );
  });

  it('is told at the ends of what a number can be', () => {
    expect(isMultipleOf(5e-324, Number.MAX_VALUE)).toBe(true);
    expect(isMultipleOf(3e-324, 5e-324)).toBe(true);
    expect(isMultipleOf(7, Number.MAX_SAFE_INTEGER)).toBe(Number.MAX_SAFE_INTEGER % 7 === 0);
    expect(isMultipleOf(1e308, 1e-308)).toBe(false);
  });
});

describe('JSON that is stored and sent on', () => {
  const nested = (depth: number): unknown => (depth === 0 ? 1 : [nested(depth - 1)]);
  it.each([
    ['a\u0000'],
    [{ a: '\ud800' }],
    [{ 'a\u0000': 1 }],
    [JSON.parse('1e999')],
    [nested(40)],
    [JSON.parse('{"__proto__":1}')],
  ])('refuses %#', (value) => {
    expect(jsonFault(value)).toBeDefined();
  });

  it('takes everything else', () => {
    expect(jsonFault({ a: [1, 'ü💥', null, true, { b: -0.5 }], constructor: nested(20) })).toBeUndefined();
  });
});

describe('a subscription', () => {
  it.each([
    ['Host'],
    ['content-length'],
    ['Webhook-Signature'],
    ['Transfer-Encoding'],
    ['svix-id'],
    ['a b'],
    ['a\r\nb'],
  ])('can’t set the header %j', (name) => {
    expect(SubscriptionHeaders.safeParse({ [name]: 'x' }).success).toBe(false);
  });

  it('can set others, with values of printable ASCII, each once', () => {
    expect(SubscriptionHeaders.safeParse({ Authorization: 'Bearer abc', 'X-A': '1' }).success).toBe(true);
    expect(SubscriptionHeaders.safeParse({ 'X-A': 'a\r\nX-B: 1' }).success).toBe(false);
    expect(SubscriptionHeaders.safeParse({ 'X-A': '1', 'x-a': '2' }).success).toBe(false);
  });

  it.each([
    [{ path: 'a', op: 'like', value: 'x' }],
    [{ path: 'a..b', op: 'eq', value: 1 }],
    [{ path: 'a', op: 'in', value: 'x' }],
    [{ path: 'a', op: 'eq', value: { b: 1 } }],
    [{ path: 'a', op: 'exists', value: 'yes' }],
  ])('can’t have the condition %j', (condition) => {
    expect(SubscriptionFilter.safeParse([condition]).success).toBe(false);
  });
});

describe('the name of an event type', () => {
  it('of remit has the one prefix that nobody else can have', () => {
    for (const type of [
      ...WEBHOOK_EVENT_TYPES,
      TEST_EVENT_TYPE,
      'remit',
      'remit.invented',
      'Remit.payment',
      'REMIT.x',
    ])
      expect(isReservedEventType(type)).toBe(true);
    for (const type of ['order.created', 'payment.succeeded', 'remitted.x', 'remit-x.y', 'x.remit'])
      expect(isReservedEventType(type)).toBe(false);
  });

  it.each(['order.created', 'Order.Created', 'a', 'A-1_b.C', '0.0', `${'a'.repeat(63)}.${'b'.repeat(64)}`])(
    'may be %s, and a pattern as well',
    (name) => {
      expect(EventTypeName.safeParse(name).success).toBe(true);
      expect(EventTypePattern.safeParse(name).success).toBe(true);
    },
  );

  it.each(['', '.', '.a', 'a.', 'a..b', 'a b', 'ä', 'a*', '**', 'a.**', 'a.b*', 'a'.repeat(129)])(
    'is never %s, nor is a pattern',
    (name) => {
      expect(EventTypeName.safeParse(name).success).toBe(false);
      expect(EventTypePattern.safeParse(name).success).toBe(false);
    },
  );

  it.each(['*', 'a.*', '*.b', 'a.*.c', '*.*', 'a.*.*.d'])(
    'may have wildcards in a pattern: %s',
    (pattern) => {
      expect(EventTypeName.safeParse(pattern).success).toBe(false);
      expect(EventTypePattern.safeParse(pattern).success).toBe(true);
    },
  );
});
