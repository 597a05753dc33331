import { USER_AGENT } from './client';
import type { SignatureHeaders } from './signature';
import { storableText } from './storable-text';

/**
 * What is kept of the headers of an attempt: enough to see what went wrong, and nothing with which a reader could act as
 * the sender, the subscriber or one of its users.
 */

const MASK = '***';
/** Names and values of an answer's headers together; what comes after is left out. */
export const RESPONSE_HEADERS_MAX_BYTES = 4_096;
/** A value of the subscription's own headers that is at least as long is also masked where an answer repeats it. */
const ECHO_MIN_CHARS = 6;

/** Headers of answers that hold, or by their names may hold, what opens something. `www-authenticate` only asks for it. */
const SECRET_NAME =
  /cookie|authori[sz]ation|authentication-info|token|secret|passw|credential|session|signature|(api|access|private|auth)[-_]?key|^x-auth$|jwt|[cx]srf/;
/** Headers of answers that are addresses, whose queries may hold what opens something. */
const ADDRESS_NAME = /^(location|content-location|link|refresh)$/;

/**
 * The request's headers that can't be told from its delivery and time. Values of the subscription's own headers are never
 * shown; of a signature, its first eight characters: enough to compare it with what a subscriber computed, and not to send it.
 */
export function shownRequestHeaders(
  own: Readonly<Record<string, string>>,
  signed: Pick<SignatureHeaders, 'webhook-signature'>,
): Record<string, string> {
  const signatures = signed['webhook-signature'].replace(/(v\d,.{8})\S*/g, `$1${MASK}`);
  const names = Object.keys(own).map((name) => [name, MASK] as const);
  return { 'user-agent': USER_AGENT, ...Object.fromEntries(names), 'webhook-signature': signatures };
}

/**
 * The answer's headers with their secrets masked, those of one name joined, at most RESPONSE_HEADERS_MAX_BYTES.
 * @param own the subscription's own headers: an answer may repeat them.
 */
export function shownResponseHeaders(
  headers: Readonly<NodeJS.Dict<string[]>>,
  own: Readonly<Record<string, string>>,
): Record<string, string> {
  const echoes = echoesOf(own);
  const shown: [string, string][] = [];
  let left = RESPONSE_HEADERS_MAX_BYTES;
  for (const [name, values = []] of Object.entries(headers)) {
    left -= name.length;
    if (left <= 0) break;
    const joined = values.join(', ');
    const said = ADDRESS_NAME.test(name) ? joined.replace(/\?[^\s>"',;]*/g, `?${MASK}`) : joined;
    const value = SECRET_NAME.test(name) ? MASK : masked(said, echoes);
    const text = storableText(Buffer.from(value), left);
    left -= Buffer.byteLength(text);
    shown.push([name, text]);
  }
  return Object.fromEntries(shown);
}

/** The answer's body without what it repeats of the request's secrets. */
export function shownBody(
  body: string,
  own: Readonly<Record<string, string>>,
  signed: Pick<SignatureHeaders, 'webhook-signature'>,
): string {
  const signatures = signed['webhook-signature'].split(' ').map((each) => each.slice(each.indexOf(',') + 1));
  return masked(body, [...echoesOf(own), ...signatures]);
}

/** What of the subscription's own headers must not be repeated, the longest first: one may begin with another. */
function echoesOf(own: Readonly<Record<string, string>>): string[] {
  return Object.values(own)
    .flatMap((value) => [value, value.slice(value.indexOf(' ') + 1)])
    .filter(({ length }) => length >= ECHO_MIN_CHARS)
    .sort((a, b) => b.length - a.length);
}

const masked = (text: string, echoes: readonly string[]): string =>
  echoes.reduce((rest, echo) => rest.replaceAll(echo, MASK), text);
