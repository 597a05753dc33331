import { isUtf8 } from 'node:buffer';
import { z } from 'zod';
import { decodeJson, JsonError, parseExactly } from '../contracts/json';
import { AmountError, MAX_AMOUNT_MINOR, minorUnitExponent, parseMajorAmount } from '../contracts/money';
import { BodyError } from './provider';

/** @throws BodyError when the bytes are not UTF-8. */
export function readText(body: Buffer): string {
  if (!isUtf8(body)) throw new BodyError('', 'the body is not UTF-8');
  return body.toString('utf8');
}

/** What a body says, its numbers as they were written (`parseExactly`). @throws BodyError when it is not JSON. */
export function parseBody(body: Buffer): unknown {
  try {
    return parseExactly(decodeJson(body));
  } catch (error) {
    if (error instanceof JsonError) throw new BodyError('', error.message, 'invalid_json');
    throw error;
  }
}

/** @throws BodyError when the body is not JSON, or not of the schema: every wrong field is named. */
export const readJson = <T extends z.ZodType>(body: Buffer, schema: T): z.output<T> =>
  readValue(parseBody(body), schema);

/** @param at where the value stands in its body. @throws BodyError when it is not of the schema. */
export function readValue<T extends z.ZodType>(value: unknown, schema: T, at?: string): z.output<T> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const fields = parsed.error.issues.map(({ path, message }) => ({
    path: [...(at === undefined ? [] : [at]), ...path].join('.'),
    message,
  }));
  const [first] = fields;
  throw new BodyError(first?.path ?? '', first?.message ?? 'is not valid', 'invalid_message', fields);
}

/** An integer that a JavaScript number holds exactly; any other is no number by now (`parseExactly`). */
export const ExactInteger = z.int({ error: 'must be a whole number of at most 9007199254740991' });

/**
 * An amount in a provider's own minor units, in those of ISO 4217.
 * @param decimals how many the provider counts with, where they differ from ISO 4217 (Adyen: CLP 2, ISO: 0); undefined where
 * they do not.
 * @throws BodyError when it is not positive, too large, or has a fraction that ISO 4217 does not know.
 */
export function minorFromProvider(
  amount: number,
  currency: string,
  decimals: number | undefined,
  path = 'amount',
): bigint {
  try {
    const exponent = minorUnitExponent(currency);
    const given = BigInt(amount);
    const counted = decimals ?? exponent;
    const scale = 10n ** BigInt(Math.abs(exponent - counted));
    if (counted > exponent && given % scale !== 0n)
      throw new AmountError(`amount has more than the ${exponent} decimals of ${currency}`);
    const minor = counted > exponent ? given / scale : given * scale;
    if (minor <= 0n) throw new AmountError('amount must be greater than zero');
    if (minor > MAX_AMOUNT_MINOR) throw new AmountError('amount is too large');
    return minor;
  } catch (error) {
    if (error instanceof AmountError) throw new BodyError(path, error.message, 'amount_invalid');
    throw error;
  }
}

/** An amount in major units as text ("100.00"), in minor units of ISO 4217. @throws BodyError */
export function minorFromMajor(amount: string, currency: string, path = 'amount'): bigint {
  try {
    return parseMajorAmount(amount, currency);
  } catch (error) {
    if (error instanceof AmountError) throw new BodyError(path, error.message, 'amount_invalid');
    throw error;
  }
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** What a merchant's reference names: remit gives providers `payment:<id>`, `payout:<id>` or `order:<id>`. */
export interface Reference {
  kind: 'payment' | 'payout' | 'order';
  id: string;
}

/** Undefined when the reference is none of remit's: the webhook is about something else. */
export function parseReference(text: string | null | undefined): Reference | undefined {
  const [kind, id, more] = (text ?? '').split(':');
  if (more !== undefined || id === undefined) return undefined;
  const lower = id.toLowerCase();
  return UUID.test(lower) && (kind === 'payment' || kind === 'payout' || kind === 'order')
    ? { kind, id: lower }
    : undefined;
}

export const reference = ({ kind, id }: Reference): string => `${kind}:${id}`;
