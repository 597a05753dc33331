import { createHmac, randomBytes } from 'node:crypto';
import { isLosslessNumber } from 'lossless-json';
import { z } from 'zod';
import { DisputeStatus, ProviderStatus } from '../contracts/messages';
import { parseMajorAmount, minorUnitExponent } from '../contracts/money';
import {
  BodyError,
  SignatureError,
  type IncomingWebhook,
  type Provider,
  type ProviderEvent,
  type SampleSubject,
  type SecretFormat,
  type SignedWebhook,
  type VerifyTools,
} from './provider';
import { minorFromMajor, minorFromProvider, parseReference, readJson, reference } from './reading';
import { requiredHeader, requireFresh, sameText } from './signing';
import { signStandardWebhook, standardWebhooksSecret, verifyStandardWebhook } from './standard-webhooks';

/**
 * Providers by configuration alone: JSON webhooks signed as Standard Webhooks say, or with an HMAC over a text that is
 * made of time and body. Listed in registry.ts like the others.
 */

/** `data.object.amount`, `items.0.id`: names and places in lists, from the root. */
const JsonPath = z.string().regex(/^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){0,15}$/, {
  error: 'must be names separated by dots, such as data.amount',
});
const HeaderName = z
  .string()
  .regex(/^[A-Za-z0-9-]{1,64}$/)
  .transform((name) => name.toLowerCase());

const HmacSignature = z.strictObject({
  scheme: z.literal('hmac'),
  header: HeaderName.meta({ description: 'header that holds the signature' }),
  algorithm: z.enum(['sha256', 'sha512', 'sha1']).default('sha256'),
  encoding: z.enum(['hex', 'base64']).default('hex'),
  prefix: z.string().max(16).default('').meta({ description: 'text before the signature, such as sha256=' }),
  signed: z
    .string()
    .max(200)
    .refine((text) => text.includes('{body}'), { error: 'must contain {body}' })
    .default('{body}')
    .meta({ description: 'what is signed: {body}, {timestamp} and text between them' }),
  timestampHeader: HeaderName.optional().meta({
    description: 'header with the Unix time in seconds; required when {timestamp} is signed',
  }),
});
const StandardWebhooksSignature = z.strictObject({ scheme: z.literal('standard-webhooks') });

export const ProviderConfiguration = z
  .strictObject({
    name: z
      .string()
      .regex(/^[a-z][a-z0-9-]{0,31}$/, { error: 'must be 1 to 32 of a-z 0-9 -, a letter first' }),
    title: z.string().max(100).optional(),
    signature: z.discriminatedUnion('scheme', [StandardWebhooksSignature, HmacSignature]),
    fields: z.strictObject({
      id: JsonPath.optional().meta({ description: 'id of the event; left out, what it says identifies it' }),
      reference: JsonPath.meta({ description: 'where payment:<id>, payout:<id> or order:<id> stands' }),
      status: JsonPath,
      amount: JsonPath,
      currency: JsonPath,
      dispute: JsonPath.optional().meta({
        description: 'id of the dispute; an event that has one is a dispute’s',
      }),
    }),
    amounts: z.enum(['major', 'minor']).meta({ description: '100 is 100.00, or 1.00' }),
    statuses: z.record(z.string().max(100), ProviderStatus).meta({
      description: 'the provider’s words for pending, success, failed, expired; others are unhandled',
    }),
    disputeStatuses: z.record(z.string().max(100), DisputeStatus).default({}),
  })
  .refine(
    ({ signature }) =>
      signature.scheme !== 'hmac' ||
      signature.signed.includes('{timestamp}') === (signature.timestampHeader !== undefined),
    { path: ['signature', 'timestampHeader'], error: 'goes with {timestamp} in what is signed' },
  )
  .meta({ id: 'ProviderConfiguration' });
export type ProviderConfiguration = z.infer<typeof ProviderConfiguration>;
type HmacScheme = z.infer<typeof HmacSignature>;

/** The value at a path; undefined where there is none. Own properties only. */
function at(json: unknown, path: string): unknown {
  let value = json;
  for (const name of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined;
    value = (value as Record<string, unknown>)[name];
  }
  return value;
}

/** @throws BodyError when there is no text or number at the path. */
function textAt(json: unknown, path: string): string {
  const value = at(json, path);
  if (typeof value === 'string' && value.length <= 256) return value;
  if (typeof value === 'number' || isLosslessNumber(value)) return String(value);
  throw new BodyError(path, 'must be text or a number');
}

function eventOf(configuration: ProviderConfiguration, json: unknown, webhookId?: string): ProviderEvent {
  const { fields, statuses, disputeStatuses } = configuration;
  const status = textAt(json, fields.status);
  const given = at(json, fields.reference);
  const about = typeof given === 'string' ? parseReference(given) : undefined;
  const dispute = fields.dispute === undefined ? undefined : at(json, fields.dispute);
  const isDispute = typeof dispute === 'string';
  const eventId =
    fields.id === undefined
      ? (webhookId ?? `${isDispute ? dispute : (about?.id ?? 'unknown')}:${status}`)
      : textAt(json, fields.id);
  if (!/^[\x21-\x7e]{1,256}$/.test(eventId))
    throw new BodyError(fields.id ?? '', 'must be 1 to 256 visible ASCII characters');
  const unhandled = (reason: string): ProviderEvent => ({ kind: 'unhandled', eventId, type: status, reason });
  if (about === undefined) return unhandled('its reference names nothing of remit’s');
  const currency = textAt(json, fields.currency).toUpperCase();
  const money = () => ({ amountMinor: amountOf(configuration, json, currency), currency });

  if (isDispute) {
    const known = Object.hasOwn(disputeStatuses, status) ? disputeStatuses[status] : undefined;
    if (known === undefined || about.kind !== 'order') return unhandled('no dispute status, or no order');
    if (!/^[A-Za-z0-9_-]{1,64}$/.test(dispute)) throw new BodyError(fields.dispute ?? '', 'is no id');
    const common = { eventId, orderId: about.id, disputeId: dispute, status: known };
    return { kind: 'dispute', ...common, ...money(), reason: null, evidenceDueBy: null };
  }
  const known = Object.hasOwn(statuses, status) ? statuses[status] : undefined;
  if (known === undefined) return unhandled('a status that the configuration does not list');
  return about.kind === 'order'
    ? { kind: 'order', eventId, orderId: about.id, userId: null, status: known, ...money() }
    : { kind: about.kind, eventId, transactionId: about.id, status: known, ...money() };
}

function amountOf({ fields, amounts }: ProviderConfiguration, json: unknown, currency: string): bigint {
  const text = textAt(json, fields.amount);
  if (amounts === 'major') return minorFromMajor(text, currency, fields.amount);
  if (!/^\d{1,15}$/.test(text)) throw new BodyError(fields.amount, 'must be a whole number of minor units');
  let exponent = 0;
  try {
    exponent = minorUnitExponent(currency);
  } catch {
    // minorFromProvider says so, with the field's name.
  }
  return minorFromProvider(Number(text), currency, exponent, fields.amount);
}

function hmacOf(scheme: HmacScheme, secret: string, timestamp: string, body: Buffer | string): string {
  const [before = '', after = ''] = scheme.signed.replace('{timestamp}', () => timestamp).split('{body}');
  const hmac = createHmac(scheme.algorithm, secret).update(before).update(body).update(after);
  return scheme.prefix + hmac.digest(scheme.encoding);
}

function verifyHmac(
  scheme: HmacScheme,
  webhook: IncomingWebhook,
  secrets: readonly string[],
  tools: VerifyTools,
): void {
  const given = requiredHeader(webhook, scheme.header);
  const timestamp =
    scheme.timestampHeader === undefined ? '' : requiredHeader(webhook, scheme.timestampHeader);
  if (!secrets.some((secret) => sameText(given, hmacOf(scheme, secret, timestamp, webhook.body))))
    throw new SignatureError('the signature does not match');
  if (scheme.timestampHeader === undefined) return;
  if (!/^[1-9]\d{0,14}$/.test(timestamp))
    throw new SignatureError('the signed time is no Unix time in seconds');
  requireFresh(Number(timestamp), tools);
}

function signHmac(scheme: HmacScheme, body: string, secret: string, nowMs: number): SignedWebhook {
  const timestamp = String(Math.floor(nowMs / 1_000));
  return {
    headers: {
      'content-type': 'application/json',
      ...(scheme.timestampHeader === undefined ? {} : { [scheme.timestampHeader]: timestamp }),
      [scheme.header]: hmacOf(scheme, secret, scheme.timestampHeader === undefined ? '' : timestamp, body),
    },
    body,
  };
}

const hmacSecret: SecretFormat = {
  description: 'the secret agreed with the provider, used as text',
  schema: z.string().regex(/^[\x21-\x7e]{16,256}$/, { error: 'must be 16 to 256 visible ASCII characters' }),
  generate: () => randomBytes(32).toString('hex'),
};

/** Puts a value where a path says, making objects on the way. */
function put(target: Record<string, unknown>, path: string, value: unknown): void {
  const names = path.split('.');
  const last = names.pop()!;
  let place = target;
  for (const name of names) place = (place[name] ??= {}) as Record<string, unknown>;
  place[last] = value;
}

function samplesOf(configuration: ProviderConfiguration): Provider['samples'] {
  const { fields, statuses, amounts } = configuration;
  const body = (kind: 'payment' | 'payout' | 'order', status: string) => (subject: SampleSubject) => {
    const json: Record<string, unknown> = {};
    const minor = () => Number(parseMajorAmount(subject.amount, subject.currency));
    put(json, fields.reference, reference({ kind, id: subject.id }));
    if (fields.id !== undefined) put(json, fields.id, subject.eventId);
    put(json, fields.status, status);
    put(json, fields.amount, amounts === 'major' ? subject.amount : minor());
    put(json, fields.currency, subject.currency);
    return JSON.stringify(json);
  };
  const word = (wanted: ProviderStatus) =>
    Object.entries(statuses).find(([, status]) => status === wanted)?.[0];
  const named = (['payment', 'payout', 'order'] as const).flatMap((kind) =>
    (['success', 'failed', 'expired'] as const).flatMap((status) => {
      const theirs = word(status);
      return theirs === undefined
        ? []
        : [[`${kind}-${status}`, { title: `${kind}: ${status}`, kind, body: body(kind, theirs) }] as const];
    }),
  );
  return Object.fromEntries(named);
}

/** Makes a provider of a configuration. */
export function configuredProvider(configuration: ProviderConfiguration): Provider {
  const { name, title = name, signature } = configuration;
  const isHmac = signature.scheme === 'hmac';
  return {
    name,
    title,
    documentation: 'docs/providers.md',
    contentType: 'application/json',
    secret: isHmac ? hmacSecret : standardWebhooksSecret,
    verify(webhook, secrets, tools) {
      if (!isHmac) return { webhookId: verifyStandardWebhook(webhook, secrets, tools) };
      verifyHmac(signature, webhook, secrets, tools);
      return {};
    },
    events: (body, webhookId) => [eventOf(configuration, readJson(body, z.unknown()), webhookId)],
    samples: samplesOf(configuration),
    sign: (body, secret, nowMs) =>
      isHmac ? signHmac(signature, body, secret, nowMs) : signStandardWebhook(body, secret, nowMs),
  };
}
