import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { producePurchases } from '../../../src/operations/produce';
import { createTestSpace } from '../../support/harness';
import { goodPurchase, readAll } from './support';

const MEBIBYTE = 1_048_576;

describe('remit produce of files', () => {
  it('sends every line byte for byte, names those that the topic does not take, and goes on after them', async () => {
    const space = await createTestSpace({ topics: true });
    const folder = await mkdtemp(path.join(os.tmpdir(), 'remit-produce-'));
    try {
      const right = goodPurchase();
      // Ten megabytes in lines that are each taken: together they are more than one batch may be.
      const large = Array.from({ length: 20 }, () => `${randomBytes(250_000).toString('hex')}`);
      const noUtf8 = Buffer.concat([
        Buffer.from('{"id":"\xff\xfe","userId":"', 'latin1'),
        Buffer.from([0x80, 0, 0xc3]),
      ]);
      const largest = 'y'.repeat(MEBIBYTE - 1_000);
      const [first, second] = [path.join(folder, 'first.txt'), path.join(folder, 'second.txt')];
      await writeFile(
        first,
        Buffer.concat([
          Buffer.from(`# a comment\r\n${JSON.stringify(right)}\r\n`),
          noUtf8,
          Buffer.from(`\n${'z'.repeat(3 * MEBIBYTE)}\n${largest}\n${large.join('\r\n')}`),
        ]),
      );
      await writeFile(second, `${'z'.repeat(MEBIBYTE)}\n"last"`);
      const produced = await producePurchases(space.config, space.log, {
        files: [first, second],
        count: 0,
        ratePerSecond: 0,
        badShare: 0,
        seed: 1,
        topic: space.config.TOPIC_PURCHASES,
        progress: false,
      });
      expect(produced).toMatchObject({
        messages: 24,
        tooLong: {
          count: 2,
          first: [`${first}, line 4: ${3 * MEBIBYTE} bytes`, `${second}, line 1: ${MEBIBYTE} bytes`],
        },
      });
      const expected = [
        Buffer.from(JSON.stringify(right)),
        noUtf8,
        ...[largest, ...large, '"last"'].map((line) => Buffer.from(line)),
      ];
      const stored = await readAll(space, space.config.TOPIC_PURCHASES, expected.length);
      const hex = (values: (Buffer | null)[]) => values.map((value) => value!.toString('hex')).sort();
      expect(hex(stored.map(({ value }) => value)).join() === hex(expected).join()).toBe(true);
      const keys = stored.flatMap(({ key }) => (key ? [key.toString('latin1')] : []));
      expect(keys.sort()).toEqual([String(right['id']), '\xff\xfe'].sort());
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
