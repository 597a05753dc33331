import type { Config } from '../platform/config';
import { startOpsServer } from '../platform/ops-server';
import { Lifecycle } from '../platform/lifecycle';
import { createLogger, type Logger } from '../platform/logging';
import { NO_TRACES, startTracing, stopTracing } from '../platform/tracing';
import { createRoleContext, type RoleContext } from './context';
import { StoppedWhileWaiting } from './when-there';
import { startLocalStack, type LocalStack, type LocalStackOptions } from './local-stack';

export const ROLES = ['api', 'bridge', 'worker', 'relay', 'ingest'] as const;
export type Role = (typeof ROLES)[number];

/** Each role is loaded when it is started: the API has no use for Temporal's native worker, nor the relay for Express. */
const START: Record<Role, (context: RoleContext) => Promise<unknown>> = {
  api: async (context) => (await import('./api.js')).startApi(context),
  bridge: async (context) => (await import('./bridge.js')).startBridge(context),
  worker: async (context) => (await import('./worker.js')).startWorker(context),
  relay: async (context) => (await import('./relay.js')).startRelay(context),
  ingest: async (context) => (await import('./ingest.js')).startIngest(context),
};

export interface LocalRemit extends LocalStack {
  context: RoleContext;
  log: Logger;
  lifecycle: Lifecycle;
}

/**
 * The whole of remit in this process on a local stack: parts, migrations, then the given roles behind one ops server.
 * Everything stops through the lifecycle, the embedded parts last.
 */
export async function startLocalRemit(
  options: LocalStackOptions & {
    roles?: readonly Role[];
    /** What has to be done when servers and schemas are there, and before any role works. */
    beforeRoles?: (config: Config, log: Logger) => Promise<unknown>;
  },
): Promise<LocalRemit> {
  const stack = await startLocalStack(options);
  await startTracing(stack.config, 'remit', (error) => log.warn({ err: error }, NO_TRACES));
  const log: Logger = createLogger(stack.config, 'start');
  const lifecycle = new Lifecycle(log, stack.config.SHUTDOWN_TIMEOUT_MS);
  lifecycle.onStop('close', 'traces', stopTracing);
  lifecycle.onStop('parts', 'embedded stack', () => stack.stop());
  try {
    options.report('migrating PostgreSQL, Kafka, Temporal and ClickHouse');
    await (await import('./migrate.js')).migrate(stack.config, log);
    await options.beforeRoles?.(stack.config, log);
    const context = createRoleContext(stack.config, log, lifecycle);
    options.report(`starting ${(options.roles ?? ROLES).join(', ')}`);
    await startOpsServer(stack.config, lifecycle);
    for (const role of options.roles ?? ROLES) await started(role, lifecycle, START[role](context));
    void stack.embedded?.exited.then(({ part, code }) => {
      if (lifecycle.isStopping) return;
      log.fatal({ part, code }, 'a part of the embedded stack died; its log is under .remit/logs');
      lifecycle.crash();
    });
    return { ...stack, context, log, lifecycle, stop: () => lifecycle.stop() };
  } catch (error) {
    await lifecycle.stop();
    throw error;
  }
}

/** Until its start is through, a role is a dependency that `/readyz` names as starting. */
async function started(role: Role, lifecycle: Lifecycle, starting: Promise<unknown>): Promise<void> {
  let done = false;
  lifecycle.addCheck(role, () => (done ? Promise.resolve() : Promise.reject(new Error('starting'))));
  try {
    await starting;
    done = true;
  } catch (error) {
    // The shutdown that runs has the last word, and its exit code.
    if (!(error instanceof StoppedWhileWaiting)) throw error;
  }
}

/** Runs one role as this process: ops server, role, ordered shutdown. */
export async function runRole(role: Role, context: RoleContext, start = START[role]): Promise<void> {
  const url = await startOpsServer(context.config, context.lifecycle);
  await started(role, context.lifecycle, start(context));
  if (!context.lifecycle.isStopping) context.log.info({ ops: url }, `${role} is ready`);
}
