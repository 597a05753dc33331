import { existsSync } from 'node:fs';
import { findExecutable } from './cache';
import { once } from './downloads';
import { builtGoCommand, ensureGoCommand, type GoCommand } from './go-build';
import { ensureJars, type JarSet } from './maven';
import { EmbeddedError } from './types';

/**
 * What scripts/containers.ts builds where it can't be pulled or installed, and what test/nightly/release.test.ts publishes with and to;
 * nothing else of remit needs it.
 */
const TEMPORAL = {
  asset: 'temporal-images',
  version: '1.31.0',
  folder: 'temporal-server',
  takes: 'two to five minutes',
  linkerFlags: '-s -w',
};
const SIGSTORE = { asset: 'sigstore', takes: 'one to three minutes', linkerFlags: '-s -w' };
const COMMANDS = {
  compose: {
    asset: 'compose',
    package: 'github.com/docker/compose/v2/cmd',
    version: '2.40.3',
    executable: 'docker-compose',
    folder: 'docker-compose',
    title: 'Docker Compose',
    progressTitle: 'Docker Compose',
    takes: 'two to five minutes',
    linkerFlags: '-s -w -X github.com/docker/compose/v2/internal.Version=v2.40.3',
  },
  temporalServer: {
    ...TEMPORAL,
    package: 'go.temporal.io/server/cmd/server',
    executable: 'temporal-server',
    title: 'Temporal server',
    progressTitle: 'Temporal server',
  },
  temporalSqlTool: {
    ...TEMPORAL,
    package: 'go.temporal.io/server/cmd/tools/sql',
    executable: 'temporal-sql-tool',
    folder: 'temporal-sql-tool',
    title: 'temporal-sql-tool',
    progressTitle: 'temporal-sql-tool',
  },
  syft: {
    asset: 'syft',
    package: 'github.com/anchore/syft/cmd/syft',
    version: '1.57.1',
    executable: 'syft',
    folder: 'syft',
    title: 'Syft',
    progressTitle: 'Syft',
    takes: 'three to six minutes',
    linkerFlags: '-s -w -X main.version=1.57.1',
  },
  cosign: {
    asset: 'cosign',
    package: 'github.com/sigstore/cosign/v3/cmd/cosign',
    version: '3.1.3',
    executable: 'cosign',
    folder: 'cosign',
    title: 'cosign',
    progressTitle: 'cosign',
    takes: 'two to six minutes',
    linkerFlags: '-s -w -X sigs.k8s.io/release-utils/version.gitVersion=v3.1.3',
  },
  fulcio: {
    ...SIGSTORE,
    package: 'github.com/sigstore/fulcio',
    version: '1.8.8',
    executable: 'fulcio',
    folder: 'fulcio',
    title: 'Fulcio',
    progressTitle: 'Fulcio',
  },
  timestampServer: {
    ...SIGSTORE,
    package: 'github.com/sigstore/timestamp-authority/v2/cmd/timestamp-server',
    version: '2.1.2',
    executable: 'timestamp-server',
    folder: 'timestamp-server',
    title: 'Sigstore timestamp server',
    progressTitle: 'Sigstore timestamp server',
  },
  registry: {
    asset: 'registry',
    package: 'github.com/distribution/distribution/v3/cmd/registry',
    version: '3.1.2',
    executable: 'registry',
    folder: 'registry',
    title: 'Registry of images',
    progressTitle: 'Registry of images',
    takes: 'one to two minutes',
    linkerFlags: '-s -w -X github.com/distribution/distribution/v3/version.version=v3.1.2',
  },
} as const satisfies Record<string, GoCommand>;

/** `kafka-topics.sh` needs one jar more than the broker. */
export const KAFKA_TOOLS: JarSet = { asset: 'kafka-tools', version: '4.1.0', title: 'Kafka tools' };

/**
 * The command built by us; builds it when it is not there.
 * @throws EmbeddedError without Go, and when the build fails.
 */
export async function containerTool(
  name: keyof typeof COMMANDS,
  report: (line: string) => void,
): Promise<string> {
  const command: GoCommand = COMMANDS[name];
  const built = builtGoCommand(command);
  if (existsSync(built)) return built;
  if (findExecutable('go') === undefined)
    throw new EmbeddedError(
      `${command.title} has to be built, and there is no Go: install Go 1.25 or later (https://go.dev/dl).`,
    );
  await once(command.folder, report, () => ensureGoCommand(command, report));
  return built;
}

export const ensureKafkaTools = (report: (line: string) => void): Promise<void> =>
  once('kafka-tools', report, () => ensureJars(KAFKA_TOOLS, report));
