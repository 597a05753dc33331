import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { processCommand } from '../../../src/platform/processes';

const TICKS_PER_SECOND = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));
/** A connection's process that ends between two looks counts for its server, of no database. */
const LOOK_MS = 1_000;

interface Seen {
  parent: number;
  /** CPU seconds of its own. */
  own: number;
  /** Those of its children that have ended. */
  ended: number;
}

/** All processes of this machine. */
function processes(): Map<number, Seen> {
  const all = new Map<number, Seen>();
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      const seconds = (from: number) => (Number(fields[from]) + Number(fields[from + 1])) / TICKS_PER_SECOND;
      all.set(pid, { parent: Number(fields[1]), own: seconds(11), ended: seconds(13) });
    } catch {
      // It has ended meanwhile.
    }
  }
  return all;
}

/**
 * CPU seconds by part. That of a PostgreSQL server is split by the database that a process works for, so that remit's own
 * share and Temporal's are apart.
 */
export class CpuMeter {
  /** Of processes below those that a part names: what they have used, and for which part. */
  private readonly children = new Map<number, { root: number; name: string; used: number }>();
  private readonly timer: NodeJS.Timeout;

  /** @param parts the processes of each, as they are now. */
  constructor(private readonly parts: () => Record<string, readonly number[]>) {
    this.timer = setInterval(() => void this.seconds(), LOOK_MS);
  }

  /** So far. */
  seconds(): Map<string, number> {
    const all = processes();
    const below = new Map<number, number[]>();
    for (const [pid, { parent }] of all) below.set(parent, [...(below.get(parent) ?? []), pid]);
    const result = new Map<string, number>();
    const add = (name: string, used: number) => result.set(name, (result.get(name) ?? 0) + used);
    for (const [part, roots] of Object.entries(this.parts()))
      for (const root of roots) {
        for (const pid of below.get(root) ?? []) this.look(part, root, pid, all.get(pid)!);
        const mine = [...this.children].filter(([, child]) => child.root === root);
        for (const [, { name, used }] of mine) add(name, used);
        const gone = mine.reduce((sum, [pid, { used }]) => (all.has(pid) ? sum : sum + used), 0);
        const { own = 0, ended = 0 } = all.get(root) ?? {};
        add(part, own + Math.max(0, ended - gone));
      }
    return result;
  }

  private look(part: string, root: number, pid: number, { own, ended }: Seen): void {
    const known = this.children.get(pid);
    // A process takes its name a moment after its beginning.
    const database = /^postgres: remit (\w+)/.exec(processCommand(pid) ?? '')?.[1];
    const name = database === undefined ? (known?.name ?? part) : `${part}, ${database.replace(/_.*/, '')}`;
    this.children.set(pid, { root, name, used: own + ended });
  }

  stop(): void {
    clearInterval(this.timer);
  }
}
