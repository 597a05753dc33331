import { createHmac, randomBytes } from 'node:crypto';
import { isLosslessNumber } from 'lossless-json';
import { z } from 'zod';
import type { ProviderStatus } from '../contracts/messages';
import { parseMajorAmount } from '../contracts/money';
import type { ProviderConfiguration } from './configuration';
import {
  BodyError,
  SignatureError,
  type IncomingWebhook,
  type Provider,
  type ProviderEvent,
  type Sample,
  type SampleSubject,
  type SecretFormat,
  type SignedWebhook,
  type VerifyTools,
} from './provider';
import {
  minorFromMajor,
  minorFromProvider,
  parseReference,
  readJson,
  reference,
  type Reference,
} from './reading';
import { requiredHeader, requireFresh, sameText } from './signing';
import { signStandardWebhook, standardWebhooksSecret, verifyStandardWebhook } from './standard-webhooks';

/** Providers by configuration alone (configuration.ts): what is read from their webhooks, and how they are checked. */

type HmacScheme = Extract<ProviderConfiguration['signature'], { scheme: 'hmac' }>;

/** The names of a JSON pointer, unescaped. */
const namesOf = (pointer: string): string[] =>
  pointer
    .slice(1)
    .split('/')
    .map((name) => name.replaceAll('~1', '/').replaceAll('~0', '~'));

/** The value at a JSON pointer; undefined where there is none. What was in the text alone, nothing inherited. */
function at(json: unknown, pointer: string): unknown {
  let value = json;
  for (const name of namesOf(pointer)) {
    if (typeof value !== 'object' || value === null || isLosslessNumber(value)) return undefined;
    if (Array.isArray(value) ? !/^\d+$/.test(name) : !Object.hasOwn(value, name)) return undefined;
    value = (value as Record<string, unknown>)[name];
  }
  return value;
}

/** @throws BodyError when there is no text, number, true or false at the pointer. */
function textAt(json: unknown, pointer: string): string {
  const value = at(json, pointer);
  if (typeof value === 'string' && value.length <= 256) return value;
  if (typeof value === 'number' || typeof value === 'boolean' || isLosslessNumber(value))
    return String(value);
  throw new BodyError(pointer, 'must be text, a number, true or false');
}

/** A value of an operator's list of the provider's words. */
const meaning = <T>(words: Record<string, T>, word: string): T | undefined =>
  Object.hasOwn(words, word) ? words[word] : undefined;

/** What an event is about; undefined when it is nothing of remit's. */
function subjectAt({ fields, kind }: ProviderConfiguration, json: unknown): Reference | undefined {
  const given = at(json, fields.reference);
  if (typeof given !== 'string') return undefined;
  if (kind === undefined) return parseReference(given);
  const told = 'always' in kind ? kind.always : meaning(kind.values, textAt(json, kind.at));
  return told && parseReference(`${told}:${given}`);
}

function eventIdOf(
  { fields }: ProviderConfiguration,
  json: unknown,
  otherwise: string | undefined,
): string | undefined {
  const eventId = fields.id === undefined ? otherwise : textAt(json, fields.id);
  if (eventId !== undefined && !/^[\x21-\x7e]{1,256}$/.test(eventId))
    throw new BodyError(fields.id ?? '', 'must be 1 to 256 visible ASCII characters');
  return eventId;
}

/** @throws BodyError */
function eventOf(configuration: ProviderConfiguration, json: unknown, webhookId?: string): ProviderEvent {
  const { fields, statuses, disputeStatuses } = configuration;
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new BodyError('', 'must be an object');
  const id = eventIdOf(configuration, json, webhookId);
  // Providers have webhooks about other matters, such as a first one to try the address.
  if (id !== undefined && at(json, fields.status) === undefined)
    return { kind: 'unhandled', eventId: id, type: 'unknown', reason: 'it has no status' };

  const status = textAt(json, fields.status);
  const about = subjectAt(configuration, json);
  const dispute = fields.dispute === undefined ? undefined : at(json, fields.dispute);
  const isDispute = typeof dispute === 'string';
  const eventId = id ?? `${isDispute ? dispute : (about?.id ?? 'unknown')}:${status}`;
  const unhandled = (reason: string): ProviderEvent => ({ kind: 'unhandled', eventId, type: status, reason });
  if (about === undefined) return unhandled('its reference names nothing of remit’s');
  const currency =
    typeof fields.currency === 'string'
      ? textAt(json, fields.currency).toUpperCase()
      : fields.currency.always;
  const money = () => ({ amountMinor: amountOf(configuration, json, currency), currency });

  if (isDispute) {
    const known = meaning(disputeStatuses, status);
    if (known === undefined || about.kind !== 'order') return unhandled('no dispute status, or no order');
    if (!/^[A-Za-z0-9_-]{1,64}$/.test(dispute)) throw new BodyError(fields.dispute ?? '', 'is no id');
    const common = { eventId, orderId: about.id, disputeId: dispute, status: known };
    return { kind: 'dispute', ...common, ...money(), reason: null, evidenceDueBy: null };
  }
  const known = meaning(statuses, status);
  if (known === undefined) return unhandled('a status that the configuration does not list');
  return about.kind === 'order'
    ? { kind: 'order', eventId, orderId: about.id, userId: null, status: known, ...money() }
    : { kind: about.kind, eventId, transactionId: about.id, status: known, ...money() };
}

function amountOf({ fields, amounts }: ProviderConfiguration, json: unknown, currency: string): bigint {
  const text = textAt(json, fields.amount);
  if (amounts === 'major') return minorFromMajor(text, currency, fields.amount);
  if (!/^\d{1,15}$/.test(text)) throw new BodyError(fields.amount, 'must be a whole number of minor units');
  return minorFromProvider(Number(text), currency, undefined, fields.amount);
}

/** The text around the body is made of what was signed, each place once: an id that reads `{timestamp}` stays one. */
function hmacOf(
  scheme: HmacScheme,
  secret: string,
  signed: { timestamp: string; id: string },
  body: Buffer | string,
): string {
  const [before = '', after = ''] = scheme.signed
    .split('{body}')
    .map((text) => text.replace(/\{(timestamp|id)\}/g, (_, name: 'timestamp' | 'id') => signed[name]));
  const key = scheme.secretEncoding === 'text' ? secret : Buffer.from(secret, scheme.secretEncoding);
  return createHmac(scheme.algorithm, key).update(before).update(body).update(after).digest(scheme.encoding);
}

/** @returns the signed id, where there is one. @throws SignatureError */
function verifyHmac(
  scheme: HmacScheme,
  webhook: IncomingWebhook,
  secrets: readonly string[],
  tools: VerifyTools,
): string | undefined {
  const { prefix, timestampHeader, idHeader } = scheme;
  const header = requiredHeader(webhook, scheme.header);
  if (!header.startsWith(prefix)) throw new SignatureError('the signature does not match');
  const signature = header.slice(prefix.length);
  const given = scheme.encoding === 'hex' ? signature.toLowerCase() : signature;
  const timestamp = timestampHeader === undefined ? '' : requiredHeader(webhook, timestampHeader);
  const id = idHeader === undefined ? '' : requiredHeader(webhook, idHeader);
  let matches = 0;
  for (const secret of secrets)
    matches += Number(sameText(given, hmacOf(scheme, secret, { timestamp, id }, webhook.body)));
  if (matches === 0) throw new SignatureError('the signature does not match');
  if (timestampHeader !== undefined) {
    if (!/^[1-9]\d{0,14}$/.test(timestamp)) throw new SignatureError('the signed time is no Unix time');
    requireFresh(Math.floor(Number(timestamp) / unitsPerSecond(scheme)), tools);
  }
  return idHeader === undefined ? undefined : id;
}

const unitsPerSecond = ({ timestampUnit }: HmacScheme) => (timestampUnit === 'seconds' ? 1 : 1_000);

function signHmac(scheme: HmacScheme, body: string, secret: string, nowMs: number): SignedWebhook {
  const { timestampHeader, idHeader } = scheme;
  const timestamp = String(Math.floor((nowMs / 1_000) * unitsPerSecond(scheme)));
  const id = randomBytes(16).toString('hex');
  return {
    headers: {
      'content-type': 'application/json',
      ...(timestampHeader === undefined ? {} : { [timestampHeader]: timestamp }),
      ...(idHeader === undefined ? {} : { [idHeader]: id }),
      [scheme.header]: scheme.prefix + hmacOf(scheme, secret, { timestamp, id }, body),
    },
    body,
  };
}

const HMAC_SECRETS: Record<HmacScheme['secretEncoding'], SecretFormat> = {
  text: {
    description: 'the secret agreed with the provider, used as text',
    // No comma: it separates two secrets.
    schema: z
      .string()
      .regex(/^[!-+\--~]{16,256}$/, { error: 'must be 16 to 256 visible ASCII characters, no comma' }),
    generate: () => randomBytes(32).toString('hex'),
  },
  hex: {
    description: 'the secret agreed with the provider, in hexadecimal digits',
    schema: z
      .string()
      .regex(/^([0-9A-Fa-f]{2}){16,128}$/, { error: 'must be 16 to 128 bytes in hexadecimal digits' }),
    generate: () => randomBytes(32).toString('hex'),
  },
  base64: {
    description: 'the secret agreed with the provider, in base64',
    schema: z.string().regex(/^[A-Za-z0-9+/]{22,172}={0,2}$/, { error: 'must be 16 to 128 bytes in base64' }),
    generate: () => randomBytes(32).toString('base64'),
  },
};

/** Puts a value where a pointer says, making objects and lists on the way. */
function put(target: Record<string, unknown>, pointer: string, value: unknown): void {
  const names = namesOf(pointer);
  let place = target;
  names.forEach((name, index) => {
    if (index === names.length - 1) {
      place[name] = value;
      return;
    }
    if (!Object.hasOwn(place, name)) place[name] = names[index + 1] === '0' ? [] : {};
    place = place[name] as Record<string, unknown>;
  });
}

/** A webhook about a subject, as a sample shows it: in its place each of id, reference, amount and currency. */
function sampleBody(
  { fields, kind, amounts }: ProviderConfiguration,
  is: Sample['kind'],
  shown: Record<string, unknown>,
  subject: SampleSubject,
): string {
  const json = structuredClone(shown);
  if (fields.id !== undefined) put(json, fields.id, subject.eventId);
  if (is === 'unhandled') return JSON.stringify(json);
  const about = is === 'dispute' ? 'order' : is;
  put(json, fields.reference, kind === undefined ? reference({ kind: about, id: subject.id }) : subject.id);
  const amount =
    amounts === 'major' ? subject.amount : Number(parseMajorAmount(subject.amount, subject.currency));
  const asText = typeof (at(shown, fields.amount) ?? amount) === 'string';
  put(json, fields.amount, asText ? String(amount) : Number(amount));
  if (typeof fields.currency === 'string') put(json, fields.currency, subject.currency);
  return JSON.stringify(json);
}

/** Samples made of the fields alone, where the file shows none: one for each word of the provider's. */
function madeUpSamples({
  fields,
  kind,
  statuses,
}: ProviderConfiguration): NonNullable<ProviderConfiguration['samples']> {
  const word = (wanted: ProviderStatus) =>
    Object.entries(statuses).find(([, status]) => status === wanted)?.[0];
  const samples: NonNullable<ProviderConfiguration['samples']> = {};
  for (const what of ['payment', 'payout', 'order'] as const) {
    const theirs =
      kind && !('always' in kind)
        ? Object.entries(kind.values).find(([, is]) => is === what)?.[0]
        : undefined;
    if (kind && ('always' in kind ? kind.always !== what : theirs === undefined)) continue;
    for (const status of ['success', 'failed', 'expired'] as const) {
      const said = word(status);
      if (said === undefined) continue;
      const body = {};
      put(body, fields.status, said);
      if (kind && !('always' in kind)) put(body, kind.at, theirs);
      samples[`${what}-${status}`] = { title: `${what}: ${status}`, kind: what, body };
    }
  }
  return samples;
}

/** Makes a provider of a configuration. */
export function configuredProvider(configuration: ProviderConfiguration): Provider {
  const { name, title = name, documentation = 'docs/providers.md', signature } = configuration;
  const isHmac = signature.scheme === 'hmac';
  const shown = configuration.samples ?? madeUpSamples(configuration);
  return {
    name,
    title,
    documentation,
    contentType: 'application/json',
    secret: isHmac ? HMAC_SECRETS[signature.secretEncoding] : standardWebhooksSecret,
    verify(webhook, secrets, given) {
      const tools = { ...given, toleranceS: configuration.toleranceS ?? given.toleranceS };
      if (!isHmac) return { webhookId: verifyStandardWebhook(webhook, secrets, tools) };
      const webhookId = verifyHmac(signature, webhook, secrets, tools);
      return webhookId === undefined ? {} : { webhookId };
    },
    events: (body, webhookId) => [eventOf(configuration, readJson(body, z.unknown()), webhookId)],
    samples: Object.fromEntries(
      Object.entries(shown).map(([sample, { title: said = sample, kind, body }]): [string, Sample] => [
        sample,
        { title: said, kind, body: (subject) => sampleBody(configuration, kind, body, subject) },
      ]),
    ),
    sign: (body, secret, nowMs) =>
      isHmac ? signHmac(signature, body, secret, nowMs) : signStandardWebhook(body, secret, nowMs),
  };
}
