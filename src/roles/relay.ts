import { OutboxRelay } from '../bridges/relay';
import { kafkaReadiness } from '../platform/kafka';
import type { RoleContext } from './context';

/**
 * Starts the relay, outbox to Kafka. It stops in `drain`, after the round that runs: rows that are left, or that other
 * roles write while they finish, are durable and go out with the next start.
 */
export function startRelay(context: RoleContext): Promise<OutboxRelay> {
  const { config, kafka, lifecycle, log } = context;
  const database = context.database();
  const relay = new OutboxRelay({ pool: database.pool, kafka, config, log: log.child({ part: 'relay' }) });
  lifecycle.addCheck('postgres', () => database.check());
  lifecycle.addCheck('kafka', kafkaReadiness(kafka, lifecycle));
  lifecycle.addCheck('outbox relay', () => relay.check());
  lifecycle.onStop('drain', 'outbox relay', () => relay.stop());
  relay.start();
  return Promise.resolve(relay);
}
