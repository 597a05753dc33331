import { OutboxPublisher } from '../../../src/bridges/outbox-publisher';
import { OutboxRelay } from '../../../src/bridges/relay';
import { loadConfig } from '../../../src/platform/config';
import { createKafka } from '../../../src/platform/kafka';
import { createLogger } from '../../../src/platform/logging';
import { openDatabase } from '../../../src/platform/postgres';
import type { FreezesWhere } from './frozen-relay';

/**
 * A relay as a process that freezes itself at a place in its first round, says how that round ended once it is woken, and then
 * goes on as any relay does.
 */
const where = process.argv[2] as FreezesWhere;
const config = {
  ...loadConfig(process.env, []),
  RELAY_TURN_TIMEOUT_MS: 2_000,
  RELAY_BATCH_BYTES: 20_000_000,
};
const log = createLogger(config, 'relay');
const { pool } = openDatabase(config, log);
const kafka = createKafka(config, log);
const publisher = new OutboxPublisher(kafka, config);

const told = () => new Promise<void>((resolve) => process.send!('frozen', () => resolve()));
const freeze = () => process.kill(process.pid, 'SIGSTOP');
let frozen = false;
const freezeOnce = async (here: FreezesWhere) => {
  if (frozen || here !== where) return;
  frozen = true;
  await told();
  freeze();
};

pool.on('connect', (client) => {
  const query = client.query.bind(client) as (...args: unknown[]) => Promise<unknown>;
  const patched = (text: string, ...rest: unknown[]) => {
    if (frozen || where !== 'reading' || !text.includes('SELECT * FROM outbox')) return query(text, ...rest);
    frozen = true;
    return told().then(() => {
      // It is asked, and the answer is not read.
      setImmediate(freeze);
      return query(text, ...rest);
    });
  };
  client.query = patched as never;
});

const relay = new OutboxRelay({
  ...{ pool, kafka, config, log },
  publisher: {
    publish: async (rows, assertTurn) => {
      await freezeOnce('publishing');
      const refused = await publisher.publish(rows, assertTurn);
      await freezeOnce('published');
      return refused;
    },
    stop: () => publisher.stop(),
  },
});
relay.round().then(
  () => process.send!({ ended: 'as if nothing had been' }),
  (error: unknown) => process.send!({ ended: String(error) }),
);
process.on('message', () => relay.start());
