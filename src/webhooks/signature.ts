import { createHmac, randomBytes } from 'node:crypto';

const SECRET_PREFIX = 'whsec_';
const SECRET_BYTES = 32;

/** A new signing secret: `whsec_` and 32 random bytes in base64 (the specification asks for 24 to 64). */
export function newWebhookSecret(): string {
  return SECRET_PREFIX + randomBytes(SECRET_BYTES).toString('base64');
}

export interface WebhookToSign {
  /** The same in every attempt of an event: subscribers recognise duplicates by it. */
  id: string;
  /** When this attempt is made; subscribers refuse old ones. */
  at: Date;
  /** Exactly what is sent. */
  body: string;
  /** One signature each: while a secret rotates, the old one stays valid alongside the new one. */
  secrets: readonly string[];
}

export interface SignatureHeaders {
  'webhook-id': string;
  'webhook-timestamp': string;
  'webhook-signature': string;
}

/**
 * The headers of Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`, in base64 after `v1,`, several separated by
 * spaces.
 * @throws Error without a secret, or with one that is not `whsec_` and base64: never send anything unsigned.
 */
export function signWebhook({ id, at, body, secrets }: WebhookToSign): SignatureHeaders {
  if (secrets.length === 0) throw new Error(`webhook ${id} has no secret to sign with`);
  const timestamp = String(Math.floor(at.getTime() / 1000));
  const content = `${id}.${timestamp}.${body}`;
  return {
    'webhook-id': id,
    'webhook-timestamp': timestamp,
    'webhook-signature': secrets.map((secret) => `v1,${hmac(secret, content)}`).join(' '),
  };
}

function hmac(secret: string, content: string): string {
  if (!secret.startsWith(SECRET_PREFIX)) throw new Error(`a webhook secret starts with ${SECRET_PREFIX}`);
  const key = Buffer.from(secret.slice(SECRET_PREFIX.length), 'base64');
  // An empty or garbled secret would sign with a key that anyone can guess.
  if (key.length < 24) throw new Error('a webhook secret has at least 24 bytes');
  return createHmac('sha256', key).update(content, 'utf8').digest('base64');
}
