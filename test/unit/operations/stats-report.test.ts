import stringWidth from 'string-width';
import type { Stats } from '../../../src/operations/stats';
import { statsJson, statsReport } from '../../../src/operations/stats-report';

const HUGE = '99999999999999999999999999999999.9999';
const LONG_ID = 'product-'.repeat(8);
const WIDE_ID = '漢'.repeat(21);
const day = (n: number) => new Date(Date.UTC(2026, 0, n)).toISOString().slice(0, 10);

const WIDE: Stats = {
  stored: [{ table: 'purchases', rows: 9_007_199_254_740_993n, once: 0n }],
  revenue: [
    { day: day(1), provider: 'p'.repeat(32), currency: 'IDR', purchases: 1n, amount: '123456789012.5' },
    { day: day(2), provider: 'decard', currency: 'IDR', purchases: 1n, amount: HUGE },
    { day: day(3), provider: 'decard', currency: 'EUR', purchases: 1n, amount: '1234567890.12' },
    { day: day(4), provider: 'decard', currency: 'EUR', purchases: 1n, amount: '2234567890.12' },
  ],
  products: [LONG_ID, WIDE_ID, 'a\u001b]0;title\u0007b'].map((productId) => ({
    productId,
    currency: 'IDR',
    purchases: 1n,
    amount: HUGE,
  })),
  lag: Array.from({ length: 600 }, (_, i) => ({
    minute: `2026-01-01 00:00:${i}`,
    rows: BigInt(i % 7),
    meanSeconds: 0.1,
    maxSeconds: 1e9,
  })),
};

const report = (width: number | undefined, stats = WIDE) =>
  statsReport(stats, { days: 30 }, width).join('\n');
/** What stands in the nth cell of the rows of a table, put together again over the lines that it was wrapped to. */
const column = (text: string, n: number) =>
  text
    .split('\n')
    .filter((line) => line.startsWith('│'))
    .map((line) => line.split('│')[n + 1]!.slice(1, -1).trim())
    .join('');

describe('the report of remit stats', () => {
  it.each([40, 60, 80, 200])('fits a terminal of %d columns, with nothing cut off', (width) => {
    const text = report(width);
    const drawn = text.split('\n').filter((line) => /[│┤┼]/.test(line));
    const widest = Math.max(...drawn.map((line) => stringWidth(line)));
    expect(widest).toBeLessThanOrEqual(width);
    const ids = column(text, 0);
    expect(ids).toContain(LONG_ID);
    expect(ids).toContain(WIDE_ID);
    expect(column(text, 3)).toContain(HUGE);
    expect(column(text, 1)).toContain('9007199254740993');
  });

  it('has as JSON every digit of a count that no float holds', () => {
    expect(statsJson(WIDE)).toContain('"rows":9007199254740993,"once":0');
  });

  it('is one line a row in a pipe', () => {
    const lines = report(undefined).split('\n');
    expect(lines.find((line) => line.includes(LONG_ID))).toContain(HUGE);
  });

  it('lets no text of a message move the cursor', () => {
    expect(report(80)).toContain('\\x1b]0;title\\x07');
    expect(report(80)).not.toMatch(/[\u001b\u0007]/);
  });

  it('labels plots with figures that are whole, however large, and says when it leaves points out', () => {
    const text = report(80);
    expect(text).toMatch(/ 1\.000e\+32 [┼┤]/);
    expect(text).toMatch(/ 2\.235e\+9 [┼┤]/);
    expect(text).toMatch(/ 1\.235e\+9 [┼┤]/);
    expect(text).toContain('Rows a minute (the latest 67 of 600)');
  });

  it('says so when there is nothing, and breaks in no terminal', () => {
    const nothing = report(80, { stored: [], revenue: [], products: [], lag: [] });
    expect(nothing.match(/nothing yet/g)).toHaveLength(4);
    for (const width of [0, 1, 12]) expect(report(width)).toContain('Stored');
  });
});
