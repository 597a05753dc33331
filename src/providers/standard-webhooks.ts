import { randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { z } from 'zod';
import {
  SignatureError,
  type IncomingWebhook,
  type SecretFormat,
  type SignedWebhook,
  type VerifyTools,
} from './provider';
import { hmacSha256 } from './signing';

/**
 * Signatures as https://www.standardwebhooks.com has them (symmetric, `v1`): what DeCard, every provider configured so, and
 * order and chargeback webhooks are signed with.
 *
 * Our own check instead of the `standardwebhooks` package, which is used to sign and to check us in the tests: its
 * tolerance is fixed at five minutes, it decodes the body before it hashes (bytes that are no UTF-8 then verify as
 * something else), it reads `123abc` as a timestamp, and its SHA-256 is plain JavaScript, 17 to 22 µs a webhook where
 * node:crypto takes 3 to 4, on the busiest path there is (docs/adr/0008).
 */

const MAX_SIGNATURES = 16;
const SIGNATURE_CHARACTERS = 44;

export const standardWebhooksSecret: SecretFormat = {
  description: 'the secret agreed with the provider: whsec_ and 24 to 64 bytes in base64',
  schema: z.string().regex(/^whsec_[A-Za-z0-9+/]{32,88}={0,2}$/, {
    error: 'must be whsec_ and 24 to 64 bytes in base64',
  }),
  generate: () => `whsec_${randomBytes(32).toString('base64')}`,
};

/** The key bytes of a `whsec_…` secret. */
const keyOf = (secret: string) => Buffer.from(secret.replace(/^whsec_/, ''), 'base64');

/** The key bytes of `whsec_…` secrets: the present one, and while it is changed the one before, comma separated. */
export function decodeSecrets(secrets: string): Buffer[] {
  return secrets.split(',').map((secret) => keyOf(secret.trim()));
}

export type SignatureVerdict =
  | { valid: true; id: string }
  | {
      valid: false;
      /** Safe to show to the sender: it says nothing of the key or of the expected signature. */
      reason: string;
    };

/**
 * Checks `webhook-id`, `webhook-timestamp` and `webhook-signature` against the raw body. The header may hold several
 * signatures separated by spaces; versions other than `v1` are skipped. Comparison takes constant time, whichever of the
 * keys it was.
 * @param toleranceS largest distance of the timestamp to `nowMs`, in seconds, into the past and into the future.
 */
export function verifySignature(
  keys: readonly Buffer[],
  headers: IncomingHttpHeaders,
  body: Buffer,
  toleranceS: number,
  nowMs: number,
): SignatureVerdict {
  const id = headers['webhook-id'];
  const timestamp = headers['webhook-timestamp'];
  const signatures = headers['webhook-signature'];
  if (typeof id !== 'string' || typeof timestamp !== 'string' || typeof signatures !== 'string')
    return refused('webhook-id, webhook-timestamp and webhook-signature are required');
  if (!/^[\x21-\x7e]{1,256}$/.test(id))
    return refused('webhook-id must be 1 to 256 visible ASCII characters');
  if (!/^[1-9]\d{0,14}$/.test(timestamp))
    return refused('webhook-timestamp must be a Unix time in whole seconds');
  const ageS = Math.floor(nowMs / 1_000) - Number(timestamp);
  if (ageS > toleranceS) return refused('webhook-timestamp is too old');
  if (-ageS > toleranceS) return refused('webhook-timestamp is too far in the future');

  const expected = keys.map((key) => Buffer.from(signatureOf(key, id, timestamp, body), 'latin1'));
  let matches = 0;
  for (const versioned of signatures.split(' ', MAX_SIGNATURES)) {
    if (!versioned.startsWith('v1,')) continue;
    const candidate = Buffer.from(versioned.slice(3), 'latin1');
    if (candidate.length !== SIGNATURE_CHARACTERS) continue;
    for (const each of expected) matches += Number(timingSafeEqual(candidate, each));
  }
  return matches > 0 ? { valid: true, id } : refused('no v1 signature matches');
}

function refused(reason: string): SignatureVerdict {
  return { valid: false, reason };
}

/** The check of a provider that signs so. @returns the webhook-id, which is signed. @throws SignatureError */
export function verifyStandardWebhook(
  { headers, body }: IncomingWebhook,
  secrets: readonly string[],
  { toleranceS, nowMs }: VerifyTools,
): string {
  const verdict = verifySignature(secrets.map(keyOf), headers, body, toleranceS, nowMs);
  if (verdict.valid) return verdict.id;
  throw new SignatureError(verdict.reason);
}

const signatureOf = (key: Buffer, id: string, at: string, body: Buffer | string) =>
  hmacSha256(key, [`${id}.${at}.`, body], 'base64');

export function signStandardWebhook(
  body: string,
  secret: string,
  nowMs: number,
  id = `msg_${randomBytes(16).toString('hex')}`,
): SignedWebhook {
  const at = String(Math.floor(nowMs / 1_000));
  return {
    headers: {
      'content-type': 'application/json',
      'webhook-id': id,
      'webhook-timestamp': at,
      'webhook-signature': `v1,${signatureOf(keyOf(secret), id, at, body)}`,
    },
    body,
  };
}
