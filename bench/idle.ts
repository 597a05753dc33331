import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { startRole, type Child } from '../test/support/processes';
import { round, type Benchmark, type BenchRow } from './report';
import { freePort, openStage } from './support/stage';

const ROLES = ['api', 'bridge', 'worker', 'relay', 'ingest'] as const;
/** Until what follows a start (joining groups, first runs of schedules) is over. */
const SETTLE_S = 30;
const MEASURED_S = 60;
/** Clock ticks of /proc a second on Linux (USER_HZ). */
const TICKS_A_SECOND = 100;
const MAX_PERCENT = 3;

/**
 * What remit costs when nothing happens: the CPU time of every role's process over a minute on an idle embedded stack, from
 * /proc/<pid>/stat, in percent of one core. The servers' own cost is told beside it and is not bounded.
 */
export const run: Benchmark = async ({ quick, progress }) => {
  const stage = await openStage(progress);
  const [settleS, measuredS] = quick ? [5, 10] : [SETTLE_S, MEASURED_S];
  const roles: Child[] = [];
  try {
    for (const [i, role] of ROLES.entries())
      roles.push(await startRole([role], stage.env, i === 0 ? stage.config.METRICS_PORT : await freePort()));
    progress(`idle for ${settleS} s, then measured for ${measuredS} s`);
    await sleep(settleS * 1_000);
    const pids = roles.map((role) => role.process.pid!);
    const before = await Promise.all(pids.map(cpuSeconds));
    const startedAt = performance.now();
    await sleep(measuredS * 1_000);
    const after = await Promise.all(pids.map(cpuSeconds));
    const seconds = (performance.now() - startedAt) / 1_000;
    const percents = after.map((cpu, i) => (100 * (cpu - before[i]!)) / seconds);
    const total = percents.reduce((sum, each) => sum + each, 0);
    const row: BenchRow = {
      bench: 'idle, all roles',
      value: round(total),
      unit: '% of a core',
      reference: 1,
      ratio: total,
      atMost: MAX_PERCENT,
      note: `${measuredS} s; ${ROLES.map((role, i) => `${role} ${percents[i]!.toFixed(2)}`).join(', ')}; reference: one percent`,
    };
    return [row];
  } finally {
    await Promise.all(roles.map((role) => role.stop()));
    await stage.close();
  }
};

/** User and system time of a process and its threads. */
async function cpuSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  // The command's name, in parentheses, may hold spaces.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_A_SECOND;
}
