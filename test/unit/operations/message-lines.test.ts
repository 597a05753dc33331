import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { messageLines, readableSize } from '../../../src/operations/message-lines';

const folder = mkdtempSync(path.join(os.tmpdir(), 'remit-lines-'));
const file = path.join(folder, 'messages.txt');
afterAll(() => rmSync(folder, { recursive: true }));

/** Longer than one piece that is read from a file. */
const LONG = 200_000;

async function read(content: string | Buffer, maxBytes = 1_000_000) {
  writeFileSync(file, content);
  const lines: [number: number, value: string | number][] = [];
  for await (const { number, bytes, value } of messageLines(file, maxBytes)) {
    if (value) expect(value.length).toBe(bytes);
    lines.push([number, value ? value.toString('latin1') : bytes]);
  }
  return lines;
}

describe('the messages of a file', () => {
  it('are its lines, whether they end with LF or CRLF, the last one also with the file', async () => {
    expect(await read('a\r\nb\n\nc\n# d\n \t\r\n{"e":1} \r\nf')).toEqual([
      [1, 'a'],
      [2, 'b'],
      [4, 'c'],
      [7, '{"e":1} '],
      [8, 'f'],
    ]);
    expect(await read('')).toEqual([]);
    expect(await read('\n\r\n')).toEqual([]);
    expect(await read('a\rb\u2028\n')).toHaveLength(1);
  });

  it('keep every byte, whatever it is', async () => {
    const all = Buffer.from(Array.from({ length: 256 }, (_, i) => i).filter((byte) => byte !== 0x0a));
    const line = Buffer.concat([Buffer.from('x'), all, Buffer.from([0xff, 0xfe, 0xc3])]);
    const utf16 = Buffer.from('\ufeff{"id":"1"}', 'utf16le');
    expect(await read(Buffer.concat([line, Buffer.from('\r\n'), utf16]))).toEqual([
      [1, line.toString('latin1')],
      [2, utf16.toString('latin1')],
    ]);
    // A no-break space is two bytes of a message, not a blank line.
    expect(await read('\u00a0\n')).toHaveLength(1);
  });

  it('may cross the pieces that a file is read in, at every place', async () => {
    const lines = Array.from({ length: 40 }, (_, i) => String(i % 10).repeat(16_377 + i));
    expect(await read(lines.join('\r\n'))).toEqual(lines.map((line, i) => [i + 1, line]));
  });

  it('are named by number and length where they are too long, and what follows them is read', async () => {
    const long = 'x'.repeat(LONG);
    expect(await read(`12345\r\n123456\r\n${long}\n#${long}\n5\n${long}`, 5)).toEqual([
      [1, '12345'],
      [2, 6],
      [3, LONG],
      [5, '5'],
      [6, LONG],
    ]);
  });

  it('are read without the file, or a line without end, being held in memory', async () => {
    const sparse = await open(file, 'w');
    await sparse.truncate(300_000_000);
    await sparse.write('\nlast', 300_000_000);
    await sparse.close();
    const before = process.memoryUsage().arrayBuffers;
    let most = 0;
    const timer = setInterval(() => {
      most = Math.max(most, process.memoryUsage().arrayBuffers - before);
    }, 5);
    const lines: unknown[] = [];
    for await (const { number, bytes, value } of messageLines(file, 1_000_000))
      lines.push([number, bytes, value?.toString()]);
    clearInterval(timer);
    expect(lines).toEqual([
      [1, 300_000_000, undefined],
      [2, 4, 'last'],
    ]);
    // Pieces that were read and wait for the garbage collector count too: 20 MB of them mostly, 80 MB on a busy machine.
    expect(most).toBeLessThan(200_000_000);
  });

  it('need a file that can be read', async () => {
    await expect(readableSize(folder)).rejects.toThrow('it is a folder');
    await expect(readableSize(path.join(folder, 'none'))).rejects.toThrow('ENOENT');
    writeFileSync(file, 'abc');
    expect(await readableSize(file)).toBe(3);
  });
});
