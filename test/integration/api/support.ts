import { randomUUID } from 'node:crypto';
import { Problem } from '../../../src/contracts/http';
import { startApi } from '../../../src/roles/api';
import { startBridge } from '../../../src/roles/bridge';
import { startRelay } from '../../../src/roles/relay';
import { mintToken } from '../../../src/operations/token';
import { startWorker } from '../../../src/roles/worker';
import { signedHeaders } from '../../support/callers';
import { createTestSpace, runRoles, type RunningRoles, type TestSpace } from '../../support/harness';

/** An answer of the API, read to its end. */
export interface Reply {
  status: number;
  headers: Headers;
  /** The JSON body; undefined when there is none. */
  body: unknown;
}

/** The API role on the real parts, and the ways to call it. */
export class TestApi {
  private constructor(
    readonly space: TestSpace,
    readonly running: RunningRoles<{ url: string }>,
  ) {}

  static async start(env: Record<string, string> = {}): Promise<TestApi> {
    const space = await createTestSpace({ env, topics: true });
    return new TestApi(space, await runRoles(space, startApi));
  }

  /** With bridge, worker and relay beside it: what it accepts is carried out. */
  static async withWorkers(env: Record<string, string> = {}): Promise<TestApi> {
    const space = await createTestSpace({ env, topics: true, temporal: true });
    const running = await runRoles(space, async (context) => {
      const api = await startApi(context);
      await Promise.all([startBridge(context), startWorker(context), startRelay(context)]);
      return api;
    });
    return new TestApi(space, running);
  }

  /** Of roles that run already. */
  static of(space: TestSpace, running: RunningRoles<{ url: string }>): TestApi {
    return new TestApi(space, running);
  }

  get url(): string {
    return this.running.started.url;
  }

  stop(): Promise<void> {
    return this.running.stop();
  }

  async call(
    method: string,
    path: string,
    headers: Record<string, string> = {},
    body?: unknown,
  ): Promise<Reply> {
    const response = await fetch(this.url + path, {
      method,
      redirect: 'manual',
      headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      body: text === '' ? undefined : (JSON.parse(text) as unknown),
    };
  }

  /** As a user behind the gateway. */
  asUser(userId: string, method: string, path: string, body?: unknown): Promise<Reply> {
    return this.call(method, path, { 'x-user-id': userId }, body);
  }

  /** With a token of these scopes and this tenant. */
  async withToken(
    {
      scopes = ['read', 'write'],
      tenant,
      subject = 'operator',
    }: { scopes?: string[]; tenant?: string; subject?: string },
    method: string,
    path: string,
    body?: unknown,
  ): Promise<Reply> {
    const token = await mintToken(this.space.config, { subject, tenant, scopes, expiresInS: 300 });
    return this.call(method, path, { authorization: `Bearer ${token}` }, body);
  }

  /** As the operator of the default tenant. */
  operator(method: string, path: string, body?: unknown): Promise<Reply> {
    return this.withToken({}, method, path, body);
  }

  /** A provider's webhook, signed over exactly this text. */
  webhook(body: string, headers: Record<string, string> = {}): Promise<Reply> {
    return this.call('POST', '/webhooks/providers/decard', { ...this.sign(body), ...headers }, body);
  }

  sign(
    body: string,
    id = `msg_${randomUUID()}`,
    at = new Date(),
    secret = this.space.config.PROVIDER_SECRET_DECARD!,
  ): Record<string, string> {
    return signedHeaders(secret, body, id, at);
  }

  /** Opens an account with so much money in it. */
  async fund(userId: string, amount: string): Promise<void> {
    const currency = 'TRY';
    await this.asUser(userId, 'POST', '/accounts', { currency });
    await this.asUser(userId, 'POST', '/accounts/topup', { amount, currency });
  }
}

export const newUser = () => `user-${randomUUID()}`;

/** Checks that an answer is a problem document of this status and code, and returns it. */
export function expectProblem(reply: Reply, status: number, code: string): Problem {
  expect(reply.headers.get('content-type')).toBe('application/problem+json');
  const problem = Problem.parse(reply.body);
  expect({ status: reply.status, code: problem.code }).toEqual({ status, code });
  expect(problem.status).toBe(status);
  expect(problem.correlationId).toBe(reply.headers.get('x-correlation-id'));
  return problem;
}
