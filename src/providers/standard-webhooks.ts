import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import {
  SignatureError,
  type IncomingWebhook,
  type SecretFormat,
  type SignedWebhook,
  type VerifyTools,
} from './provider';
import { hmacSha256, requiredHeader, requireFresh, sameText } from './signing';

/** Signatures as https://www.standardwebhooks.com has them: what DeCard and every provider configured so signs with. */

const MAX_SIGNATURES = 16;

export const standardWebhooksSecret: SecretFormat = {
  description: 'the secret agreed with the provider: whsec_ and 24 to 64 bytes in base64',
  schema: z.string().regex(/^whsec_[A-Za-z0-9+/]{32,88}={0,2}$/, {
    error: 'must be whsec_ and 24 to 64 bytes in base64',
  }),
  generate: () => `whsec_${randomBytes(32).toString('base64')}`,
};

/** The key bytes of a `whsec_…` secret. */
const keyOf = (secret: string) => Buffer.from(secret.replace(/^whsec_/, ''), 'base64');

/** @returns the webhook-id, which is signed. @throws SignatureError */
export function verifyStandardWebhook(
  webhook: IncomingWebhook,
  secrets: readonly string[],
  tools: VerifyTools,
): string {
  const id = requiredHeader(webhook, 'webhook-id');
  const at = requiredHeader(webhook, 'webhook-timestamp');
  const given = requiredHeader(webhook, 'webhook-signature').split(' ', MAX_SIGNATURES);
  if (!/^[\x21-\x7e]{1,256}$/.test(id))
    throw new SignatureError('webhook-id must be 1 to 256 visible ASCII characters');
  if (!/^[1-9]\d{0,14}$/.test(at))
    throw new SignatureError('webhook-timestamp must be a Unix time in whole seconds');
  requireFresh(Number(at), tools);
  const expected = secrets.map((secret) => `v1,${signatureOf(secret, id, at, webhook.body)}`);
  if (!given.some((signature) => expected.some((each) => sameText(signature, each))))
    throw new SignatureError('no v1 signature matches');
  return id;
}

const signatureOf = (secret: string, id: string, at: string, body: Buffer | string) =>
  hmacSha256(keyOf(secret), [`${id}.${at}.`, body], 'base64');

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
      'webhook-signature': `v1,${signatureOf(secret, id, at, body)}`,
    },
    body,
  };
}
