import { startOpsServer } from '../platform/ops-server';
import { Lifecycle } from '../platform/lifecycle';
import { createLogger, type Logger } from '../platform/logging';
import { startApi } from './api';
import { startBridge } from './bridge';
import { createRoleContext, type RoleContext } from './context';
import { startIngest } from './ingest';
import { startLocalStack, type LocalStack, type LocalStackOptions } from './local-stack';
import { migrate } from './migrate';
import { startRelay } from './relay';
import { startWorker } from './worker';

export const ROLES = ['api', 'bridge', 'worker', 'relay', 'ingest'] as const;
export type Role = (typeof ROLES)[number];

const START: Record<Role, (context: RoleContext) => Promise<unknown>> = {
  api: startApi,
  bridge: startBridge,
  worker: (context) => startWorker(context),
  relay: startRelay,
  ingest: startIngest,
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
  options: LocalStackOptions & { roles?: readonly Role[] },
): Promise<LocalRemit> {
  const stack = await startLocalStack(options);
  const log = createLogger(stack.config, 'start');
  const lifecycle = new Lifecycle(log, stack.config.SHUTDOWN_TIMEOUT_MS);
  lifecycle.onStop('parts', 'embedded stack', () => stack.stop());
  try {
    options.report('migrating PostgreSQL, Kafka, Temporal and ClickHouse');
    await migrate(stack.config, log);
    const context = createRoleContext(stack.config, log, lifecycle);
    options.report(`starting ${(options.roles ?? ROLES).join(', ')}`);
    await startOpsServer(stack.config, lifecycle);
    for (const role of options.roles ?? ROLES) await START[role](context);
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

/** Runs one role as this process: ops server, role, ordered shutdown. */
export async function runRole(role: Role, context: RoleContext, start = START[role]): Promise<void> {
  const url = await startOpsServer(context.config, context.lifecycle);
  await start(context);
  context.log.info({ ops: url }, `${role} is ready`);
}
