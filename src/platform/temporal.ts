import { readFile } from 'node:fs/promises';
import {
  Client,
  Connection,
  isGrpcServiceError,
  ServiceError,
  type ConnectionOptions,
} from '@temporalio/client';
import { NativeConnection } from '@temporalio/worker';
import { SEARCH_ATTRIBUTES } from '../contracts/workflows';
import type { Config } from './config';
import { dataConverterOf, type PayloadConfig } from './payload-encryption';
import { clientTracing } from './temporal-tracing';

type TemporalConfig = PayloadConfig &
  Pick<
    Config,
    | 'TEMPORAL_ADDRESS'
    | 'TEMPORAL_API_KEY'
    | 'TEMPORAL_TLS'
    | 'TEMPORAL_TLS_CA_FILE'
    | 'TEMPORAL_TLS_CERT_FILE'
    | 'TEMPORAL_TLS_KEY_FILE'
  >;

const CONNECT_TIMEOUT_MS = 5_000;

async function connectionOptions(config: TemporalConfig) {
  const { TEMPORAL_TLS_CA_FILE: ca, TEMPORAL_TLS_CERT_FILE: cert, TEMPORAL_TLS_KEY_FILE: key } = config;
  const wantsTls = config.TEMPORAL_TLS || Boolean(config.TEMPORAL_API_KEY ?? ca ?? cert);
  const tls = wantsTls
    ? {
        ...(ca ? { serverRootCACertificate: await readFile(ca) } : {}),
        ...(cert && key ? { clientCertPair: { crt: await readFile(cert), key: await readFile(key) } } : {}),
      }
    : false;
  return {
    address: config.TEMPORAL_ADDRESS,
    tls,
    ...(config.TEMPORAL_API_KEY ? { apiKey: config.TEMPORAL_API_KEY } : {}),
  } satisfies ConnectionOptions;
}

/** A client that connects when it is used; the caller closes its `connection`. Each call tells whether it got through. */
export async function openTemporal(config: TemporalConfig): Promise<Client> {
  const connection = Connection.lazy({
    ...(await connectionOptions(config)),
    connectTimeout: CONNECT_TIMEOUT_MS,
    // gRPC would wait up to two minutes before it looks whether a server is back.
    channelArgs: { 'grpc.initial_reconnect_backoff_ms': 200, 'grpc.max_reconnect_backoff_ms': 2_000 },
  });
  return new Client({
    connection,
    namespace: config.TEMPORAL_NAMESPACE,
    dataConverter: dataConverterOf(config),
    ...clientTracing(),
  });
}

/** Connects a client; the caller closes its `connection`. Rejects when the frontend can't be reached. */
export async function connectTemporal(config: TemporalConfig): Promise<Client> {
  const client = await openTemporal(config);
  await (client.connection as Connection).ensureConnected();
  return client;
}

/** Status codes of gRPC, by their numbers on the wire. */
const GRPC = { NOT_FOUND: 5, PERMISSION_DENIED: 7, UNIMPLEMENTED: 12, UNAUTHENTICATED: 16 };

/** Why connecting to Temporal, or asking for its namespace, failed, and what an operator can do about it. */
export function whyNoTemporal(
  error: unknown,
  {
    TEMPORAL_ADDRESS: at,
    TEMPORAL_NAMESPACE: namespace,
  }: Pick<Config, 'TEMPORAL_ADDRESS' | 'TEMPORAL_NAMESPACE'>,
): string {
  const cause = error instanceof ServiceError ? error.cause : error;
  const code = isGrpcServiceError(cause) ? Number(cause.code) : undefined;
  const message = cause instanceof Error ? cause.message : String(cause);
  if (code === GRPC.NOT_FOUND)
    return `${at} has no namespace ${namespace}: create it, or correct TEMPORAL_NAMESPACE`;
  if (code === GRPC.PERMISSION_DENIED || code === GRPC.UNAUTHENTICATED)
    return `${at} refuses TEMPORAL_API_KEY or the client certificate (${message})`;
  return `no answer from ${at} (${message}): is it up, are TEMPORAL_ADDRESS and TEMPORAL_TLS right?`;
}

/** Whether the server has no such thing, or has it no more. */
export const isNotFound = (error: unknown): boolean =>
  isGrpcServiceError(error) && Number(error.code) === GRPC.NOT_FOUND;

/** Whether the server is too old, or too simple, for a call. */
export const isUnimplemented = (error: unknown): boolean =>
  isGrpcServiceError(error) && Number(error.code) === GRPC.UNIMPLEMENTED;

/** What the server said, which the SDK's own message leaves out: "Failed to list workflows". */
export function messageOfTemporal(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const cause = error instanceof ServiceError ? error.cause : undefined;
  return isGrpcServiceError(cause) ? `${message}: ${cause.details || cause.message}` : message;
}

/** Connects the native client that workers run on; the caller closes it. */
export async function connectTemporalWorker(config: TemporalConfig): Promise<NativeConnection> {
  return NativeConnection.connect(await connectionOptions(config));
}

const CHECK_TIMEOUT_MS = 5_000;

/** Rejects when Temporal's frontend does not serve the client's namespace, or does not answer within five seconds. */
export async function checkTemporal(client: Client): Promise<void> {
  await client.withDeadline(Date.now() + CHECK_TIMEOUT_MS, () => describeNamespace(client));
}

async function describeNamespace(client: Client): Promise<void> {
  await client.workflowService.describeNamespace({ namespace: client.options.namespace });
}

/** Registers the search attributes that workflows use. Idempotent. An unregistered one would wedge a workflow. */
export async function registerSearchAttributes(client: Client): Promise<string[]> {
  const { operatorService } = client.connection as Connection;
  const existing = await operatorService.listSearchAttributes({ namespace: client.options.namespace });
  const missing = Object.keys(SEARCH_ATTRIBUTES).filter(
    (name) => !(name in (existing.customAttributes ?? {})),
  );
  if (missing.length > 0) {
    const KEYWORD = 2;
    await operatorService.addSearchAttributes({
      namespace: client.options.namespace,
      searchAttributes: Object.fromEntries(missing.map((name) => [name, KEYWORD])),
    });
  }
  return missing;
}
