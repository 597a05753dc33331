const EXACT = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
const CLOCK = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const DAY = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });
const COUNT = new Intl.NumberFormat('en-US');

const STEPS: readonly [number, string][] = [
  [60, 's'],
  [60, 'min'],
  [24, 'h'],
  [365, 'd'],
];

/** `3 min ago`, `in 2 h`; seconds at the finest. */
export function relative(iso: string, now = Date.now()): string {
  const ms = new Date(iso).getTime() - now;
  if (Math.abs(ms) < 1_500) return 'now';
  const text = duration(Math.abs(ms));
  return ms < 0 ? `${text} ago` : `in ${text}`;
}

/** Milliseconds in its largest fitting unit: `820 ms`, `4 s`, `3 min`, `5 h`, `2 d`. */
export function duration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  let value = ms / 1_000;
  for (const [size, unit] of STEPS) {
    if (value < size) return `${Math.floor(value)} ${unit}`;
    value /= size;
  }
  return `${trim(value)} y`;
}
const trim = (value: number) => value.toFixed(1).replace(/\.0$/, '');

/** With the browser's zone, and in UTC. */
export const exact = (iso: string): string =>
  `${EXACT.format(new Date(iso))} · ${new Date(iso).toISOString()}`;
export const clock = (iso: string): string => CLOCK.format(new Date(iso));
export const shortDate = (iso: string): string => `${DAY.format(new Date(iso))} ${clock(iso)}`;
export const count = (value: number): string => COUNT.format(value);

/** A decimal string with thousands apart; never by way of a number, which would round. */
export function grouped(amount: string): string {
  const [, sign = '', whole = '', rest = ''] = /^(-?)(\d+)(.*)$/.exec(amount) ?? [];
  return `${sign === '-' ? '−' : ''}${whole.replace(/\B(?=(\d{3})+$)/g, ',')}${rest}`;
}

export const bytes = (n: number): string =>
  n < 1_024
    ? `${n} B`
    : n < 1_048_576
      ? `${(n / 1_024).toFixed(1)} KiB`
      : `${(n / 1_048_576).toFixed(1)} MiB`;

export function fromBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** Offset, sixteen bytes in hex, and as text, a line each. */
export function hexDump(data: Uint8Array, limit = 8_192): string {
  const lines: string[] = [];
  for (let at = 0; at < Math.min(data.length, limit); at += 16) {
    const part = [...data.subarray(at, at + 16)];
    const hex = part.map((byte) => byte.toString(16).padStart(2, '0'));
    const text = part.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : '·')).join('');
    lines.push(
      `${at.toString(16).padStart(6, '0')}  ${hex.slice(0, 8).join(' ').padEnd(23)}  ${hex.slice(8).join(' ').padEnd(23)}  ${text}`,
    );
  }
  if (data.length > limit) lines.push(`… ${data.length - limit} more bytes`);
  return lines.join('\n');
}

/** JSON with indentation, when it is JSON. */
export function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** A sentence with its times as people read them. */
export const readable = (sentence: string): string =>
  sentence.replace(/\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g, (iso) => shortDate(iso));
