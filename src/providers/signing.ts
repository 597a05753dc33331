import { createHmac, timingSafeEqual } from 'node:crypto';
import { SignatureError, type IncomingWebhook, type VerifyTools } from './provider';

/** HMAC with SHA-256 over the concatenation of the parts. */
export function hmacSha256(
  key: Buffer | string,
  parts: readonly (Buffer | string)[],
  encoding: 'hex' | 'base64',
): string {
  const hmac = createHmac('sha256', key);
  for (const part of parts) hmac.update(part);
  return hmac.digest(encoding);
}

/** Compares in constant time; texts of another length are unequal. */
export function sameText(given: string, expected: string): boolean {
  const a = Buffer.from(given, 'utf8');
  const b = Buffer.from(expected, 'utf8');
  return a.length === b.length && timingSafeEqual(a, b);
}

/** The one value of a header. @throws SignatureError when it is missing or repeated. */
export function requiredHeader({ headers }: IncomingWebhook, name: string): string {
  const value = headers[name];
  if (typeof value !== 'string' || value === '') throw new SignatureError(`the header ${name} is missing`);
  return value;
}

/** @param atS the signed time, in seconds since 1970. @throws SignatureError when it is too far from now. */
export function requireFresh(atS: number, { nowMs, toleranceS }: VerifyTools): void {
  const ageS = Math.floor(nowMs / 1_000) - atS;
  if (ageS > toleranceS) throw new SignatureError('the signed time is too old');
  if (-ageS > toleranceS) throw new SignatureError('the signed time is too far in the future');
}
