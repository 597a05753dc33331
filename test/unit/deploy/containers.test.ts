import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { MADE_IMAGES, NOT_MADE } from '../../../scripts/lib/containers/base-images';
import { runWithProgress } from '../../../src/embedded/progress';
import { PROJECT, readCompose, readText } from './project-files';

const services = Object.entries(readCompose().services);

describe('the images that are made where no registry can be reached', () => {
  it('are one for each service, but for those that no other waits for', () => {
    const made = new Set([...Object.keys(MADE_IMAGES), 'REMIT_IMAGE']);
    const notMade = services
      .filter(([, { image }]) => !made.has(/^\$\{([A-Z_]+)/.exec(image)![1]!))
      .map(([name]) => name);
    expect(notMade.sort()).toEqual([...NOT_MADE].sort());
    const waitedFor = services.flatMap(([, { depends_on }]) => Object.keys(depends_on ?? {}));
    expect(notMade.filter((name) => waitedFor.includes(name))).toEqual([]);
  });

  it('are the targets of their Dockerfile', () => {
    const targets = [...readText('scripts/containers/Dockerfile').matchAll(/^FROM .* AS (\S+)$/gm)];
    expect(targets.map(([, name]) => `${name!.toUpperCase().replaceAll('-', '_')}_IMAGE`).sort()).toEqual(
      Object.keys(MADE_IMAGES).sort(),
    );
  });
});

describe('the start of the Kafka image that is made', () => {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'remit-kafka-run-'));
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  /** @param formatting what the wrapper says, and fails with. */
  const start = (formatting: string) =>
    new Promise<{ code: number; output: string }>((resolve) => {
      const java = `#!/bin/sh\ncase "$*" in *KafkaDockerWrapper*) echo '${formatting}'; exit 1 ;; *) echo 'the broker runs' ;; esac\n`;
      writeFileSync(path.join(dir, 'java'), java, { mode: 0o755 });
      execFile(
        'sh',
        [path.join(PROJECT, 'scripts/containers/kafka-run.sh')],
        { env: { PATH: `${dir}:${process.env['PATH']}` } },
        (error, stdout, stderr) => resolve({ code: error ? Number(error.code) : 0, output: stdout + stderr }),
      );
    });

  it('goes on with a folder that an earlier start has formatted', async () => {
    expect(
      await start('Log directory /var/lib/kafka/data is already formatted. Use --ignore-formatted'),
    ).toEqual({
      code: 0,
      output: 'the broker runs\n',
    });
  });

  it('ends, and says why, when the settings can not be made', async () => {
    expect(await start('No such setting')).toEqual({ code: 1, output: 'No such setting\n' });
  });
});

describe('a command that takes long', () => {
  it('is ended after what it may take at most, and the error says so', async () => {
    const args = ['-e', 'setInterval(() => {}, 1000)'];
    await expect(
      runWithProgress(process.execPath, args, { title: 'compose up', maxMs: 300, report: () => undefined }),
    ).rejects.toThrow(/^compose up failed \(.* was ended by SIGTERM after \d+ s\)/);
  });
});
