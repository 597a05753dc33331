import path from 'node:path';
import { createLogger } from '../platform/logging';
import { callApi, type ApiOptions } from './api-call';
import type { DlqAccess } from './dlq';
import { explainingKafka, requireBrokers } from './kafka-access';
import { localAccess } from './local-access';
import { mintToken } from './token';

/** The access to the DLQs of the environment, or of the local installation. */
async function dlqAccess(
  dataDir: string,
  say: (line: string) => void,
  { url, token }: ApiOptions = {},
): Promise<DlqAccess> {
  const { endpoints, config } = await localAccess(path.join(dataDir, 'endpoints.json'));
  const withBrokers = { ...config, KAFKA_BROKERS: requireBrokers(config, endpoints.kafka) };
  return {
    config: withBrokers,
    log: createLogger({ ...withBrokers, LOG_LEVEL: 'silent' }, 'dlq'),
    say,
    async resendDelivery(id, tenant) {
      const api = url ?? endpoints.api;
      if (!api) throw new Error('no API is known: start remit first (npm start), or name it with --url');
      const mint = () =>
        mintToken(config, { subject: 'operator', tenant, scopes: ['read', 'write'], expiresInS: 60 });
      const access = { api, token: token === undefined ? mint : () => Promise.resolve(token) };
      // What has been delivered or sent again since is refused (409).
      await callApi(access, 'POST', `/api/v1/deliveries/${encodeURIComponent(id)}/resend`, {
        onlyIf: 'exhausted',
      });
    },
  };
}

/** Does something with the DLQs of the environment, or of the local installation; explains why Kafka can't be reached. */
export async function atDlqs(
  dataDir: string,
  say: (line: string) => void,
  run: (access: DlqAccess) => Promise<unknown>,
  api?: ApiOptions,
): Promise<void> {
  const access = await dlqAccess(dataDir, say, api);
  await explainingKafka(access.config, () => run(access));
}
