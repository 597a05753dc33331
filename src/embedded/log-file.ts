import { closeSync, existsSync, openSync, readSync, renameSync, statSync } from 'node:fs';

const ROTATE_BYTES = 16 * 1024 * 1024;
const READ_BYTES = 256 * 1024;

/** Opens a part's log for appending, keeping one older file when it has grown past 16 MiB. */
export function openLog(file: string): number {
  if (existsSync(file) && statSync(file).size > ROTATE_BYTES) renameSync(file, `${file}.1`);
  return openSync(file, 'a');
}

/** Size in bytes, 0 when there is no file: the place from which a new start's lines are read. */
export function logSize(file: string): number {
  return existsSync(file) ? statSync(file).size : 0;
}

/** What was logged after `offset`: at most its last 256 KiB. */
export function readLogFrom(file: string, offset: number): string {
  if (!existsSync(file)) return '';
  const size = statSync(file).size;
  const start = Math.max(Math.min(offset, size), size - READ_BYTES);
  const buffer = Buffer.alloc(size - start);
  const fd = openSync(file, 'r');
  try {
    return buffer.toString('utf8', 0, readSync(fd, buffer, 0, buffer.length, start));
  } finally {
    closeSync(fd);
  }
}

/** The last lines of a text, for an error message. */
export function lastLines(text: string, count: number): string {
  return text.trimEnd().split('\n').slice(-count).join('\n');
}
