import { accessSync, constants } from 'node:fs';
import { isIP } from 'node:net';
import type { Config, ConfigKey } from './config';

type Given = Partial<Config>;

/** Variables that mean something only together: all of them are set, or none. */
const TOGETHER: readonly (readonly ConfigKey[])[] = [
  ['KAFKA_SASL_MECHANISM', 'KAFKA_SASL_USERNAME', 'KAFKA_SASL_PASSWORD'],
  ['TEMPORAL_TLS_CERT_FILE', 'TEMPORAL_TLS_KEY_FILE'],
];

const FILES = [
  'KAFKA_TLS_CA_FILE',
  'TEMPORAL_TLS_CA_FILE',
  'TEMPORAL_TLS_CERT_FILE',
  'TEMPORAL_TLS_KEY_FILE',
] as const satisfies readonly ConfigKey[];

/**
 * What no single variable can tell: security that is half configured would be silently off, and a file that can't be
 * read would be found out after a port was opened. @returns the mistakes, one line each.
 */
export function crossFieldMistakes(config: Given): string[] {
  const mistakes = sharedTopics(config);
  for (const names of TOGETHER) {
    const missing = names.filter((name) => config[name] === undefined);
    if (missing.length > 0 && missing.length < names.length)
      mistakes.push(`${missing.join(' and ')} must be set too: ${names.join(', ')} belong together`);
  }
  if (config.KAFKA_TLS_CA_FILE !== undefined && !config.KAFKA_TLS)
    mistakes.push(
      'KAFKA_TLS_CA_FILE is set but KAFKA_TLS is not true: the connection would not be encrypted',
    );
  if (config.CONSOLE_OIDC_CLIENT_ID !== undefined && !(config.CONSOLE_URL && config.AUTH_ISSUER))
    mistakes.push(
      'CONSOLE_URL and AUTH_ISSUER must be set too: CONSOLE_OIDC_CLIENT_ID logs in at that issuer',
    );
  if (config.CONSOLE_OIDC_CLIENT_ID !== undefined && config.AUTH_ISSUER && !URL.canParse(config.AUTH_ISSUER))
    mistakes.push('AUTH_ISSUER must be a URL: CONSOLE_OIDC_CLIENT_ID logs in there');
  if (config.PORTAL_FRAME_ORIGINS?.length && !isSecureUrl(config.CONSOLE_URL))
    mistakes.push(
      'CONSOLE_URL must be an https address too: browsers take the cookies of what PORTAL_FRAME_ORIGINS frame by TLS alone',
    );
  const { API_BODY_LIMIT_BYTES: bodyBytes, KAFKA_MESSAGE_MAX_BYTES: messageBytes } = config;
  if (bodyBytes !== undefined && messageBytes !== undefined && messageBytes < bodyBytes)
    mistakes.push(
      'KAFKA_MESSAGE_MAX_BYTES must be at least API_BODY_LIMIT_BYTES: what the API takes goes on as a message',
    );
  for (const name of FILES) {
    const file = config[name];
    if (file !== undefined && !readable(file)) mistakes.push(`${name}: ${file} can not be read`);
  }
  return mistakes;
}

/** Whether this process may read it. */
export function readable(file: string): boolean {
  try {
    accessSync(file, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

/** A DLQ that is also a topic would be emptied by `remit dlq purge`, and two streams in one topic are dead letters to each other. */
function sharedTopics(config: Given): string[] {
  const names = Object.keys(config).filter((name) => /^TOPIC_/.test(name) && name !== PREFIX);
  const seen = new Map<unknown, string>();
  return names.flatMap((name) => {
    const topic = config[name as keyof Config];
    const first = seen.get(topic);
    seen.set(topic, first ?? name);
    return first === undefined ? [] : [`${first} and ${name} name the same topic, ${topic as string}`];
  });
}

const PREFIX = 'TOPIC_PAYMENT_WEBHOOK_PREFIX';

/** `host:port`; an IPv6 address in brackets. */
export function isHostAndPort(value: string): boolean {
  const [, host, port] = /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})$/.exec(value) ?? [];
  return host !== undefined && Number(port) >= 1 && Number(port) <= 65_535;
}

/** Whether browsers take the address for a safe one: by TLS, or on this machine. */
function isSecureUrl(text: string | undefined): boolean {
  if (text === undefined || !URL.canParse(text)) return false;
  const { protocol, hostname } = new URL(text);
  return protocol === 'https:' || ['localhost', '127.0.0.1', '[::1]'].includes(hostname);
}

/** An origin, as browsers write it, that they take for a safe one. */
export function isWebOrigin(text: string): boolean {
  return isSecureUrl(text) && new URL(text).origin === text;
}

/** Words that stand where a secret should. */
const WORDS =
  /change.?me|placeholder|replace.?(me|this)|your.?(secret|key|password)|insert.?here|example|dummy/i;

/** Whether a secret is one that everybody knows: nothing but zeros (also in base64), one character again and again, such a word. */
export function placeholderIn(value: string): boolean {
  const secret = value.replace(/^whsec_/, '');
  const bytes = Buffer.from(secret, 'base64');
  return WORDS.test(secret) || /^([0xX.*-])\1*$/.test(secret) || bytes.every((byte) => byte === 0);
}

/** Whether a text is a network such as 10.0.0.0/8 or fd00::/8. */
export function isCidr(text: string): boolean {
  const [network = '', prefix = '', ...rest] = text.split('/');
  const family = isIP(network);
  return (
    rest.length === 0 &&
    family !== 0 &&
    !network.includes('%') &&
    /^\d{1,3}$/.test(prefix) &&
    Number(prefix) <= (family === 4 ? 32 : 128)
  );
}
