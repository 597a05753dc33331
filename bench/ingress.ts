import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { paymentWebhookTopic } from '../src/platform/topics';
import { median, round, type Benchmark } from './report';
import { startRole, startScript } from '../test/support/processes';
import { freePort, openStage, postAll, signedWebhook } from './support/stage';

const CONNECTIONS = 64;

/**
 * Signed provider webhooks accepted per second (verified, parsed, acknowledged by Kafka with acks=all), next to a bare
 * Express + kafkajs endpoint that verifies and checks nothing. Rounds alternate; medians are compared.
 */
export const run: Benchmark = async ({ quick, progress }) => {
  const stage = await openStage(progress);
  const secret = stage.config.PROVIDER_SECRET_DECARD!;
  const barePort = await freePort();
  const api = await startRole(['api'], stage.env, Number(stage.config.METRICS_PORT));
  const bare = await startScript(path.join(__dirname, 'support', 'bare-ingress.ts'), {
    KAFKA_BROKERS: stage.endpoints.kafka,
    BARE_TOPIC: paymentWebhookTopic(stage.config, 'decard'),
    BARE_PORT: String(barePort),
  });
  try {
    const [size, rounds] = quick ? [2_000, 1] : [15_000, 5];
    const batch = (count: number) => Array.from({ length: count }, () => signedWebhook(secret, randomUUID()));
    const ours = () => postAll(stage.endpoints.api, '/webhooks/providers/decard', batch(size), CONNECTIONS);
    const theirs = () => postAll(`http://127.0.0.1:${barePort}`, '/webhook', batch(size), CONNECTIONS);
    progress('warming up');
    await ours();
    await theirs();
    const figures = { ours: [] as number[], bare: [] as number[] };
    for (let i = 1; i <= rounds; i++) {
      figures.ours.push(await ours());
      figures.bare.push(await theirs());
      progress(
        `round ${i}/${rounds}: remit ${Math.round(figures.ours.at(-1)!)}/s, bare ${Math.round(figures.bare.at(-1)!)}/s`,
      );
    }
    const [value, reference] = [median(figures.ours), median(figures.bare)];
    return [
      {
        bench: 'ingress',
        value: round(value),
        unit: 'webhooks/s',
        reference: round(reference),
        ratio: median(figures.ours.map((ours, i) => ours / figures.bare[i]!)),
        atLeast: 0.8,
        note: `${rounds} rounds of ${size}, ${CONNECTIONS} connections, median of values and of the rounds’ ratios; reference: bare Express + kafkajs acks=all`,
      },
    ];
  } finally {
    await Promise.all([api.stop(), bare.stop()]);
    await stage.close();
  }
};
