import { formatMinor } from '../contracts/money';
import type {
  SubjectRef,
  TimelineAction,
  TimelineEntry,
  TimelineNext,
  TimelineSource,
} from '../contracts/timeline';

/** What will happen, and the workflow that knows when, where the database does not. */
export interface Planned extends TimelineNext {
  workflowId: string | null;
}

/** A dead letter that may be about the subject: of which messages, under which key. */
export interface LetterKey {
  of: 'payments' | 'order-webhooks' | 'disputes' | 'payment-requests' | 'events';
  provider: string | null;
  key: string;
}

interface More {
  level?: TimelineEntry['level'];
  subject?: SubjectRef | null;
  correlationId?: string | null;
  details?: Record<string, unknown>;
}

/** Collects what timelines are made of. */
export class TimelineRecord {
  readonly entries: TimelineEntry[] = [];
  readonly planned: Planned[] = [];
  readonly related: (SubjectRef & { status: string | null; relation: string })[] = [];
  readonly notes = new Set<string>();
  /** Workflows whose history belongs to it, and what they are about. */
  readonly workflows = new Map<string, SubjectRef>();
  readonly letters: LetterKey[] = [];

  add(
    at: Date,
    source: TimelineSource,
    what: string,
    { level = 'info', subject = null, correlationId = null, details = {} }: More,
  ): void {
    this.entries.push({ at: at.toISOString(), source, level, what, subject, correlationId, details });
  }

  plan(next: Omit<TimelineNext, 'at'> & { at: Date | null; workflowId?: string }): void {
    const { workflowId = null, at, ...rest } = next;
    this.planned.push({ ...rest, at: at?.toISOString() ?? null, workflowId });
  }

  relate(subject: SubjectRef, relation: string, status: string | null): void {
    if (!this.related.some(({ kind, id }) => kind === subject.kind && id === subject.id))
      this.related.push({ ...subject, relation, status });
  }
}

/** Amounts as people read them. */
export const amountOf = (minor: bigint | string, currency: string): string =>
  `${formatMinor(BigInt(minor), currency)} ${currency}`;

/** Times as people read them; ? where none is known. */
export const iso = (at: Date | null): string => at?.toISOString() ?? '?';

/** A request of the API that hurries, stops or repairs something, and the command that does the same. */
export function action(
  effect: TimelineAction['effect'],
  label: string,
  path: string | null,
  { command, body = null }: { command: string; body?: Record<string, unknown> | null },
): TimelineAction {
  return { effect, label, method: path === null ? null : 'POST', path, body, command };
}

/** The request as a command line, for actions that have no command of their own. */
export function curlOf(path: string, body?: Record<string, unknown>): string {
  const data = body === undefined ? '' : ` -H 'content-type: application/json' -d '${JSON.stringify(body)}'`;
  return `curl -X POST -H "Authorization: Bearer $(remit token)"${data} $REMIT_URL${path}`;
}
