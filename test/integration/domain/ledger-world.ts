import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { RemitError } from '../../../src/contracts/errors';
import { createAccount, topUp } from '../../../src/domain/accounts';
import { expireDispute, settleDisputeEvent, submitEvidence } from '../../../src/domain/disputes';
import { settleOrderEvent } from '../../../src/domain/order-webhooks';
import { createOrder, expireOrder, payOrder, type OrderView } from '../../../src/domain/orders';
import { createPayment, settleProviderEvent } from '../../../src/domain/payments';
import { refundOrder } from '../../../src/domain/refunds';
import type { Database } from '../../../src/platform/postgres';
import { chargebackOf, orderEventOf, PROVIDER } from '../../support/disputes';
import { CURRENCY, eventOf, TENANT } from '../../support/money';
import {
  USERS,
  type Action,
  type DisputeLife,
  type OrderLife,
  type PaymentLife,
  type PlannedAction,
} from './ledger-plans';

const HANDS = 8;
const MAX_TRIES = 60;
const PLENTY_MINOR = 20_000;
const DAY_MS = 86_400_000;

/** What happened in all worlds of a run. */
export interface Tally {
  operations: number;
  retries: number;
  kills: number;
  /** `<operation> <outcome>` and how often it was the answer. */
  outcomes: Map<string, number>;
}

export const newTally = (): Tally => ({ operations: 0, retries: 0, kills: 0, outcomes: new Map() });

/** SQLSTATEs that no lost connection explains: a constraint or an exception had to stop a money function. */
const DEFECT = /^(22|23|42|P0|XX)[0-9A-Z]{3}$/;

type Step = <T>(run: () => Promise<T>) => Promise<T>;

/** Answers that leave the event to be settled later, as its workflow does. */
const WAITING = new Set(['unknown_order', 'order_not_paid', 'unknown_dispute']);
/** Answers that say: this event has been taken in. */
const TAKEN = new Set(['applied', 'credited', 'noted', 'duplicate', 'contradiction']);

/**
 * A few users and what becomes of them. Every answer is noted down, from whichever try it came: in the end the database
 * must agree with all of them.
 */
export class World {
  readonly users = Array.from({ length: USERS }, () => `user-${randomUUID()}`);
  readonly topUps = new Map<string, { user: string; amountMinor: bigint }>();
  readonly orders = new Set<string>();
  readonly payments = new Set<string>();
  readonly disputes = new Set<string>();
  /** Provider events that were taken in: `<stream> <event id>` and the hash of the body that was. */
  readonly events = new Map<string, Set<string>>();
  /** How often an event was said to be applied (never more than once, whoever asks). */
  readonly applied = new Map<string, number>();
  /** Refunds that were granted, with their amount when one was asked for. */
  readonly refunds = new Map<string, bigint | null>();
  readonly evidence = new Map<string, Set<string>>();
  /** Every status that an answer has shown, by payment, order or dispute. */
  readonly seen = new Map<string, Set<string>>();
  private readonly abandoned: Promise<unknown>[] = [];
  private lastOrder: string | undefined;

  constructor(
    private readonly db: Database,
    private readonly killer: Database,
    private readonly tally: Tally,
  ) {}

  private key(index: number) {
    return { tenantId: TENANT, userId: this.users[index]!, currency: CURRENCY };
  }

  /** Works on a plan with several hands at a time. */
  async live(plan: PlannedAction[]): Promise<void> {
    for (let i = 0; i < USERS; i++)
      await this.step(false, () => createAccount(this.db, { ...this.key(i), id: randomUUID() }));
    // Half of them have enough for all their orders, half live from hand to mouth.
    for (let user = 0; user < USERS; user += 2)
      await this.topUp({ user, amount: PLENTY_MINOR }, (run) => this.step(false, run));
    let next = 0;
    const hand = async () => {
      for (let planned = plan[next++]; planned; planned = plan[next++]) await this.act(planned);
    };
    await Promise.all(Array.from({ length: HANDS }, hand));
    await Promise.all(this.abandoned);
  }

  /** As an activity does it: again until it is through. Only what the domain refuses is an answer. */
  private async step<T>(walksAway: boolean, run: () => Promise<T>): Promise<T> {
    const attempt = async (): Promise<T> => {
      for (let tries = 1; ; tries++) {
        try {
          this.tally.operations += 1;
          return await run();
        } catch (error) {
          const { code } = error as { code?: unknown };
          if (error instanceof RemitError || DEFECT.test(String(code)) || tries >= MAX_TRIES) throw error;
          this.tally.retries += 1;
          await sleep(Math.random() * 10);
        }
      }
    };
    // Whoever does the step again throws as well.
    if (walksAway) this.abandoned.push(attempt().catch(() => undefined));
    return attempt();
  }

  private async act({ action, walksAway }: { action: Action; walksAway: boolean }): Promise<void> {
    const step: Step = (run) => this.step(walksAway, run);
    switch (action.kind) {
      case 'kill':
        return this.kill(action.connections);
      case 'topUp':
        return this.topUp(action, step);
      case 'order':
        return this.order(action, step);
      case 'payment':
      case 'payout':
        return this.payment(action, step);
    }
  }

  private async kill(connections: number): Promise<void> {
    const { rowCount } = await this.killer.pool.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY state = 'active' DESC, random() LIMIT $1`,
      [connections],
    );
    this.tally.kills += rowCount ?? 0;
  }

  private async topUp({ user, amount }: { user: number; amount: number }, step: Step): Promise<void> {
    const reference = randomUUID();
    const input = {
      ...this.key(user),
      amountMinor: BigInt(amount),
      reference,
      correlationId: 'p',
      actor: 'p',
    };
    await step(() => topUp(this.db, input));
    this.topUps.set(`top_up:${reference}`, { user: input.userId, amountMinor: input.amountMinor });
  }

  /** Notes an answer: what it says was taken in, and the status that it shows. */
  private note(
    operation: string,
    subject: string,
    answer: { outcome: string; status?: string | null },
    event?: { stream: string; id: string; hash: string },
  ): void {
    const { outcome, status } = answer;
    const counted = `${operation} ${outcome}`;
    this.tally.outcomes.set(counted, (this.tally.outcomes.get(counted) ?? 0) + 1);
    if (status) add(this.seen, subject, status);
    if (!event) return;
    const id = `${event.stream} ${event.id}`;
    if (TAKEN.has(outcome)) add(this.events, id, event.hash);
    if (outcome === 'applied' || outcome === 'credited')
      this.applied.set(id, (this.applied.get(id) ?? 0) + 1);
  }

  // -------------------------------------------------------------------------------------------------- orders

  private async order(what: OrderLife, step: Step): Promise<void> {
    const id = randomUUID();
    const terms = { ...this.key(what.user), id, amountMinor: BigInt(what.amount) };
    const order = { ...terms, status: 'NEW' } as unknown as OrderView;
    const other = this.lastOrder ?? id;
    this.lastOrder = id;
    const { paymentMethod } = what;
    const expiresAfterMs = what.overdue ? 0 : DAY_MS;
    const created = { ...terms, description: '', paymentMethod, expiresAfterMs, correlationId: 'p' };
    const create = step(() => createOrder(this.db, created)).then(() => void this.orders.add(id));
    const heard = what.overtaken ? undefined : create;

    const events = this.orderEvents(order, what, step, create, heard);
    const expire = async () => this.note('expire_order', id, await expireOrder(this.db, id));
    const decided = Promise.all([
      create.then(() => this.requests(order, what, step)),
      create.then(() => Promise.all(Array.from({ length: what.expiries }, () => step(expire)))),
      events,
    ]).then(() => undefined);
    await Promise.all([
      decided,
      ...what.refunds.map(async (refund) => {
        await (refund.rash ? create : decided);
        await this.refund(order, refund, step);
      }),
      ...what.disputes.map((dispute) =>
        this.dispute({ order, other, dispute, step, decided, heard: heard && decided }),
      ),
    ]);
  }

  private async requests(
    { id, userId }: OrderView,
    { amount, requests }: OrderLife,
    step: Step,
  ): Promise<void> {
    const request = {
      orderId: id,
      userId,
      amountMinor: String(amount),
      currency: CURRENCY,
      correlationId: 'p',
    };
    const pay = async () => this.note('pay_order', id, await payOrder(this.db, request));
    await Promise.all(Array.from({ length: requests }, () => step(pay)));
  }

  private async orderEvents(
    order: OrderView,
    what: OrderLife,
    step: Step,
    created: Promise<void>,
    heard: Promise<void> | undefined,
  ): Promise<void> {
    let before = orderEventOf(order, 'pending', { providerEventId: `${order.id}:0` });
    const said = what.events.map(({ status, how }, i) => {
      const providerEventId = how === 'other body' ? before.providerEventId : `${order.id}:${i + 1}`;
      const amountMinor = String(what.amount + (how === 'other amount' ? 1 : 0));
      const userId = how === 'other user' ? 'nobody' : order.userId;
      const payloadHash = `${status} ${amountMinor} ${userId} ${how === 'other body' ? i : ''}`;
      const event = { ...orderEventOf(order, status, { providerEventId, amountMinor, userId }), payloadHash };
      return (before = how === 'again' ? before : event);
    });
    await heard;
    await Promise.all(
      said.map(async (event) => {
        const settle = async () => {
          const answer = await settleOrderEvent(this.db, event);
          this.note('settle_order_event', order.id, answer, streamed('orders', event));
          return answer;
        };
        const { outcome } = await step(settle);
        if (!WAITING.has(outcome)) return;
        await created;
        await step(settle);
      }),
    );
  }

  private async refund(order: OrderView, what: OrderLife['refunds'][number], step: Step): Promise<void> {
    const amountMinor = {
      all: null,
      part: (order.amountMinor + 1n) / 2n,
      'too much': order.amountMinor + 1n,
    }[what.of];
    const input = {
      refundId: randomUUID(),
      tenantId: TENANT,
      orderId: order.id,
      amountMinor: amountMinor?.toString() ?? null,
      reason: null,
      actor: 'p',
      correlationId: 'p',
    };
    const run = async () => {
      const { outcome } = await refundOrder(this.db, input);
      this.note('refund_order', order.id, { outcome });
      if (outcome === 'ok' || outcome === 'duplicate') this.refunds.set(input.refundId, amountMinor);
    };
    await Promise.all(Array.from({ length: what.times }, () => step(run)));
  }

  // -------------------------------------------------------------------------------------------------- disputes

  private async dispute({
    order,
    other,
    dispute,
    step,
    decided,
    heard,
  }: {
    order: OrderView;
    other: string;
    dispute: DisputeLife;
    step: Step;
    /** Nothing more happens to the order of itself. */
    decided: Promise<void>;
    heard: Promise<void> | undefined;
  }): Promise<void> {
    const disputeId = `dp-${randomUUID()}`;
    this.disputes.add(disputeId);
    const opened = { say: 'opened', how: 'own' } as const;
    const steps = dispute.inOrder ? [opened, ...dispute.steps] : dispute.steps;
    const runs = this.disputeSteps(disputeId, order, other, { ...dispute, steps });
    await heard;
    const insist = async (run: () => Promise<string>) => {
      if (!WAITING.has(await step(run))) return;
      await decided;
      await step(run);
    };
    const [first, ...rest] = runs;
    if (dispute.inOrder && first) await insist(first);
    await Promise.all((dispute.inOrder ? rest : runs).map(insist));
  }

  /** One function a step; each may be run any number of times. */
  private disputeSteps(
    disputeId: string,
    order: OrderView,
    other: string,
    { of, overdue, steps }: DisputeLife,
  ): (() => Promise<string>)[] {
    const whole = order.amountMinor;
    const amountMinor = { whole: null, part: (whole + 1n) / 2n, larger: whole + 1n }[of];
    let before: Parameters<typeof settleDisputeEvent>[1] | undefined;
    return steps.map(({ say, how }, i) => {
      if (say === 'due') return () => this.due(disputeId);
      if (say === 'evidence' || say === 'other evidence') return () => this.submit(disputeId, say);
      const said = how === 'other amount' ? whole / 3n + 1n : amountMinor;
      const orderId = how === 'other order' ? other : order.id;
      const own = chargebackOf(orderId, say, {
        disputeId,
        providerEventId: how === 'other body' && before ? before.providerEventId : `${disputeId}:${i}`,
        amountMinor: said?.toString() ?? null,
        currency: said === null ? null : CURRENCY,
        evidenceDueBy: overdue ? new Date(Date.now() - 1_000).toISOString() : null,
      });
      const event =
        how === 'again' && before ? before : { ...own, payloadHash: `${say} ${said} ${orderId} ${i}` };
      before = event;
      return async () => {
        const answer = await settleDisputeEvent(this.db, event, DAY_MS);
        this.note('settle_dispute_event', disputeId, answer, streamed('disputes', event));
        return answer.outcome;
      };
    });
  }

  private async due(disputeId: string): Promise<string> {
    const answer = await expireDispute(this.db, disputeId);
    this.note('expire_dispute', disputeId, answer);
    return answer.outcome;
  }

  private async submit(disputeId: string, hash: string): Promise<string> {
    const evidence = { text: hash, documents: [] };
    const answer = await submitEvidence(this.db, {
      disputeId,
      hash,
      evidence,
      actor: 'p',
      correlationId: 'p',
    });
    this.note('submit_evidence', disputeId, answer);
    if (answer.outcome === 'ok' || answer.outcome === 'duplicate') add(this.evidence, disputeId, hash);
    return answer.outcome;
  }

  // -------------------------------------------------------------------------------------------------- payments

  private async payment(what: PaymentLife, step: Step): Promise<void> {
    const id = randomUUID();
    const payment = await step(() =>
      createPayment(this.db, {
        ...this.key(what.user),
        id,
        type: what.kind,
        provider: 'decard',
        amountMinor: BigInt(what.amount),
        reserve: what.kind === 'payout' && what.reserve,
        expiresAfterMs: 3_600_000,
        correlationId: 'p',
        actor: 'p',
      }),
    );
    this.payments.add(id);
    let before = eventOf(payment, 'pending', { providerEventId: `${id}:0` });
    const said = what.events.map(({ status, how }, i) => {
      const amountMinor = String(what.amount + (how === 'other amount' ? 1 : 0));
      const event = eventOf(payment, status, {
        providerEventId: how === 'other body' ? before.providerEventId : `${id}:${i + 1}`,
        amountMinor,
        payloadHash: `${status} ${amountMinor} ${how === 'other body' ? i : ''}`,
      });
      return (before = how === 'again' ? before : event);
    });
    const settle = (event: (typeof said)[number]) => async () => {
      const answer = await settleProviderEvent(this.db, event);
      const { provider, providerEventId, payloadHash } = event;
      this.note('settle_provider_event', id, answer, {
        stream: provider,
        id: providerEventId,
        hash: payloadHash,
      });
    };
    await Promise.all(said.map((event) => step(settle(event))));
  }
}

const streamed = (stream: string, event: { providerEventId: string; payloadHash: string }) => ({
  stream: `${PROVIDER}.${stream}`,
  id: event.providerEventId,
  hash: event.payloadHash,
});

function add(map: Map<string, Set<string>>, key: string, value: string): void {
  const found = map.get(key);
  if (found) found.add(value);
  else map.set(key, new Set([value]));
}
