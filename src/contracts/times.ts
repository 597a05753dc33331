import { z } from 'zod';

/**
 * Moments on every boundary, HTTP and Kafka alike: RFC 3339 as any language prints it, with or without a fraction of any
 * length, in any offset, to milliseconds.
 */

const RFC_3339 =
  /^(\d{4})-(\d\d)-(\d\d)[Tt]([01]\d|2[0-3]):([0-5]\d):([0-5]\d|60)(?:\.(\d+))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))$/;
/** Longer than any clock is exact. */
const MAX_CHARACTERS = 64;
const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

/**
 * Reads an RFC 3339 timestamp: milliseconds since 1970, undefined when it is none. What is finer than a millisecond is
 * cut off. A leap second (23:59:60 UTC) is the second after it, as in POSIX.
 */
export function readTimestamp(text: string): number | undefined {
  if (text.length > MAX_CHARACTERS) return undefined;
  const match = RFC_3339.exec(text);
  if (!match) return undefined;
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map(Number) as [
    ...[number, number, number, number, number, number],
  ];
  const [fraction = '', sign = '+', offsetHours = '0', offsetMinutes = '0'] = match.slice(7);
  const date = new Date(0);
  // Date.UTC takes the years 0 to 99 for 1900 to 1999.
  date.setUTCFullYear(year, month - 1, day);
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day) return undefined;
  const offsetMs = (Number(offsetHours) * 60 + Number(offsetMinutes)) * MINUTE_MS * (sign === '-' ? -1 : 1);
  const wholeMs = date.getTime() + (hour * 60 + minute) * MINUTE_MS + second * 1_000 - offsetMs;
  if (second === 60) return wholeMs % DAY_MS === 0 ? wholeMs : undefined;
  return wholeMs + Number(fraction.padEnd(3, '0').slice(0, 3));
}

/**
 * A timestamp of these years (in UTC). Parsed, it is in one form: 2026-11-21T09:37:35.123Z. 1970 to 2999 are written
 * alike by PostgreSQL, JavaScript and ISO 8601, in every time zone.
 */
export const timestamp = ({ first = 1970, last = 2999 } = {}) =>
  z
    .string()
    .transform((text, context) => {
      const atMs = readTimestamp(text);
      if (atMs === undefined) {
        context.addIssue({
          code: 'custom',
          message: 'must be an RFC 3339 time such as 2026-11-21T09:37:35.123Z or 2026-11-21T12:37:35+03:00',
        });
        return z.NEVER;
      }
      const at = new Date(atMs);
      const year = at.getUTCFullYear();
      if (year < first || year > last) {
        context.addIssue({ code: 'custom', message: `must be of the years ${first} to ${last}` });
        return z.NEVER;
      }
      return at.toISOString();
    })
    .meta({
      type: 'string',
      format: 'date-time',
      description: 'RFC 3339, kept to milliseconds',
      example: '2026-11-21T09:37:35.123Z',
    });

export const Timestamp = timestamp();
