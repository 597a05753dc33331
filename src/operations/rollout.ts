import path from 'node:path';
import { ServiceError, type Client, type Connection } from '@temporalio/client';
import {
  buildIdOf,
  DEPLOYMENT_NAME,
  noteVersionBefore,
  queuesWithoutWorkers,
  readDeployment,
  setCurrentVersion,
  setRampingVersion,
  versionBefore,
  type Deployment,
} from '../platform/worker-versions';
import { workflowBundlePath } from '../platform/build-workflow-bundle';
import { createTable } from '../platform/table';
import { checkTemporal, connectTemporal, messageOfTemporal, whyNoTemporal } from '../platform/temporal';
import type { Config } from '../platform/config';
import { localAccess } from './local-access';

type Say = (line: string) => void;

/** How `remit rollout …` is called. */
export interface RolloutCommand {
  json?: boolean;
  /** The version that is meant; that of this installation of remit when left out. */
  build?: string;
  force?: boolean;
}

/**
 * A client of the installation's Temporal. @throws Error with what to do when none is known, it does not answer, or has no such
 * namespace; with what the server said when it refuses something.
 */
export async function withTemporal<T>(
  dataDir: string,
  run: (client: Client, config: Config) => Promise<T>,
): Promise<T> {
  const { endpoints, config } = await localAccess(path.join(dataDir, 'endpoints.json'));
  const address = config.TEMPORAL_ADDRESS ?? endpoints.temporal;
  if (!address)
    throw new Error('no Temporal is known: start remit first (npm start), or set TEMPORAL_ADDRESS');
  const reachable = { ...config, TEMPORAL_ADDRESS: address };
  const refused = (error: unknown): never => {
    throw new Error(whyNoTemporal(error, reachable), { cause: error });
  };
  const client = await connectTemporal(reachable).catch(refused);
  try {
    await checkTemporal(client).catch(refused);
    return await run(client, config).catch((error: unknown) => {
      throw error instanceof ServiceError ? new Error(messageOfTemporal(error), { cause: error }) : error;
    });
  } finally {
    await (client.connection as Connection).close();
  }
}

/** @throws Error when no versioned worker has polled. */
async function requireDeployment(client: Client): Promise<Deployment> {
  const deployment = await readDeployment(client);
  if (deployment) return deployment;
  throw new Error(
    `no versioned worker has polled in the namespace ${client.options.namespace}: set TEMPORAL_WORKER_VERSIONING=true for the workers (docs/rollouts.md)`,
  );
}

const chosen = async (build: string | undefined): Promise<string> =>
  build ?? buildIdOf(await workflowBundlePath());

/** @throws Error when no versioned worker has polled, or none of the version that is chosen. */
async function requireVersion(
  client: Client,
  build: string | undefined,
): Promise<{ deployment: Deployment; buildId: string }> {
  const deployment = await requireDeployment(client);
  const buildId = await chosen(build);
  if (deployment.versions.some((version) => version.buildId === buildId)) return { deployment, buildId };
  const known = deployment.versions.map((version) => version.buildId).join(', ');
  throw new Error(`no worker of the version ${buildId} has polled; known are ${known}`);
}

/** @throws Error when no worker of the version polls a task queue that they have polled, unless that is meant. */
async function requireWorkers(client: Client, buildId: string, force: boolean, nowMs: number): Promise<void> {
  const silent = force ? [] : await queuesWithoutWorkers(client, buildId, nowMs);
  if (silent.length > 0)
    throw new Error(
      `no worker of the version ${buildId} polls ${silent.join(', ')} now: what begins would wait. Start its workers first, or add --force`,
    );
}

/** `remit rollout status`. */
export async function rolloutStatus(client: Client, { json }: RolloutCommand, say: Say): Promise<void> {
  const { conflictToken: _, ...deployment } = await requireDeployment(client);
  const here = await chosen(undefined);
  const versions = await Promise.all(
    deployment.versions.map(async (version) => ({
      ...version,
      // There may be a hundred former ones, and nobody needs their workers.
      queuesWithoutWorkers:
        version.status === 'drained' ? [] : await queuesWithoutWorkers(client, version.buildId),
    })),
  );
  if (json) return say(JSON.stringify({ deployment: DEPLOYMENT_NAME, here, ...deployment, versions }));
  const table = createTable([
    ...['version', 'status', 'share', 'no worker polls', 'open workflows', 'first seen', 'current since'],
  ]);
  for (const version of versions) {
    const { buildId, status, openWorkflows, createdAt, currentSince } = version;
    table.push([
      buildId === here ? `${buildId} (this remit)` : buildId,
      status,
      shareOf(deployment, buildId),
      version.queuesWithoutWorkers.join('\n'),
      openWorkflows ?? '?',
      createdAt ?? '',
      currentSince ?? '',
    ]);
  }
  say(table.toString());
}

function shareOf({ current, ramping }: Pick<Deployment, 'current' | 'ramping'>, buildId: string): string {
  if (ramping?.buildId === buildId) return `${ramping.percent} %`;
  return current === buildId ? `${100 - (ramping?.percent ?? 0)} %` : '';
}

/** `remit rollout ramp`: sends a share of what begins to a version. Idempotent. @throws Error when it has no workers. */
export async function rolloutRamp(
  client: Client,
  percent: number,
  { build, force = false }: RolloutCommand,
  say: Say,
  nowMs = Date.now(),
): Promise<void> {
  const { deployment, buildId } = await requireVersion(client, build);
  if (deployment.current === buildId)
    throw new Error(`${buildId} is the current version: it has what does not ramp elsewhere`);
  await requireWorkers(client, buildId, force || percent === 0, nowMs);
  await setRampingVersion(client, buildId, percent, { ...deployment, force });
  sayWhatEnded(deployment, buildId, say);
  say(
    `${percent} % of new workflows go to ${buildId}, the others to ${deployment.current ?? 'unversioned workers'}`,
  );
}

/** A deployment has one ramp: another one takes its place. */
function sayWhatEnded({ ramping }: Deployment, buildId: string, say: Say): void {
  if (ramping && ramping.buildId !== buildId)
    say(`the ramp of ${ramping.buildId} (${ramping.percent} %) has ended`);
}

/** `remit rollout promote`: sends everything new to a version, also what ramps to another one. Idempotent. */
export async function rolloutPromote(
  client: Client,
  { build, force = false }: RolloutCommand,
  say: Say,
  nowMs = Date.now(),
): Promise<void> {
  const { deployment, buildId } = await requireVersion(client, build);
  const { current } = deployment;
  if (current !== buildId) {
    await requireWorkers(client, buildId, force, nowMs);
    // Before, so that no crash leaves a version that can't be rolled back.
    if (current !== null) await noteVersionBefore(client, buildId, current);
    await setCurrentVersion(client, buildId, { ...deployment, force });
  }
  // The server ends the ramp of the version itself, and leaves that of another one: it would go on taking its share.
  const now = await requireDeployment(client);
  if (now.ramping) await setRampingVersion(client, null, 0, now);
  sayWhatEnded(deployment, buildId, say);
  say(
    `${buildId} is the current version. Workers of the others have to run until they are drained (remit rollout status)`,
  );
}

/**
 * `remit rollout rollback`: ends a ramp; where there is none, the version that was current before is so again.
 * @throws Error when there is nothing to go back to.
 */
export async function rolloutRollback(
  client: Client,
  { force = false }: RolloutCommand,
  say: Say,
  nowMs = Date.now(),
): Promise<void> {
  const deployment = await requireDeployment(client);
  const { current, ramping } = deployment;
  if (ramping) {
    await setRampingVersion(client, null, 0, deployment);
    return say(
      `${ramping.buildId} gets no new workflows any more; all go to ${current ?? 'unversioned workers'}`,
    );
  }
  const before = current === null ? undefined : await versionBefore(client, current);
  if (before === undefined) throw new Error('no version was current before this one');
  await requireWorkers(client, before, force, nowMs);
  await setCurrentVersion(client, before, { ...deployment, force });
  say(
    `${before} is the current version again. What began on ${current} and is pinned ends there: leave its workers running`,
  );
}
