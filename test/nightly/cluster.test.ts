import { FAULTS } from './cluster/faults';
import { runFaults, say } from './cluster/run';

/** One of each kind; all of them are run by hand: test/nightly/cluster/run.ts. REMIT_CLUSTER_FAULTS=all runs them here. */
const KINDS = [
  'kill -9 PostgreSQL primary',
  'freeze broker, the controller',
  'kill -9 Temporal node 1',
  'kill -9 one worker of two',
];

describe('a cluster under load of payments, orders, events and purchases, of which one part after another is lost', () => {
  it('loses nothing, does nothing twice, and all work comes back', async () => {
    const all = process.env['REMIT_CLUSTER_FAULTS'] === 'all';
    const faults = FAULTS.filter(({ name }) => all || KINDS.includes(name));
    expect(faults.length).toBeGreaterThanOrEqual(KINDS.length);
    const { violations, table, counts } = await runFaults(faults);
    say(`\n${table}\n${JSON.stringify(counts)}`);
    expect(violations).toEqual([]);
    for (const kind of ['payments', 'orders', 'refunds', 'events', 'purchases'])
      expect({ kind, enough: Number(counts[kind]) > 10 }).toEqual({ kind, enough: true });
  }, 3_600_000);
});
