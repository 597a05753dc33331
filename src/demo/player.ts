import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Kafka } from 'kafkajs';
import { HEADERS } from '../contracts/messages';
import { workflowId } from '../contracts/workflows';
import type { Config } from '../platform/config';
import { headersToStrings, type MessageProducer } from '../platform/kafka';
import { deadLetterTopic, paymentWebhookTopic } from '../platform/topics';
import { postSigned } from '../operations/send';
import { mintToken } from '../operations/token';
import type { WebhookReceiver } from './receiver';
import type { Sample } from './samples';

const WAIT_MS = 30_000;
const POLL_MS = 50;
/** How long the demo goes on looking for a webhook that must not come. */
const SILENCE_MS = 700;
const CURRENCY = 'TRY';

export interface Stage {
  api: string;
  config: Config;
  kafka: Kafka;
  producer: MessageProducer;
  receiver: WebhookReceiver;
  /** Makes users of this run unlike those of earlier ones. */
  run: string;
}

export interface Row {
  title: string;
  answers: number[];
  workflowId: string | null;
  status: string | null;
  balance: string;
  webhooks: { type: string; verified: boolean }[];
  deadLetter: string | null;
  /** What differs from the sample's expectation; empty when the row is right. */
  mistakes: string[];
}

/** Plays one sample through the real doors, as a user, a provider and a subscriber would. */
export class Player {
  constructor(private readonly stage: Stage) {}

  async play(sample: Sample, index: number): Promise<Row> {
    const user = `demo-${this.stage.run}-${index}`;
    await this.call('POST', '/accounts', user, { currency: CURRENCY });
    if (Number(sample.balance) > 0)
      await this.call('POST', '/accounts/topup', user, { amount: sample.balance });

    const row = sample.order
      ? await this.playOrder(sample, user)
      : sample.onTopic !== undefined
        ? await this.playOnTopic(sample.onTopic)
        : await this.playTransaction(sample, user);
    const { balance } = (await this.call('GET', '/accounts/balance', user)).body as { balance: string };
    return { ...row, title: sample.title, balance, mistakes: compare(sample, { ...row, balance }) };
  }

  private async playTransaction(sample: Sample, user: string): Promise<PlayedRow> {
    const { type, amount, reserve } = sample.transaction ?? { type: 'payment', amount: '1' };
    const path = `/api/v1/${type}s`;
    const request = {
      userId: user,
      provider: 'decard',
      amount,
      currency: CURRENCY,
      ...(reserve === undefined ? {} : { reserve }),
    };
    const { id } = (await this.call('POST', path, user, request)).body as { id: string };
    const answers: number[] = [];
    for (const webhook of sample.webhooks) {
      const answer = await postSigned({
        url: this.stage.api,
        secret: this.stage.config.PROVIDER_SECRET_DECARD,
        provider: 'decard',
        body: JSON.stringify(webhook.body).replaceAll('{{transactionId}}', id),
        id: `${webhook.id}-${id}`,
        timeoutMs: WAIT_MS,
      });
      answers.push(answer.status);
    }
    const status = await this.statusOtherThan(`${path}/${id}`, user, 'pending');
    return {
      answers,
      // A transaction that no provider reported on has no workflow.
      workflowId: answers.length > 0 ? workflowId.payment('decard', id) : null,
      status,
      deadLetter: null,
      webhooks: await this.webhooksOf(id, sample),
    };
  }

  private async playOrder(sample: Sample, user: string): Promise<PlayedRow> {
    const answer = await this.call('POST', '/orders', user, { ...sample.order });
    const { id } = answer.body as { id: string };
    const status = await this.statusOtherThan(`/orders/${id}`, user, 'NEW');
    return {
      answers: [answer.status],
      workflowId: workflowId.order(id),
      status,
      deadLetter: null,
      webhooks: await this.webhooksOf(id, sample),
    };
  }

  /** Puts bytes on the provider's topic and waits for what the bridge makes of them: a dead letter. */
  private async playOnTopic(value: string): Promise<PlayedRow> {
    const { config, kafka, producer } = this.stage;
    const topic = paymentWebhookTopic(config, 'decard');
    const key = `malformed-${randomUUID()}`;
    const consumer = kafka.consumer({ groupId: `demo-${randomUUID()}`, allowAutoTopicCreation: false });
    try {
      await consumer.connect();
      await consumer.subscribe({ topic: deadLetterTopic(config, topic), fromBeginning: true });
      const found = new Promise<string>((resolve, reject) => {
        setTimeout(() => reject(new Error('no dead letter came')), WAIT_MS).unref();
        void consumer.run({
          eachMessage: ({ message }) => {
            if (message.key?.toString() === key && message.value?.toString() === value)
              resolve(headersToStrings(message.headers)[HEADERS.deadLetter.errorCode] ?? 'no code');
            return Promise.resolve();
          },
        });
      });
      await producer.send({ topic, key, value });
      return { answers: [], workflowId: null, status: null, deadLetter: await found, webhooks: [] };
    } finally {
      await consumer.disconnect();
    }
  }

  private async statusOtherThan(path: string, user: string, waiting: string): Promise<string> {
    const deadline = Date.now() + WAIT_MS;
    for (;;) {
      const { status } = (await this.call('GET', path, user)).body as { status: string };
      if (status !== waiting || Date.now() > deadline) return status;
      await sleep(POLL_MS);
    }
  }

  /** Waits for the expected webhooks, then a little longer for ones that must not come. */
  private async webhooksOf(subject: string, sample: Sample): Promise<Row['webhooks']> {
    const deadline = Date.now() + WAIT_MS;
    while (this.stage.receiver.of(subject).length < sample.expect.webhooks.length && Date.now() < deadline)
      await sleep(POLL_MS);
    await sleep(SILENCE_MS);
    return this.stage.receiver.of(subject).map(({ type, verified }) => ({ type, verified }));
  }

  /** One API call, as the user or, below /api/v1, as a client of that name. */
  async call(
    method: string,
    path: string,
    user: string,
    body?: unknown,
  ): Promise<{ status: number; body: unknown }> {
    // Users' tokens have no scopes, but to put money into an account takes one; those of clients, for /api/v1, do.
    const scopes = path.startsWith('/api/v1/')
      ? ['read', 'write']
      : path === '/accounts/topup'
        ? ['topup']
        : [];
    const token = await mintToken(this.stage.config, { subject: user, scopes, expiresInS: 600 });
    const response = await fetch(this.stage.api + path, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        'x-user-id': user,
        ...(body ? { 'content-type': 'application/json' } : {}),
      },
      ...(body ? { body: JSON.stringify(body) } : {}),
      signal: AbortSignal.timeout(WAIT_MS),
    });
    const answer: unknown = await response.json();
    if (!response.ok)
      throw new Error(`${method} ${path} was answered ${response.status}: ${JSON.stringify(answer)}`);
    return { status: response.status, body: answer };
  }
}

type PlayedRow = Omit<Row, 'title' | 'balance' | 'mistakes'>;

function compare({ expect }: Sample, row: PlayedRow & { balance: string }): string[] {
  const checks: [string, unknown, unknown][] = [
    ['answers', expect.answers, row.answers],
    ['status', expect.status, row.status],
    ['balance', expect.balance, row.balance],
    ['webhooks', expect.webhooks, row.webhooks.map(({ type }) => type)],
    ['signatures', true, row.webhooks.every(({ verified }) => verified)],
    ['dead letter', expect.deadLetter ?? null, row.deadLetter],
  ];
  return checks
    .filter(([, expected, actual]) => JSON.stringify(expected) !== JSON.stringify(actual))
    .map(
      ([name, expected, actual]) =>
        `${name}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`,
    );
}
