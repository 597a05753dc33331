import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { DeterminismViolationError } from '@temporalio/workflow';
import { DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import { workflowBundle } from '../support/workflow-env';
import { SCENARIOS } from './history-scenarios';

const FOLDER = path.join(__dirname, 'histories');
const recorded = readdirSync(FOLDER).filter((file) => file.endsWith('.json'));

interface HistoryJson {
  events: Record<string, unknown>[];
}

const historyOf = (file: string) => JSON.parse(readFileSync(path.join(FOLDER, file), 'utf8')) as HistoryJson;
const replay = (history: HistoryJson, file: string) =>
  Worker.runReplayHistory({ workflowBundle: workflowBundle() }, history, file);

beforeAll(() => void Runtime.install({ logger: new DefaultLogger('ERROR') }));

describe('the histories of workflows that ran before', () => {
  it('are there for every scenario', () => {
    expect(recorded).toEqual(expect.arrayContaining(SCENARIOS.map(({ name }) => `${name}.json`)));
  });

  it.each(recorded)('%s replays on the code of today', async (file) => {
    await replay(historyOf(file), file);
  });

  it.each(recorded)('%s names neither a machine nor a path', (file) => {
    const text = readFileSync(path.join(FOLDER, file), 'utf8');
    expect(text).not.toMatch(/"identity": "(?!recorder")/);
    expect(text).not.toMatch(/node_modules|file:\/\/|\/src\//);
  });

  it('do not replay when the code has done something else, so that a replay proves something', async () => {
    const history = historyOf('delivery-exhausted.json');
    const scheduled = history.events.find((event) => 'activityTaskScheduledEventAttributes' in event);
    Object.assign(scheduled?.['activityTaskScheduledEventAttributes'] as object, {
      activityType: { name: 'somethingElse' },
    });
    await expect(replay(history, 'changed')).rejects.toThrow(DeterminismViolationError);
  });
});
