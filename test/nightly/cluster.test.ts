import { availableParallelism } from 'node:os';
import { noteResult } from '../support/nightly';
import { chosenFaults } from './cluster/faults';
import { runFaults, say } from './cluster/run';

/** REMIT_CLUSTER_FAULTS: only those whose names have one of these texts in them, separated by commas. */
const faults = chosenFaults(process.env['REMIT_CLUSTER_FAULTS']);
/** The load is to be one that the machine keeps up with while a part is away: what is late otherwise is late by itself. */
const rate = availableParallelism() < 4 ? 0.5 : 1;

describe('a cluster under load of payments, orders, events and purchases, of which one part after another is lost', () => {
  it('loses nothing, does nothing twice, and all work comes back', async () => {
    expect(faults.length).toBeGreaterThan(0);
    const { violations, table, counts, slowest } = await runFaults(faults, { rate });
    say(`\n${table}`);
    noteResult(
      `${faults.length} faults, slowest recovery ${slowest}, ${violations.length} found lost, twice or stuck; ${JSON.stringify(counts)}`,
    );
    expect(violations).toEqual([]);
    for (const kind of ['payments', 'orders', 'refunds', 'events', 'purchases'])
      expect({ kind, enough: Number(counts[kind]) > 10 }).toEqual({ kind, enough: true });
  }, 5_400_000);
});
