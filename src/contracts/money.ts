import { isLosslessNumber } from 'lossless-json';
import { z } from 'zod';
import { CURRENCIES, WITHDRAWN } from './iso-4217';

/** Largest amount of one movement, in minor units: 15 digits stay exact in JSON, PostgreSQL bigint and JavaScript alike. */
export const MAX_AMOUNT_MINOR = 999_999_999_999_999n;

/** Thrown when an amount can't be read exactly; `message` says which rule it breaks. */
export class AmountError extends Error {
  readonly code = 'amount_invalid';
}

/**
 * Number of decimals of a currency (ISO 4217: JPY 0, TRY 2, KWD 3), also of one that was withdrawn: its money may be here.
 * @throws AmountError when ISO 4217 does not know the code or gives it no minor units.
 */
export function minorUnitExponent(currency: string): number {
  for (const known of [CURRENCIES, WITHDRAWN]) if (Object.hasOwn(known, currency)) return known[currency]!;
  throw new AmountError(`${currency} ${NO_CURRENCY}`);
}

/** Of gold (XAU), special drawing rights (XDR), tests (XTS) and none (XXX), there are no amounts in minor units. */
const NO_CURRENCY = 'is not a current ISO 4217 code with minor units';

/** Whether amounts can be in it: a current currency or fund. */
function isCurrency(code: string): boolean {
  return Object.hasOwn(CURRENCIES, code);
}

/**
 * Reads an amount in major units (100 is 100.00 TRY) into minor units, exactly: the decimal digits are taken from the
 * text, never from float arithmetic.
 * @throws AmountError when the currency is no current one, or the amount is negative, zero, not a plain decimal, too large,
 *   or has more decimals than the currency.
 */
export function parseMajorAmount(amount: number | string, currency: string): bigint {
  if (!isCurrency(currency)) throw new AmountError(`${currency} ${NO_CURRENCY}`);
  const exponent = minorUnitExponent(currency);
  const text = typeof amount === 'number' ? String(amount) : amount;
  const match = /^(\d{1,18})(?:\.(\d{1,38}))?$/.exec(text);
  if (!match) throw new AmountError('amount must be a positive decimal such as 100 or "100.00"');
  const decimals = match[2] ?? '';
  if (decimals.length > exponent && /[1-9]/.test(decimals.slice(exponent)))
    throw new AmountError(`amount has more than the ${exponent} decimals of ${currency}`);
  const minor = BigInt(match[1] + decimals.slice(0, exponent).padEnd(exponent, '0'));
  if (minor === 0n) throw new AmountError('amount must be greater than zero');
  if (minor > MAX_AMOUNT_MINOR)
    throw new AmountError(`amount is larger than ${formatMinor(MAX_AMOUNT_MINOR, currency)}`);
  return minor;
}

/** Minor units as a decimal string in major units: 10000n TRY is "100.00". Never rounds. */
export function formatMinor(minor: bigint, currency: string): string {
  const exponent = minorUnitExponent(currency);
  const sign = minor < 0n ? '-' : '';
  const digits = (minor < 0n ? -minor : minor).toString().padStart(exponent + 1, '0');
  return exponent === 0 ? sign + digits : `${sign}${digits.slice(0, -exponent)}.${digits.slice(-exponent)}`;
}

/** A current ISO 4217 alphabetic code. */
export const Currency = z
  .string()
  .length(3)
  .refine(isCurrency, { error: NO_CURRENCY })
  .meta({ description: 'A current ISO 4217 alphabetic code that has minor units', example: 'TRY' });

/**
 * An amount in major units as it arrives: JSON number or decimal string. A number that JavaScript would round is the text
 * that was written (`parseExactly`). Exactness is checked by parseMajorAmount.
 */
export const MajorAmount = z
  .preprocess(
    (value) => (isLosslessNumber(value) ? value.value : value),
    z.union([z.number().positive(), z.string().min(1).max(40)]),
  )
  .meta({ description: 'Amount in major units, as a JSON number or a decimal string', example: '100.00' });
