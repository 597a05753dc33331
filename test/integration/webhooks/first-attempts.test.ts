import { setTimeout as sleep } from 'node:timers/promises';
import { fanOutSteps } from '../../../src/domain/fan-out';
import type { Database } from '../../../src/platform/postgres';
import { eventually } from '../../support/harness';
import { createDeliveryStage, type DeliveryStage } from '../../support/delivery-stage';
import { withDatabase } from '../../support/shared-stack';

let stage: DeliveryStage;
let db: Database;
beforeAll(async () => {
  stage = await createDeliveryStage();
  ({ db } = stage);
});
afterEach(() => stage.closeSubscribers());
afterAll(() => stage.close());

/** A subscriber whose path says what it answers: /204, /503, or /later when it is told to. */
async function receiver() {
  let answerLater = (): void => undefined;
  const later = new Promise<void>((resolve) => (answerLater = resolve));
  const server = await stage.subscriber((response, { path }) => {
    const status = Number(path.slice(1));
    if (status > 0) response.writeHead(status).end();
    else void later.then(() => response.writeHead(204).end());
  });
  return { ...server, answerLater };
}

interface Row {
  subscription: string;
  status: string;
  attempts: number;
  in_lane: boolean;
  /** Written once, with its attempt and its event's mark. */
  once: boolean;
}

/** @param writeAfterMs longer than a test takes on a busy machine, unless it is about that. */
async function tenant(writeAfterMs = 60_000) {
  const publisher = await stage.publisher({ writeAfterMs });
  return {
    ...publisher,
    publish: async () => (await publisher.publish(1))[0]!,
    steps: (eventId: string, after: string, limit: number) =>
      fanOutSteps(db, publisher.deps.keyring, { eventIds: [eventId], after, limit }).then((steps) =>
        steps.get(eventId)!,
      ),
  };
}

const rowsOf = async (eventId: string): Promise<Row[]> => {
  const { rows } = await db.pool.query<Row>(
    `SELECT d.subscription_id AS subscription, d.status, d.attempts, d.in_lane,
            d.xmin = a.xmin AND d.xmin = e.xmin AS once
       FROM deliveries d JOIN webhook_events e ON e.id = d.event_id LEFT JOIN delivery_attempts a ON a.delivery_id = d.id
      WHERE d.event_id = $1 ORDER BY d.subscription_id`,
    [eventId],
  );
  return rows;
};
const isHandedOut = async (eventId: string) =>
  (await db.prisma.webhookEvent.findUniqueOrThrow({ where: { id: eventId } })).fannedOutAt !== null;

describe('the first attempts of a published event', () => {
  it('are written once, with their deliveries and the mark of the event, when all goes well', async () => {
    const { url } = await receiver();
    const { subscribe, publish, handOut } = await tenant();
    for (let i = 0; i < 3; i++) await subscribe(`${url}/204`);
    const eventId = await publish();
    expect(await handOut(eventId)).toEqual([]);
    const rows = await rowsOf(eventId);
    expect(rows).toHaveLength(3);
    for (const row of rows) expect(row).toMatchObject({ status: 'delivered', attempts: 1, once: true });
    expect(await isHandedOut(eventId)).toBe(true);
  });

  it('hand the event out although nobody has subscribed to it', async () => {
    const { publish, handOut } = await tenant();
    const eventId = await publish();
    expect(await handOut(eventId)).toEqual([]);
    expect(await isHandedOut(eventId)).toBe(true);
  });

  it('leave what failed to a workflow, recorded and judged as every later attempt', async () => {
    const { url } = await receiver();
    const { subscribe, publish, handOut } = await tenant();
    const [good, bad] = [await subscribe(`${url}/204`), await subscribe(`${url}/503`)];
    const eventId = await publish();
    expect(await handOut(eventId)).toMatchObject([{ subscriptionId: bad, attemptsMade: 1 }]);
    const bySubscription = new Map((await rowsOf(eventId)).map((row) => [row.subscription, row]));
    expect(bySubscription.get(good)).toMatchObject({ status: 'delivered', attempts: 1 });
    expect(bySubscription.get(bad)).toMatchObject({ status: 'pending', attempts: 1, in_lane: false });
    expect(await db.prisma.subscription.findUniqueOrThrow({ where: { id: bad } })).toMatchObject({
      throttleLevel: 1,
    });
  });

  it('show what is still under way as pending soon, and the event as handed out, whoever hangs', async () => {
    const { url, answerLater } = await receiver();
    const { subscribe, publish, handOut } = await tenant(2_000);
    const [good, late] = [await subscribe(`${url}/204`), await subscribe(`${url}/later`)];
    const eventId = await publish();
    const made = handOut(eventId);
    await eventually(async () => expect(await isHandedOut(eventId)).toBe(true));
    const bySubscription = new Map((await rowsOf(eventId)).map((row) => [row.subscription, row]));
    expect(bySubscription.get(good)).toMatchObject({ status: 'delivered', once: true });
    expect(bySubscription.get(late)).toMatchObject({ status: 'pending', attempts: 0 });
    answerLater();
    expect(await made).toEqual([]);
    expect((await rowsOf(eventId)).map(({ status, attempts }) => [status, attempts])).toEqual([
      ['delivered', 1],
      ['delivered', 1],
    ]);
  });

  it('do not make a delivery in order wait for those of others', async () => {
    const { url, answerLater } = await receiver();
    const { subscribe, publish, handOut, woken } = await tenant();
    const ordered = await subscribe(`${url}/204`, { ordered: true });
    await subscribe(`${url}/later`);
    const eventId = await publish();
    const made = handOut(eventId);
    await eventually(() => expect(woken).toEqual([ordered]));
    const waiting = (await rowsOf(eventId)).find(({ subscription }) => subscription === ordered);
    expect(waiting).toMatchObject({ status: 'pending', in_lane: true, attempts: 0 });
    answerLater();
    expect(await made).toEqual([]);
  });

  it('that were made twice at once leave one row for each delivery, and one attempt', async () => {
    const { url } = await receiver();
    const { subscribe, publish, handOut } = await tenant();
    for (let i = 0; i < 5; i++) await subscribe(`${url}/204`);
    const eventId = await publish();
    const left = await Promise.all([handOut(eventId), handOut(eventId), handOut(eventId)]);
    const rows = await rowsOf(eventId);
    expect(rows).toHaveLength(5);
    for (const row of rows) expect(row).toMatchObject({ status: 'delivered', attempts: 1 });
    // Whoever came later leaves it to the workflow of the row that is there, which finds that there is nothing to do.
    const ids = new Set((await db.prisma.delivery.findMany({ where: { eventId } })).map(({ id }) => id));
    for (const { deliveryId } of left.flat()) expect(ids.has(deliveryId)).toBe(true);
  });

  it('begin again after a crash: rows that an earlier try has left are attempted, and none is written twice', async () => {
    const { url } = await receiver();
    const { subscribe, publish, handOut } = await tenant();
    const [left, done, none] = await Promise.all([1, 2, 3].map(() => subscribe(`${url}/204`)));
    const eventId = await publish();
    await db.pool.query(
      `INSERT INTO deliveries (tenant_id, event_id, subscription_id, event_type, sequence, status, attempts)
       SELECT tenant_id, id, s, type, sequence, status, n FROM webhook_events, (VALUES ($2, 'pending', 0), ($3, 'delivered', 1)) AS v (s, status, n)
        WHERE id = $1`,
      [eventId, left, done],
    );
    expect(await handOut(eventId)).toEqual([]);
    const rows = new Map((await rowsOf(eventId)).map((row) => [row.subscription, row]));
    expect(rows.get(left!)).toMatchObject({ status: 'delivered', attempts: 1 });
    expect(rows.get(done!)).toMatchObject({ status: 'delivered', attempts: 1 });
    expect(rows.get(none!)).toMatchObject({ status: 'delivered', attempts: 1, once: true });
    expect(await isHandedOut(eventId)).toBe(true);
  });

  it('go to many subscriptions a step at a time; the event is handed out with the last one', async () => {
    const { url } = await receiver();
    const { subscribe, publish, steps, first } = await tenant();
    const ids = (await Promise.all(Array.from({ length: 4 }, () => subscribe(`${url}/204`)))).sort();
    const eventId = await publish();
    const one = await steps(eventId, '', 2);
    expect(one.fresh.map(({ delivery }) => delivery.subscriptionId)).toEqual(ids.slice(0, 2));
    expect(one.next).toBe(ids[1]);
    await first.makeStep(eventId, one, { correlationId: 'c' });
    expect(await isHandedOut(eventId)).toBe(false);
    const two = await steps(eventId, one.next!, 2);
    expect(two.fresh.map(({ delivery }) => delivery.subscriptionId)).toEqual(ids.slice(2));
    // It is known to be the last, although it is full.
    expect(two.next).toBeNull();
    await first.makeStep(eventId, two, { correlationId: 'c' });
    expect(await isHandedOut(eventId)).toBe(true);
    expect(await rowsOf(eventId)).toHaveLength(4);
  });

  it('are not sent again and again while the database can be read and not written', async () => {
    const { url, received } = await receiver();
    const { subscribe, publish, handOut } = await tenant();
    await subscribe(`${url}/204`);
    const [sentAtOnce, waits] = [await publish(), await publish()];
    await withDatabase(stage.space.ownerUrl, async (owner) => {
      await owner.query(`
        CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END $$;
        CREATE TRIGGER disk_full BEFORE INSERT ON deliveries FOR EACH ROW EXECUTE FUNCTION disk_full()`);
      const first = handOut(sentAtOnce);
      await eventually(() => expect(received).toHaveLength(1));
      // Its first try to write has failed by then.
      await sleep(1_000);
      const second = handOut(waits);
      await sleep(1_000);
      expect(received).toHaveLength(1);
      await owner.query('DROP FUNCTION disk_full CASCADE');
      expect(await Promise.all([first, second])).toEqual([[], []]);
    });
    expect(received).toHaveLength(2);
    for (const eventId of [sentAtOnce, waits])
      expect(await rowsOf(eventId)).toMatchObject([{ status: 'delivered', attempts: 1 }]);
  });
});
