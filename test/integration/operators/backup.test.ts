import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { stopOrphans } from '../../../src/embedded/part-process';
import { LogEndedEarly, runRecovery, stopServerOn } from '../../../src/embedded/postgres-recovery';
import { startEmbeddedStack, type EmbeddedStack } from '../../../src/embedded/stack';
import { Archive } from '../../../src/operations/backup/archive';
import { backUpOnce, follow, inspectArchive, runInspect } from '../../../src/operations/backup/backup';
import { ReplicationConnection } from '../../../src/operations/backup/replication';
import { runRestore, type RestoreCommand } from '../../../src/operations/backup/run-restore';
import { checkSegments } from '../../../src/operations/backup/verify';
import { ensureSlot } from '../../../src/operations/backup/wal-receiver';
import { claimDataDir } from '../../../src/platform/data-dir';
import { eventually } from '../../support/harness';

const embedded = { runRecovery, LogEndedEarly, stopOrphans, stopServerOn };
/** A PostgreSQL of this test's own, whose data folder is destroyed and restored. */
const top = realpathSync(mkdtempSync(path.join(os.tmpdir(), 'remit-backup-')));
const dataDir = claimDataDir(path.join(top, 'data'));
const backups = path.join(top, 'backups');
const lines: string[] = [];
const say = (line: string) => void lines.push(line);

let stack: EmbeddedStack | undefined;
const start = async (): Promise<void> => {
  stack = await startEmbeddedStack({
    ...{ dataDir, parts: ['postgres'], ports: 'free', outside: {}, searchAttributes: {} },
    report: () => undefined,
  });
};
const stop = async (): Promise<void> => {
  await stack?.stop();
  stack = undefined;
};

async function sql<T>(text: string): Promise<T[]> {
  const client = new Client({ connectionString: stack!.endpoints.postgres });
  await client.connect();
  try {
    return (await client.query(text)).rows as T[];
  } finally {
    await client.end();
  }
}
const entries = async (): Promise<string[]> =>
  (await sql<{ what: string }>('SELECT what FROM entries ORDER BY n')).map(({ what }) => what);
/** Commits an entry. @returns a time by the server's clock at which it is there and nothing later is. */
async function enter(what: string): Promise<Date> {
  await sql(`INSERT INTO entries (what) VALUES ('${what}')`);
  await sleep(5);
  const [row] = await sql<{ at: Date }>('SELECT clock_timestamp() AS at');
  await sleep(5);
  return row!.at;
}

const back = (extra: { keep?: number } = {}) =>
  backUpOnce(stack!.endpoints.postgres, { folder: backups, follow: false, ...extra }, say);
/** Its files are gone, and come again as they were at a time. */
async function restore(options: Partial<RestoreCommand> = {}): Promise<void> {
  await stop();
  rmSync(path.join(dataDir, 'postgres'), { recursive: true });
  await runRestore(
    dataDir,
    { folder: backups, json: false, confirm: () => Promise.resolve(true), embedded, ...options },
    say,
  );
  await start();
}
const anyFolder = (name: string) => path.join(top, name);

beforeAll(async () => {
  await start();
  await sql('CREATE TABLE entries (n serial PRIMARY KEY, what text NOT NULL)');
}, 60_000);
afterAll(async () => {
  await stop();
  rmSync(top, { recursive: true, force: true });
});

describe('a backup of PostgreSQL', () => {
  let first: Date;
  let second: Date;

  it('has one slot, also when who receives and who makes a base backup come to make it together', async () => {
    const open = () => ReplicationConnection.open(stack!.endpoints.postgres);
    const connections = await Promise.all([open(), open(), open(), open()]);
    try {
      await Promise.all(connections.map(ensureSlot));
      expect(await sql('SELECT slot_name FROM pg_replication_slots')).toEqual([
        { slot_name: 'remit_backup' },
      ]);
    } finally {
      for (const connection of connections) connection.close();
    }
  });

  it('is restored to a time between two backups, to one after the last, and to the newest', async () => {
    await enter('before');
    await back();
    first = await enter('one');
    await enter('two');
    await back();
    second = await enter('three');
    await enter('four');
    await back({ keep: 5 });
    expect(await entries()).toEqual(['before', 'one', 'two', 'three', 'four']);

    await restore({ to: first });
    expect(await entries()).toEqual(['before', 'one']);
    expect(JSON.parse(readFileSync(path.join(dataDir, 'restored.json'), 'utf8'))).toEqual({
      restoredTo: first.toISOString(),
    });
  }, 120_000);

  it('is restored once more along the former timeline when the time was too early', async () => {
    // What the restored server writes is on a timeline of its own, in the same archive.
    await enter('after the restore');
    await back();
    await restore({ to: second, timeline: 1 });
    expect(await entries()).toEqual(['before', 'one', 'two', 'three']);
    await restore();
    expect(await entries()).toEqual(['before', 'one', 'after the restore']);
  }, 120_000);

  it('keeps receiving, also over a crash of the server, and makes base backups meanwhile', async () => {
    const stopped = new AbortController();
    const following = follow(
      stack!.endpoints.postgres,
      { folder: backups, follow: true, every: 24, keep: 9 },
      say,
      stopped.signal,
    );
    try {
      await enter('followed');
      await stack!.kill('postgres');
      await stack!.restart('postgres');
      const at = await enter('after the crash');
      const archive = await Archive.open(backups);
      await eventually(async () => expect((await archive.received())!.at > at.toISOString()).toBe(true));
    } finally {
      stopped.abort();
      await following;
    }
    const last = await entries();
    await restore();
    expect(await entries()).toEqual(last);
    expect(last.slice(-2)).toEqual(['followed', 'after the crash']);
  }, 120_000);

  it('says which times can be restored, and refuses others', async () => {
    await back();
    const { backups: listed } = await inspectArchive(backups, false);
    const newest = listed.at(-1)!;
    expect(newest.until! > newest.finishedAt).toBe(true);
    const restoring = (options: Partial<RestoreCommand>) =>
      runRestore(
        dataDir,
        {
          folder: backups,
          json: true,
          confirm: () => Promise.resolve(true),
          embedded,
          into: anyFolder('never'),
          ...options,
        },
        say,
      );
    await expect(restoring({ to: new Date(0) })).rejects.toThrow('no time before it can be restored');
    await expect(restoring({ to: new Date(Date.parse(newest.until!) + 60_000) })).rejects.toThrow(
      `reaches to ${newest.until}`,
    );
    await expect(restoring({ timeline: 99 })).rejects.toThrow(/no timeline 99.*known are 1/);
    await expect(restoring({ timeline: 0 })).rejects.toThrow('no timeline 0');
    expect(existsSync(anyFolder('never'))).toBe(false);
    // While the server runs on it, its folder is not replaced.
    await expect(
      runRestore(
        dataDir,
        { folder: backups, json: true, confirm: () => Promise.resolve(true), embedded },
        say,
      ),
    ).rejects.toThrow('in use');
  });

  it('is restored after a restore that was interrupted, and after one that was killed and left a server running', async () => {
    await enter('kept');
    await back();
    const before = await entries();
    await stop();
    const again = (options: Partial<RestoreCommand>) =>
      runRestore(
        dataDir,
        { folder: backups, json: false, confirm: () => Promise.resolve(true), embedded, ...options },
        say,
      );
    const aborted = AbortSignal.abort();
    await expect(again({ signal: aborted })).rejects.toThrow('interrupted: nothing was changed');
    // What it has built is there until the next one.
    const applying = { ...embedded, runRecovery: (folder: string) => runRecovery(folder, aborted) };
    await expect(again({ embedded: applying })).rejects.toThrow('interrupted');

    // What a killed restore leaves, as far as the next one looks: a process of that command line, and PostgreSQL's note of it. A
    // real one may be through with its recovery, or be ended by its own checks, before the next one looks.
    let orphan: ChildProcess | undefined;
    const killed = (folder: string): Promise<never> => {
      const idle = ['-e', 'setInterval(() => undefined, 1_000)'];
      orphan = spawn(process.execPath, [...idle, 'postgres', '-D', folder, '-c', 'x'], { stdio: 'ignore' });
      writeFileSync(path.join(folder, 'postmaster.pid'), `${orphan.pid}\n${folder}\n`);
      return Promise.reject(new Error('killed'));
    };
    await expect(again({ embedded: { ...embedded, runRecovery: killed } })).rejects.toThrow('killed');
    const gone = once(orphan!, 'exit');
    lines.length = 0;
    await again({});
    await gone;
    expect(lines.join('\n')).toContain(`stopping PostgreSQL (process ${orphan!.pid})`);
    await start();
    expect(await entries()).toEqual(before);
  }, 180_000);

  it('takes away what an interrupted backup has left, and leaves the one that another process makes', async () => {
    const part = (name: string) => path.join(backups, 'base', `${name}.part`);
    for (const name of ['interrupted', 'under-way']) {
      mkdirSync(part(name));
      writeFileSync(path.join(part(name), 'base.tar.gz'), 'the beginning');
    }
    const longAgo = new Date(Date.now() - 2 * 3_600_000);
    for (const file of [path.join(part('interrupted'), 'base.tar.gz'), part('interrupted')])
      utimesSync(file, longAgo, longAgo);
    await back();
    expect([existsSync(part('interrupted')), existsSync(part('under-way'))]).toEqual([false, true]);
    rmSync(part('under-way'), { recursive: true });
  });

  it('keeps as many as it is told, with what they need of the log', async () => {
    const before = await inspectArchive(backups, false);
    expect(before.backups.length).toBeGreaterThan(2);
    await back({ keep: 2 });
    const after = await inspectArchive(backups, true);
    expect(after.backups).toHaveLength(2);
    expect(after.verified!.segments).toBeGreaterThan(0);
    const archive = await Archive.open(backups);
    const bases = await archive.bases();
    expect(readdirSync(path.join(backups, 'base')).sort()).toEqual(
      bases.flatMap(({ name }) => [name, `${name}.json`]).sort(),
    );
    // Nothing was committed after it: the state at that time is the last one.
    const last = await entries();
    await restore({ to: new Date(after.backups.at(-1)!.until!) });
    expect(await entries()).toEqual(last);
  }, 60_000);

  it('is whole also when a segment was received to its end while it was looked at', async () => {
    const archive = await Archive.open(backups);
    const [last] = archive.segments().slice(-1);
    const listed = { ...last!, file: `${last!.file.replace(/\.partial$/, '')}.partial`, partial: true };
    await expect(checkSegments(archive, [listed], await archive.received())).resolves.toBeUndefined();
  });

  it('is refused for another server, and for a folder with other content', async () => {
    const identity = path.join(backups, 'remit-backup.json');
    const text = readFileSync(identity, 'utf8');
    writeFileSync(identity, text.replace(/"systemIdentifier":"\d+/, '"systemIdentifier":"1'));
    await expect(back()).rejects.toThrow('the backups of another PostgreSQL');
    writeFileSync(identity, text);
    await expect(
      backUpOnce(stack!.endpoints.postgres, { folder: dataDir, follow: false }, say),
    ).rejects.toThrow('has content, but no backups');
    await expect(inspectArchive(anyFolder('nothing'), false)).rejects.toThrow('has no backups');
    // One that receives the log, and has not made its first base backup yet: containers are not healthy then.
    await Archive.openFor(anyFolder('begun'), { systemIdentifier: '1', segmentBytes: 16_777_216 });
    expect(await runInspect(anyFolder('begun'), { verify: false, json: true }, say)).toBe(1);
    expect(await runInspect(backups, { verify: false, json: true }, say)).toBe(0);
  });

  // Last: what it damages stays so.
  it('is found to be damaged by its manifest, and by what its log says of itself', async () => {
    const archive = await Archive.open(backups);
    const base = (await archive.bases()).at(-1)!;
    const manifest = path.join(archive.baseFolder(base.name), 'backup_manifest');
    const text = readFileSync(manifest, 'utf8');
    writeFileSync(manifest, text.replace('"Size": ', '"Size": 1'));
    await expect(inspectArchive(backups, true)).rejects.toThrow('its manifest is damaged');
    writeFileSync(manifest, text);

    const segment = archive.segments().findLast(({ partial }) => !partial)!.file;
    const content = readFileSync(segment);
    const broken = Buffer.from(content);
    broken.writeBigUInt64LE(1n, 8);
    writeFileSync(segment, broken);
    await expect(inspectArchive(backups, true)).rejects.toThrow(`${segment} is damaged: its page at`);
    // One bit of one record: PostgreSQL would take it for the end of the log, and leave out all that came after.
    const rotten = Buffer.from(content);
    const firstRecord = 40 + Math.ceil(content.readUInt32LE(16) / 8) * 8;
    rotten[firstRecord + 26]! ^= 1;
    writeFileSync(segment, rotten);
    await expect(inspectArchive(backups, true)).rejects.toThrow(`${segment} is damaged: its record at`);
    await expect(
      runRestore(
        dataDir,
        {
          ...{ folder: backups, json: true, embedded },
          confirm: () => Promise.resolve(true),
          into: anyFolder('rotten'),
        },
        say,
      ),
    ).rejects.toThrow('its record at');
    truncateSync(segment, 1_000);
    await expect(inspectArchive(backups, true)).rejects.toThrow('has 1000 bytes');
    rmSync(segment);
    const { backups: listed } = await inspectArchive(backups, false);
    expect(listed.map(({ gap }) => gap)).toContain(path.basename(segment));
    writeFileSync(segment, content);

    const tar = path.join(archive.baseFolder(base.name), 'base.tar.gz');
    truncateSync(tar, 10_000);
    await expect(inspectArchive(backups, true)).rejects.toThrow(`the base backup ${base.name} is damaged`);
    await expect(
      runRestore(
        dataDir,
        {
          folder: backups,
          json: true,
          confirm: () => Promise.resolve(true),
          embedded,
          into: anyFolder('half'),
        },
        say,
      ),
    ).rejects.toThrow('is damaged');
    expect(readdirSync(anyFolder('half'))).toEqual([]);
  }, 60_000);
});
