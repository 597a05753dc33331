import fc from 'fast-check';
import { CURRENCIES } from '../../../src/contracts/iso-4217';
import {
  AmountError,
  formatMinor,
  MAX_AMOUNT_MINOR,
  minorUnitExponent,
  parseMajorAmount,
} from '../../../src/contracts/money';

const currency = fc.constantFrom(...Object.keys(CURRENCIES));
const minor = fc.bigInt({ min: 1n, max: MAX_AMOUNT_MINOR });

describe('amounts', () => {
  it('survive formatting and parsing in every currency', () => {
    fc.assert(
      fc.property(minor, currency, (amount, code) => {
        expect(parseMajorAmount(formatMinor(amount, code), code)).toBe(amount);
      }),
    );
  });

  it('mean the same as a JSON number and as a string, up to the largest', () => {
    fc.assert(
      fc.property(minor, currency, (amount, code) => {
        const text = formatMinor(amount, code);
        // 15 digits: a double holds them exactly, but prints small ones with an exponent.
        fc.pre(!String(Number(text)).includes('e'));
        expect(parseMajorAmount(JSON.parse(text) as number, code)).toBe(amount);
      }),
    );
  });

  it('may have trailing zeros beyond the decimals of the currency, and nothing else', () => {
    fc.assert(
      fc.property(minor, currency, fc.integer({ min: 1, max: 5 }), (amount, code, extra) => {
        const exponent = minorUnitExponent(code);
        const text = formatMinor(amount, code) + (exponent === 0 ? '.' : '');
        expect(parseMajorAmount(text + '0'.repeat(extra), code)).toBe(amount);
        expect(() => parseMajorAmount(`${text}${'0'.repeat(extra - 1)}1`, code)).toThrow(AmountError);
      }),
    );
  });

  it('are refused as AmountError, and nothing else, whatever the text', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.double(), fc.integer(), fc.stringMatching(/^[-+.\deE]{1,25}$/)),
        currency,
        (given, code) => {
          try {
            const amount = parseMajorAmount(given, code);
            expect(amount > 0n && amount <= MAX_AMOUNT_MINOR).toBe(true);
          } catch (error) {
            expect(error).toBeInstanceOf(AmountError);
          }
        },
      ),
    );
  });

  it.each([
    [100, 'TRY', 10_000n],
    ['100.00', 'TRY', 10_000n],
    [0.01, 'TRY', 1n],
    [1000, 'JPY', 1_000n],
    ['1.234', 'KWD', 1_234n],
    [0.1 + 0.2, 'TRY', undefined],
    ['0', 'TRY', undefined],
    ['-1', 'TRY', undefined],
    ['1,00', 'TRY', undefined],
    ['1e3', 'TRY', undefined],
    [' 1', 'TRY', undefined],
    ['٣', 'TRY', undefined],
    ['1.5', 'JPY', undefined],
    ['10000000000000.00', 'TRY', undefined],
    ['1', 'ABC', undefined],
  ])('reads %p %s as %p', (given, code, expected) => {
    if (expected === undefined) expect(() => parseMajorAmount(given, code)).toThrow(AmountError);
    else expect(parseMajorAmount(given, code)).toBe(expected);
  });

  it.each([
    [0n, 'TRY', '0.00'],
    [5n, 'TRY', '0.05'],
    [-5n, 'TRY', '-0.05'],
    [123_456n, 'KWD', '123.456'],
    [7n, 'JPY', '7'],
  ])('prints %p %s as %s', (amount, code, expected) => {
    expect(formatMinor(amount, code)).toBe(expected);
  });
});
