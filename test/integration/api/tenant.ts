import { randomUUID } from 'node:crypto';
import { EventConfig, EventType, PublishedEvent } from '../../../src/contracts/events';
import { SubscriptionCreated } from '../../../src/contracts/subscriptions';
import { mintToken } from '../../../src/operations/token';
import { withDatabase } from '../../support/shared-stack';
import type { Reply, TestApi } from './support';

let tenants = 0;

/** A tenant that no other test uses, as its administrator sees the API. */
export function tenantOf(api: TestApi, tenant = `tenant-of-the-api-${(tenants += 1)}`) {
  const call = async (
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
    scopes = ['admin'],
  ): Promise<Reply> => {
    const token = await mintToken(api.space.config, { subject: 'admin', tenant, scopes, expiresInS: 300 });
    return api.call(method, `/api/v1${path}`, { authorization: `Bearer ${token}`, ...headers }, body);
  };
  const made = async (path: string, body: unknown): Promise<Reply> => {
    const reply = await call('POST', path, body);
    expect({ path, ...reply, made: [201, 202].includes(reply.status) }).toMatchObject({ made: true });
    return reply;
  };
  return {
    name: tenant,
    call,
    made,
    get: (path: string) => call('GET', path),
    type: async (name: string, more: object = {}) =>
      EventType.parse((await made('/event-types', { name, ...more })).body),
    config: async (eventType: string, more: object = {}) =>
      EventConfig.parse((await made('/event-configs', { eventType, ...more })).body),
    subscribe: async (more: object = {}) =>
      SubscriptionCreated.parse(
        (
          await made('/subscriptions', {
            url: 'https://example.com/hook',
            eventTypes: ['invoice.*'],
            ...more,
          })
        ).body,
      ),
    publish: async (event: object) => PublishedEvent.parse((await made('/events', event)).body),
  };
}
export type Tenant = ReturnType<typeof tenantOf>;

/** Writes a delivery as the fan-out does. */
export async function deliver(
  api: TestApi,
  tenant: string,
  subscriptionId: string,
  eventId: string,
  status: string,
) {
  const id = randomUUID();
  await withDatabase(api.space.env['DATABASE_URL']!, (client) =>
    client.query(
      `INSERT INTO deliveries (id, tenant_id, event_id, subscription_id, event_type, status) VALUES ($1, $2, $3, $4, 'invoice.paid', $5)`,
      [id, tenant, eventId, subscriptionId, status],
    ),
  );
  return id;
}
