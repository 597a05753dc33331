import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { tryLock } from '../../../src/platform/lock';
import { resetDataDir } from '../../../src/embedded/reset';
import { refuseUnknownContent } from '../../../src/embedded/part-process';
import { Spool } from '../../../src/embedded/clickhouse-spool';
import { startEmbeddedStack } from '../../../src/embedded/stack';
import { claimDataDir, DATA_DIR_MARKER, DATA_ENTRIES, inspectDataDir } from '../../../src/platform/data-dir';
import { callerDir, PROJECT_ROOT } from '../../../src/platform/project';
import { SERVERS_PID, startLocalStack } from '../../../src/roles/local-stack';
import { eventually } from '../../support/harness';

/** Everything here happens in a folder of its own: what is tried would empty whatever it is let loose on. */
const top = realpathSync(mkdtempSync(path.join(os.tmpdir(), 'remit-reset-test-')));
afterAll(() => rmSync(top, { recursive: true, force: true }));

let count = 0;
const fresh = () => path.join(top, `case-${++count}`);

/** A folder as a start leaves it, with something in every entry. */
function dataDirWith(names: readonly string[]): string {
  const folder = claimDataDir(fresh());
  for (const name of names) {
    if (/\.|pwfile/.test(name) && !name.endsWith('.init') && !name.endsWith('.format')) {
      writeFileSync(path.join(folder, name), 'x');
      continue;
    }
    mkdirSync(path.join(folder, name));
    writeFileSync(path.join(folder, name, 'content'), 'x');
  }
  return folder;
}

/** Somebody's folder, which looks a little like remit's. */
function foreignFolder(): string {
  const folder = fresh();
  mkdirSync(path.join(folder, 'logs'), { recursive: true });
  mkdirSync(path.join(folder, 'kafka'));
  writeFileSync(path.join(folder, 'thesis.txt'), 'years of work');
  writeFileSync(path.join(folder, 'kafka', 'letters.txt'), 'of another Kafka');
  return folder;
}

const listing = (folder: string) => readdirSync(folder, { recursive: true }).map(String).sort();

interface Ran {
  code: number;
  output: string;
}

/** `remit reset` as a process, as people run it. */
function remitReset(env: NodeJS.ProcessEnv, args = ['--yes']): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [path.join(PROJECT_ROOT, 'dist', 'cli.js'), 'reset', ...args],
      { env: { ...process.env, ...env } },
      (error, stdout, stderr) => resolve({ code: Number(error?.code ?? 0), output: `${stdout}${stderr}` }),
    );
  });
}

describe('remit reset', () => {
  it('empties no folder that remit has not made, whatever REMIT_DATA_DIR names', async () => {
    const folder = foreignFolder();
    const before = listing(folder);
    const { code, output } = await remitReset({ REMIT_DATA_DIR: folder });
    expect(code).toBe(78);
    expect(output).toContain('was not made by remit');
    expect(listing(folder)).toEqual(before);
  });

  it('says what it deletes, deletes that, and leaves what others put beside it', async () => {
    const folder = dataDirWith(DATA_ENTRIES);
    mkdirSync(path.join(folder, 'backup'));
    writeFileSync(path.join(folder, 'backup', 'dump.sql'), 'kept');
    const { code, output } = await remitReset({ REMIT_DATA_DIR: folder });
    expect(output).toContain('stays: backup');
    for (const name of DATA_ENTRIES) expect(output).toContain(`  ${path.join(folder, name)}\n`);
    expect(code).toBe(0);
    expect(listing(folder)).toEqual([DATA_DIR_MARKER, 'backup', 'backup/dump.sql']);
    // It is remit's still: the next start takes it.
    expect(claimDataDir(folder)).toBe(folder);
  });

  it('removes the folder itself when nothing else is in it, and is harmless where there is none', async () => {
    const folder = dataDirWith(['postgres', 'run']);
    expect((await remitReset({ REMIT_DATA_DIR: folder })).code).toBe(0);
    expect(existsSync(folder)).toBe(false);
    const { code, output } = await remitReset({ REMIT_DATA_DIR: folder });
    expect([code, output]).toEqual([0, `There is no ${folder}: nothing to delete.\n`]);
    expect(existsSync(folder)).toBe(false);
  });

  it('asks, and without a terminal and --yes does nothing', async () => {
    const folder = dataDirWith(['postgres']);
    const before = listing(folder);
    const { code, output } = await remitReset({ REMIT_DATA_DIR: folder }, []);
    expect(code).toBe(1);
    expect(output).toContain('add --yes');
    expect(listing(folder)).toEqual(before);
  });

  it.each([
    ['a home', (folder: string) => ({ HOME: folder })],
    ['a folder that a home lies in', (folder: string) => ({ HOME: path.join(folder, 'postgres') })],
    ['a temporary root', (folder: string) => ({ TMPDIR: folder })],
    [
      'a folder that the temporary root lies in',
      (folder: string) => ({ TMPDIR: path.join(folder, 'postgres') }),
    ],
  ])('never touches %s, marker or not', async (_what, envOf) => {
    const folder = dataDirWith(['postgres', 'kafka']);
    const before = listing(folder);
    const { code, output } = await remitReset({ REMIT_DATA_DIR: folder, ...envOf(folder) });
    expect(code).toBe(78);
    expect(output).toContain("never remit's data folder");
    expect(listing(folder)).toEqual(before);
  });

  it.each([
    ['the root', '/'],
    ['the temporary root', '/tmp'],
    ["root's home", '/root'],
    ['the homes', '/home'],
    ['the project', PROJECT_ROOT],
    ['what the project lies in', path.dirname(PROJECT_ROOT)],
  ])('refuses %s without looking for a marker', (_what, place) => {
    // Only looked at: nothing here would be deleted by a mistake of the test.
    if (!existsSync(place)) return;
    expect(() => inspectDataDir(place)).toThrow(/never remit's data folder|symbolic link/);
    expect(() => claimDataDir(place)).toThrow("never remit's data folder");
  });

  it('goes through no symbolic link: neither the folder, nor its marker, nor what lies in it', async () => {
    const target = dataDirWith(['postgres']);
    const link = fresh();
    symlinkSync(target, link);
    await expect(resetDataDir(link)).rejects.toThrow('symbolic link');
    expect(listing(target)).toContain('postgres/content');

    const lent = foreignFolder();
    symlinkSync(path.join(target, DATA_DIR_MARKER), path.join(lent, DATA_DIR_MARKER));
    await expect(resetDataDir(lent)).rejects.toThrow('was not made by remit');
    expect(listing(lent)).toContain('kafka/letters.txt');

    const elsewhere = foreignFolder();
    const folder = dataDirWith(['kafka']);
    symlinkSync(elsewhere, path.join(folder, 'postgres'));
    await resetDataDir(folder);
    expect(existsSync(folder)).toBe(false);
    expect(listing(elsewhere)).toContain('thesis.txt');

    const runIsALink = dataDirWith(['kafka']);
    symlinkSync(elsewhere, path.join(runIsALink, 'run'));
    await expect(resetDataDir(runIsALink)).rejects.toThrow("not a folder of remit's");
    expect(listing(elsewhere)).not.toContain('lock');
  });

  it('does nothing while a stack runs in the folder', async () => {
    const folder = dataDirWith(['postgres']);
    const lock = tryLock(path.join(folder, 'run', 'lock'));
    try {
      await expect(resetDataDir(folder)).rejects.toThrow(`in use by process ${process.pid}`);
      expect(listing(folder)).toContain('postgres/content');
    } finally {
      if ('release' in lock) lock.release();
    }
    await resetDataDir(folder);
    expect(existsSync(folder)).toBe(false);
  });

  it('can be repeated after it was interrupted: the marker goes last', async () => {
    const folder = dataDirWith(['logs']);
    rmSync(path.join(folder, 'logs'), { recursive: true });
    await resetDataDir(folder);
    expect(existsSync(folder)).toBe(false);
  });
});

describe('the data folder', () => {
  it('is marked when remit makes it, or finds it empty', () => {
    const [made, empty] = [fresh(), fresh()];
    mkdirSync(empty);
    for (const folder of [made, empty]) {
      expect(claimDataDir(folder)).toBe(folder);
      expect(claimDataDir(folder)).toBe(folder);
      expect(readFileSync(path.join(folder, DATA_DIR_MARKER), 'utf8')).toContain('remit');
    }
  });

  it('is never one with content that remit did not make: no start writes to it', async () => {
    const folder = foreignFolder();
    const before = listing(folder);
    const starting = startEmbeddedStack({
      dataDir: folder,
      outside: {},
      parts: ['clickhouse'],
      ports: 'free',
      searchAttributes: {},
      report: () => undefined,
    });
    await expect(starting).rejects.toThrow(/was not made by remit[\s\S]*Nothing was written/);
    expect(listing(folder)).toEqual(before);
  });

  it('is one installation’s: a second start leaves its endpoints alone, also when all servers run elsewhere', async () => {
    const folder = claimDataDir(fresh());
    const env = {
      DATABASE_URL: 'postgresql://u:p@db.example/remit',
      KAFKA_BROKERS: 'kafka.example:9092',
      TEMPORAL_ADDRESS: 'temporal.example:7233',
      CLICKHOUSE_URL: 'http://clickhouse.example:8123',
    };
    const start = (changes = {}) =>
      startLocalStack({
        env: { ...env, ...changes },
        dataDir: folder,
        ports: 'free',
        report: () => undefined,
      });
    const first = await start();
    const endpoints = readFileSync(path.join(folder, 'endpoints.json'), 'utf8');
    await expect(start({ KAFKA_BROKERS: 'other.example:9092' })).rejects.toThrow(
      `in use by process ${process.pid}`,
    );
    expect(readFileSync(path.join(folder, 'endpoints.json'), 'utf8')).toBe(endpoints);
    await expect(resetDataDir(folder)).rejects.toThrow(`in use by process ${process.pid}`);
    // The roles of `npm run dev`, started as it does, share the folder with the process that started the servers.
    const roles = spawn(
      process.execPath,
      [
        ...['--require', path.join(PROJECT_ROOT, 'scripts/lib/follow-launcher.cjs')],
        ...[path.join(PROJECT_ROOT, 'dist/cli.js'), 'start'],
      ],
      {
        env: {
          ...{ ...process.env, ...env, NODE_ENV: 'development', REMIT_DATA_DIR: folder },
          ...{ REMIT_LAUNCHER_PID: String(process.pid), [SERVERS_PID]: String(process.pid) },
        },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    let said = '';
    for (const stream of [roles.stdout, roles.stderr])
      stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
    const ended = once(roles, 'exit');
    await Promise.race([ended, eventually(() => expect(said).toContain('migrating'))]);
    roles.kill('SIGKILL');
    await ended;
    expect(said).toContain('migrating');
    await first.stop();
    await (await start()).stop();
  });

  it('keeps parts whose own files are gone, instead of making new ones in their place', () => {
    const folder = dataDirWith(['kafka']);
    expect(() => refuseUnknownContent(path.join(folder, 'kafka'), 'meta.properties')).toThrow('damaged');
    expect(listing(folder)).toContain('kafka/content');
    expect(() => refuseUnknownContent(path.join(folder, 'none'), 'meta.properties')).not.toThrow();
  });
});

describe('what servers clean up in the temporary roots', () => {
  it('is theirs: dead servers’ files, and nothing that only has such a name', () => {
    const root = os.tmpdir();
    // No process has this number: it is above every limit of pids.
    const dead = 2 ** 30;
    const [theirs, others, link] = ['AAAAAA', 'BBBBBB', 'CCCCCC'].map((end) =>
      path.join(root, `remit-clickhouse-${dead}-${end}`),
    );
    const elsewhere = foreignFolder();
    try {
      mkdirSync(theirs!);
      writeFileSync(path.join(theirs!, '17'), 'spooled');
      mkdirSync(others!);
      writeFileSync(path.join(others!, 'thesis.txt'), 'years of work');
      symlinkSync(elsewhere, link!);
      new Spool(1_024).close();
      expect(existsSync(theirs!)).toBe(false);
      expect(listing(others!)).toEqual(['thesis.txt']);
      expect(listing(elsewhere)).toContain('thesis.txt');
    } finally {
      for (const made of [theirs!, others!, link!]) rmSync(made, { recursive: true, force: true });
    }
  });
});

describe('a path of the command line', () => {
  const npm = { npm_package_json: path.join(PROJECT_ROOT, 'package.json'), INIT_CWD: '/home/caller' };

  it('is meant from where the caller stands, also when npm went to the project’s folder', () => {
    expect(callerDir(npm, PROJECT_ROOT)).toBe('/home/caller');
    // Not by npm, by the npm of another package, or from a folder that somebody else has gone to.
    expect(callerDir({}, '/somewhere')).toBe('/somewhere');
    expect(callerDir({ ...npm, npm_package_json: '/other/package.json' }, PROJECT_ROOT)).toBe(PROJECT_ROOT);
    expect(callerDir(npm, top)).toBe(top);
  });

  it('reaches the data folder, and the endpoints, through npm', async () => {
    const folder = claimDataDir(fresh());
    const env = { ...npm, INIT_CWD: top };
    const run = (args: string[]): Promise<Ran> =>
      new Promise((resolve) => {
        execFile(
          process.execPath,
          [path.join(PROJECT_ROOT, 'dist', 'cli.js'), ...args],
          { cwd: PROJECT_ROOT, env: { ...process.env, ...env, REMIT_DATA_DIR: path.basename(folder) } },
          (error, stdout, stderr) =>
            resolve({ code: Number(error?.code ?? 0), output: `${stdout}${stderr}` }),
        );
      });
    writeFileSync(path.join(folder, 'given.json'), '{}');
    const demo = await run(['demo', '--endpoints', `${path.basename(folder)}/given.json`]);
    expect(demo.output).toContain(`${path.join(folder, 'given.json')} names no API`);
    expect((await run(['reset', '--yes'])).output).toContain(`From ${folder}`);
  });
});
