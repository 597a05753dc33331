import { WorkflowNotFoundError, type Client } from '@temporalio/client';
import type { Payload } from '@temporalio/common';
import { encryptionOf } from './payload-encryption';

/** Temporal's events of the latest run that are read; a run continues as a new one long before (HISTORY_EVENTS_MAX). */
const EVENTS_MAX = 5_000;
const PAGE_EVENTS = 1_000;

/** One event of a workflow that says something to people. */
export interface WorkflowEvent {
  at: Date;
  eventId: string;
  kind:
    | 'started'
    | 'signal'
    | 'update'
    | 'step'
    | 'failure'
    | 'timer'
    | 'child'
    | 'ended'
    | 'continued'
    | 'stuck';
  what: string;
  /** The first argument of a signal, as JSON. */
  argument?: unknown;
}

/** What a workflow was and will do, as Temporal knows it. */
export interface WorkflowLife {
  workflowId: string;
  runId: string;
  status: string;
  /** Former runs of the same id are not read. */
  continued: boolean;
  events: WorkflowEvent[];
  /** Timers that run, and activities that are tried again. */
  pending: { at: Date | null; what: string; failure: string | null }[];
  /** There are more events than were read. */
  cut: boolean;
}

type Response = Awaited<ReturnType<Client['workflowService']['getWorkflowExecutionHistory']>>;
type HistoryEvent = NonNullable<NonNullable<Response['history']>['events']>[number];
type Time = HistoryEvent['eventTime'];
type Payloads = NonNullable<NonNullable<HistoryEvent['workflowExecutionSignaledEventAttributes']>['input']>;

/** A time of Temporal's API as milliseconds since 1970. */
export const msOf = (time: Time): number =>
  Number(time?.seconds ?? 0) * 1_000 + Math.floor((time?.nanos ?? 0) / 1e6);

/** Decrypts a payload; one that is in clear stays as it is. */
type Open = (payload: Payload) => Payload;

export function openerOf(client: Client): Open {
  const encryption = encryptionOf(client);
  return (payload) => encryption?.decodeOne(payload) ?? payload;
}

function valueOf(payload: Payload | null | undefined, open: Open): unknown {
  if (!payload?.data) return undefined;
  try {
    return JSON.parse(Buffer.from(open(payload).data ?? []).toString('utf8'));
  } catch {
    return undefined;
  }
}

const firstOf = (payloads: Payloads | null | undefined, open: Open): unknown =>
  valueOf(payloads?.payloads?.[0], open);

type Failure = NonNullable<HistoryEvent['activityTaskFailedEventAttributes']>['failure'];

/** The innermost cause says what happened; what is around it says where. */
export function failureText(failure: Failure | undefined, open: Open): string {
  let innermost = failure;
  while (innermost?.cause) innermost = innermost.cause;
  const encoded = valueOf(innermost?.encodedAttributes, open) as { message?: unknown } | undefined;
  const message = typeof encoded?.message === 'string' ? encoded.message : innermost?.message;
  return (message ?? 'no reason given').slice(0, 500);
}

/**
 * Reads the latest run of a workflow: what has happened in it, and what it waits for. Undefined when there is none, or
 * Temporal does not keep it any more.
 * @throws what the client throws when Temporal does not answer.
 */
export async function readWorkflow(client: Client, workflowId: string): Promise<WorkflowLife | undefined> {
  const { namespace } = client.options;
  const open = openerOf(client);
  try {
    const described = await client.workflowService.describeWorkflowExecution({
      namespace,
      execution: { workflowId },
    });
    const info = described.workflowExecutionInfo;
    const runId = info?.execution?.runId ?? '';
    const history: HistoryEvent[] = [];
    let nextPageToken: Uint8Array | null | undefined;
    do {
      const page: Response = await client.workflowService.getWorkflowExecutionHistory({
        namespace,
        execution: { workflowId, runId },
        maximumPageSize: PAGE_EVENTS,
        ...(nextPageToken && { nextPageToken }),
      });
      history.push(...(page.history?.events ?? []));
      nextPageToken = page.nextPageToken;
    } while (nextPageToken && nextPageToken.length > 0 && history.length < EVENTS_MAX);
    return {
      workflowId,
      runId,
      status: STATUS[Number(info?.status ?? 0)] ?? 'unknown',
      continued: Boolean(history[0]?.workflowExecutionStartedEventAttributes?.continuedExecutionRunId),
      events: history.flatMap((event) => eventOf(event, open)),
      pending: [
        ...runningTimers(history),
        ...(described.pendingActivities ?? []).flatMap((activity) =>
          activity.lastFailure
            ? [
                {
                  at: activity.scheduledTime ? new Date(msOf(activity.scheduledTime)) : null,
                  what: `${activity.activityType?.name ?? 'an activity'} is tried again (try ${activity.attempt ?? '?'})`,
                  failure: failureText(activity.lastFailure, open),
                },
              ]
            : [],
        ),
      ],
      cut: Boolean(nextPageToken && nextPageToken.length > 0),
    };
  } catch (error) {
    if (error instanceof WorkflowNotFoundError || isNotFound(error)) return undefined;
    throw error;
  }
}

/** gRPC's code of what is not there. */
const NOT_FOUND = 5;
const isNotFound = (error: unknown): boolean =>
  typeof error === 'object' && error !== null && 'code' in error && error.code === NOT_FOUND;

/** WorkflowExecutionStatus of Temporal's API. */
const STATUS = 'unknown,running,completed,failed,cancelled,terminated,continued,timed out'.split(',');

function runningTimers(history: HistoryEvent[]): WorkflowLife['pending'] {
  const running = new Map<string, Date>();
  for (const event of history) {
    const started = event.timerStartedEventAttributes;
    if (started)
      running.set(String(event.eventId), new Date(msOf(event.eventTime) + msOf(started.startToFireTimeout)));
    const over = event.timerFiredEventAttributes ?? event.timerCanceledEventAttributes;
    if (over) running.delete(String(over.startedEventId));
  }
  return [...running.values()].map((at) => ({ at, what: 'a timer of its workflow', failure: null }));
}

function eventOf(event: HistoryEvent, open: Open): WorkflowEvent[] {
  const told = (kind: WorkflowEvent['kind'], what: string, argument?: unknown): WorkflowEvent[] => [
    {
      at: new Date(msOf(event.eventTime)),
      eventId: String(event.eventId),
      kind,
      what,
      ...(argument !== undefined && { argument }),
    },
  ];
  const {
    workflowExecutionStartedEventAttributes: started,
    workflowExecutionSignaledEventAttributes: signaled,
    workflowExecutionUpdateAcceptedEventAttributes: updated,
    markerRecordedEventAttributes: marker,
    activityTaskFailedEventAttributes: failed,
    activityTaskTimedOutEventAttributes: late,
    workflowTaskFailedEventAttributes: stuck,
    timerStartedEventAttributes: timer,
    startChildWorkflowExecutionInitiatedEventAttributes: child,
  } = event;
  if (started)
    return told(
      'started',
      started.continuedExecutionRunId ? 'its workflow went on in a new run' : 'its workflow began',
      firstOf(started.input, open),
    );
  if (signaled) return told('signal', `signal ${signaled.signalName ?? ''}`, firstOf(signaled.input, open));
  if (updated)
    return told(
      'update',
      `update ${updated.acceptedRequest?.input?.name ?? ''}`,
      firstOf(updated.acceptedRequest?.input?.args, open),
    );
  if (marker?.markerName === 'core_local_activity') {
    const data = firstOf(marker.details?.['data'], open) as { activity_type?: string } | undefined;
    const name = data?.activity_type ?? 'a step';
    return marker.failure
      ? told('failure', `${name} failed: ${failureText(marker.failure, open)}`)
      : told('step', `${name} was done`);
  }
  if (failed) return told('failure', `an activity failed: ${failureText(failed.failure, open)}`);
  if (late) return told('failure', `an activity timed out: ${failureText(late.failure, open)}`);
  if (stuck?.failure)
    return told('stuck', `a worker could not continue the workflow: ${failureText(stuck.failure, open)}`);
  if (timer) {
    const until = new Date(msOf(event.eventTime) + msOf(timer.startToFireTimeout));
    return told('timer', `it waits, until ${until.toISOString()} at the latest`);
  }
  if (child) return told('child', `it started the workflow ${child.workflowId ?? ''}`);
  if (event.timerFiredEventAttributes) return told('timer', 'the time that it waited for was over');
  return endOf(event, open, told);
}

function endOf(
  event: HistoryEvent,
  open: Open,
  told: (kind: WorkflowEvent['kind'], what: string) => WorkflowEvent[],
): WorkflowEvent[] {
  if (event.workflowExecutionCompletedEventAttributes) return told('ended', 'its workflow was done');
  if (event.workflowExecutionFailedEventAttributes)
    return told(
      'stuck',
      `its workflow failed: ${failureText(event.workflowExecutionFailedEventAttributes.failure, open)}`,
    );
  if (event.workflowExecutionCanceledEventAttributes) return told('ended', 'its workflow was cancelled');
  if (event.workflowExecutionTerminatedEventAttributes)
    return told(
      'ended',
      `its workflow was terminated: ${event.workflowExecutionTerminatedEventAttributes.reason ?? ''}`,
    );
  if (event.workflowExecutionContinuedAsNewEventAttributes)
    return told('continued', 'its workflow goes on in a new run');
  return [];
}
