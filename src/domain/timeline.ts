import { formatMinor } from '../contracts/money';
import type { TimelineSubject } from '../contracts/timeline';
import type { Database } from '../platform/postgres';
import { titleOf, workflowOf, type Subject } from './subjects';
import { readDelivery, readEvent, readReplay, readSubscription } from './timeline-deliveries';
import { readDispute, readOrder, readPayment, readUser } from './timeline-money';
import type { Reading } from './timeline-reads';
import { TimelineRecord } from './timeline-record';

/** What PostgreSQL knows of a subject; Temporal and Kafka add to the record. */
export interface TimelineReading {
  subject: Subject;
  /** Why it is in its state. */
  why: string;
  record: TimelineRecord;
}

/**
 * Reads what the database has of a subject that was found for the tenant: what happened, what will, and where else to
 * look. By index, each part limited; reads only.
 */
export async function readTimeline(
  { pool }: Pick<Database, 'pool'>,
  tenantId: string,
  subject: Subject,
): Promise<TimelineReading> {
  const record = new TimelineRecord();
  const reading: Reading = { pool, tenantId, record };
  const why = await READERS[subject.kind](reading, subject);
  return { subject, why, record };
}

/** The subject as the API shows it. */
export function timelineSubject(subject: Subject): TimelineSubject {
  const { kind, id, status, userId, amountMinor, currency, correlationId, at } = subject;
  return {
    ...{ kind, id, status, userId, currency, correlationId },
    title: titleOf(subject),
    amount: amountMinor !== null && currency !== null ? formatMinor(amountMinor, currency) : null,
    createdAt: at.toISOString(),
    workflowId: workflowOf(subject),
  };
}

/** Reads what there is of a subject into the record. @returns why it is in its state. */
type Reader = (reading: Reading, subject: Subject) => Promise<string>;

const READERS: Record<Subject['kind'], Reader> = {
  payment: readPayment,
  payout: readPayment,
  order: readOrder,
  dispute: readDispute,
  event: readEvent,
  delivery: readDelivery,
  subscription: readSubscription,
  replay: readReplay,
  user: readUser,
};
