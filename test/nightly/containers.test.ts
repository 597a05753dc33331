import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { findExecutable } from '../../src/embedded/cache';
import { PROJECT_ROOT } from '../../src/platform/project';
import { noteResult } from '../support/nightly';
import type { Report } from '../../scripts/containers';

const dir = mkdtempSync(path.join(tmpdir(), 'remit-containers-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** The same question that scripts/containers.ts asks. */
function engineIsThere(): boolean {
  if (findExecutable('podman') !== undefined) return true;
  try {
    execFileSync('docker', ['info'], { stdio: 'ignore', timeout: 20_000 });
    return true;
  } catch {
    return false;
  }
}

async function containers(...args: string[]): Promise<number | null> {
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', path.join(PROJECT_ROOT, 'scripts', 'containers.ts'), '--dir', dir, ...args],
    { cwd: PROJECT_ROOT, stdio: ['ignore', 'inherit', 'inherit'] },
  );
  const [code] = (await once(child, 'exit')) as [number | null];
  return code;
}

const WITHOUT = 'SKIPPED, there is neither podman nor a Docker engine here: ';
const there = engineIsThere();
if (!there) noteResult(`${WITHOUT}containers`);

describe('the containers of docker-compose.yml', () => {
  (there ? it : it.skip)(
    `${there ? '' : WITHOUT}run every role from the image that the Dockerfile builds, lose nothing when a network is cut, and are restored from their backup`,
    async () => {
      expect(await containers()).toBe(0);
      const report = JSON.parse(readFileSync(path.join(dir, 'report.json'), 'utf8')) as Report;
      const nothing = { payments: 0, orders: 0, events: 0, purchases: 0 };
      const roles = ['api', 'bridge', 'worker', 'worker-deliveries', 'relay', 'ingest'];
      expect(report.roles.map(({ role }) => role)).toEqual(roles);
      // With one and with two of the roles, and with what was restored.
      expect(report.demo.length).toBe(3);
      expect(report.restored?.after).toEqual(report.restored?.before);
      expect(report.restored?.after['payments']).toBeGreaterThan(0);
      for (const line of report.demo) expect(line).toMatch(/^All \d+ samples came out as they should\.$/);
      expect(report.cuts.map(({ service }) => service)).toEqual([
        'postgres',
        'kafka',
        'temporal',
        'clickhouse',
        ...roles,
      ]);
      for (const { service, accepted, lost, twice, wrong } of report.cuts) {
        expect({ service, lost, twice, wrong }).toEqual({
          service,
          lost: nothing,
          twice: nothing,
          wrong: [],
        });
        for (const count of Object.values(accepted)) expect(count).toBeGreaterThan(0);
      }
      const slowest = Math.max(...report.cuts.flatMap(({ again }) => Object.values(again)));
      noteResult(
        `4 servers and 6 roles cut off the network in turn: 0 lost, 0 twice, work of every kind again after ${slowest.toFixed(1)} s at most; ` +
          `image ${report.imageMb} MB; demo passed with one and with two of api, bridge and worker, and after PostgreSQL was restored, ${report.restored!.whole} s after it was stopped`,
      );
    },
  );
});
