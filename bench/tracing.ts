import path from 'node:path';
import type { Connection } from '@temporalio/client';
import { connectTemporal } from '../src/platform/temporal';
import { startScript, type Child } from '../test/support/processes';
import { settleAll, startRoles, stopAll } from './e2e';
import { median, round, type Benchmark } from './report';
import { freePort, openStage } from './support/stage';

const SHARE = '0.1';

/**
 * What tracing costs: payments settled end to end as in the benchmark `e2e`, with one trace of ten made and sent to a
 * collector that forgets it, next to the same without tracing, on the same stack. Rounds alternate, and so does which of
 * the two comes first.
 */
export const run: Benchmark = async ({ quick, progress }) => {
  const stage = await openStage(progress);
  const client = await connectTemporal(stage.config);
  const sinkPort = await freePort();
  const endpoint = `http://127.0.0.1:${sinkPort}`;
  const sink = await startScript(path.join(__dirname, 'support', 'trace-sink.ts'), {
    TRACE_SINK_PORT: String(sinkPort),
  });
  const [size, rounds] = quick ? [150, 2] : [1_000, 5];
  let roles: Child[] = [];
  const rate = async (env: NodeJS.ProcessEnv): Promise<number> => {
    roles = await startRoles(stage, env);
    await settleAll(stage, client, Math.ceil(size / 10));
    const { perSecond } = await settleAll(stage, client, size);
    await stopAll(roles);
    return perSecond;
  };
  const off = () => rate({ OTEL_EXPORTER_OTLP_ENDPOINT: '' });
  const on = () =>
    rate({
      OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
      OTEL_TRACES_SAMPLER: 'parentbased_traceidratio',
      OTEL_TRACES_SAMPLER_ARG: SHARE,
    });
  try {
    progress('warming up');
    await off();
    const figures = { off: [] as number[], on: [] as number[] };
    for (let i = 1; i <= rounds; i++) {
      if (i % 2 === 0) figures.on.push(await on());
      figures.off.push(await off());
      if (i % 2 === 1) figures.on.push(await on());
      progress(
        `round ${i}/${rounds}: traced ${figures.on.at(-1)!.toFixed(1)}/s, not traced ${figures.off.at(-1)!.toFixed(1)}/s`,
      );
    }
    const batches = Number(await (await fetch(endpoint)).text());
    if (batches === 0) throw new Error('the collector got no trace');
    return [
      {
        bench: 'e2e payments settled, one in ten traced',
        value: round(median(figures.on)),
        unit: 'payments/s',
        reference: round(median(figures.off)),
        ratio: median(figures.on.map((each, i) => each / figures.off[i]!)),
        atLeast: 0.95,
        note: `${rounds} rounds of ${size}, median of values and of the rounds’ ratios; reference: the same without tracing`,
      },
    ];
  } finally {
    await stopAll(roles);
    await sink.stop();
    await (client.connection as Connection).close();
    await stage.close();
  }
};
