import { WORKFLOWS } from '../../src/contracts/workflows';
import { playedStage } from '../support/workflow-env';
import { SCENARIOS } from './history-scenarios';

/** One life of each type of workflow. */
const firstOf = (type: string) =>
  SCENARIOS.find(({ workflowType, encrypted }) => workflowType === type && !encrypted);
const stage = playedStage([...new Set(SCENARIOS.flatMap(({ activities }) => Object.keys(activities)))]);

describe('a workflow of every type', () => {
  it.each(Object.values(WORKFLOWS))('%s answers `state`, also when it has ended', async (type) => {
    const scenario = firstOf(type);
    expect(scenario).toBeDefined();
    const { workflowType, taskQueue, input, signal, activities } = scenario!;
    stage.play(activities);
    const { workflow } = stage.environment.client;
    const options = { workflowId: `state/${type}`, taskQueue, args: input === undefined ? [] : [input] };
    const handle = stage.track(
      signal
        ? await workflow.signalWithStart(workflowType, {
            ...options,
            signal: signal.name,
            signalArgs: [signal.input],
          })
        : await workflow.start(workflowType, options),
    );
    await scenario?.meanwhile?.(handle);
    await handle.result();
    expect(await handle.query('state')).toEqual(expect.any(Object));
  });
});
