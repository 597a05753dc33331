import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { processCommand } from '../../../src/platform/processes';
import { family } from '../../support/processes';

const TICKS_PER_SECOND = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));

/** CPU seconds that a process has used, with those of children that have ended. 0 when it is gone. */
function cpuOf(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / TICKS_PER_SECOND;
  } catch {
    return 0;
  }
}

/**
 * CPU seconds so far, by part. That of a PostgreSQL server is split by the database that a process works for, so that
 * remit's own share and Temporal's are apart.
 */
export function cpuSeconds(parts: Record<string, readonly number[]>): Map<string, number> {
  const seconds = new Map<string, number>();
  for (const [part, roots] of Object.entries(parts))
    for (const pid of roots.flatMap(family)) {
      const database = /^postgres: remit (\w+)/.exec(processCommand(pid) ?? '')?.[1];
      const name = database === undefined ? part : `${part}, ${database.replace(/_.*/, '')}`;
      seconds.set(name, (seconds.get(name) ?? 0) + cpuOf(pid));
    }
  return seconds;
}
