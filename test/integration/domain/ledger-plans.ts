import fc from 'fast-check';

/** What the property tests of the ledger draw: random lives of a few users, their money, orders and disputes. */

export const USERS = 4;
const ACTIONS = 60;

const user = fc.nat({ max: USERS - 1 });
const amount = fc.integer({ min: 1, max: 400 });
const status = fc.constantFrom('pending' as const, 'success' as const, 'failed' as const, 'expired' as const);

/** What a provider says of a payment or payout. */
const paymentEvents = fc.array(
  fc.record({
    status,
    /** An event of its own, the one before once more, or one that can't be applied. */
    how: fc.constantFrom('own' as const, 'again' as const, 'other amount' as const, 'other body' as const),
  }),
  { minLength: 1, maxLength: 4 },
);

/** What a provider says of an order. */
const orderEvents = fc.array(
  fc.record({
    status,
    how: fc.constantFrom(
      'own' as const,
      'own' as const,
      'again' as const,
      'other amount' as const,
      'other body' as const,
      'other user' as const,
    ),
  }),
  { maxLength: 3 },
);

const refunds = fc.array(
  fc.record({
    of: fc.constantFrom('all' as const, 'part' as const, 'too much' as const),
    times: fc.integer({ min: 1, max: 2 }),
    /** Asked for before the order is decided. */
    rash: fc.constantFrom(true, false, false),
  }),
  { maxLength: 3 },
);

/** A dispute: what is said of it, what is submitted, and what its timer does, in any order. */
const disputes = fc.array(
  fc.record({
    of: fc.constantFrom('whole' as const, 'part' as const, 'part' as const, 'larger' as const),
    /** Evidence was due before the chargeback came. */
    overdue: fc.boolean(),
    /** Its first event is `opened`; else whatever comes. */
    inOrder: fc.constantFrom(true, true, false),
    steps: fc.array(
      fc.record({
        say: fc.constantFrom(
          'opened' as const,
          'under_review' as const,
          'won' as const,
          'lost' as const,
          'expired' as const,
          'evidence' as const,
          'other evidence' as const,
          'due' as const,
        ),
        how: fc.constantFrom(
          'own' as const,
          'own' as const,
          'own' as const,
          'again' as const,
          'other amount' as const,
          'other body' as const,
          'other order' as const,
        ),
      }),
      { minLength: 1, maxLength: 4 },
    ),
  }),
  { maxLength: 2 },
);

const topUp = fc.record({ kind: fc.constant('topUp' as const), user, amount });
const order = fc.record({
  kind: fc.constant('order' as const),
  user,
  amount,
  paymentMethod: fc.constantFrom('balance' as const, 'provider' as const),
  /** When a provider pays it, its time is over at once; how often that is found. */
  overdue: fc.constantFrom(true, false, false),
  expiries: fc.nat({ max: 2 }),
  /** How often its payment request arrives; one of an order that a provider pays is refused. */
  requests: fc.nat({ max: 3 }),
  events: orderEvents,
  refunds,
  disputes,
  /** What the provider says of it is there before the order is. */
  overtaken: fc.boolean(),
});
const payment = fc.record({ kind: fc.constant('payment' as const), user, amount, events: paymentEvents });
const payout = fc.record({
  kind: fc.constant('payout' as const),
  user,
  amount,
  reserve: fc.boolean(),
  events: paymentEvents,
});
const kill = fc.record({ kind: fc.constant('kill' as const), connections: fc.integer({ min: 1, max: 6 }) });

const action = fc.oneof(
  { weight: 4, arbitrary: topUp },
  { weight: 6, arbitrary: order },
  { weight: 3, arbitrary: payment },
  { weight: 3, arbitrary: payout },
  { weight: 1, arbitrary: kill },
);

type Drawn<T> = T extends fc.Arbitrary<infer V> ? V : never;
export type Action = Drawn<typeof action>;
export type OrderLife = Drawn<typeof order>;
export type DisputeLife = OrderLife['disputes'][number];
export type PaymentLife = Drawn<typeof payment> | Drawn<typeof payout>;

/** `walksAway`: the caller of each step does not wait for its answer, and somebody does the step again. */
export interface PlannedAction {
  action: Action;
  walksAway: boolean;
}

export const plan: fc.Arbitrary<PlannedAction[]> = fc.array(fc.record({ action, walksAway: fc.boolean() }), {
  minLength: ACTIONS,
  maxLength: ACTIONS,
  size: 'max',
});
