import path from 'node:path';
import { convertV2, type CollectionResult } from 'openapi-to-postmanv2';
import { stringify } from 'yaml';
import { z } from 'zod';
import { allRoutes } from '../src/api/app';
import { openApiDocument } from '../src/api/openapi';
import { asyncApiDocument } from '../src/contracts/asyncapi';
import { loadConfig } from '../src/platform/config';
import { deadLetterTopic, paymentWebhookTopic } from '../src/platform/topics';
import { ProvidersFile } from '../src/providers/configuration';
import { BUILT_IN_PROVIDERS } from '../src/providers/registry';
import { writeGenerated, type Render } from './lib/generated-files';
import { usableCollection } from './lib/postman';

/**
 * Part of `npm run generate`: writes the specifications from the code that they describe. `--check` writes nothing and
 * fails when one is out of date.
 */

const root = path.resolve(__dirname, '..');
const NOTE = '# Generated from the code by `npm run generate`: do not edit.\n';
const yaml = (document: unknown) =>
  NOTE + stringify(document, { lineWidth: 120, aliasDuplicateObjects: false });

/** What GET /openapi.json answers. */
export function openApi(): Record<string, unknown> {
  return JSON.parse(JSON.stringify(openApiDocument(allRoutes()))) as Record<string, unknown>;
}

/** Every topic, by its default name. */
export function asyncApi(): Record<string, unknown> {
  const config = loadConfig({}, []);
  return asyncApiDocument({
    payments: Object.fromEntries(
      BUILT_IN_PROVIDERS.map(({ name, title, documentation, body }) => [
        name,
        { topic: paymentWebhookTopic(config, name), title, documentation, ...(body && { body }) },
      ]),
    ),
    orderWebhooks: config.TOPIC_WEBHOOKS_ORDERS,
    disputeWebhooks: config.TOPIC_WEBHOOKS_DISPUTES,
    paymentRequest: config.TOPIC_PAYMENT_REQUEST,
    paymentStatus: config.TOPIC_PAYMENT_STATUS,
    events: config.TOPIC_EVENTS,
    domainEvents: config.TOPIC_DOMAIN_EVENTS,
    deliveryDeadLetters: config.TOPIC_WEBHOOK_DELIVERY_DLQ,
    purchases: config.TOPIC_PURCHASES,
    deadLettersOf: (topic) => deadLetterTopic(config, topic),
  });
}

/** The Postman collection of the OpenAPI document, with the contracts' examples. */
export async function postmanCollection(): Promise<Record<string, unknown>> {
  const converted = await new Promise<CollectionResult>((resolve, reject) => {
    convertV2(
      { type: 'json', data: openApi() },
      { folderStrategy: 'Tags', parametersResolution: 'Schema' },
      (error, result) =>
        result ? resolve(result) : reject(error instanceof Error ? error : new Error('no answer')),
    );
  });
  const collection = converted.output?.[0]?.data as Record<string, unknown> | undefined;
  if (!converted.result || !collection) throw new Error(`no Postman collection: ${converted.reason ?? ''}`);
  return usableCollection(JSON.parse(JSON.stringify(collection)) as Record<string, unknown>, allRoutes());
}

/** The JSON Schema of the file that PROVIDERS_FILE names, as an operator writes it. */
export const providersFileSchema = () => z.toJSONSchema(ProvidersFile, { io: 'input' });

/** Each file with what should be in it. */
export const SPECS: Record<string, Render> = {
  'docs/event-config-openapi.yaml': () => yaml(openApi()),
  'docs/event-webhook-asyncapi.yaml': () => yaml(asyncApi()),
  'docs/providers.schema.json': () => `${JSON.stringify(providersFileSchema(), null, 2)}\n`,
  'postman_collection.json': async () => `${JSON.stringify(await postmanCollection(), null, 2)}\n`,
};

if (require.main === module)
  writeGenerated(root, SPECS, process.argv.includes('--check')).catch((error: unknown) => {
    process.stderr.write(`${String(error)}\n`);
    process.exitCode = 1;
  });
