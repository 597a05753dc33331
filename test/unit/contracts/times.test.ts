import { JsonText } from '../../../src/contracts/json';
import fc from 'fast-check';
import { Timestamp, readTimestamp } from '../../../src/contracts/times';
import { ChargebackWebhook, Envelope } from '../../../src/contracts/messages';
import { PublishEventBody } from '../../../src/contracts/events';
import { Purchase } from '../../../src/contracts/purchases';

describe('a timestamp', () => {
  it.each([
    ['2026-11-21T09:37:35Z', '2026-11-21T09:37:35.000Z'],
    ['2026-11-21T09:37:35.1Z', '2026-11-21T09:37:35.100Z'],
    ['2026-11-21T09:37:35.12Z', '2026-11-21T09:37:35.120Z'],
    ['2026-11-21T09:37:35.123Z', '2026-11-21T09:37:35.123Z'],
    ['2026-11-21T09:37:35.123456Z', '2026-11-21T09:37:35.123Z'],
    ['2026-11-21T09:37:35.999999999Z', '2026-11-21T09:37:35.999Z'],
    ['2026-11-21T12:37:35.12+03:00', '2026-11-21T09:37:35.120Z'],
    ['2026-11-20T22:07:35-11:30', '2026-11-21T09:37:35.000Z'],
    ['2026-11-21T09:37:35-00:00', '2026-11-21T09:37:35.000Z'],
    ['2026-11-21t09:37:35.5z', '2026-11-21T09:37:35.500Z'],
    ['2016-12-31T23:59:60Z', '2017-01-01T00:00:00.000Z'],
    ['2017-01-01T02:59:60.5+03:00', '2017-01-01T00:00:00.000Z'],
    ['2024-02-29T00:00:00Z', '2024-02-29T00:00:00.000Z'],
    ['1970-01-01T00:00:00Z', '1970-01-01T00:00:00.000Z'],
    ['1969-12-31T23:30:00-00:30', '1970-01-01T00:00:00.000Z'],
  ])('%s is %s', (text, canonical) => {
    expect(Timestamp.parse(text)).toBe(canonical);
  });

  it.each([
    ['2026-11-21'],
    ['2026-11-21T09:37Z'],
    ['2026-11-21T09:37:35'],
    ['2026-11-21 09:37:35Z'],
    ['2026-11-21T09:37:35.Z'],
    ['2026-11-21T09:37:35,5Z'],
    ['2026-11-21T09:37:35+03'],
    ['2026-11-21T09:37:35+0300'],
    ['2026-11-21T09:37:35+24:00'],
    ['2026-11-21T24:00:00Z'],
    ['2026-11-21T12:30:60Z'],
    ['2026-02-29T00:00:00Z'],
    ['2026-04-31T00:00:00Z'],
    ['2026-00-10T00:00:00Z'],
    ['2026-13-10T00:00:00Z'],
    ['2026-11-00T00:00:00Z'],
    ['+002026-11-21T00:00:00Z'],
    ['0000-01-01T00:00:00Z'],
    ['1969-12-31T23:59:59Z'],
    ['3000-01-01T00:00:00Z'],
    ['1970-01-01T00:00:00+00:01'],
    [`2026-11-21T09:37:35.${'1'.repeat(100)}Z`],
    ['2026-11-21T09:37:35Z\n'],
    ['２026-11-21T09:37:35Z'],
    [''],
  ])('%j is none', (text) => {
    expect(Timestamp.safeParse(text).success).toBe(false);
  });

  it('is what any clock prints, to the millisecond', () => {
    fc.assert(
      fc.property(
        fc.date({ min: new Date(0), max: new Date('2999-12-30'), noInvalidDate: true }),
        fc.integer({ min: 0, max: 20 }),
        fc.integer({ min: -14 * 60, max: 14 * 60 }),
        (at, digits, offset) => {
          const local = new Date(at.getTime() + offset * 60_000).toISOString();
          const fraction = local.slice(20, 23).padEnd(digits, '7').slice(0, digits);
          const sign = offset < 0 ? '-' : '+';
          const two = (n: number) => String(Math.floor(Math.abs(n))).padStart(2, '0');
          const zone = `${sign}${two(offset / 60)}:${two(offset % 60)}`;
          const text = local.slice(0, 19) + (digits === 0 ? '' : `.${fraction}`) + zone;
          const keptMs = 10 ** Math.max(0, 3 - digits);
          expect(readTimestamp(text)).toBe(Math.floor(at.getTime() / keptMs) * keptMs);
        },
      ),
    );
  });
});

it('is read alike wherever a time comes in', () => {
  const at = '2026-11-21T12:37:35.123456+03:00';
  const canonical = '2026-11-21T09:37:35.123Z';
  const id = '3f6d2c1a-8b4e-4d57-9a10-5c2e7f9b6d31';
  expect(PublishEventBody.parse({ type: 'a.b', data: JsonText.of({}), timestamp: at }).timestamp).toBe(
    canonical,
  );
  expect(
    Envelope.parse({ event_id: id, key: id, type: 'order.webhook', payload: {}, timestamp: at }).timestamp,
  ).toBe(canonical);
  expect(
    ChargebackWebhook.parse({
      ...{ provider_event_id: 'e', order_id: id, status: 'opened' },
      evidence_due_by: at,
    }).evidence_due_by,
  ).toBe(canonical);
  expect(
    Purchase.parse({
      ...{ id, userId: 'u', productId: 'p', amount: 1, currency: 'TRY', status: 'completed' },
      ...{ provider: 'decard', createdAt: at, processedAt: at },
    }).createdAt,
  ).toBe(canonical);
});
