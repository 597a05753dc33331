import { execFileSync } from 'node:child_process';
import { findExecutable, rememberedProbe } from './cache';
import { findJava } from './java';
import { KAFKA_JARS } from './kafka';
import { haveJars } from './maven';
import { findTemporalCli } from './temporal-cli';
import { EmbeddedError, type EmbeddedPart } from './types';

const JAVA_MINIMUM = 17;
/** From 1.21 on, Go fetches by itself the newer toolchain that the module asks for. */
const GO_MINIMUM: readonly [number, number] = [1, 21];
const PLATFORMS = ['linux-x64', 'linux-arm64', 'darwin-x64', 'darwin-arm64'];

interface Missing {
  what: string;
  why: string;
  debian: string;
  macos: string;
}

/** What to look at: replaceable, so that the message can be tested on a machine that has everything. */
export interface Machine {
  platform: string;
  javaMajor(): number | undefined;
  hasMaven(): boolean;
  goVersion(): readonly [number, number] | undefined;
  needsKafkaJars(): boolean;
  needsTestServerJars(): boolean;
  needsTemporalBuild(): boolean;
}

/**
 * Names everything that is missing at once, before any download begins. Throws an EmbeddedError that says how
 * to get it, and what else can be done.
 */
export function checkPrerequisites(parts: readonly (EmbeddedPart | 'test-server')[], machine: Machine): void {
  if (!PLATFORMS.includes(machine.platform)) {
    throw new EmbeddedError(
      `The embedded stack runs on Linux and macOS, x64 and arm64; this is ${machine.platform}.\n${ALTERNATIVES}`,
    );
  }
  const missing = [...missingJava(parts, machine), ...missingGo(parts, machine)];
  if (missing.length === 0) return;
  throw new EmbeddedError(
    [
      'The embedded stack needs programs that are not on this machine:',
      '',
      ...missing.map(({ what, why }) => `  - ${what}: ${why}`),
      '',
      `Debian, Ubuntu:  sudo apt-get install -y ${missing.map(({ debian }) => debian).join(' ')}`,
      `macOS:           brew install ${missing.map(({ macos }) => macos).join(' ')}`,
      ...(missing.some(({ what }) => what.startsWith('Go')) ? ['', GO_HINT] : []),
      '',
      ALTERNATIVES,
    ].join('\n'),
  );
}

const ALTERNATIVES =
  'Without them: `docker compose up` runs everything in Docker; or set DATABASE_URL, KAFKA_BROKERS, TEMPORAL_ADDRESS and CLICKHOUSE_URL to servers that run elsewhere (each one that is set needs no embedded part).';
const GO_HINT =
  'Instead of Go, an installed Temporal CLI will do (https://docs.temporal.io/cli, macOS: brew install temporal).';

function missingJava(parts: readonly string[], machine: Machine): Missing[] {
  const missing: Missing[] = [];
  const kafka = parts.includes('kafka');
  const testServer = parts.includes('test-server');
  if (!kafka && !testServer) return missing;
  const why = [...(kafka ? ['Kafka'] : []), ...(testServer ? ["the tests' time-skipping server"] : [])].join(
    ' and ',
  );
  const major = machine.javaMajor();
  if (major === undefined || major < JAVA_MINIMUM) {
    const found = major === undefined ? '' : ` (found ${major})`;
    missing.push({
      what: `Java ${JAVA_MINIMUM} or later${found}`,
      why: `runs ${why}`,
      debian: 'openjdk-17-jre-headless',
      macos: 'openjdk',
    });
  }
  const needsMaven = (kafka && machine.needsKafkaJars()) || (testServer && machine.needsTestServerJars());
  if (needsMaven && !machine.hasMaven()) {
    missing.push({ what: 'Maven', why: `downloads ${why}, once`, debian: 'maven', macos: 'maven' });
  }
  return missing;
}

function missingGo(parts: readonly string[], machine: Machine): Missing[] {
  if (!parts.includes('temporal') || !machine.needsTemporalBuild()) return [];
  const version = machine.goVersion();
  const [major, minor] = GO_MINIMUM;
  if (version !== undefined && (version[0] > major || (version[0] === major && version[1] >= minor)))
    return [];
  const found = version === undefined ? '' : ` (found ${version.join('.')})`;
  return [
    {
      what: `Go ${major}.${minor} or later${found}`,
      why: 'builds the Temporal server, once',
      debian: 'golang-go',
      macos: 'go',
    },
  ];
}

/** This machine. `needsTestServerJars` is given by the caller, who knows whether the tests will run. */
export function thisMachine(needsTestServerJars: () => boolean = () => false): Machine {
  return {
    platform: `${process.platform}-${process.arch}`,
    javaMajor: () => findJava()?.major,
    hasMaven: () => findExecutable('mvn') !== undefined,
    goVersion,
    needsKafkaJars: () => !haveJars(KAFKA_JARS),
    needsTestServerJars,
    needsTemporalBuild: () => findTemporalCli() === undefined,
  };
}

function goVersion(): readonly [number, number] | undefined {
  const go = findExecutable('go');
  if (go === undefined) return undefined;
  try {
    const text = rememberedProbe(go, () => execFileSync(go, ['version'], { encoding: 'utf8' }));
    const [, major, minor] = /go(\d+)\.(\d+)/.exec(text) ?? [];
    return major === undefined || minor === undefined ? undefined : [Number(major), Number(minor)];
  } catch {
    return undefined;
  }
}
