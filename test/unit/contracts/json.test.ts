import fc from 'fast-check';
import { isLosslessNumber } from 'lossless-json';
import {
  decodeJson,
  JsonError,
  type JsonText,
  keptTextFault,
  parseExactly,
  parseKeeping,
  saySame,
} from '../../../src/contracts/json';
import { AmountError, MajorAmount, parseMajorAmount } from '../../../src/contracts/money';
import { jsonObjectText, jsonSpace } from '../../support/json-texts';

/** What the amount of a JSON text is in minor units; undefined when it is refused. */
function amountIn(json: string, currency = 'TRY'): bigint | undefined {
  const parsed = MajorAmount.safeParse((parseExactly(json) as { amount: unknown }).amount);
  if (!parsed.success) return undefined;
  try {
    return parseMajorAmount(parsed.data, currency);
  } catch (error) {
    if (error instanceof AmountError) return undefined;
    throw error;
  }
}

describe('the amount of a JSON text', () => {
  it.each<[string, bigint | undefined]>([
    ['{"amount":100}', 10_000n],
    ['{"amount":100.0}', 10_000n],
    ['{"amount":100.00000000000000}', 10_000n],
    ['{"amount":100.000000000000000000000000000000}', 10_000n],
    ['{"amount":1e2}', 10_000n],
    ['{"amount":1.0000000000000000e2}', 10_000n],
    ['{"amount":10000E-2}', 10_000n],
    ['{"amount":100,"fees":[{"amount":0.30000000000000004}]}', 10_000n],
    ['{"fees":[{"amount":0.30000000000000004}],"amount":"100.00"}', 10_000n],
    ['{"note":"\\"amount\\":100.000000000000000001","amount":100}', 10_000n],
    ['{"\\u0061mount":100}', 10_000n],
    ['{"amount":100,"amount":100.0}', 10_000n],
    ['{"amount":9999999999999.99}', 999_999_999_999_999n],
    ['{"amount":100.000000000000000001}', undefined],
    ['{"amount":99.99999999999999999}', undefined],
    ['{"\\u0061mount":100.000000000000000001}', undefined],
    ['{"amount":0.30000000000000004}', undefined],
    ['{"amount":0.30000000000000000000000000000000000000000001}', undefined],
    ['{"amount":9007199254740993}', undefined],
    [`{"amount":1${'0'.repeat(400)}}`, undefined],
    [`{"amount":0.${'0'.repeat(60_000)}1}`, undefined],
    ['{"amount":1E400}', undefined],
    ['{"amount":1e-400}', undefined],
    ['{"amount":-0}', undefined],
    ['{"amount":0.00}', undefined],
    ['{"amount":-100}', undefined],
    ['{"amount":[100]}', undefined],
    ['{"amount":{"value":"100","isLosslessNumber":true}}', undefined],
    ['{"amount":true}', undefined],
    ['{"__proto__":{"amount":100}}', undefined],
  ])('%s', (json, minor) => {
    expect(amountIn(json)).toBe(minor);
  });

  it('is exactly what its digits say, or is refused', () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: 1n, max: 10n ** 20n }),
        fc.nat({ max: 20 }),
        fc.nat({ max: 20 }),
        fc.integer({ min: -3, max: 3 }),
        (digits, decimals, zeros, power) => {
          const text = digits.toString().padStart(decimals + 1, '0');
          const whole = text.slice(0, text.length - decimals);
          const fraction = text.slice(text.length - decimals) + '0'.repeat(zeros);
          const number = `${whole}${fraction === '' ? '' : `.${fraction}`}${power === 0 ? '' : `e${power}`}`;
          const json = `{"x":0.1234567890123456789,"amount":${number},"fees":[{"amount":1.23456789012345678}]}`;
          const minor = amountIn(json);
          const scale = 10n ** BigInt(decimals + 3);
          // digits × 10^(power - decimals) major units are digits × 10^(power - decimals + 2) minor ones.
          if (minor !== undefined) expect(minor * scale).toBe(digits * 10n ** BigInt(power + 5));
          else if (digits < 10n ** 15n && decimals === 2 && power === 0)
            throw new Error(`${json} is right and was refused`);
        },
      ),
    );
  });
});

describe('a JSON text', () => {
  it.each([
    ['{"amount":1,"amount":2}', /Duplicate key 'amount'/],
    ['{"amount":1,"\\u0061mount":2}', /Duplicate key 'amount'/],
    ['{"a":{"b":1,"b":"1"}}', /Duplicate key 'b'/],
    ['[1,]', /./],
    ['{"a":01}', /./],
    ['{"a":NaN}', /./],
    ['{a:1}', /./],
    ['', /./],
    ['{} {}', /./],
    ['{}\u00a0', /./],
    ['{\u0000}', /./],
    [`${'['.repeat(501)}${']'.repeat(501)}`, /500 levels/],
    [`${'{"a":'.repeat(501)}1${'}'.repeat(501)}`, /500 levels/],
    ['['.repeat(200_000), /500 levels/],
    [`{"a":"\\"${'['.repeat(10)}","b":${'['.repeat(600)}`, /500 levels/],
  ])('%.40s is none', (json, message) => {
    expect(() => parseExactly(json)).toThrow(JsonError);
    expect(() => parseExactly(json)).toThrow(message);
  });

  it('may hold brackets in its strings and be nested as deep as that', () => {
    expect(parseExactly(JSON.stringify(['['.repeat(1_000), '\\"[', '\\\\', '{'.repeat(600)]))).toHaveLength(
      4,
    );
    expect(parseExactly(`${'['.repeat(500)}${']'.repeat(500)}`)).toBeDefined();
  });

  it('says what JSON.parse says, whenever JavaScript can hold it', () => {
    fc.assert(
      fc.property(fc.json(), (json) => {
        let exact: unknown;
        try {
          exact = parseExactly(json);
        } catch (error) {
          // fast-check writes a name twice now and then.
          expect(String(error)).toMatch(/Duplicate key/);
          return;
        }
        const numbers = JSON.stringify(exact, (_key, value: unknown) =>
          isLosslessNumber(value) ? Number(value.value) : value,
        );
        expect(JSON.parse(numbers)).toEqual(JSON.parse(json));
      }),
    );
  });
});

describe('the bytes of a JSON text', () => {
  const json = '{"amount":100.000000000000000001,"ü":"💥"}';
  const utf32 = Buffer.concat(
    [...json].map((char) => {
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32BE(char.codePointAt(0)!);
      return bytes;
    }),
  );
  it.each([
    ['UTF-16 with a byte order mark', Buffer.from(`\ufeff${json}`, 'utf16le')],
    ['UTF-16 without', Buffer.from(json, 'utf16le')],
    ['UTF-32', utf32],
    ['Latin-1', Buffer.from(json, 'latin1')],
    ['UTF-8 with a byte order mark', Buffer.from(`\ufeff${json}`)],
    ['half a character', Buffer.from([0x22, 0xf0, 0x9f, 0x22])],
    ['half a surrogate pair in UTF-8', Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22])],
    ['an overlong form', Buffer.from([0x22, 0xc0, 0x80, 0x22])],
    ['UTF-7', Buffer.from('+AHsAIgBh-mount":100.000000000000000001}')],
  ])('are not read when they are %s', (_what, bytes) => {
    expect(() => parseExactly(decodeJson(bytes))).toThrow(JsonError);
  });

  it('are UTF-8', () => {
    expect(decodeJson(Buffer.from(json))).toBe(json);
  });
});

describe('a value that is kept', () => {
  it('is the text that stands there, whatever is around it', () => {
    fc.assert(
      fc.property(jsonObjectText, jsonObjectText, jsonSpace, (data, other, space) => {
        const one = `${space}{${space}"other"${space}:${space}${other}${space},"d\\u0061ta":${space}${data}${space},"n":1}`;
        const kept = parseKeeping(one, ['data']) as { data: JsonText; other: unknown; n: number };
        expect(kept.data.text).toBe(data);
        expect(kept.data.value).toEqual(JSON.parse(data));
        expect(kept.other).toEqual(JSON.parse(other));
        expect(kept.n).toBe(1);

        const list = `{"events":[${space}${one},${one}${space}]${space}}`;
        const { events } = parseKeeping(list, ['events', '*', 'data']) as { events: { data: JsonText }[] };
        expect(events.map((each) => each.data.text)).toEqual([data, data]);
      }),
    );
  });

  it.each([
    ['{"data":1e1000}', '1e1000'],
    ['{"data": -1.10 }', '-1.10'],
    ['{"data":"a\\"}"}', '"a\\"}"'],
    ['{"data":[]}', '[]'],
    ['{"data":null}', 'null'],
  ])('of %s is %s', (json, text) => {
    expect((parseKeeping(json, ['data']) as { data: JsonText }).data.text).toBe(text);
  });

  it.each(['{}', '[]', '1', 'null', '"data"', '{"events":1}', '{"events":[1,[],{}]}'])(
    'is not looked for where there is none: %s',
    (json) => {
      expect(parseKeeping(json, ['events', '*', 'data'])).toEqual(JSON.parse(json));
    },
  );

  it('is refused when there are two of it, however they are written, and when it is none', () => {
    for (const json of [
      '{"data":1,"data":1}',
      '{"data":1,"d\\u0061ta":2}',
      '{"a":1,"a":1,"data":2}',
      '{"data":}',
    ])
      expect(() => parseKeeping(json, ['data'])).toThrow(JsonError);
  });

  it('has bounded levels and numbers', () => {
    expect(keptTextFault(`${'['.repeat(32)}"[[["${']'.repeat(32)}`, 32)).toBeUndefined();
    expect(keptTextFault(`${'{"a":'.repeat(33)}1${'}'.repeat(33)}`, 32)).toMatch(/32 levels/);
    expect(keptTextFault(`{"1e9999":[-1e1000,1${'0'.repeat(999)},1.5E-1000]}`, 32)).toBeUndefined();
    for (const number of ['1e1001', '1E-1001', `1${'0'.repeat(1_000)}`, `0.${'1'.repeat(1_000)}`])
      expect(keptTextFault(`{"a":[${number}]}`, 32)).toMatch(/a number/);
  });
});

describe('two JSON texts', () => {
  it.each([
    ['{"a":1.10}', '{ "a" : 11e-1 }', true],
    ['{"a":1,"b":[1,2]}', '{"b":[1.0,2],"\\u0061":1}', true],
    ['{"a":-0}', '{"a":0.00e5}', true],
    ['{"a":9007199254740993}', '{"a":9007199254740992}', false],
    ['{"a":1.10000000000000000001}', '{"a":1.1}', false],
    ['{"a":100}', '{"a":"100"}', false],
    ['{"a":[1,2]}', '{"a":[2,1]}', false],
    ['{"a":[]}', '{"a":{}}', false],
    ['{"a":null}', '{}', false],
    ['{"a":"\\ud800"}', '{"a":"\\uD800"}', true],
    ['{"a":1,"a":2}', '{"a":2}', true],
    ['{"a":[[],[1]]}', '{"a":[[[]],[1]]}', false],
  ])('%s and %s say the same: %s', (one, other, same) => {
    expect(saySame(one, other)).toBe(same);
  });

  it('say the same when one is the other rewritten', () => {
    fc.assert(
      fc.property(fc.object(), (value) => {
        const reversed = (each: unknown): unknown =>
          typeof each === 'object' && each !== null && !Array.isArray(each)
            ? Object.fromEntries(
                Object.entries(each)
                  .reverse()
                  .map(([name, inner]) => [name, reversed(inner)]),
              )
            : each;
        const text = JSON.stringify(value);
        expect(saySame(text, JSON.stringify(reversed(JSON.parse(text)), null, 2))).toBe(true);
      }),
    );
  });
});
