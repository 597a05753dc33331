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
 * Labels of the metric that a series belongs to; undefined when remit has none of this name. `remit_x_seconds_bucket`
 * belongs to the histogram `remit_x_seconds`.
 */
export function labelsOfSeries(series: string): string[] | undefined {
  return known.get(series) ?? known.get(series.replace(/_(bucket|count|sum)$/, ''));
}
