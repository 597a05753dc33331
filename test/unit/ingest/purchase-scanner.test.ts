import fc from 'fast-check';
import { isPlainPurchase } from '../../../src/bridges/ingest/purchase-scanner';
import { checkedPurchases, domainEvents, trustedPurchases } from '../../../src/bridges/ingest/row-format';
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
    '2026-11-21T10:00:00.Z',
    '2026-11-21T10:00:00.1Z',
    '2026-11-21T10:00:00.123456Z',
    '2026-11-21T10:00:00.123456789Z',
    '2026-11-21T10:00:00.1234567890Z',
    '2026-11-21T10:00Z',
    '2026-11-21t10:00:00z',
    '2026-11-21T23:59:60Z',
    '2026-11-21T10:00:00.000+03:00',
    '1999-12-31T23:59:59.999-00:01',
    '2000-01-01T00:00:00+00:01',
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
  .tuple(
    fc.integer({ min: Date.UTC(2000, 0, 1), max: Date.UTC(2099, 11, 31) }),
    fc.constantFrom('', '.1', '.12', '.123', '.1234', '.123456', '.999999999'),
  )
  .map(([at, fraction]) => new Date(at).toISOString().replace(/\.\d+/, fraction));
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
        expect(JSON.parse(checkedPurchases.rewrite(bytes))).toEqual({
          ...parsed,
          createdAt: new Date(parsed.createdAt).toISOString(),
          processedAt: new Date(parsed.processedAt).toISOString(),
        });
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
  it('is rewritten with the values that were checked', () => {
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

describe('numbers', () => {
  const withAmount = (text: string) => Buffer.from(JSON.stringify(purchase()).replace('"129.90"', text));

  it.each(['1.10000000000000000001', '12345678901234567890', '0.30000000000000004', '1e400'])(
    'an amount %s is refused, not rounded',
    (text) => {
      expect(isPlainPurchase(withAmount(text))).toBe(false);
      expect(() => checkedPurchases.rewrite(withAmount(text))).toThrow(
        expect.objectContaining({ code: 'amount_invalid' }) as Error,
      );
    },
  );

  it('of a domain event are stored as large and as exact as they were written', () => {
    const event = `{"id":"e","type":"t","aggregate":"order","aggregateId":"o","tenantId":"d","occurredAt":"2026-11-21T12:00:00.123456+03:00","correlationId":null,"data":{"n":12345678901234567890,"m":1.10000000000000000001}}`;
    const row = JSON.parse(domainEvents.rewrite(Buffer.from(event))) as Record<string, string>;
    expect(row['data']).toBe('{"n":12345678901234567890,"m":1.10000000000000000001}');
    expect(row['occurredAt']).toBe('2026-11-21T09:00:00.123Z');
  });
});

describe('a purchase’s times', () => {
  it.each([
    ['2026-11-21T09:37:35Z', '2026-11-21T09:37:35.000Z'],
    ['2026-11-21T09:37:35.1Z', '2026-11-21T09:37:35.100Z'],
    ['2026-11-21T09:37:35.12Z', '2026-11-21T09:37:35.120Z'],
    ['2026-11-21T09:37:35.123456Z', '2026-11-21T09:37:35.123Z'],
    ['2026-11-21T09:37:35.999999999Z', '2026-11-21T09:37:35.999Z'],
  ])('%s is plain', (time, stored) => {
    const bytes = bytesOf(purchase({ createdAt: time, processedAt: time }));
    expect(isPlainPurchase(bytes)).toBe(true);
    expect(JSON.parse(checkedPurchases.rewrite(bytes))).toMatchObject({
      createdAt: stored,
      processedAt: stored,
    });
  });

  it.each([
    ['2026-11-21T12:37:35.5+03:00', '2026-11-21T09:37:35.500Z'],
    ['2026-11-21t09:37:35z', '2026-11-21T09:37:35.000Z'],
    ['2026-11-21T09:37:35.1234567890123Z', '2026-11-21T09:37:35.123Z'],
    ['1999-12-31T23:59:59.999-00:01', '2000-01-01T00:00:59.999Z'],
  ])('%s is rewritten', (time, stored) => {
    const bytes = bytesOf(purchase({ createdAt: time }));
    expect(isPlainPurchase(bytes)).toBe(false);
    expect(JSON.parse(checkedPurchases.rewrite(bytes))).toMatchObject({ createdAt: stored });
  });
});

describe('pass-through', () => {
  const trusting = trustedPurchases(60_000);
  const takes = (text: string) => trusting.takesBytes(Buffer.from(text));
  const right = JSON.stringify(purchase());

  it('takes the bytes of one flat purchase on one line, whatever stands in its texts', () => {
    expect(takes(right)).toBe(true);
    expect(takes(JSON.stringify(purchase({ userId: 'Ünal', provider: 'De Card' })))).toBe(true);
  });

  it.each([
    ['nothing', ''],
    ['an empty object', '{}'],
    ['two objects', right + right],
    ['two lines', `${right}\n${right}`],
    ['a newline between fields', right.replace(',"userId"', ',\n"userId"')],
    ['an array', `[${right}]`],
    ['an unclosed string', '{"id":"abc}'],
    ['a column that remit fills', right.replace('{', '{"storedAt":"2000-01-01 00:00:00",')],
    ['the place of the message', right.replace('{', '{"kafkaOffset":7,')],
    ['a column that remit fills, escaped', right.replace('{', '{"stored\\u0041t":"2000-01-01 00:00:00",')],
    ['a missing field', JSON.stringify(purchase({ id: undefined }))],
    ['a short id', JSON.stringify(purchase({ id: '0a1b2c3d4e5f4a6b8c7d0123456789ab' }))],
    ['an amount 1.2.3', JSON.stringify(purchase({ amount: '1.2.3' }))],
    ['an amount 1e', JSON.stringify(purchase({ amount: '1e' }))],
    ['a number 1e', right.replace('"129.90"', '1e')],
    ['a number 1.2.3', right.replace('"129.90"', '1.2.3')],
    ['a number +1', right.replace('"129.90"', '+1')],
    ['too many decimals', JSON.stringify(purchase({ amount: '1.10000000000000000001' }))],
    ['the year 0000', JSON.stringify(purchase({ processedAt: '0000-01-01T00:00:00.000Z' }))],
    ['the month 00', JSON.stringify(purchase({ createdAt: '2026-00-10T00:00:00.000Z' }))],
    ['the number of a status', JSON.stringify(purchase({ status: 2 }))],
    ['an object for a text', JSON.stringify(purchase({ userId: { a: 1 } }))],
  ])('does not take %s', (_, text) => {
    expect(takes(text)).toBe(false);
  });

  it('takes nothing of which a JSON parser reads another amount, status, currency or time than the schema allows', () => {
    let accepted = 0;
    fc.assert(
      fc.property(message, (text) => {
        if (!takes(text)) return;
        accepted += 1;
        const parsed = JSON.parse(text) as Record<string, string>;
        expect(Object.keys(parsed).sort()).toEqual([...PURCHASE_FIELDS].sort());
        const { amount, currency, status, createdAt, processedAt } = parsed;
        expect(schemaAccepts(bytesOf(purchase({ amount, currency, status, createdAt, processedAt })))).toBe(
          true,
        );
      }),
      { numRuns: 4_000 },
    );
    expect(accepted).toBeGreaterThan(500);
  });

  it('checks what it does not take as if it trusted nobody', () => {
    const nested = right.replace('"user-00000001"', '{"a":1}');
    expect(() => trusting.rewrite(Buffer.from(nested))).toThrow(PoisonMessage);
    expect(JSON.parse(trusting.rewrite(Buffer.from(` ${right} `)))).toEqual(purchase());
  });

  it('checks everything for a while once ClickHouse has refused a row', () => {
    const format = trustedPurchases(60_000);
    const wrong = bytesOf(purchase({ provider: 'De Card' }));
    expect(format.takesBytes(wrong)).toBe(true);
    format.distrust!();
    expect(format.takesBytes(wrong)).toBe(false);
    expect(() => format.rewrite(wrong)).toThrow(PoisonMessage);
    expect(format.takesBytes(bytesOf(purchase()))).toBe(true);
  });
});
