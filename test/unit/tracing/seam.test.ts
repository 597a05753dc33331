import { execFile } from 'node:child_process';
import net from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';
import { idsOf, readTraceparent, writeTraceparent } from '../../../src/contracts/tracing';
import { Coalescer } from '../../../src/platform/coalescer';
import { loadConfig } from '../../../src/platform/config';
import { PROJECT_ROOT } from '../../../src/platform/project';
import {
  inEntrySpan,
  inSpan,
  startTracing,
  stopTracing,
  traceFields,
  traceHeaderHere,
  tracing,
} from '../../../src/platform/tracing';
import { TraceCollector } from '../../support/trace-collector';

const NAME = { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331', sampled: true };
const TEXT = `00-${NAME.traceId}-${NAME.spanId}-01`;

describe('a traceparent', () => {
  it('is read as the standard writes it', () => {
    expect(readTraceparent(TEXT)).toEqual(NAME);
    expect(readTraceparent(TEXT.replace(/01$/, '00'))).toEqual({ ...NAME, sampled: false });
    expect(writeTraceparent(NAME)).toBe(TEXT);
    // A later version may have more.
    expect(readTraceparent(`01${TEXT.slice(2)}-more`)).toEqual(NAME);
  });

  it.each([
    undefined,
    null,
    7,
    '',
    'traceparent',
    `ff${TEXT.slice(2)}`,
    `00-${'0'.repeat(32)}-${NAME.spanId}-01`,
    `00-${NAME.traceId}-${'0'.repeat(16)}-01`,
    TEXT.toUpperCase(),
    `${TEXT}, ${TEXT}`,
    `${TEXT}-${'x'.repeat(200)}`,
    `${TEXT}-more`,
    `${TEXT}-`,
  ])('is none: %s', (text) => {
    expect(readTraceparent(text)).toBeUndefined();
  });
});

it('names ids of what is passed, and nothing of a person or an amount', () => {
  const input = { orderId: 'o', userId: 'u', amountMinor: '1', tenantId: 't', eventId: '', source: {} };
  expect(idsOf(input)).toEqual({ 'remit.order_id': 'o', 'remit.tenant_id': 't' });
  expect([idsOf(null), idsOf('x'), idsOf([input])]).toEqual([{}, {}, {}]);
});

describe('while tracing is off', () => {
  it('everything just runs', async () => {
    expect(tracing()).toBeUndefined();
    const start = jest.fn();
    await expect(inSpan(start, () => Promise.resolve(1))).resolves.toBe(1);
    await expect(inEntrySpan(start, (span) => Promise.resolve(span))).resolves.toBeUndefined();
    expect(start).not.toHaveBeenCalled();
    expect([traceFields(), traceHeaderHere()]).toEqual([{}, {}]);
  });

  it('nothing of OpenTelemetry’s SDK is loaded; with an endpoint it is', async () => {
    const loaded = async (env: NodeJS.ProcessEnv) => {
      const { stdout } = await promisify(execFile)(
        process.execPath,
        ['--import', 'tsx', path.join(PROJECT_ROOT, 'test/support/loaded-modules.ts')],
        { env: { ...process.env, OTEL_EXPORTER_OTLP_ENDPOINT: '', ...env }, cwd: PROJECT_ROOT },
      );
      return JSON.parse(stdout) as string[];
    };
    // prom-client brings the API, which does nothing.
    expect((await loaded({})).filter((name) => name !== '@opentelemetry/api')).toEqual([]);
    expect(await loaded({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' })).toEqual(
      expect.arrayContaining(['@opentelemetry/exporter-trace-otlp-proto', '@opentelemetry/sdk-trace-base']),
    );
  }, 60_000);
});

it('a collector that takes connections and never answers does not hold up the end of a process', async () => {
  const silent = net.createServer(() => undefined);
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  const { port } = silent.address() as net.AddressInfo;
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}` };
  await startTracing(loadConfig(env, []), 'remit-test', () => undefined);
  await inEntrySpan(
    () => ({ name: 'entry', parent: null }),
    () => Promise.resolve(),
  );
  const startedAt = performance.now();
  await stopTracing();
  // The exporter alone would wait for ten seconds.
  expect(performance.now() - startedAt).toBeLessThan(8_000);
  silent.close();
}, 30_000);

describe('while tracing is on', () => {
  const collector = new TraceCollector();
  let endpoint: string;
  beforeAll(async () => {
    endpoint = await collector.listen();
  });
  afterAll(() => collector.close());
  const start = (env: Record<string, string> = {}) =>
    startTracing(loadConfig({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, ...env }, []), 'remit-test', (error) => {
      throw error;
    });
  afterEach(() => stopTracing());

  const named = (name: string) => collector.spans.filter((span) => span.name === name);

  it('a step is a span below what it runs in, with what went wrong', async () => {
    await start();
    const failing = inEntrySpan(
      () => ({ name: 'entry', kind: 'server', parent: TEXT, attributes: { a: 1, b: undefined } }),
      () =>
        inSpan(
          () => ({ name: 'step' }),
          () => Promise.reject(new Error('broken')),
        ),
    );
    await expect(failing).rejects.toThrow('broken');
    await stopTracing();
    const [entry] = named('entry');
    const [step] = named('step');
    expect(entry).toMatchObject({
      ...{ traceId: NAME.traceId, parentSpanId: NAME.spanId, kind: 2, failed: true },
      ...{ attributes: { a: 1 }, service: 'remit-test' },
    });
    expect(step).toMatchObject({ traceId: NAME.traceId, parentSpanId: entry!.spanId, failed: true });
  });

  it('what nobody asked for begins no trace', async () => {
    await start();
    await inSpan(
      () => ({ name: 'poll' }),
      () => Promise.resolve(),
    );
    await stopTracing();
    expect(named('poll')).toEqual([]);
  });

  it('what several share is in the trace of the first and links to the others; one alone has it for itself', async () => {
    await start();
    const calls: (string | undefined)[] = [];
    const coalescer = new Coalescer<number, number>({
      ...{ maxItems: 10, mayBeOneItems: () => false },
      run: (items) => {
        calls.push(traceFields().span_id);
        return Promise.resolve(items);
      },
    });
    const ask = (name: string, item: number) =>
      inEntrySpan(
        () => ({ name, parent: null }),
        async (span) => {
          await coalescer.add(item);
          return span!;
        },
      );
    const [a, b] = await Promise.all([ask('a', 1), ask('b', 2)]);
    const alone = await ask('alone', 3);
    await stopTracing();
    const [shared] = named('shared call');
    expect(shared).toMatchObject({
      ...{ traceId: a.traceId, parentSpanId: a.spanId, attributes: { 'remit.batch_size': 2 } },
      links: [{ traceId: b.traceId, spanId: b.spanId }],
    });
    expect(named('shared call')).toHaveLength(1);
    expect(calls).toEqual([shared!.spanId, alone.spanId]);
  });

  it('a share of the traces is made where the sampler says so, and a caller’s are followed', async () => {
    await start({ OTEL_TRACES_SAMPLER: 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG: '0' });
    const recorded = (parent: string | null) =>
      inEntrySpan(
        () => ({ name: 'sampled', parent }),
        (span) => Promise.resolve(span!.recording),
      );
    expect(await recorded(null)).toBe(false);
    expect(await recorded(TEXT)).toBe(true);
    expect(await recorded(TEXT.replace(/01$/, '00'))).toBe(false);
  });
});
