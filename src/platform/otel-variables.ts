import { readable } from './config-rules';

/**
 * Variables that OpenTelemetry's SDK and exporter read by themselves, and what they must be. The SDK takes what it can't use for
 * something else without a word, or never ends: a batch of 0 spans takes all memory.
 */
const RULES: readonly { names: readonly string[]; right: (value: string) => boolean; must: string }[] = [
  {
    names: [
      'OTEL_BSP_SCHEDULE_DELAY',
      'OTEL_BSP_EXPORT_TIMEOUT',
      'OTEL_BSP_MAX_QUEUE_SIZE',
      'OTEL_BSP_MAX_EXPORT_BATCH_SIZE',
      'OTEL_EXPORTER_OTLP_TIMEOUT',
      'OTEL_EXPORTER_OTLP_TRACES_TIMEOUT',
    ],
    right: (value) => /^[1-9]\d{0,8}$/.test(value),
    must: 'must be a whole number, at least 1',
  },
  {
    names: ['OTEL_EXPORTER_OTLP_COMPRESSION', 'OTEL_EXPORTER_OTLP_TRACES_COMPRESSION'],
    right: (value) => ['gzip', 'none'].includes(value),
    must: 'must be gzip or none',
  },
  {
    names: ['OTEL_EXPORTER_OTLP_PROTOCOL', 'OTEL_EXPORTER_OTLP_TRACES_PROTOCOL'],
    right: (value) => value === 'http/protobuf',
    must: 'must be http/protobuf (usually port 4318), which is how remit sends traces',
  },
  {
    names: ['CERTIFICATE', 'CLIENT_KEY', 'CLIENT_CERTIFICATE'].flatMap((file) => [
      `OTEL_EXPORTER_OTLP_${file}`,
      `OTEL_EXPORTER_OTLP_TRACES_${file}`,
    ]),
    right: readable,
    must: 'names a file that can not be read',
  },
];

/**
 * What is wrong with them where tracing is on, one line each. One that is not read is told too, as the traces would go nowhere, or
 * elsewhere.
 */
export function otelMistakes(given: Readonly<Record<string, string>>): string[] {
  const mistakes: string[] = [];
  if (given['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'] !== undefined)
    mistakes.push(
      'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is not read: set OTEL_EXPORTER_OTLP_ENDPOINT, its base',
    );
  if (given['OTEL_EXPORTER_OTLP_ENDPOINT'] === undefined) return mistakes;
  for (const { names, right, must } of RULES)
    for (const name of names) {
      const value = given[name];
      if (value !== undefined && !right(value)) mistakes.push(`${name}: ${must}`);
    }
  return mistakes;
}
