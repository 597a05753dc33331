import { execFileSync } from 'node:child_process';
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { findExecutable } from '../../../src/embedded/cache';
import { containerTool, ensureKafkaTools, KAFKA_TOOLS } from '../../../src/embedded/container-tools';
import { ensureDownloads } from '../../../src/embedded/downloads';
import { KAFKA_JARS } from '../../../src/embedded/kafka';
import { jarSetDir } from '../../../src/embedded/maven';
import { postgresNativeDir } from '../../../src/embedded/postgres';
import { runWithProgress } from '../../../src/embedded/progress';
import { findTemporalCli } from '../../../src/embedded/temporal-cli';
import { PROJECT_ROOT } from '../../../src/platform/project';
import type { Engine } from './engine';

/** Of the image that the Dockerfile names. */
const [, NODE_VERSION = '', DEBIAN = ''] =
  /^ARG NODE_IMAGE=node:([\d.]+)-(\w+)-slim/m.exec(
    readFileSync(path.join(PROJECT_ROOT, 'Dockerfile'), 'utf8'),
  ) ?? [];
const NPM_VERSION = '11.21.2';
/** What npm's own files name `linux-x64`. */
const NODE_PACKAGE = `node-linux-${process.arch}`;
const FILES = path.join(PROJECT_ROOT, 'scripts', 'containers');
/** As in Debian's own slim images: no caches, translations, manuals. */
const APT_SETTINGS = `Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::Languages "none";
APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb"; };
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb"; };
`;
const DPKG_SETTINGS = `path-exclude /usr/share/doc/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
`;
const REGISTRY = 'https://registry-1.docker.io/v2/';
const base = (name: string) => `localhost/remit-base/${name}`;
const DEBIAN_IMAGE = base(`debian:${DEBIAN}`);

export const REMIT_IMAGE = 'localhost/remit:containers';

/** The variables of docker-compose.yml by which the images that are made here are taken. */
export const MADE_IMAGES = {
  NODE_IMAGE: base(`node:${NODE_VERSION}`),
  POSTGRES_IMAGE: base('postgres:18'),
  KAFKA_IMAGE: base('kafka:4.1.0'),
  TEMPORAL_IMAGE: base('temporal:1.31.0'),
  TEMPORAL_ADMIN_TOOLS_IMAGE: base('temporal-admin-tools:1.31.0'),
  CLICKHOUSE_IMAGE: base('clickhouse:chdb'),
  PROMETHEUS_IMAGE: base('prometheus:debian'),
  ALERTMANAGER_IMAGE: base('alertmanager:debian'),
} as const;

/** Services whose images can't be made from package registries, and on which no other depends. */
export const NOT_MADE: readonly string[] = ['kafka-ui', 'temporal-ui', 'grafana'];

/** Whether images can be pulled: any answer of Docker Hub is one. */
export async function registryAnswers(): Promise<boolean> {
  try {
    await fetch(REGISTRY, { signal: AbortSignal.timeout(8_000) });
    return true;
  } catch {
    return false;
  }
}

/** Builds remit's own image, from the repository's Dockerfile as it is. */
export async function buildRemit(engine: Engine, nodeImage?: string): Promise<void> {
  const args = nodeImage === undefined ? [] : ['--build-arg', `NODE_IMAGE=${nodeImage}`];
  await engine.build('remit', [...args, '--tag', REMIT_IMAGE, PROJECT_ROOT]);
}

/**
 * Makes every image that docker-compose.yml needs, remit's own among them. What has been made before and would come out the
 * same is taken from the engine's cache.
 * @param dir where files for the builds are collected; about 2 GB at most, removed after each build
 */
export async function makeImages(engine: Engine, dir: string, report: (line: string) => void): Promise<void> {
  checkPrograms();
  await makeDebian(engine, dir, report);
  const make = async (
    target: string,
    variable: keyof typeof MADE_IMAGES,
    collect: (to: string) => Promise<void>,
  ): Promise<void> => {
    const context = path.join(dir, target);
    rmSync(context, { recursive: true, force: true });
    mkdirSync(context, { recursive: true });
    try {
      await collect(context);
      const args = ['--file', path.join(FILES, 'Dockerfile'), '--target', target];
      await engine.build(target, [
        ...args,
        ...['--build-arg', `DEBIAN_IMAGE=${DEBIAN_IMAGE}`, '--build-arg', `REMIT_IMAGE=${REMIT_IMAGE}`],
        ...['--tag', MADE_IMAGES[variable], context],
      ]);
      report(`${target}: ${MADE_IMAGES[variable]}`);
    } finally {
      rmSync(context, { recursive: true, force: true });
    }
  };
  const own = (to: string, ...files: string[]) => {
    for (const file of files) copyFileSync(path.join(FILES, file), path.join(to, file));
  };

  await make('node', 'NODE_IMAGE', (to) => collectNode(to, report));
  await buildRemit(engine, MADE_IMAGES.NODE_IMAGE);
  await make('postgres', 'POSTGRES_IMAGE', (to) => {
    own(to, 'postgres-entrypoint.sh');
    copy(postgresNativeDir(), path.join(to, 'postgresql'));
    return Promise.resolve();
  });
  await make('kafka', 'KAFKA_IMAGE', async (to) => {
    await ensureDownloads(['kafka'], report);
    await ensureKafkaTools(report);
    own(to, 'kafka-run.sh', 'kafka-topics.sh', 'kafka-log4j2.yaml');
    for (const jars of [KAFKA_JARS, KAFKA_TOOLS])
      copy(path.join(jarSetDir(jars), 'libs'), path.join(to, 'libs'));
  });
  await make('temporal', 'TEMPORAL_IMAGE', async (to) => {
    own(to, 'temporal-entrypoint.sh');
    copyFileSync(await containerTool('temporalServer', report), path.join(to, 'temporal-server'));
  });
  await make('temporal-admin-tools', 'TEMPORAL_ADMIN_TOOLS_IMAGE', async (to) => {
    await ensureDownloads(['temporal'], report);
    copyFileSync(findTemporalCli()!, path.join(to, 'temporal'));
    copyFileSync(await containerTool('temporalSqlTool', report), path.join(to, 'temporal-sql-tool'));
    copy(path.join(goModule('go.temporal.io/server'), 'schema'), path.join(to, 'schema'));
  });
  await make('clickhouse', 'CLICKHOUSE_IMAGE', (to) => {
    copy(path.join(PROJECT_ROOT, 'dist', 'embedded'), path.join(to, 'embedded'));
    for (const name of ['chdb', '@chdb', 'node-addon-api', 'node-gyp-build'])
      copy(path.join(PROJECT_ROOT, 'node_modules', name), path.join(to, 'node_modules', name));
    return Promise.resolve();
  });
  await make('prometheus', 'PROMETHEUS_IMAGE', () => Promise.resolve());
  await make('alertmanager', 'ALERTMANAGER_IMAGE', () => Promise.resolve());
}

/** Debian, from its packages. */
async function makeDebian(engine: Engine, dir: string, report: (line: string) => void): Promise<void> {
  if (await engine.has(DEBIAN_IMAGE)) return;
  const root = path.join(dir, DEBIAN);
  const archive = `${root}.tar`;
  rmSync(root, { recursive: true, force: true });
  try {
    await runWithProgress(
      'debootstrap',
      ['--variant=minbase', DEBIAN, root, 'http://deb.debian.org/debian'],
      { title: `Debian ${DEBIAN}`, status: (line) => line.slice(0, 80), report },
    );
    for (const rest of [
      'var/cache/apt/archives',
      'var/lib/apt/lists',
      'usr/share/doc',
      'usr/share/locale',
      'usr/share/man',
    ])
      rmSync(path.join(root, rest), { recursive: true, force: true });
    writeFileSync(path.join(root, 'etc', 'apt', 'apt.conf.d', 'image'), APT_SETTINGS);
    writeFileSync(path.join(root, 'etc', 'dpkg', 'dpkg.cfg.d', 'image'), DPKG_SETTINGS);
    await runWithProgress('tar', ['-C', root, '--numeric-owner', '-cf', archive, '.'], {
      title: 'tar',
      report,
    });
    await engine.work(`Debian ${DEBIAN}`, ['import', archive, DEBIAN_IMAGE]);
    report(`debian: ${DEBIAN_IMAGE}`);
  } finally {
    rmSync(root, { recursive: true, force: true });
    rmSync(archive, { force: true });
  }
}

async function collectNode(to: string, report: (line: string) => void): Promise<void> {
  const prefix = path.join(to, 'npm-install');
  mkdirSync(prefix);
  await runWithProgress(
    'npm',
    ['install', '--prefix', prefix, '--no-save', '--no-audit', '--no-fund', '--ignore-scripts',
     `${NODE_PACKAGE}@${NODE_VERSION}`, `npm@${NPM_VERSION}`], // prettier-ignore
    { title: `Node.js ${NODE_VERSION}`, report },
  );
  copyFileSync(path.join(prefix, 'node_modules', NODE_PACKAGE, 'bin', 'node'), path.join(to, 'node'));
  copy(path.join(prefix, 'node_modules', 'npm'), path.join(to, 'npm'));
  rmSync(prefix, { recursive: true });
  copyFileSync('/etc/ssl/certs/ca-certificates.crt', path.join(to, 'certificates.pem'));
}

const copy = (from: string, to: string) => cpSync(from, to, { recursive: true, verbatimSymlinks: true });

/** Folder of a module that a build has downloaded. */
function goModule(name: string): string {
  const cwd = path.join(PROJECT_ROOT, 'src', 'embedded', 'temporal-images');
  const env = { ...process.env, GOWORK: 'off', GOFLAGS: '-mod=readonly' };
  return execFileSync('go', ['list', '-m', '-f', '{{.Dir}}', name], { cwd, env, encoding: 'utf8' }).trim();
}

/** @throws Error that names every missing program and how Debian brings it. */
function checkPrograms(): void {
  const missing = ['debootstrap', 'tar', 'go', 'java', 'mvn', 'npm'].filter(
    (name) => findExecutable(name) === undefined && !existsSync(`/usr/sbin/${name}`),
  );
  if (missing.length > 0)
    throw new Error(
      `To make images here, ${missing.join(', ')} must be installed (on Debian: debootstrap, golang, openjdk-17-jre-headless, maven).`,
    );
  if (process.getuid?.() !== 0)
    throw new Error('debootstrap has to be root: run it as root, or where images can be pulled.');
  if (!existsSync('/etc/ssl/certs/ca-certificates.crt'))
    throw new Error('There are no certificates in /etc/ssl/certs: apt-get install ca-certificates.');
}
