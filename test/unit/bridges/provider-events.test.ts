import { randomUUID } from 'node:crypto';
import { PoisonMessage } from '../../../src/bridges/message';
import { readProviderEvents } from '../../../src/bridges/provider-events';
import { adyen } from '../../../src/providers/adyen';
import { paypal } from '../../../src/providers/paypal';
import { stripe } from '../../../src/providers/stripe';
import { message } from './messages';

const ids = [randomUUID(), randomUUID()];
const about = (id: string) => ({
  ...{ id, userId: 'user123', amount: '100.00', currency: 'TRY' },
  eventId: `E${id.slice(0, 8)}`,
});
const items = ids.flatMap(
  (id) =>
    (JSON.parse(adyen.samples['payment-authorised']!.body(about(id))) as { notificationItems: unknown[] })
      .notificationItems,
);
const two = { live: 'false', notificationItems: items };
const transactions = (headers: Record<string, string>) =>
  readProviderEvents(adyen, message({ value: two, headers })).map(({ event }) =>
    'transactionId' in event ? event.transactionId : undefined,
  );

describe('a body that holds several events', () => {
  it('means the one that its message names, and all where another producer names none', () => {
    expect(transactions({ 'remit-event-index': '0' })).toEqual([ids[0]]);
    expect(transactions({ 'remit-event-index': '1' })).toEqual([ids[1]]);
    expect(transactions({})).toEqual(ids);
  });

  it.each(['2', '-1', '', '1.5', 'x', '__proto__'])('with the index %j is poison', (index) => {
    expect(() => transactions({ 'remit-event-index': index })).toThrow(PoisonMessage);
  });
});

describe('a dispute', () => {
  const sample = JSON.parse(stripe.samples['dispute-created']!.body(about(ids[0]!))) as {
    data: { object: Record<string, unknown> };
  };
  const read = (changes: object) => {
    const value = { ...sample, data: { object: { ...sample.data.object, ...changes } } };
    return readProviderEvents(stripe, message({ value }))[0]!.event;
  };

  it('is another than one that another provider gave the same id', () => {
    const dispute = {
      ...{ dispute_id: 'same-1', status: 'OPEN', dispute_amount: { value: '100.00', currency_code: 'TRY' } },
      disputed_transactions: [{ custom: `order:${ids[0]}` }],
    };
    const value = { id: 'WH-1', event_type: 'CUSTOMER.DISPUTE.CREATED', resource: dispute };
    const theirs = readProviderEvents(paypal, message({ value }))[0]!.event;
    expect(theirs).toMatchObject({ disputeId: 'paypal.same-1' });
    expect(read({ id: 'same-1' })).toMatchObject({ disputeId: 'stripe.same-1' });
  });

  it('keeps of its reason a line that a signal can hold', () => {
    expect(read({ reason: `a\u0000b${'x'.repeat(100_000)}` })).toMatchObject({
      reason: expect.stringMatching(/^a bx{100,}…$/) as string,
      amountMinor: '10000',
    });
  });

  it('is the same event with another reason, and another one with another amount', () => {
    const hash = (changes: object) => (read(changes) as { payloadHash: string }).payloadHash;
    expect(hash({ reason: 'fraudulent' })).toBe(hash({}));
    expect(hash({ amount: 9_999 })).not.toBe(hash({}));
  });
});

it.each(['10000.5', '9007199254740993', '1e400', '-1', '0', '"10000"'])(
  'an amount of %s is none, judged by its own text',
  (amount) => {
    const body = stripe.samples['payment-succeeded']!.body(about(ids[0]!));
    const value = body.replaceAll(/"(amount|amount_received)":10000/g, `"$1":${amount}`);
    expect(value).not.toBe(body);
    expect(() => readProviderEvents(stripe, message({ value }))).toThrow(/data\.object\.amount/);
  },
);
