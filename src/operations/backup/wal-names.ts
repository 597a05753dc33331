/** A position in PostgreSQL's write-ahead log, in bytes. */
export type Lsn = bigint;

/** @throws Error when it is no position as PostgreSQL writes them (`0/1A2B3C`). */
export function parseLsn(text: string): Lsn {
  const [, high, low] = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text) ?? [];
  if (high === undefined || low === undefined) throw new Error(`${text} is no position in a write-ahead log`);
  return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`);
}

export function formatLsn(lsn: Lsn): string {
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`;
}

/** One file of the write-ahead log: the `number`th of the server's, as written on a timeline. */
export interface Segment {
  timeline: number;
  number: bigint;
}

const hex = (value: bigint | number): string => value.toString(16).toUpperCase().padStart(8, '0');

/** The name that PostgreSQL, pg_receivewal and every archive give it. */
export function segmentName({ timeline, number }: Segment, segmentBytes: number): string {
  const perFile = 0x1_0000_0000n / BigInt(segmentBytes);
  return `${hex(timeline)}${hex(number / perFile)}${hex(number % perFile)}`;
}

/** Undefined when it is no such name. */
export function parseSegmentName(name: string, segmentBytes: number): Segment | undefined {
  const [, timeline, high, low] = /^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})$/.exec(name) ?? [];
  if (timeline === undefined || high === undefined || low === undefined) return undefined;
  const perFile = 0x1_0000_0000n / BigInt(segmentBytes);
  return {
    timeline: Number.parseInt(timeline, 16),
    number: BigInt(`0x${high}`) * perFile + BigInt(`0x${low}`),
  };
}

/** The segment in which a position lies. */
export const segmentOf = (lsn: Lsn, segmentBytes: number): bigint => lsn / BigInt(segmentBytes);

export const historyName = (timeline: number): string => `${hex(timeline)}.history`;

/**
 * Where a timeline left the one before it, by its history file: `1\t0/5000000\treason`, the last line of which counts.
 * @throws Error when it has no such line.
 */
export function branchPoint(history: string): { timeline: number; lsn: Lsn } {
  const lines = history.split('\n').filter((line) => /^\s*\d+\s/.test(line));
  const [timeline, lsn] = lines.at(-1)?.trim().split(/\s+/) ?? [];
  if (timeline === undefined || lsn === undefined) throw new Error('a timeline’s history file has no line');
  return { timeline: Number(timeline), lsn: parseLsn(lsn) };
}
