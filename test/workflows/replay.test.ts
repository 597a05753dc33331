import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { DeterminismViolationError } from '@temporalio/workflow';
import { DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import { ENCRYPTED, workflowBundle } from '../support/workflow-env';
import { SCENARIOS } from './history-scenarios';

const FOLDER = path.join(__dirname, 'histories');
const recorded = readdirSync(FOLDER).filter((file) => file.endsWith('.json'));

interface HistoryJson {
  events: Record<string, unknown>[];
}

const historyOf = (file: string) => JSON.parse(readFileSync(path.join(FOLDER, file), 'utf8')) as HistoryJson;
const replay = (history: HistoryJson, file: string) =>
  Worker.runReplayHistory({ workflowBundle: workflowBundle(), dataConverter: ENCRYPTED }, history, file);

/** What is to be encrypted in a history: all but what Temporal itself reads, search attributes and the SDK's notes in markers. */
function payloadsIn({ events }: HistoryJson): unknown[] {
  const of = (value: unknown, name = ''): unknown[] => {
    if (typeof value !== 'object' || value === null || name === 'searchAttributes') return [];
    if ('metadata' in value && 'encoding' in (value.metadata as object)) return [value];
    if (name === 'markerRecordedEventAttributes') {
      const { details, failure } = value as { details?: { result?: unknown }; failure?: unknown };
      return [...of(details?.result), ...of(failure)];
    }
    return Object.entries(value).flatMap(([inner, each]) => of(each, inner));
  };
  return of(events);
}

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

  it.each(SCENARIOS.filter(({ encrypted }) => encrypted).map(({ name }) => `${name}.json`))(
    '%s says nothing in clear, and does not replay without the key',
    async (file) => {
      const text = JSON.stringify(payloadsIn(historyOf(file)));
      expect(text).toContain(Buffer.from('binary/encrypted').toString('base64'));
      for (const clear of ['json/plain', 'binary/null'])
        expect(text).not.toContain(Buffer.from(clear).toString('base64'));
      const history = historyOf(file);
      await expect(
        Worker.runReplayHistory({ workflowBundle: workflowBundle() }, history, file),
      ).rejects.toThrow();
    },
  );

  it('do not replay when the code has done something else, so that a replay proves something', async () => {
    const history = historyOf('delivery-exhausted.json');
    const scheduled = history.events.find((event) => 'activityTaskScheduledEventAttributes' in event);
    Object.assign(scheduled?.['activityTaskScheduledEventAttributes'] as object, {
      activityType: { name: 'somethingElse' },
    });
    await expect(replay(history, 'changed')).rejects.toThrow(DeterminismViolationError);
  });
});
