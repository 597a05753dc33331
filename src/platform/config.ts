import { z } from 'zod';
import { Currency } from '../contracts/money';
import { TenantId } from '../contracts/http';
import { misspelt } from './config-names';
import { crossFieldMistakes, isCidr, isHostAndPort, isWebOrigin, placeholderIn } from './config-rules';
import { otelMistakes } from './otel-variables';
import { callerPath } from './project';
import { derivedSettings, SETTINGS, type Derived, type Settings } from './settings';
import type { Provider } from '../providers/provider';
import { secretVariable } from '../providers/names';
import { readProvidersFile } from '../providers/providers-file';
import { BUILT_IN_PROVIDERS } from '../providers/registry';

/**
 * The one configuration schema. Every variable is named with its unit, described, and listed in `.env.example`
 * (generated from here by `npm run generate`). A variable set to the empty string counts as not set.
 */

const int = (fallback: number, min: number, max: number) =>
  z.coerce.number().int().min(min).max(max).default(fallback);
const flag = (fallback: boolean) =>
  z
    .enum(['true', 'false', '1', '0'])
    .transform((value) => value === 'true' || value === '1')
    .default(fallback);
const text = () => z.string().min(1);
const list = () =>
  z.string().transform((value) =>
    value
      .split(',')
      .map((part) => part.trim())
      .filter(Boolean),
  );
/** Never with the value: it may be nearly right. */
const notAPlaceholder = (command: string) =>
  [
    (value: string) => !placeholderIn(value),
    { error: `is a placeholder, which anybody could guess; generate one with ${command}` },
  ] as const;
/** Of AES-256. */
const KEY_BYTES = 32;
const encryptionKey = () =>
  z
    .string()
    .refine((value) => Buffer.from(value, 'base64').length === KEY_BYTES, {
      error: `must be ${KEY_BYTES} bytes in base64 (openssl rand -base64 ${KEY_BYTES})`,
    })
    .refine(...notAPlaceholder(`openssl rand -base64 ${KEY_BYTES}`));
/** One secret, or two while it is changed: the present one and the one before. */
const webhookSecrets = () =>
  z
    .string()
    .regex(/^whsec_[A-Za-z0-9+/]{32,}={0,2}( *, *whsec_[A-Za-z0-9+/]{32,}={0,2})?$/, {
      error: 'must be whsec_ and at least 24 bytes in base64, or two such, comma separated',
    })
    .refine(
      (value) => value.split(',').every((secret) => !placeholderIn(secret.trim())),
      notAPlaceholder('echo whsec_$(openssl rand -base64 32)')[1],
    );
const address = () =>
  z.string().refine(isHostAndPort, { error: 'must be host:port, such as localhost:9092 or [::1]:9092' });
/** What Kafka takes as the name of a topic or group. */
const kafkaName = () =>
  z.string().regex(/^[A-Za-z0-9._-]{1,200}$/, { error: 'must be 1 to 200 of A-Z a-z 0-9 . _ -' });
/** A provider's secrets: the present one, and while it is changed the one before. */
const providerSecrets = ({ title, secret }: Provider) =>
  z
    .string()
    .transform((text) => text.split(',').map((each) => each.trim()))
    .pipe(
      z
        .array(
          secret.schema.refine((value) => !placeholderIn(value), {
            error: 'is a placeholder, which anybody could guess; take the one agreed with the provider',
          }),
        )
        .max(2, { error: 'must be one secret, or two while it is changed' }),
    )
    .transform((secrets) => secrets.join(','))
    .optional()
    .describe(`${title}: ${secret.description}; while it is changed two, comma separated, the new one first`);
const secretsOf = (providers: readonly Provider[]): [name: string, field: z.ZodType][] =>
  providers.map((provider) => [secretVariable(provider.name), providerSecrets(provider)]);
/** One for each provider of the registry. */
const PROVIDER_SECRETS: object = Object.fromEntries(secretsOf(BUILT_IN_PROVIDERS));
const NO_MORE = { providers: [], mistakes: [] };
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

const shape = {
  // Process
  NODE_ENV: z
    .enum(['development', 'test', 'production'])
    .default('production')
    .describe('development pretty-prints logs'),
  LOG_LEVEL: z
    .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
    .default('info')
    .describe('pino level'),
  SHUTDOWN_TIMEOUT_MS: int(30_000, 1_000, 600_000).describe('ordered shutdown is forced after this long'),
  METRICS_HOST: text()
    .default('127.0.0.1')
    .describe('address of /healthz, /readyz and /metrics (0.0.0.0 in a container)'),
  METRICS_PORT: int(9464, 0, 65_535).describe('port of /healthz, /readyz and /metrics; 0 takes a free one'),

  // Traces
  OTEL_EXPORTER_OTLP_ENDPOINT: z
    .url({ protocol: /^https?$/ })
    .optional()
    .describe(
      'where traces are sent by OTLP over HTTP (protobuf), such as http://collector:4318; none are made without it',
    ),
  OTEL_TRACES_SAMPLER: z
    .enum([
      'always_on',
      'always_off',
      'traceidratio',
      'parentbased_always_on',
      'parentbased_always_off',
      'parentbased_traceidratio',
    ])
    .default('parentbased_always_on')
    .describe('which traces are made; parentbased_… follows the caller where one gives a traceparent'),
  OTEL_TRACES_SAMPLER_ARG: z.coerce
    .number()
    .min(0)
    .max(1)
    .default(1)
    .describe('share of traces that …traceidratio makes, such as 0.1'),

  // HTTP API
  API_HOST: text().default('127.0.0.1').describe('address the API listens on (0.0.0.0 in a container)'),
  API_PORT: int(8080, 0, 65_535).describe('port of the API; 0 takes a free one'),
  API_BODY_LIMIT_BYTES: int(65_536, 1_024, 10_485_760).describe('largest request body'),
  API_REQUEST_TIMEOUT_MS: int(30_000, 1_000, 300_000).describe('longest time a request may take'),
  API_TRUSTED_PROXIES: list()
    .pipe(
      z.array(
        z.string().refine((value) => isCidr(value) && !value.endsWith('/0'), {
          error: 'must be CIDRs such as 10.20.0.0/16 or fd00::/8, and not everybody',
        }),
      ),
    )
    .default([])
    .describe(
      'where the proxies in front of the API have their addresses, e.g. 10.20.0.0/16: what they say in X-Forwarded-For and X-Forwarded-Proto is believed, so that logins are limited by client and not all together; nobody is believed by default',
    ),
  API_RATE_LIMIT_REQUESTS: int(60_000, 0, 100_000_000).describe(
    'requests of one tenant in one window, at all API processes together; each one but the first may let a twentieth of it through beyond that. 0 for no limit. Providers’ webhooks are not counted',
  ),
  API_RATE_LIMIT_USER_REQUESTS: int(30_000, 0, 100_000_000).describe(
    'of these, requests of one user on the users’ routes; more do not count for the tenant. 0 for no limit',
  ),
  API_RATE_LIMIT_WINDOW_MS: int(MINUTE, 1_000, HOUR).describe('length of that window'),
  DEFAULT_TENANT: TenantId.default('default').describe(
    'tenant of users and tokens that name none; what remit tells its operator goes to this one',
  ),
  DEFAULT_CURRENCY: Currency.default('TRY').describe('currency of POST /accounts when it names none'),
  TRUST_USER_ID_HEADER: flag(false).describe(
    'believe X-User-Id; only behind a gateway that sets it. Otherwise the JWT subject',
  ),
  USERS_MAY_TOP_UP: flag(false).describe(
    'any user may top up its own account (npm start sets it). Otherwise POST /accounts/topup takes a token with scope topup',
  ),
  AUTH_JWT_SECRET: z
    .string()
    .min(32)
    .refine(...notAPlaceholder('openssl rand -hex 32'))
    .optional()
    .describe('local HS256 key (at least 32 characters) for bearer tokens'),
  AUTH_JWKS_URL: z
    .url()
    .optional()
    .describe('JWKS of an OIDC issuer, instead of or as well as AUTH_JWT_SECRET'),
  AUTH_ISSUER: text().optional().describe('required issuer (iss) of bearer tokens'),
  AUTH_AUDIENCE: text().default('remit').describe('required audience (aud) of bearer tokens'),

  // Console
  CONSOLE_URL: z
    .url({ protocol: /^https?$/ })
    .optional()
    .describe(
      'where browsers reach this API, such as https://remit.example.com: with https, its cookies are sent by TLS alone',
    ),
  CONSOLE_OIDC_CLIENT_ID: text()
    .optional()
    .describe(
      'client of AUTH_ISSUER for logins to the console (authorization code with PKCE); redirect to CONSOLE_URL/console/login/callback',
    ),
  CONSOLE_OIDC_CLIENT_SECRET: text().optional().describe('secret of that client; none for a public one'),
  CONSOLE_ROLE_CLAIM: text()
    .default('scope')
    .describe('claim that names the role: viewer or read, operator or write, admin'),
  PORTAL_FRAME_ORIGINS: list()
    .pipe(
      z
        .array(
          z.string().refine(isWebOrigin, {
            error: 'must be origins such as https://app.example.com, without a path',
          }),
        )
        .max(20),
    )
    .default([])
    .describe(
      'origins whose pages may frame the subscribers’ portal, such as https://app.example.com; none by default',
    ),

  // Providers' webhooks
  PROVIDERS_FILE: text()
    .optional()
    .describe(
      'YAML or JSON file with more providers (docs/providers.md); each has its secret in PROVIDER_SECRET_<NAME>',
    ),
  ...PROVIDER_SECRETS,
  ORDER_WEBHOOK_SECRET: webhookSecrets()
    .optional()
    .describe(
      'secret that webhooks of orders and chargebacks are signed with (Standard Webhooks, whsec_...); while it is changed two, the new one first',
    ),
  PROVIDER_SIGNATURES_REQUIRED: flag(true).describe(
    'refuse unsigned provider webhooks; false only for local experiments',
  ),
  PROVIDER_SIGNATURE_TOLERANCE_S: int(300, 1, 86_400).describe(
    'largest difference of webhook-timestamp to now, in seconds',
  ),

  // PostgreSQL
  DATABASE_URL: z
    .url({ protocol: /^postgres(ql)?$/ })
    .describe('postgresql://user:password@host:5432/remit; TLS by ?sslmode=verify-full'),
  DATABASE_POOL_CONNECTIONS: int(10, 1, 200).describe('connections for everything but money transactions'),
  DATABASE_MONEY_POOL_CONNECTIONS: int(16, 1, 200).describe(
    'connections for SERIALIZABLE money transactions',
  ),
  DATABASE_CONNECT_TIMEOUT_MS: int(3_000, 100, 60_000).describe(
    'longest wait for a connection, a free one of the pool or a new one; then 503',
  ),
  DATABASE_STATEMENT_TIMEOUT_MS: int(5_000, 100, 600_000).describe('longest statement'),
  MONEY_RETRY_DEADLINE_MS: int(10_000, 10, 600_000).describe(
    'from its first conflict on, a money transaction is tried again for at most this long; also its longest wait for a turn',
  ),
  PAYMENT_EXPIRES_AFTER_MS: int(72 * HOUR, 1_000, 365 * 24 * HOUR).describe(
    'a payment or payout without a terminal event, or an order that its provider has not paid, expires after this long',
  ),
  IDEMPOTENCY_KEY_TTL_MS: int(24 * HOUR, MINUTE, 30 * 24 * HOUR).describe(
    'how long an Idempotency-Key and its answer are kept',
  ),
  RECONCILIATION_INTERVAL_MS: int(HOUR, MINUTE, 30 * 24 * HOUR).describe('how often the schedule reconciles'),
  RECONCILIATION_DAYS: int(31, 1, 3_660).describe('days of the providers’ totals in a reconciliation'),

  // Kafka
  KAFKA_BROKERS: list()
    .pipe(z.array(address()).min(1, { error: 'names no broker' }))
    .describe('host:port, comma separated (KAFKA_BROKER is accepted too)'),
  KAFKA_CLIENT_ID: text().default('remit').describe('client id at the brokers'),
  KAFKA_TLS: flag(false).describe('TLS to the brokers'),
  KAFKA_TLS_CA_FILE: text().optional().describe('PEM file of the CA, when it is not a public one'),
  KAFKA_SASL_MECHANISM: z
    .enum(['plain', 'scram-sha-256', 'scram-sha-512'])
    .optional()
    .describe('SASL mechanism: plain, scram-sha-256 or scram-sha-512; none without'),
  KAFKA_SASL_USERNAME: text().optional().describe('SASL user'),
  KAFKA_SASL_PASSWORD: text().optional().describe('SASL password'),
  KAFKA_REPLICATION_FACTOR: int(1, 1, 10).describe(
    'of the topics that `remit migrate` creates (3 in production)',
  ),
  KAFKA_DEAD_LETTER_RETENTION_MS: int(90 * 24 * HOUR, HOUR, 3_650 * 24 * HOUR).describe(
    'how long dead letters wait for an operator',
  ),
  KAFKA_TOPIC_PARTITIONS: int(6, 1, 1_000).describe('of the topics that `remit migrate` creates'),
  KAFKA_PRODUCER_BATCH_BYTES: int(800_000, 1_024, 16_777_216).describe(
    'largest sum of messages in one request; less than the brokers’ message.max.bytes',
  ),
  KAFKA_PRODUCE_TIMEOUT_MS: int(10_000, 100, 300_000).describe('longest wait for the brokers to acknowledge'),
  KAFKA_MESSAGE_MAX_BYTES: int(262_144, 1_024, 10_485_760).describe('larger messages are dead-lettered'),
  KAFKA_SESSION_TIMEOUT_MS: int(10_000, 6_000, 1_800_000).describe(
    'a consumer that is silent for this long loses its partitions',
  ),
  KAFKA_GROUP_PREFIX: kafkaName().default('remit').describe('prefix of the consumer groups'),
  KAFKA_TOPIC_PREFIX: z
    .string()
    .regex(/^[A-Za-z0-9._-]{0,100}$/, { error: 'must be at most 100 of A-Z a-z 0-9 . _ -' })
    .default('')
    .describe(
      'prefix of the topics that only remit writes; those of providers and producers are named below',
    ),
  TOPIC_PAYMENT_WEBHOOK_PREFIX: kafkaName()
    .default('payment.webhook.')
    .describe('a provider’s topic is this and its name'),
  TOPIC_PURCHASES: kafkaName().default('purchases').describe('purchases for ClickHouse'),

  // Bridge and relay
  BRIDGE_CONCURRENT_KEYS: int(64, 1, 1_000).describe(
    'messages, each of another key, that one stream hands on at a time',
  ),
  RELAY_BATCH_ROWS: int(500, 1, 10_000).describe('outbox rows in one round of the relay'),

  // Temporal
  TEMPORAL_ADDRESS: address().describe('host:port of the Temporal frontend'),
  TEMPORAL_NAMESPACE: text().default('default').describe('namespace'),
  TEMPORAL_API_KEY: text().optional().describe('API key (Temporal Cloud); turns TLS on'),
  TEMPORAL_TLS: flag(false).describe('TLS to the frontend'),
  TEMPORAL_TLS_CA_FILE: text().optional().describe('PEM file of the CA'),
  TEMPORAL_TLS_CERT_FILE: text().optional().describe('PEM file of the client certificate (mTLS)'),
  TEMPORAL_TLS_KEY_FILE: text().optional().describe('PEM file of the client key (mTLS)'),
  TEMPORAL_UI_URL: z
    .url({ protocol: /^https?$/ })
    .optional()
    .describe(
      'base of the links to workflows that the CLI prints; pages of its origin may have payloads decrypted by the API (/temporal-codec)',
    ),
  TEMPORAL_ENCRYPT_PAYLOADS: flag(true).describe(
    'encrypt what workflows are given and answer with ENCRYPTION_KEY; both kinds can be read either way (npm start sets it to false)',
  ),
  TEMPORAL_WORKER_VERSIONING: flag(false).describe(
    'workers say which version of the workflow code they have, and get what `remit rollout` gives that version (docs/rollouts.md)',
  ),
  WORKER_WORKFLOW_SLOTS: int(40, 1, 10_000).describe('workflow tasks in flight in one worker'),
  WORKER_ACTIVITY_SLOTS: int(100, 1, 10_000).describe('activities in flight in one worker'),
  WORKER_CACHED_WORKFLOWS: int(2_000, 0, 100_000).describe('workflows kept in memory between their tasks'),
  UNKNOWN_TRANSACTION_WAIT_MS: int(10 * MINUTE, 0, 30 * 24 * HOUR).describe(
    'how long an event of an unknown transaction waits for it; run `remit migrate` when it is raised beyond days',
  ),
  DISPUTE_EVIDENCE_DUE_MS: int(7 * 24 * HOUR, 1_000, 365 * 24 * HOUR).describe(
    'how long evidence for a dispute may take when the chargeback names no time',
  ),

  // Webhooks out
  WEBHOOK_SCHEDULE_MS: list()
    .pipe(
      z
        .array(
          z.coerce
            .number<string>()
            .int()
            .min(0)
            .max(7 * 24 * HOUR),
        )
        .min(1)
        .max(50),
    )
    .default([
      0,
      5_000,
      5 * MINUTE,
      30 * MINUTE,
      2 * HOUR,
      5 * HOUR,
      10 * HOUR,
      14 * HOUR,
      20 * HOUR,
      24 * HOUR,
    ])
    .describe('pause before each delivery attempt; its length is the number of attempts'),
  WEBHOOK_TIMEOUT_MS: int(15_000, 100, 60_000).describe('longest delivery attempt'),
  WEBHOOK_CONNECT_TIMEOUT_MS: int(5_000, 100, 60_000).describe('longest TCP and TLS handshake of an attempt'),
  WEBHOOK_RETRY_AFTER_MAX_MS: int(24 * HOUR, 0, 7 * 24 * HOUR).describe(
    'a subscriber’s Retry-After lengthens a pause up to this',
  ),
  WEBHOOK_ALLOWED_PRIVATE_CIDRS: list()
    .pipe(z.array(z.string().refine(isCidr, { error: 'must be CIDRs such as 127.0.0.1/32 or fd00::/8' })))
    .default([])
    .describe('private targets that webhooks may reach, e.g. 127.0.0.1/32; none by default'),
  WEBHOOK_CONCURRENT_ATTEMPTS: int(256, 1, 10_000).describe('delivery attempts in flight in one worker'),
  WEBHOOK_CONCURRENT_PER_SUBSCRIPTION: int(16, 1, 10_000).describe(
    'of these, for one subscription; an eighth for one that is slow',
  ),
  WEBHOOK_THROTTLE_BASE_MS: int(5_000, 100, HOUR).describe(
    'how long nothing is sent to a subscription after a timeout, 429, 502, 503 or 504; it doubles until an attempt succeeds',
  ),
  WEBHOOK_THROTTLE_CAP_MS: int(15 * MINUTE, 100, 24 * HOUR).describe(
    'longest such rest, unless Retry-After asks for more',
  ),
  WEBHOOK_FAILING_ATTEMPT: int(4, 1, 50).describe(
    'when this many attempts of one delivery failed, its subscription is failing and says so by an event',
  ),
  WEBHOOK_PAUSE_AFTER_MS: int(5 * 24 * HOUR, 1_000, 365 * 24 * HOUR).describe(
    'a subscription is paused after this long of nothing but exhausted deliveries',
  ),
  WEBHOOK_SECRET_OVERLAP_MS: int(24 * HOUR, 0, 7 * 24 * HOUR).describe(
    'how long the old secret of a subscription still signs alongside the new one, unless the rotation says otherwise',
  ),
  WEBHOOK_REPLAY_RATE_PER_SECOND: int(50, 1, 10_000).describe('deliveries a second of one replay, at most'),
  WEBHOOK_REPLAYS_MAX_RUNNING: int(10, 1, 1_000).describe('replays of one tenant at a time'),
  EVENT_TYPES_MAX_PER_TENANT: int(1_000, 1, 100_000).describe(
    'event types, and event configs, of one tenant',
  ),
  EVENTS_BATCH_MAX_EVENTS: int(100, 1, 1_000).describe('events in one POST /api/v1/events/batch'),
  EVENT_RETENTION_DAYS: int(90, 1, 3_650).describe(
    'events and their deliveries are kept this long, unless the config of their type says otherwise',
  ),
  SUBSCRIPTIONS_MAX_PER_TENANT: int(1_000, 1, 100_000).describe('subscriptions of one tenant'),
  ENCRYPTION_KEY: encryptionKey()
    .optional()
    .describe('AES-256-GCM key of secrets at rest and of Temporal payloads, 32 bytes in base64'),
  ENCRYPTION_KEYS_OLD: list()
    .pipe(z.array(encryptionKey()))
    .default([])
    .describe('earlier keys, still able to decrypt'),

  // ClickHouse ingest
  CLICKHOUSE_URL: z.url().describe('http(s)://host:8123'),
  CLICKHOUSE_USER: text().default('default').describe('user'),
  CLICKHOUSE_PASSWORD: z.string().default('').describe('password'),
  CLICKHOUSE_DATABASE: text().default('remit').describe('database, created by `remit migrate`'),
  CLICKHOUSE_CLUSTER: text()
    .optional()
    .describe(
      'cluster of replicas on which `remit migrate` creates replicated tables; without it, one server',
    ),
  CLICKHOUSE_REQUEST_TIMEOUT_MS: int(60_000, 1_000, 600_000).describe('longest insert or query'),
  CLICKHOUSE_COMPRESS_REQUESTS: flag(false).describe(
    'gzip inserts; worth it across a network, not on one machine',
  ),
  INGEST_VALIDATION: z
    .enum(['full', 'pass-through'])
    .default('full')
    .describe('full checks every message; pass-through trusts the producer and leaves checks to ClickHouse'),
  INGEST_BATCH_ROWS: int(50_000, 1, 1_000_000).describe(
    'rows of one insert; less than the 1,048,449 up to which a batch is one block',
  ),
  INGEST_BATCH_BYTES: int(16_777_216, 1_024, 268_435_456).describe('bytes of one insert'),
  INGEST_FLUSH_MS: int(1_000, 10, 600_000).describe('a batch is stored at the latest after this long'),
  INGEST_WRITERS: int(3, 1, 64).describe('inserts in flight at a time'),
  INGEST_IN_FLIGHT_BYTES: int(100_663_296, 1_048_576, 17_179_869_184).describe(
    'memory of all batches; then all partitions are paused',
  ),

  // Local stack only (npm start; no role in a container reads these)
  REMIT_DATA_DIR: text()
    .optional()
    .describe('folder of its data, also for the commands that look for it (default: .remit in the project)'),
  REMIT_EMBEDDED_KAFKA_HEAP_MB: int(512, 128, 65_536).describe('memory of the embedded broker, MiB'),
  REMIT_EMBEDDED_CLICKHOUSE_MAX_BODY_MB: int(512, 1, 16_384).describe(
    'largest request body of the embedded ClickHouse, MiB',
  ),
} as const;

type Variables = z.infer<z.ZodObject<typeof shape>> & {
  PROVIDER_SECRET_DECARD: string | undefined;
} & Record<`PROVIDER_SECRET_${string}`, string | undefined>;
export type ConfigKey = keyof Variables;
export type Config = Variables &
  Settings &
  Derived & {
    /** Those that remit comes with, and those of PROVIDERS_FILE. */
    providers: readonly Provider[];
  };

/** Names, descriptions and defaults of every variable, in order: what `.env.example` is generated from. */
export const CONFIG_FIELDS: readonly { name: string; description: string; fallback: unknown }[] =
  Object.entries(shape).map(([name, field]) => {
    const parsed = (field as z.ZodType).safeParse(undefined);
    return { name, description: field.description ?? '', fallback: parsed.success ? parsed.data : undefined };
  });

/** Whether a variable is about the local stack alone, so that deployments have no use for it. */
export const isLocalOnly = (name: string): boolean => name.startsWith('REMIT_');

/** For what is derived from a variable that is wrong: its mistake is told, and no other for its sake. */
const DEFAULTS = Object.fromEntries(
  CONFIG_FIELDS.map(({ name, fallback }) => [name, fallback]),
) as unknown as Variables;
/** What no variable sets. */
const FIXED = [...Object.keys(SETTINGS), ...Object.keys(derivedSettings(DEFAULTS))];

/** All configuration mistakes at once; the process exits 78 (EX_CONFIG) with this message. */
export class ConfigError extends Error {
  readonly exitCode = 78;
}

/**
 * Reads the configuration from an environment. `needs` names the variables this role can't do without; the others may
 * be missing and then read as undefined, so that `remit relay` does not ask for a ClickHouse address.
 * @throws ConfigError that lists every mistake.
 */
export function loadConfig(env: NodeJS.ProcessEnv, needs: readonly ConfigKey[]): Config {
  const given: Record<string, string> = {};
  for (const [name, value] of Object.entries(env))
    if (value !== undefined && value !== '') given[name] = value;
  if (!given['KAFKA_BROKERS'] && given['KAFKA_BROKER']) given['KAFKA_BROKERS'] = given['KAFKA_BROKER'];

  const more =
    given['PROVIDERS_FILE'] === undefined ? NO_MORE : readProvidersFile(callerPath(given['PROVIDERS_FILE']));
  const fields: [string, z.ZodType][] = [...Object.entries(shape), ...secretsOf(more.providers)];
  const needed = new Set<string>(needs);
  // Who needs secrets of providers needs those of the providers that the operator has listed.
  if (needs.some((name) => name.startsWith('PROVIDER_SECRET_')))
    secretsOf(more.providers).forEach(([name]) => needed.add(name));
  const described = new Map(fields);
  const missing = [...needed].filter(
    (name) => given[name] === undefined && isMissed(name, described.get(name), given),
  );
  // One variable at a time: a mistake in one hides none in another, nor what does not go together.
  const config: Record<string, unknown> = { providers: [...BUILT_IN_PROVIDERS, ...more.providers] };
  const invalid: string[] = [];
  for (const [name, field] of fields) {
    const parsed = field.safeParse(given[name]);
    if (parsed.success) config[name] = parsed.data;
    else if (given[name] !== undefined)
      invalid.push(
        ...parsed.error.issues.map(({ path, message }) => `${[name, ...path].join('.')}: ${message}`),
      );
  }
  Object.assign(config, SETTINGS, derivedSettings({ ...DEFAULTS, ...(config as Partial<Variables>) }));
  const mistakes = [
    ...missing.map(
      (name) => `${name} is not set (${described.get(name)?.description ?? 'see .env.example'})`,
    ),
    ...misspelt(
      Object.keys(given),
      fields.map(([name]) => name),
      FIXED,
    ),
    ...more.mistakes,
    ...invalid,
    ...crossFieldMistakes(config as Partial<Config>),
    ...otelMistakes(given),
  ];
  if (mistakes.length > 0)
    throw new ConfigError(
      `The configuration has ${mistakes.length} mistake${mistakes.length > 1 ? 's' : ''}:\n` +
        mistakes.map((mistake) => `  - ${mistake}`).join('\n') +
        '\nEvery variable is described in .env.example.',
    );
  return config as Config;
}

/** Whether a variable is a secret that webhooks to remit are signed with: a provider's, or that of order webhooks. */
export function signsIncomingWebhooks(name: string): boolean {
  return name.startsWith('PROVIDER_SECRET_') || name === 'ORDER_WEBHOOK_SECRET';
}

/** Whether a needed variable that is not set has no default either. Secrets of incoming webhooks may be waived. */
function isMissed(name: string, field: z.ZodType | undefined, given: Record<string, string>): boolean {
  if (signsIncomingWebhooks(name) && /^(false|0)$/.test(given['PROVIDER_SIGNATURES_REQUIRED'] ?? ''))
    return false;
  return field?.safeParse(undefined).data === undefined;
}

/** Variables that each role can't do without. */
export const ROLE_NEEDS = {
  api: [
    'DATABASE_URL',
    'KAFKA_BROKERS',
    'TEMPORAL_ADDRESS',
    'ENCRYPTION_KEY',
    'PROVIDER_SECRET_DECARD',
    'ORDER_WEBHOOK_SECRET',
  ],
  bridge: ['KAFKA_BROKERS', 'TEMPORAL_ADDRESS', 'ENCRYPTION_KEY'],
  worker: ['DATABASE_URL', 'KAFKA_BROKERS', 'TEMPORAL_ADDRESS', 'ENCRYPTION_KEY'],
  relay: ['DATABASE_URL', 'KAFKA_BROKERS'],
  ingest: ['KAFKA_BROKERS', 'CLICKHOUSE_URL'],
  migrate: ['DATABASE_URL', 'KAFKA_BROKERS', 'TEMPORAL_ADDRESS', 'CLICKHOUSE_URL'],
} as const satisfies Record<string, readonly ConfigKey[]>;
