import type { Client } from '@temporalio/client';
import { HEADERS } from '../contracts/messages';
import { SubjectKind, type Timeline, type TimelineEntry, type TimelineNext } from '../contracts/timeline';
import type { MessageRef } from '../contracts/workflows';
import { findExactly, type Subject } from '../domain/subjects';
import { readTimeline, timelineSubject } from '../domain/timeline';
import { amountOf, type LetterKey, type Planned, type TimelineRecord } from '../domain/timeline-record';
import type { Config } from '../platform/config';
import { headersToStrings } from '../platform/kafka';
import { paymentWebhookTopic, deadLetterTopic } from '../platform/topics';
import { readWorkflow, type WorkflowLife } from '../platform/workflow-history';
import { letterSummary, type DeadLetterDesk } from './dead-letter-desk';
import type { ApiDeps } from './routes/route';
import { callTemporal } from './temporal-call';

export type TimelineDeps = Pick<ApiDeps, 'config' | 'database' | 'log' | 'temporal'> & {
  deadLetters: DeadLetterDesk;
};

/** Streams under which provider events are stored. */
export const providerStreams = ({ providers }: Pick<Config, 'providers'>): string[] =>
  [...providers.map(({ name }) => name), 'payments'].flatMap((name) => [
    name,
    `${name}.orders`,
    `${name}.disputes`,
  ]);

/** How long Kafka may take; what it has of a subject is seldom, and the rest of the timeline does not wait for it. */
const KAFKA_ANSWER_MS = 6_000;

/**
 * The timeline of what the tenant has of this id; undefined when there is nothing. Temporal and Kafka are asked within
 * seconds; what they do not answer is noted.
 */
export async function timelineOf(
  deps: TimelineDeps,
  tenantId: string,
  text: string,
): Promise<Timeline | undefined> {
  const found = await findExactly(deps.database, { tenantId, text, providers: providerStreams(deps.config) });
  const rank = ({ kind }: Subject) => SubjectKind.options.indexOf(kind);
  found.sort((a, b) => rank(a) - rank(b));
  const [first, ...others] = found;
  if (!first) return undefined;
  const { subject, why, record } = await readTimeline(deps.database, tenantId, first);
  for (const { kind, id, status } of others)
    if (kind !== first.kind || id !== first.id)
      record.relate({ kind, id }, 'has the same id or reference', status);
  const [letters] = await Promise.all([readLetters(deps, record), readWorkflows(deps, record)]);
  const because = letters.length === 0 ? why : `${why} ${letters.at(-1)}`;
  return {
    at: new Date().toISOString(),
    subject: timelineSubject(subject),
    why: because,
    happened: ordered(record.entries),
    willHappen: soonestFirst(record.planned),
    related: record.related,
    notes: [...record.notes],
  };
}

/** Of the same moment, what caused something comes before it. */
const CAUSES: TimelineEntry['source'][] = [
  ...(['request', 'kafka', 'workflow', 'provider', 'ledger', 'audit', 'state', 'event', 'delivery'] as const),
];
const rank = ({ source }: TimelineEntry) => (CAUSES.indexOf(source) + CAUSES.length) % CAUSES.length;

function ordered(entries: TimelineEntry[]): TimelineEntry[] {
  return entries.sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : rank(a) - rank(b)));
}

function soonestFirst(planned: Planned[]): TimelineNext[] {
  return planned
    .sort((a, b) => (a.at ?? '9').localeCompare(b.at ?? '9'))
    .map(({ workflowId: _, ...next }) => next);
}

// ---------------------------------------------------------------------------------------------------- Temporal

async function readWorkflows(deps: TimelineDeps, record: TimelineRecord): Promise<void> {
  if (record.workflows.size === 0) return;
  try {
    await callTemporal(deps, [...record.workflows.keys()].join(','), async (client: Client) => {
      for (const [id, subject] of record.workflows) {
        const life = await readWorkflow(client, id);
        if (life) tellWorkflow(record, life, subject);
      }
    });
  } catch {
    record.notes.add('Temporal did not answer: what its workflows did and wait for is missing');
  }
}

function tellWorkflow(
  record: TimelineRecord,
  { workflowId, runId, status, events, pending, continued, cut }: WorkflowLife,
  subject: { kind: Subject['kind']; id: string },
): void {
  if (continued) record.notes.add(`${workflowId} went on in new runs: former ones are not shown`);
  if (cut) record.notes.add(`only the first events of ${workflowId} are shown`);
  for (const { at, eventId, kind, what, argument } of events) {
    const level = kind === 'failure' || kind === 'stuck' ? 'error' : 'info';
    const message = messageOf(argument);
    if (message) tellMessage(record, message, subject);
    record.add(at, 'workflow', `${workflowId}: ${what}`, {
      level,
      subject,
      correlationId: message?.correlationId ?? null,
      details: { workflowId, runId, eventId },
    });
  }
  if (status !== 'running') return;
  for (const { at, what, failure } of pending) {
    const waiting = record.planned.find((each) => each.workflowId === workflowId && each.at === null);
    if (failure !== null) {
      record.plan({ at, what: `${what}: ${failure}`, waitsFor: 'worker', subject, actions: [] });
    } else if (waiting && at !== null) {
      waiting.at = at.toISOString();
    }
  }
}

/** What a bridge hands to a workflow: where it lies in Kafka, and what it says. */
interface SignalledMessage {
  source: MessageRef;
  correlationId: string | null;
  receivedAt: string | null;
  provider: string | null;
  said: string;
}

function messageOf(argument: unknown): SignalledMessage | undefined {
  if (typeof argument !== 'object' || argument === null) return undefined;
  const nested = argument as { request?: unknown; event?: unknown };
  const message = (nested.request ?? nested.event ?? argument) as Record<string, unknown>;
  const source = message['source'] as MessageRef | undefined;
  if (typeof source?.topic !== 'string' || typeof source.timestampMs !== 'number') return undefined;
  const text = (name: string) => (typeof message[name] === 'string' ? message[name] : null);
  const amount = text('amountMinor');
  const currency = text('currency');
  const said = [text('status') ?? 'payment request', amount && currency ? amountOf(amount, currency) : null];
  return {
    source,
    correlationId: text('correlationId'),
    receivedAt: text('receivedAt'),
    provider: text('provider'),
    said: said.filter((part) => part !== null).join(', '),
  };
}

function tellMessage(
  record: TimelineRecord,
  { source, correlationId, receivedAt, provider, said }: SignalledMessage,
  subject: { kind: Subject['kind']; id: string },
): void {
  const { topic, partition, offset, timestampMs } = source;
  const known = record.entries.some(
    ({ source: of, details }) =>
      of === 'kafka' &&
      details['topic'] === topic &&
      details['partition'] === partition &&
      details['offset'] === offset,
  );
  if (known) return;
  if (receivedAt !== null && provider !== null)
    record.add(new Date(receivedAt), 'request', `a webhook of ${provider} came: ${said}`, {
      subject,
      correlationId,
    });
  record.add(new Date(timestampMs), 'kafka', `${said} lies at ${topic}/${partition}@${offset}`, {
    subject,
    correlationId,
    details: { topic, partition, offset },
  });
}

// ---------------------------------------------------------------------------------------------------- dead letters

function sourceTopic(config: Config, { of, provider }: LetterKey): string {
  switch (of) {
    case 'payments':
      return paymentWebhookTopic(config, provider ?? '');
    case 'order-webhooks':
      return config.TOPIC_WEBHOOKS_ORDERS;
    case 'disputes':
      return config.TOPIC_WEBHOOKS_DISPUTES;
    case 'payment-requests':
      return config.TOPIC_PAYMENT_REQUEST;
    case 'events':
      return config.TOPIC_EVENTS;
  }
}

/** @returns a sentence for each letter that waits. */
async function readLetters(
  { config, deadLetters, log }: TimelineDeps,
  record: TimelineRecord,
): Promise<string[]> {
  const told: string[] = [];
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error('late')), KAFKA_ANSWER_MS);
  });
  const read = async () => {
    for (const letter of record.letters) {
      const dlq = deadLetterTopic(config, sourceTopic(config, letter));
      for (const found of await deadLetters.ofKey(dlq, letter.key)) {
        const { message, waits } = found;
        const { code, reason, id } = letterSummary(message, waits);
        const { [HEADERS.correlationId]: correlationId } = headersToStrings(message.headers);
        const what = `a message was dead-lettered, ${code}: ${reason}${waits ? '' : ' (redriven or given up since)'}`;
        record.add(new Date(message.timestampMs), 'dead_letter', what, {
          level: waits ? 'error' : 'warning',
          correlationId: correlationId ?? null,
          details: { topic: dlq, partition: message.partition, offset: message.offset, code, reason, waits },
        });
        if (!waits) continue;
        told.push(`A message of it waits in ${dlq}: ${code}, ${reason}.`);
        const path = `/api/v1/dead-letters/${encodeURIComponent(dlq)}/redrive`;
        record.plan({
          at: null,
          what: `the dead letter ${dlq}/${message.partition}@${message.offset} (${code}) waits to be redriven or given up`,
          waitsFor: 'operator',
          subject: [...record.workflows.values()][0] ?? { kind: 'event', id: letter.key },
          actions: [
            {
              effect: 'mend',
              label: 'Redrive it, once its cause is fixed',
              method: 'POST',
              path,
              body: { letters: [id] },
              command: `remit dlq redrive ${dlq}`,
            },
          ],
        });
      }
    }
  };
  try {
    await Promise.race([read(), late]);
  } catch (error) {
    log.debug({ err: error }, 'dead letters could not be read for a timeline');
    record.notes.add('Kafka did not answer in time: dead letters are missing here');
  } finally {
    clearTimeout(timer);
  }
  return told;
}
