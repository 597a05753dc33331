import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { rememberedProbe } from '../../../src/embedded/cache';
import { once } from '../../../src/embedded/downloads';
import { checkPrerequisites, thisMachine, type Machine } from '../../../src/embedded/prerequisites';

const bare: Machine = {
  platform: 'linux-x64',
  javaMajor: () => undefined,
  hasMaven: () => false,
  goVersion: () => undefined,
  needsKafkaJars: () => true,
  needsTestServerJars: () => true,
  needsTemporalBuild: () => true,
};

const message = (machine: Machine, parts: Parameters<typeof checkPrerequisites>[0]): string => {
  try {
    checkPrerequisites(parts, machine);
    return '';
  } catch (error) {
    return (error as Error).message;
  }
};

describe('prerequisites', () => {
  it('are all named at once, with the commands that bring them and the way without', () => {
    const text = message(bare, ['postgres', 'kafka', 'temporal', 'clickhouse']);
    expect(text).toContain('Java 17 or later: runs Kafka');
    expect(text).toContain('Maven: downloads Kafka, once');
    expect(text).toContain('Go 1.21 or later: builds the Temporal server, once');
    expect(text).toContain('sudo apt-get install -y openjdk-17-jre-headless maven golang-go');
    expect(text).toContain('brew install openjdk maven go');
    expect(text).toContain('docker compose up');
    expect(text).toContain('DATABASE_URL');
  });

  it('that are too old are told with what was found', () => {
    const text = message({ ...bare, javaMajor: () => 11, goVersion: () => [1, 19] }, ['kafka', 'temporal']);
    expect(text).toContain('Java 17 or later (found 11)');
    expect(text).toContain('Go 1.21 or later (found 1.19)');
  });

  it('are only those of the parts that are wanted', () => {
    expect(message(bare, ['postgres', 'clickhouse'])).toBe('');
    expect(message(bare, ['temporal'])).not.toContain('Java');
    expect(message(bare, ['test-server'])).toContain("the tests' time-skipping server");
  });

  it('of downloads are not asked for once the downloads are there', () => {
    const warm: Machine = {
      ...bare,
      javaMajor: () => 21,
      needsKafkaJars: () => false,
      needsTestServerJars: () => false,
      needsTemporalBuild: () => false,
    };
    expect(message(warm, ['postgres', 'kafka', 'temporal', 'clickhouse', 'test-server'])).toBe('');
  });

  it('include the platform', () => {
    const text = message({ ...bare, platform: 'win32-x64' }, ['postgres']);
    expect(text).toContain('this is win32-x64');
    expect(text).toContain('docker compose up');
  });

  it('are found all the same with a cache that can not be written, and downloads name it', async () => {
    // A file where a folder should be: as root, no folder is closed.
    const blocked = path.join(mkdtempSync(path.join(tmpdir(), 'remit-cache-test-')), 'file');
    writeFileSync(blocked, '');
    const before = process.env['XDG_CACHE_HOME'];
    process.env['XDG_CACHE_HOME'] = blocked;
    try {
      const executable = path.join(path.dirname(blocked), 'java');
      writeFileSync(executable, '');
      expect(rememberedProbe(executable, () => 'openjdk 17')).toBe('openjdk 17');
      expect(thisMachine().javaMajor()).toBeGreaterThanOrEqual(17);
      expect(() => checkPrerequisites(['kafka'], { ...thisMachine(), hasMaven: () => true })).not.toThrow();
      const job = once(
        'kafka',
        () => undefined,
        () => Promise.resolve(),
      );
      await expect(job).rejects.toThrow(/cache .*remit.* can't be written[\s\S]*XDG_CACHE_HOME/);
    } finally {
      if (before === undefined) delete process.env['XDG_CACHE_HOME'];
      else process.env['XDG_CACHE_HOME'] = before;
      rmSync(path.dirname(blocked), { recursive: true });
    }
  });
});
