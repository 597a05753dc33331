import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { parseExactly } from '../../../src/contracts/json';
import { ChargebackWebhook, toLine } from '../../../src/contracts/messages';
import { parseChargeback } from '../../../src/bridges/disputes';
import { parseOrderWebhook } from '../../../src/bridges/order-webhooks';
import { decardEvent, message } from './messages';

const ID = '7f0c1d1e-1111-4222-8333-abcdefabcdef';

/** A chargeback as it travels; `fields` is JSON text. */
function chargeback(fields: string) {
  const payload = `{"provider_event_id":"evt_1","order_id":"${ID}","status":"opened"${fields}}`;
  // What the API checks before it queues the text.
  expect(ChargebackWebhook.safeParse(parseExactly(payload)).error).toBeUndefined();
  return parseChargeback(
    message({
      value: `{"event_id":"${randomUUID()}","key":"${ID}","type":"dispute.webhook","timestamp":"2026-11-21T09:37:35Z","payload":${payload}}`,
    }),
  );
}

describe('the reason of a chargeback', () => {
  it.each<[string, string | null]>([
    ['"not received"', 'not received'],
    ['"two\\nlines\\r\\nand\\ta tab"', 'two lines and a tab'],
    ['"a\\u0000b\\u007fc\\u0085d"', 'a b c d'],
    ['"half \\ud83d an emoji"', 'half \ufffd an emoji'],
    ['"half \\udca9 an emoji"', 'half \ufffd an emoji'],
    ['"💥"', '💥'],
    ['4853', '4853'],
    ['10.4', '10.4'],
    ['12345678901234567890', '12345678901234567890'],
    ['true', 'true'],
    ['{"code":"4853","text":"fraud"}', '{"code":"4853","text":"fraud"}'],
    ['["a","b"]', '["a","b"]'],
    ['""', null],
    ['" \\n "', null],
    ['null', null],
    [`"${'x'.repeat(500)}"`, 'x'.repeat(500)],
    [`"${'x'.repeat(501)}"`, `${'x'.repeat(499)}…`],
    [`"${'x'.repeat(498)}💥💥"`, `${'x'.repeat(498)}…`],
    [`"${'\\u0000'.repeat(5_000)}x"`, 'x'],
  ])('is cleaned and never refused: %.60s', (reason, line) => {
    expect(chargeback(`,"reason":${reason}`).reason).toBe(line);
  });

  it('may be left out', () => {
    expect(chargeback('').reason).toBeNull();
  });

  it('is a line that JSON, PostgreSQL and Temporal hold, whatever was sent', () => {
    const text = fc.string({
      unit: fc.oneof(
        fc.string({ unit: 'binary', maxLength: 1 }),
        fc.nat(0xffff).map((code) => String.fromCharCode(code)),
      ),
      maxLength: 700,
    });
    fc.assert(
      fc.property(fc.oneof(text, fc.jsonValue()), fc.integer({ min: 1, max: 500 }), (value, max) => {
        const line = toLine(value, max);
        if (line === null) return;
        expect(line.length).toBeLessThanOrEqual(max);
        expect(line).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
        expect(line).not.toMatch(/\p{Surrogate}/u);
        expect(toLine(line, max)).toBe(line);
      }),
    );
  });
});

describe('what informs only', () => {
  it.each([
    ['"tomorrow"', null],
    ['"2026-12-01"', null],
    ['1798761600', null],
    ['{}', null],
    ['"0001-01-01T00:00:00Z"', null],
    ['"2026-12-01T00:00:00Z"', '2026-12-01T00:00:00.000Z'],
    ['"2026-12-01T03:00:00.123456+03:00"', '2026-12-01T00:00:00.123Z'],
    ['null', null],
  ])('a due time of %s is no reason to refuse a chargeback', (due, at) => {
    expect(chargeback(`,"evidence_due_by":${due}`).evidenceDueBy).toBe(at);
  });

  it.each([
    ['"metadata":{"note":"a\\u0000b","half":"\\ud83d"}'],
    ['"description":"two\\nlines"'],
    ['"fee":1e999,"net":0.30000000000000004'],
    [`"nested":${'['.repeat(499)}${']'.repeat(499)}`],
    ['"__proto__":{"amount":"1.00"},"constructor":1'],
  ])('a field that nobody knows is none either: %.50s', (extra) => {
    expect(chargeback(`,${extra}`)).toMatchObject({ amountMinor: null, orderId: ID });
    const event = `{"provider":"decard","transactionId":"${ID}","status":"success","amount":5,"currency":"TRY","type":"payment",${extra}}`;
    const headers = { 'remit-provider-event-id': 'evt_1' };
    expect(decardEvent(message({ value: event, headers }))).toMatchObject({
      amountMinor: '500',
    });
    const order = `{"provider_event_id":"evt_1","order_id":"${ID}","user_id":"u","status":"success","amount":5,"currency":"TRY",${extra}}`;
    const wrapped = `{"key":"${ID}","type":"order.webhook","payload":${order},"event_id":"not a UUID","timestamp":"just now"}`;
    expect(parseOrderWebhook(message({ value: wrapped }))).toMatchObject({ amountMinor: '500' });
  });
});
