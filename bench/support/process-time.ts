import { readdir, readFile } from 'node:fs/promises';

/** Clock ticks of /proc a second on Linux (USER_HZ). */
const TICKS_A_SECOND = 100;

interface ProcessTime {
  parent: number;
  seconds: number;
}

/** User and system time of each process with its threads and all processes under it, also those that have ended. */
export async function cpuSeconds(pids: readonly number[]): Promise<number[]> {
  const times = new Map<number, ProcessTime>();
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => undefined);
    // The command's name, in parentheses, may hold spaces.
    const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (!fields) continue;
    // The last two are those of children that have ended.
    const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
    times.set(Number(name), { parent: Number(fields[1]), seconds: ticks / TICKS_A_SECOND });
  }
  const under = (pid: number): number =>
    (times.get(pid)?.seconds ?? 0) +
    [...times].reduce((sum, [child, { parent }]) => (parent === pid ? sum + under(child) : sum), 0);
  return pids.map(under);
}

/** A process, and what it is called in a table. */
export interface NamedProcess {
  name: string;
  pid: number;
}

/** Milliseconds of CPU by process. */
export type CpuTimes = ReadonlyMap<string, number>;

/** What these processes and this one (`bench`) take of the CPU while something runs, for each of so many items. */
export async function cpuOfEach(
  items: number,
  processes: readonly NamedProcess[],
  run: () => Promise<void>,
): Promise<CpuTimes> {
  const pids = processes.map(({ pid }) => pid);
  const before = await cpuSeconds(pids);
  const ownBefore = process.cpuUsage();
  await run();
  const own = process.cpuUsage(ownBefore);
  const after = await cpuSeconds(pids);
  return new Map([
    ...processes.map(({ name }, i) => [name, ((after[i]! - before[i]!) * 1_000) / items] as const),
    ['bench', (own.user + own.system) / 1_000 / items] as const,
  ]);
}
