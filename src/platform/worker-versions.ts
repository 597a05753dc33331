import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import { defaultPayloadConverter } from '@temporalio/common';
import type { WorkerOptions } from '@temporalio/worker';
import { VERSIONED_WORKERS } from '../contracts/workflows';
import type { Config } from './config';
import type { Logger } from './logging';
import { isNotFound, isUnimplemented } from './temporal';

/** All workers of an installation, of whatever task queue, are one deployment of its namespace. */
export const DEPLOYMENT_NAME = 'remit';
const BUILD_ID_CHARACTERS = 12;

/**
 * What a bundle of workflow code is called as a version of workers: a hash of the bundle. A release that changes no workflow code
 * is no new version, and needs no rollout.
 */
export async function buildIdOf(codePath: string): Promise<string> {
  const code = await readFile(codePath);
  return createHash('sha256').update(code).digest('hex').slice(0, BUILD_ID_CHARACTERS);
}

/** The workflow code of a worker, and what it says of its version; nothing of that where workers are not versioned. */
export async function versioningOf(
  { TEMPORAL_WORKER_VERSIONING: versioned }: Pick<Config, 'TEMPORAL_WORKER_VERSIONING'>,
  codePath: string,
  buildId: string,
): Promise<Pick<WorkerOptions, 'workflowBundle' | 'workerDeploymentOptions'>> {
  if (!versioned) return { workflowBundle: { codePath } };
  return {
    // On the first line, so that positions in stacks stay what they are.
    workflowBundle: { code: `globalThis.${VERSIONED_WORKERS} = true; ${await readFile(codePath, 'utf8')}` },
    workerDeploymentOptions: {
      version: { deploymentName: DEPLOYMENT_NAME, buildId },
      useWorkerVersioning: true,
      // Each workflow says for itself (workflows/index.ts); this is for one that would not.
      defaultVersioningBehavior: 'AUTO_UPGRADE',
    },
  };
}

export type VersionStatus = 'inactive' | 'current' | 'ramping' | 'draining' | 'drained' | 'unknown';

/** One version of the workers, as the server knows it. */
export interface WorkerVersion {
  buildId: string;
  status: VersionStatus;
  createdAt: string | null;
  /** Since when it is the current one; null when it is not. */
  currentSince: string | null;
  /** Workflows that run on it; null when Temporal does not say. */
  openWorkflows: number | null;
}

export interface Deployment {
  current: string | null;
  ramping: { buildId: string; percent: number } | null;
  /** The newest first. */
  versions: WorkerVersion[];
  /** Changes with each change of the routing: a change that is based on an older one is refused. */
  conflictToken: Uint8Array;
}

/** WorkerDeploymentVersionStatus of Temporal's API. */
const STATUSES: readonly VersionStatus[] = [
  'unknown',
  'inactive',
  'current',
  'ramping',
  'draining',
  'drained',
];

type Time = { seconds?: unknown; nanos?: number | null } | null | undefined;
const isoOf = (time: Time): string | null =>
  time?.seconds === undefined || time.seconds === null
    ? null
    : new Date(Number(time.seconds) * 1_000).toISOString();

/**
 * Reads the versions of remit's workers. Undefined when no versioned worker has ever polled in the namespace.
 * @throws what the client throws when Temporal does not answer; Error that says so when it knows no worker deployments.
 */
export async function readDeployment(client: Client): Promise<Deployment | undefined> {
  const { namespace } = client.options;
  const found = await client.workflowService
    .describeWorkerDeployment({ namespace, deploymentName: DEPLOYMENT_NAME })
    .catch((error: unknown) => {
      if (isNotFound(error)) return undefined;
      if (isUnimplemented(error))
        throw new Error('this Temporal server knows no worker deployments: 1.28 or newer is needed', {
          cause: error,
        });
      throw error;
    });
  const info = found?.workerDeploymentInfo;
  if (!found || !info) return undefined;
  const routing = info.routingConfig;
  const rampingTo = routing?.rampingDeploymentVersion?.buildId ?? null;
  const versions = await Promise.all(
    (info.versionSummaries ?? []).map(async (summary): Promise<WorkerVersion> => {
      const buildId = summary.deploymentVersion?.buildId ?? '';
      return {
        buildId,
        status: STATUSES[summary.status ?? 0] ?? 'unknown',
        createdAt: isoOf(summary.createTime),
        currentSince: isoOf(summary.currentSinceTime),
        openWorkflows: await openOn(client, buildId),
      };
    }),
  );
  return {
    current: routing?.currentDeploymentVersion?.buildId ?? null,
    ramping:
      rampingTo === null ? null : { buildId: rampingTo, percent: routing?.rampingVersionPercentage ?? 0 },
    versions: versions.sort((a, b) => (b.createdAt ?? '').localeCompare(a.createdAt ?? '')),
    conflictToken: found.conflictToken ?? new Uint8Array(),
  };
}

/** Workflows that run on a version, by the search attribute that the server keeps of it. */
async function openOn(client: Client, buildId: string): Promise<number | null> {
  const version = `${DEPLOYMENT_NAME}:${buildId}`;
  try {
    const { count } = await client.workflow.count(
      `TemporalWorkerDeploymentVersion = '${version}' AND ExecutionStatus = 'Running'`,
    );
    return count;
  } catch {
    return null;
  }
}

/** A poll is held for a minute by the server, and notes when it began. */
const POLLED_MS = 120_000;

/**
 * The task queues that a version's workers have served and that none of them polls now, each for workflows or activities. The
 * server routes to a version without workers as well, and everything that begins would wait.
 * @param nowMs milliseconds since 1970.
 */
export async function queuesWithoutWorkers(
  client: Client,
  buildId: string,
  nowMs = Date.now(),
): Promise<string[]> {
  const { namespace } = client.options;
  const version = await client.workflowService.describeWorkerDeploymentVersion({
    namespace,
    deploymentVersion: { deploymentName: DEPLOYMENT_NAME, buildId },
  });
  const silent = await Promise.all(
    (version.workerDeploymentVersionInfo?.taskQueueInfos ?? []).map(async ({ name, type }) => {
      const { pollers } = await client.workflowService.describeTaskQueue({
        namespace,
        taskQueue: { name: name ?? '' },
        taskQueueType: type ?? 0,
      });
      const polled = (pollers ?? []).some(
        ({ deploymentOptions, lastAccessTime }) =>
          deploymentOptions?.buildId === buildId &&
          nowMs - Number(lastAccessTime?.seconds ?? 0) * 1_000 < POLLED_MS,
      );
      return polled ? [] : [name ?? ''];
    }),
  );
  return [...new Set(silent.flat())].sort();
}

/** What both kinds of change of the routing need. */
interface RoutingChange {
  conflictToken: Uint8Array;
  /** Also to a version that lacks a task queue of the current one: what waits there goes on waiting. */
  force?: boolean;
}

/** Sends new workflows, and those that go over by themselves, to this version. */
export async function setCurrentVersion(
  client: Client,
  buildId: string,
  change: RoutingChange,
): Promise<void> {
  await client.workflowService.setWorkerDeploymentCurrentVersion({
    namespace: client.options.namespace,
    deploymentName: DEPLOYMENT_NAME,
    buildId,
    conflictToken: change.conflictToken,
    ignoreMissingTaskQueues: change.force ?? false,
    allowNoPollers: change.force ?? false,
  });
}

/** Sends this share of them to a version; 0 and no version ends a ramp. */
export async function setRampingVersion(
  client: Client,
  buildId: string | null,
  percent: number,
  change: RoutingChange,
): Promise<void> {
  await client.workflowService.setWorkerDeploymentRampingVersion({
    namespace: client.options.namespace,
    deploymentName: DEPLOYMENT_NAME,
    buildId: buildId ?? '',
    percentage: percent,
    conflictToken: change.conflictToken,
    ignoreMissingTaskQueues: change.force ?? false,
    allowNoPollers: change.force ?? false,
  });
}

/** What a version's metadata calls the one that was current before it. */
const BEFORE = 'remit-before';

/**
 * Notes on a version which one was current before it: what a rollback goes back to. @throws what the client throws; the routing
 * is as it was set then.
 */
export async function noteVersionBefore(client: Client, buildId: string, before: string): Promise<void> {
  await client.workflowService.updateWorkerDeploymentVersionMetadata({
    namespace: client.options.namespace,
    deploymentVersion: { deploymentName: DEPLOYMENT_NAME, buildId },
    upsertEntries: { [BEFORE]: defaultPayloadConverter.toPayload(before) },
    identity: 'remit',
  });
}

/** Which version was current before this one became so; undefined when none was. */
export async function versionBefore(client: Client, buildId: string): Promise<string | undefined> {
  const { workerDeploymentVersionInfo: info } = await client.workflowService.describeWorkerDeploymentVersion({
    namespace: client.options.namespace,
    deploymentVersion: { deploymentName: DEPLOYMENT_NAME, buildId },
  });
  const payload = info?.metadata?.entries?.[BEFORE];
  return payload ? defaultPayloadConverter.fromPayload<string>(payload) : undefined;
}

const FIRST_TRIES = 60;
const FIRST_PAUSE_MS = 1_000;

/**
 * Makes this version the current one when no other is: the first workers of an installation would wait for an operator
 * otherwise. Never touches a routing that exists. @returns whether it did.
 */
export async function becomeFirstVersion(
  client: Client,
  buildId: string,
  log: Logger,
  signal: { readonly isStopping: boolean },
): Promise<boolean> {
  for (let attempt = 1; attempt <= FIRST_TRIES && !signal.isStopping; attempt++) {
    try {
      const deployment = await readDeployment(client);
      if (deployment && (deployment.current !== null || deployment.ramping !== null)) return false;
      // The server learns of a version by its workers' first polls.
      if (deployment?.versions.some((version) => version.buildId === buildId)) {
        await setCurrentVersion(client, buildId, { ...deployment, force: true });
        log.info({ buildId }, 'the first version of the workers is the current one');
        return true;
      }
    } catch (error) {
      log.debug({ err: error, buildId }, 'the version of the workers could not be made the current one yet');
    }
    await sleep(FIRST_PAUSE_MS);
  }
  if (!signal.isStopping)
    log.error(
      { buildId },
      'no version of the workers is current: nothing runs until `remit rollout promote`',
    );
  return false;
}
