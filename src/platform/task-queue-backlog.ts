import type { Client } from '@temporalio/client';
import { metrics } from './metrics';

/** TaskQueueType of Temporal's API. */
const KINDS = { workflow: 1, activity: 2 } as const;
/** One answer serves several scrapes that follow each other closely. */
const FRESH_MS = 5_000;
const ANSWER_MS = 2_000;

/**
 * Measures, when somebody asks for metrics, how many tasks wait in task queues and for how long: what no worker takes is what
 * an alert is for. While Temporal does not answer there are no figures, rather than old ones.
 */
export class TaskQueueBacklog {
  private measuredAtMs = 0;

  constructor(
    private readonly temporal: () => Promise<Client>,
    private readonly taskQueues: readonly string[],
  ) {}

  /** Sets the gauges. @throws what the client throws when Temporal does not answer within two seconds. */
  async measure(): Promise<void> {
    if (Date.now() - this.measuredAtMs < FRESH_MS) return;
    metrics.taskQueueBacklog.reset();
    metrics.taskQueueBacklogAge.reset();
    const client = await this.temporal();
    await client.withDeadline(Date.now() + ANSWER_MS, () =>
      Promise.all(
        this.taskQueues.flatMap((queue) =>
          Object.entries(KINDS).map(([kind, type]) => this.ask(client, queue, kind, type)),
        ),
      ),
    );
    this.measuredAtMs = Date.now();
  }

  private async ask(client: Client, taskQueue: string, kind: string, type: number): Promise<void> {
    const { stats } = await client.workflowService.describeTaskQueue({
      namespace: client.options.namespace,
      taskQueue: { name: taskQueue },
      taskQueueType: type,
      reportStats: true,
    });
    if (!stats) return;
    const { approximateBacklogCount: count, approximateBacklogAge: age } = stats;
    const labels = { task_queue: taskQueue, kind };
    metrics.taskQueueBacklog.set(labels, Number(count ?? 0));
    metrics.taskQueueBacklogAge.set(labels, Number(age?.seconds ?? 0) + (age?.nanos ?? 0) / 1e9);
  }
}
