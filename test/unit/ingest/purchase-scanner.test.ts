import fc from 'fast-check';
import { isPlainPurchase } from '../../../src/bridges/ingest/purchase-scanner';
import { checkedPurchases, trustedObjects } from '../../../src/bridges/ingest/row-format';
import { PoisonMessage } from '../../../src/bridges/message';
import { type Purchase, PURCHASE_FIELDS, PURCHASE_STATUSES } from '../../../src/contracts/purchases';
import { bytesOf, purchase } from './purchase';

const digits = (max: number) => fc.stringMatching(new RegExp(`^[0-9]{1,${max}}$`));
const amountText = fc.oneof(
  fc.tuple(digits(16), digits(6)).map(([whole, part]) => `${whole}.${part}`),
  digits(17),
  fc.constantFrom(
    '0',
    '0.00',
    '1',
    '00.5',
    '1.',
    '.5',
    '1e3',
    '-1',
    '1,5',
    ' 1',
    '99999999999999.9999',
    '999999999999.999',
  ),
);
const time = fc.oneof(
  fc
    .date({ min: new Date('1999-06-01'), max: new Date('2100-06-01'), noInvalidDate: true })
    .map((date) => date.toISOString()),
  fc
    .tuple(fc.integer({ min: 0, max: 99 }), fc.integer({ min: 0, max: 13 }), fc.integer({ min: 0, max: 32 }))
    .map(([y, m, d]) => `20${pad(y)}-${pad(m)}-${pad(d)}T00:00:00.000Z`),
  fc.constantFrom(
    '2024-02-29T23:59:59.999Z',
    '2023-02-29T00:00:00.000Z',
    '2000-02-29T00:00:00.000Z',
    '2026-11-21T24:00:00.000Z',
    '2026-11-21T10:60:00.000Z',
    '2026-11-21T10:00:60.000Z',
    '2026-11-21T10:00:00Z',
    '2026-11-21T10:00:00.000+03:00',
    '2026-11-21 10:00:00.000Z',
  ),
);
const shortText = fc.oneof(
  fc.string({ minLength: 0, maxLength: 70 }),
  fc.string({ unit: 'binary', maxLength: 20 }),
  fc.constantFrom(
    'user-1',
    '',
    'ü',
    '"',
    '\\',
    '\n',
    '\u0000',
    '}',
    '\ud800',
    'x'.repeat(64),
    'x'.repeat(65),
  ),
);
function pad(value: number): string {
  return String(value).padStart(2, '0');
}

/** Mostly `right`, so that many messages are right in all fields and others wrong in one or two. */
function mostly<T>(right: fc.Arbitrary<T>, odd: fc.Arbitrary<T>): fc.Arbitrary<T> {
  return fc.oneof({ arbitrary: right, weight: 12 }, { arbitrary: odd, weight: 1 });
}
const rightTime = fc
  .date({ min: new Date('2000-01-01'), max: new Date('2099-12-31'), noInvalidDate: true })
  .map((date) => date.toISOString());
const rightText = fc.stringMatching(/^[ !#-\[\]-~]{1,64}$/);
const rightAmount = fc
  .tuple(fc.integer({ min: 1, max: 10_000_000 }), fc.nat(99))
  .map(([a, b]) => `${a}.${pad(b)}`);

/** The text of a message: right in most fields, odd in some, in any order, with blanks, repeated and missing fields. */
const message = fc
  .record({
    id: mostly(fc.uuid(), fc.stringMatching(/^[0-9a-fA-F-]{36}$/)).map(quote),
    userId: mostly(rightText, shortText).map(quote),
    productId: mostly(rightText, shortText).map(quote),
    amount: mostly(
      fc.oneof(rightAmount.map(quote), rightAmount),
      fc.oneof(
        amountText.map(quote),
        amountText,
        fc.double().map((value) => JSON.stringify(value)),
      ),
    ),
    currency: mostly(
      fc.constantFrom('TRY', 'USD', 'KWD', 'CLF'),
      fc.constantFrom('JPY', 'XTS', 'QQQ', 'try', 'TR', ''),
    ).map(quote),
    status: mostly(fc.constantFrom<string>(...PURCHASE_STATUSES), fc.constantFrom('done', '')).map(quote),
    provider: mostly(
      fc.constantFrom('decard', 'x_1-y', 'p'.repeat(32)),
      fc.constantFrom('X', '', 'p'.repeat(33)),
    ).map(quote),
    createdAt: mostly(rightTime, time).map(quote),
    processedAt: mostly(rightTime, time).map(quote),
  })
  .chain((fields) =>
    fc.record({
      fields: fc.constant(Object.entries(fields)),
      order: mostly(
        fc.shuffledSubarray([0, 1, 2, 3, 4, 5, 6, 7, 8], { minLength: 9 }),
        fc.shuffledSubarray([0, 1, 2, 3, 4, 5, 6, 7, 8], { minLength: 7 }),
      ),
      odd: mostly(
        fc.constant(undefined),
        fc.constantFrom<string | undefined>('"amount":"1"', '"extra":1', '"id":null'),
      ),
      colon: mostly(fc.constantFrom(':', ': '), fc.constantFrom(':  ', ' :')),
      comma: mostly(fc.constantFrom(',', ', '), fc.constant(',  ')),
    }),
  )
  .map(({ fields, order, odd, colon, comma }) => {
    const chosen = order.map((i) => fields[i]!);
    return `{${[...chosen.map(([name, value]) => `"${name}"${colon}${value}`), ...(odd ? [odd] : [])].join(comma)}}`;
  });
function quote(value: string): string {
  return JSON.stringify(value);
}

function schemaAccepts(bytes: Buffer): boolean {
  try {
    checkedPurchases.rewrite(bytes);
    return true;
  } catch (error) {
    if (error instanceof PoisonMessage) return false;
    throw error;
  }
}

describe('the purchase scanner', () => {
  it('accepts what producers usually write', () => {
    expect(isPlainPurchase(bytesOf(purchase()))).toBe(true);
    expect(isPlainPurchase(bytesOf(purchase({ amount: 129.9 })))).toBe(true);
    const pythonStyle = JSON.stringify(purchase()).replaceAll('":', '": ').replaceAll(',"', ', "');
    expect(isPlainPurchase(Buffer.from(pythonStyle))).toBe(true);
    const reversed = Object.fromEntries(Object.entries(purchase()).reverse());
    expect(isPlainPurchase(bytesOf(reversed))).toBe(true);
  });

  it.each([
    ['an unknown field', JSON.stringify(purchase({ extra: 1 }))],
    ['a missing field', JSON.stringify(purchase({ userId: undefined }))],
    ['a repeated field', JSON.stringify(purchase()).replace('{', '{"amount":"1",')],
    ['two objects', JSON.stringify(purchase()).repeat(2)],
    ['two lines', `${JSON.stringify(purchase())}\n${JSON.stringify(purchase())}`],
    ['an array', `[${JSON.stringify(purchase())}]`],
    ['nothing', ''],
    ['a lone brace', '{'],
    ['an empty object', '{}'],
    ['half a message', JSON.stringify(purchase()).slice(0, 120)],
    ['a null', JSON.stringify(purchase({ amount: null }))],
    ['an unknown currency', JSON.stringify(purchase({ currency: 'QQQ' }))],
    ['more decimals than the currency has', JSON.stringify(purchase({ amount: '1.001' }))],
    ['an overflowing amount', JSON.stringify(purchase({ amount: '99999999999999999999' }))],
    [
      'a JSON number that doubles do not hold',
      JSON.stringify(purchase()).replace('"129.90"', '1234567890123456.1'),
    ],
    ['an unquoted leading zero', JSON.stringify(purchase()).replace('"129.90"', '012')],
    ['a day that does not exist', JSON.stringify(purchase({ createdAt: '2026-02-29T00:00:00.000Z' }))],
  ])('says no to %s', (_, text) => {
    expect(isPlainPurchase(Buffer.from(text))).toBe(false);
  });

  it('never accepts what the schema refuses, and reads the same values as a JSON parser', () => {
    let accepted = 0;
    fc.assert(
      fc.property(message, (text) => {
        const bytes = Buffer.from(text);
        if (!isPlainPurchase(bytes)) return;
        accepted += 1;
        expect(schemaAccepts(bytes)).toBe(true);
        const parsed = JSON.parse(text) as Purchase;
        expect(Object.keys(parsed).sort()).toEqual([...PURCHASE_FIELDS].sort());
        expect(JSON.parse(checkedPurchases.rewrite(bytes))).toEqual(parsed);
      }),
      { numRuns: 6_000 },
    );
    expect(accepted).toBeGreaterThan(500);
  });

  it('never accepts a right message with a byte changed, added or lost, unless the schema accepts it too', () => {
    const right = bytesOf(purchase());
    fc.assert(
      fc.property(
        fc.nat(right.length - 1),
        fc.integer({ min: 0, max: 255 }),
        fc.constantFrom('change', 'insert', 'delete'),
        (at, byte, how) => {
          const mutated = [...right];
          if (how === 'change') mutated[at] = byte;
          else if (how === 'insert') mutated.splice(at, 0, byte);
          else mutated.splice(at, 1);
          const bytes = Buffer.from(mutated);
          if (isPlainPurchase(bytes)) expect(schemaAccepts(bytes)).toBe(true);
        },
      ),
      { numRuns: 6_000 },
    );
  });
});

describe('a purchase that is not plain', () => {
  it('is written anew with the values that were checked', () => {
    const escaped = bytesOf(purchase({ userId: 'Ünal "the\nBuyer"' }));
    expect(checkedPurchases.takesBytes(escaped)).toBe(false);
    const rewritten = checkedPurchases.rewrite(escaped);
    expect(rewritten).not.toContain('\n');
    expect(JSON.parse(rewritten)).toEqual(purchase({ userId: 'Ünal "the\nBuyer"' }));
  });

  it.each([
    ['invalid_json', Buffer.from('nope')],
    ['invalid_json', Buffer.from('[]')],
    ['invalid_json', Buffer.from([0x7b, 0xff, 0x7d])],
    ['invalid_json', Buffer.from(JSON.stringify(purchase()).replace('{', '{"amount":"-5",'))],
    ['invalid_message', bytesOf(purchase({ extra: 1 }))],
    [
      'amount_invalid',
      Buffer.from(JSON.stringify(purchase()).replace(/"amount":[^,]+/, '"amount":1.10000000000000000001')),
    ],
    ['invalid_message', bytesOf(purchase({ currency: 'QQQ' }))],
    ['amount_invalid', bytesOf(purchase({ amount: '0' }))],
    ['amount_invalid', bytesOf(purchase({ amount: '999999999999999', currency: 'JPY' }))],
  ])('is refused as %s', (code, bytes) => {
    expect(() => checkedPurchases.rewrite(bytes)).toThrow(expect.objectContaining({ code }) as Error);
  });
});

describe('pass-through', () => {
  const trusting = trustedObjects(checkedPurchases, 60_000);

  it('takes the bytes of a flat object on one line, and nothing that could be two rows', () => {
    const takes = (text: string) => trusting.takesBytes(Buffer.from(text));
    expect(takes('{"a":1}')).toBe(true);
    for (const text of [
      '',
      '{}',
      '{"a":1}{"b":2}',
      '{"a":1}\n{"b":2}',
      '[{"a":1}]',
      '{"a":1',
      '{"a":"}"}',
      '\n',
      '1',
    ])
      expect(takes(text)).toBe(false);
  });

  it('writes nested objects anew and refuses what is no object', () => {
    expect(trusting.rewrite(Buffer.from(' {"a":{"b":\n"}"}} '))).toBe('{"a":{"b":"}"}}');
    for (const text of ['', '{"a":1}{"b":2}', '[1]', 'null', '{}', '"x"'])
      expect(() => trusting.rewrite(Buffer.from(text))).toThrow(PoisonMessage);
  });

  it('checks everything for a while once ClickHouse has refused a row', () => {
    const format = trustedObjects(checkedPurchases, 60_000);
    const wrong = bytesOf(purchase({ amount: '0' }));
    expect(format.takesBytes(wrong)).toBe(true);
    format.distrust!();
    expect(format.takesBytes(wrong)).toBe(false);
    expect(() => format.rewrite(wrong)).toThrow(PoisonMessage);
    expect(format.takesBytes(bytesOf(purchase()))).toBe(true);
  });
});
