import { OutboxRelay } from '../bridges/relay';
import type { RoleContext } from './context';

/**
 * Starts the relay, outbox to Kafka. It stops in `drain`: what the other roles of this process write while they
 * finish still goes out. Rows that are left are durable, and go out with the next start.
 */
export function startRelay(context: RoleContext): Promise<OutboxRelay> {
  const { config, kafka, lifecycle, log } = context;
  const database = context.database();
  const relay = new OutboxRelay({ pool: database.pool, kafka, config, log: log.child({ part: 'relay' }) });
  lifecycle.addCheck('postgres', () => database.check());
  lifecycle.addCheck('outbox relay', () => relay.check());
  lifecycle.onStop('drain', 'outbox relay', () => relay.stop());
  relay.start();
  return Promise.resolve(relay);
}
