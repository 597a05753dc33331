/**
 * Records the histories of history-scenarios.ts under `histories/`, for the replay tests:
 * `npx tsx test/workflows/record-histories.ts [name...]`. Histories that exist are kept, as the promise that code of
 * today can finish what code of yesterday began; name them to record them again.
 */
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { historyToJSON } from '@temporalio/common/lib/proto-utils';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { Client } from '@temporalio/client';
import { createTimeSkippingEnvironment, ENCRYPTED, startPlayedWorkers } from '../support/workflow-env';
import workflowSetup from '../support/workflow-setup';
import { SCENARIOS, type Scenario } from './history-scenarios';

const FOLDER = path.join(__dirname, 'histories');

/** Time for the first workflow tasks before something happens from outside. */
const SETTLE_MS = 500;

async function record(environment: TestWorkflowEnvironment, scenario: Scenario): Promise<object> {
  const { connection, namespace = 'default' } = environment;
  const { workflow } = new Client({
    connection,
    namespace,
    ...(scenario.encrypted && { dataConverter: ENCRYPTED }),
  });
  const options = {
    workflowId: scenario.workflowId,
    taskQueue: scenario.taskQueue,
    args: scenario.input === undefined ? [] : [scenario.input],
  };
  const handle = scenario.signal
    ? await workflow.signalWithStart(scenario.workflowType, {
        ...options,
        signal: scenario.signal.name,
        signalArgs: [scenario.signal.input],
      })
    : await workflow.start(scenario.workflowType, options);
  if (scenario.meanwhile) {
    await sleep(SETTLE_MS);
    await scenario.meanwhile(handle);
  }
  // A workflow that was cancelled ends in a rejection; its history is what matters.
  await handle.result().catch(() => undefined);
  return withoutMachine(JSON.parse(historyToJSON(await handle.fetchHistory()))) as object;
}

/** A history names the process and host that made it; neither belongs into the repository. */
function withoutMachine(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutMachine);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [
      name,
      name === 'identity'
        ? 'recorder'
        : name === 'stackTrace'
          ? ''
          : name === 'encodedAttributes'
            ? withoutStack(inner as { metadata: object; data: string })
            : withoutMachine(inner),
    ]),
  );
}

/** What a failure says of itself is a payload in some; one that is encrypted shows no path. */
function withoutStack(payload: { metadata: object; data: string }): object {
  try {
    const said = JSON.parse(Buffer.from(payload.data, 'base64').toString('utf8')) as object;
    const data = Buffer.from(JSON.stringify({ ...said, stack_trace: '' })).toString('base64');
    return { ...payload, data };
  } catch {
    return payload;
  }
}

async function main(named: readonly string[]): Promise<void> {
  const unknown = named.filter((name) => !SCENARIOS.some((scenario) => scenario.name === name));
  if (unknown.length > 0) throw new Error(`no such scenario: ${unknown.join(', ')}`);
  const fileOf = ({ name }: Scenario) => path.join(FOLDER, `${name}.json`);
  const chosen = SCENARIOS.filter((scenario) =>
    named.length > 0 ? named.includes(scenario.name) : !existsSync(fileOf(scenario)),
  );
  await workflowSetup();
  await mkdir(FOLDER, { recursive: true });
  const environment = await createTimeSkippingEnvironment();
  const names = [...new Set(chosen.flatMap(({ activities }) => Object.keys(activities)))];
  try {
    for (const encrypted of [false, true]) {
      const workers = await startPlayedWorkers(environment, names, encrypted ? ENCRYPTED : undefined);
      for (const scenario of chosen.filter((each) => Boolean(each.encrypted) === encrypted)) {
        workers.play(scenario.activities);
        const history = await record(environment, scenario);
        await writeFile(fileOf(scenario), `${JSON.stringify(history, null, 1)}\n`);
        process.stdout.write(`recorded ${scenario.name}\n`);
      }
      await workers.stop();
    }
  } finally {
    await environment.teardown();
  }
}

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
  process.exitCode = 1;
});
