import { registry } from '../../../src/platform/metrics';

interface MetricJson {
  name: string;
  labelNames?: string[];
}

const known = new Map(
  (registry.getMetricsAsArray() as unknown as MetricJson[]).map(({ name, labelNames }) => [
    name,
    labelNames ?? [],
  ]),
);

/**
 * Metrics of Temporal's SDK that dashboards and alerts ask for, with their labels beside `namespace`: they are no part of our
 * registry. test/integration/platform/worker-metrics.test.ts holds this list against what a worker says.
 */
export const SDK_METRICS: Readonly<Record<string, readonly string[]>> = {
  temporal_num_pollers: ['task_queue', 'poller_type'],
  temporal_worker_task_slots_available: ['task_queue', 'worker_type'],
  temporal_worker_task_slots_used: ['task_queue', 'worker_type'],
  temporal_sticky_cache_size: ['task_queue'],
  temporal_sticky_cache_hit_total: ['task_queue'],
  temporal_sticky_cache_miss_total: ['task_queue'],
  temporal_workflow_task_schedule_to_start_latency_seconds: ['task_queue'],
  temporal_workflow_task_execution_latency_seconds: ['task_queue', 'workflow_type'],
  temporal_workflow_task_execution_failed_total: ['task_queue', 'workflow_type', 'failure_reason'],
  temporal_workflow_endtoend_latency_seconds: ['task_queue', 'workflow_type'],
  temporal_workflow_completed_total: ['task_queue', 'workflow_type'],
  temporal_activity_schedule_to_start_latency_seconds: ['task_queue'],
  temporal_activity_execution_failed_total: ['task_queue', 'activity_type'],
  temporal_request_failure_total: ['operation'],
};
for (const [name, labels] of Object.entries(SDK_METRICS)) known.set(name, [...labels]);

/**
 * Labels of the metric that a series belongs to; undefined when remit has none of this name. `remit_x_seconds_bucket`
 * belongs to the histogram `remit_x_seconds`.
 */
export function labelsOfSeries(series: string): string[] | undefined {
  return known.get(series) ?? known.get(series.replace(/_(bucket|count|sum)$/, ''));
}
