import { createClickHouse } from '../../../src/platform/clickhouse';
import { connectTemporal } from '../../../src/platform/temporal';
import { rangesOf, withAdmin } from '../../../src/platform/topic-reader';
import { allTopics } from '../../../src/platform/topics';
import { eventually } from '../../support/harness';
import { inspectLedger } from '../../support/money';
import type { Cluster } from './cluster';
import { AMOUNT, OPENING, REFUND, SUBSCRIBERS, type Load } from './load';

const DRAIN_MS = 300_000;

/** What has arrived, and what there is to say against it. */
export interface Verdict {
  counts: Record<string, unknown>;
  /** Nothing of what was accepted is lost, and nothing happened twice, when there is none. */
  violations: string[];
}

/** After the load has ended, and everything is back. */
export async function arrivals(cluster: Cluster, load: Load): Promise<Verdict> {
  const verdict: Verdict = { counts: {}, violations: [] };
  const { violations } = verdict;
  await eventually(
    async () => {
      const left = Object.values(load.flows).flatMap((flow) => {
        const open = flow.open().length;
        return open > 0 ? [`${flow.kind}: ${open}`] : [];
      });
      const [rows] = (
        await cluster.db.pool.query<{ outbox: string; deliveries: string }>(
          `SELECT (SELECT count(*) FROM outbox) AS outbox,
                  (SELECT count(*) FROM deliveries WHERE status = 'pending') AS deliveries`,
        )
      ).rows;
      if (left.length > 0 || rows?.outbox !== '0' || rows.deliveries !== '0')
        throw new Error(`not through: ${left.join(', ')} ${JSON.stringify(rows)}`);
    },
    DRAIN_MS,
    500,
  ).catch((error: unknown) => violations.push(String(error)));
  load.stopped = true;
  violations.push(...load.refused.map((text) => `refused: ${text}`));
  await money(cluster, load, verdict);
  events(load, verdict);
  await purchases(cluster, load, verdict);
  await workflows(cluster, verdict);
  for (const topic of allTopics(cluster.config).filter((each) => each.endsWith('.dlq'))) {
    const ranges = await withAdmin(cluster.kafkaClient(), (admin) => rangesOf(admin, topic));
    const letters = ranges.reduce((sum, { low, high }) => sum + high - low, 0n);
    if (letters > 0n) violations.push(`${letters} dead letters in ${topic}`);
  }
  for (const { ended } of cluster.roles) violations.push(...ended.map((text) => `ended by itself: ${text}`));
  return verdict;
}

async function money(cluster: Cluster, load: Load, { counts, violations }: Verdict): Promise<void> {
  const { rows } = await cluster.db.pool.query<Record<string, string>>(
    `SELECT (SELECT count(*) FROM provider_events WHERE outcome IN ('applied', 'credited')) AS payments,
            (SELECT count(*) FROM orders WHERE status = 'FINISHED') AS orders,
            (SELECT count(*) FROM refunds) AS refunds,
            (SELECT sum(balance_minor) FROM accounts) AS balances`,
  );
  const { accepted } = load;
  const expected = {
    ...accepted,
    balances:
      OPENING * BigInt(load.users.length) +
      AMOUNT * BigInt(accepted.payments - accepted.orders) +
      REFUND * BigInt(accepted.refunds),
  };
  Object.assign(counts, accepted);
  for (const [name, value] of Object.entries(expected))
    if (rows[0]?.[name] !== String(value))
      violations.push(`${name}: ${rows[0]?.[name]} where ${value} were accepted`);
  for (const [name, found] of Object.entries(await inspectLedger(cluster.db)) as [string, string[]][])
    if (found.length > 0) violations.push(`ledger: ${name} ${found.slice(0, 5).join(', ')}`);
  const { code, output } = await cluster.remit('reconcile', '--margin', '1');
  if (code !== 0) violations.push(`reconcile is not clean:\n${output}`);
}

function events(load: Load, { counts, violations }: Verdict): void {
  const { published, subscribers } = load;
  counts['events'] = published.size;
  for (const name of Object.keys(SUBSCRIBERS)) {
    const seen = subscribers.arrivals(name);
    const lost = [...published.keys()].filter((number) => !seen.get(number)?.accepted);
    if (lost.length > 0)
      violations.push(`${name} did not get ${lost.length} events: ${lost.slice(0, 10).join(', ')}`);
    const otherwise = [...published].filter(([number, id]) => {
      const ids = [...(seen.get(number)?.ids ?? [])];
      return ids.length > 1 || (ids.length === 1 && ids[0] !== id);
    });
    if (otherwise.length > 0)
      violations.push(`${name} got ${otherwise.length} events under another webhook-id or several`);
    const accepted = [...seen.values()].reduce((sum, arrival) => sum + arrival.accepted, 0);
    counts[`${name} accepted`] = accepted;
    counts[`${name} accepted again`] = accepted - seen.size;
    const order = [...seen.keys()];
    if (name === 'ordered' && order.some((number, index) => index > 0 && number < order[index - 1]!))
      violations.push(`ordered got events out of order: ${order.join(' ')}`);
  }
  if (subscribers.strangers > 0) violations.push(`${subscribers.strangers} webhooks with a wrong signature`);
}

async function purchases(cluster: Cluster, load: Load, { counts, violations }: Verdict): Promise<void> {
  const client = createClickHouse(cluster.config);
  try {
    const query = async <T>(text: string) =>
      (await client.query({ query: text, format: 'JSONEachRow' })).json<T>();
    const [stored] = await query<{ rows: string; offsets: string }>(
      'SELECT count() AS rows, uniqExact(kafkaPartition, kafkaOffset) AS offsets FROM purchases',
    );
    const ids = new Set(
      (await query<{ id: string }>('SELECT toString(id) AS id FROM purchases_once')).map(({ id }) => id),
    );
    const [{ n: once } = { n: '0' }] = await query<{ n: string }>('SELECT count() AS n FROM purchases_once');
    const missing = [...load.purchases.good].filter((id) => !ids.has(id));
    counts['purchases'] = load.purchases.good.size;
    if (missing.length > 0)
      violations.push(`${missing.length} purchases are not stored: ${missing.slice(0, 5).join(', ')}`);
    if (stored?.rows !== stored?.offsets)
      violations.push(`purchases: ${stored?.rows} rows of ${stored?.offsets} messages`);
    if (Number(once) !== load.purchases.good.size)
      violations.push(`purchases_once has ${once} of ${load.purchases.good.size}`);
  } finally {
    await client.close();
  }
}

async function workflows(cluster: Cluster, { counts, violations }: Verdict): Promise<void> {
  const client = await connectTemporal(cluster.config);
  try {
    const count = async (query: string) => (await client.workflow.count(query)).count;
    counts['workflows'] = await count(`ExecutionStatus = 'Completed'`);
    const bad = await count(`ExecutionStatus IN ('Failed', 'Terminated', 'TimedOut', 'Canceled')`);
    if (bad > 0) violations.push(`${bad} workflows did not end well`);
  } finally {
    await client.connection.close();
  }
}
