import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { startRole, type Child } from '../test/support/processes';
import { newTenant, publishAll } from './deliveries';
import { median, round, type Benchmark, type BenchRow } from './report';
import { cpuSeconds } from './support/process-time';
import { freePort, openStage, type Stage } from './support/stage';
import { Subscribers } from './support/subscribers';

const ROLES = ['api', 'bridge', 'worker', 'relay', 'ingest'] as const;
/** Until what follows a start (joining groups, first runs of schedules) is over. */
const SETTLE_S = 30;
const MEASURED_S = 60;
const MAX_PERCENT = 3;
/** After so long nobody looks any less often. */
const SILENCE_S = 21;
const FIRSTS = 5;
const FIRST_BOUND_MS = 300;
const ARRIVE_WITHIN_MS = 10_000;

/**
 * What remit costs when nothing happens: the CPU time of every role's process over a minute on an idle embedded stack, from
 * /proc/<pid>/stat, in percent of one core. Told beside it and not bounded: how often each role wakes up, and what the servers
 * take, with the roles there and afterwards without them. And what idling costs whoever comes first: from an event's publishing
 * after a silence until a subscriber has it.
 */
export const run: Benchmark = async ({ quick, progress }) => {
  const stage = await openStage(progress, { WEBHOOK_ALLOWED_PRIVATE_CIDRS: '127.0.0.0/8' });
  const [settleS, measuredS] = quick ? [5, 10] : [SETTLE_S, MEASURED_S];
  const roles: Child[] = [];
  try {
    for (const [i, role] of ROLES.entries())
      roles.push(await startRole([role], stage.env, i === 0 ? stage.config.METRICS_PORT : await freePort()));
    progress(`idle for ${settleS} s, then measured for ${measuredS} s`);
    await sleep(settleS * 1_000);
    const servers = stage.embedded?.processes ?? [];
    const rolePids = roles.map((role) => role.process.pid!);
    const serverPids = servers.map(({ pid }) => pid);
    const wakeUpsBefore = await Promise.all(rolePids.map(wakeUps));
    const [ofRoles, ofServers] = await Promise.all([
      percentsDuring(measuredS, rolePids),
      percentsDuring(measuredS, serverPids),
    ]);
    const wakeUpsAfter = await Promise.all(rolePids.map(wakeUps));
    const first = await firstAfterSilence(stage, quick ? 1 : FIRSTS, quick ? settleS : SILENCE_S, progress);
    await Promise.all(roles.splice(0).map((role) => role.stop()));
    progress(`the servers alone, for ${measuredS} s`);
    await sleep((settleS / 3) * 1_000);
    const alone = await percentsDuring(measuredS, serverPids);

    const total = ofRoles.reduce((sum, each) => sum + each, 0);
    const each = ROLES.map((role, i) => {
      const perSecond = (wakeUpsAfter[i]! - wakeUpsBefore[i]!) / measuredS;
      return `${role} ${ofRoles[i]!.toFixed(2)} (${perSecond.toFixed(0)} wake-ups/s)`;
    });
    const beside = servers.map(
      ({ part }, i) => `${part} ${ofServers[i]!.toFixed(2)} (alone ${alone[i]!.toFixed(2)})`,
    );
    const row: BenchRow = {
      bench: 'idle, all roles',
      value: round(total),
      unit: '% of a core',
      reference: 1,
      ratio: total,
      atMost: MAX_PERCENT,
      note: `${measuredS} s; ${each.join(', ')}; servers: ${beside.join(', ')}; reference: one percent`,
    };
    return [row, first];
  } finally {
    await Promise.all(roles.map((role) => role.stop()));
    await stage.close();
  }
};

async function firstAfterSilence(
  stage: Stage,
  events: number,
  silenceS: number,
  progress: (line: string) => void,
): Promise<BenchRow> {
  const subscribers = new Subscribers();
  try {
    const tenant = await newTenant(stage, await subscribers.urls(1));
    // The very first one compiles code, opens connections and fills caches.
    await publishAll(tenant, 1);
    await subscribers.receives(1, ARRIVE_WITHIN_MS);
    const tookMs: number[] = [];
    for (let i = 1; i <= events; i++) {
      progress(`an event after ${silenceS} s of silence, ${i}/${events}`);
      await sleep(silenceS * 1_000);
      const startedAt = Date.now();
      await publishAll(tenant, 1);
      await subscribers.receives(i + 1, ARRIVE_WITHIN_MS);
      tookMs.push(subscribers.arrivals.at(-1)!.at - startedAt);
    }
    return {
      bench: `idle, the first event after ${silenceS} s`,
      value: round(median(tookMs)),
      unit: 'ms, p50',
      reference: FIRST_BOUND_MS,
      ratio: median(tookMs) / FIRST_BOUND_MS,
      atMost: 1,
      note: `published to received: ${tookMs.join(', ')} ms; reference: the bound`,
    };
  } finally {
    subscribers.close();
  }
}

/** Of a core, for each of these processes and those under it. */
async function percentsDuring(seconds: number, pids: readonly number[]): Promise<number[]> {
  const before = await cpuSeconds(pids);
  const startedAt = performance.now();
  await sleep(seconds * 1_000);
  const after = await cpuSeconds(pids);
  const elapsedS = (performance.now() - startedAt) / 1_000;
  return after.map((cpu, i) => (100 * (cpu - before[i]!)) / elapsedS);
}

/** How often the threads of a process have gone to sleep so far. */
async function wakeUps(pid: number): Promise<number> {
  let sum = 0;
  for (const thread of await readdir(`/proc/${pid}/task`)) {
    const status = await readFile(`/proc/${pid}/task/${thread}/status`, 'utf8').catch(() => '');
    sum += Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)?.[1] ?? 0);
  }
  return sum;
}
