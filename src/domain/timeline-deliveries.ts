import { refOf, titleOf, workflowOf, type Subject } from './subjects';
import { readAudit, readDeliveries, readEvents, readRelated, type Reading } from './timeline-reads';
import { action, curlOf, iso } from './timeline-record';

/** The timelines of events and of what is sent of them; each answers why its subject is in its state. */

export async function readEvent(reading: Reading, subject: Subject): Promise<string> {
  await readEvents(reading, [subject.id]);
  const { rows } = await reading.pool.query<{ status: string; count: string }>(
    'SELECT status, count(*) FROM deliveries WHERE event_id = $1 AND tenant_id = $2 GROUP BY status ORDER BY status',
    [subject.id, reading.tenantId],
  );
  await readRelated(reading, 'delivery', 'its delivery', [
    'event_id = $2 ORDER BY created_at DESC',
    subject.id,
  ]);
  if (subject.status === 'waiting') return 'It is stored, and waits to be handed out to its subscribers.';
  return rows.length === 0
    ? 'No subscription wanted it, or its type is not enabled.'
    : `It was handed out: ${rows.map(({ status, count }) => `${count} ${status}`).join(', ')}.`;
}

export async function readDelivery(reading: Reading, subject: Subject): Promise<string> {
  const { record } = reading;
  const [delivery] = await readDeliveries(reading, 'd.id = $2', [subject.id]);
  await readAudit(reading, [`delivery:${subject.id}`], refOf(subject));
  const workflow = workflowOf(subject);
  if (workflow !== null && (delivery?.attempts ?? 0) > 1) record.workflows.set(workflow, refOf(subject));
  await readRelated(reading, 'event', 'of the event', ['id = $2', subject.eventId]);
  await readRelated(reading, 'subscription', 'for the subscription', ['id = $2', subject.subscriptionId]);
  const planned = record.planned[0];
  if (subject.status === 'delivered') return `It was delivered after ${delivery?.attempts ?? 0} attempts.`;
  return planned === undefined
    ? `It is ${subject.status}.`
    : `It is ${subject.status}. Next: ${planned.what}.`;
}

export async function readSubscription(reading: Reading, subject: Subject): Promise<string> {
  const { pool, record } = reading;
  const { id } = subject;
  const ref = refOf(subject);
  const { rows } = await pool.query<{
    stateReason: string | null;
    changedAt: Date;
    throttledUntil: Date | null;
    missedSince: Date | null;
  }>(
    `SELECT state_reason AS "stateReason", state_changed_at AS "changedAt", throttled_until AS "throttledUntil",
            missed_since AS "missedSince" FROM subscriptions WHERE id = $1`,
    [id],
  );
  const row = rows[0]!;
  record.add(subject.at, 'request', `the ${titleOf(subject)} was made`, { subject: ref });
  const reason = row.stateReason === null ? '' : ` (${row.stateReason})`;
  if (row.changedAt.getTime() > subject.at.getTime())
    record.add(row.changedAt, 'state', `it became ${subject.status}${reason}`, {
      subject: ref,
      level: subject.status === 'active' ? 'info' : 'warning',
    });
  await readAudit(reading, [`subscription:${id}`], ref);
  // The oldest that wait: what is next is among them.
  await readDeliveries(
    reading,
    `d.id IN (SELECT id FROM deliveries WHERE subscription_id = $2 AND status = 'pending' ORDER BY created_at, id LIMIT 10)`,
    [id],
  );
  await readRelated(reading, 'replay', 'replay', [
    `subscription_id = $2 AND status IN ('running', 'paused') ORDER BY created_at DESC`,
    id,
  ]);
  if (subject.status !== 'paused' && subject.status !== 'disabled')
    return `It is ${subject.status}${reason}.`;
  const path = `/api/v1/subscriptions/${id}/resume`;
  const body = { missed: true };
  record.plan({
    at: null,
    what: `nothing is sent until it is resumed; it has been missing events since ${iso(row.missedSince ?? row.changedAt)}`,
    waitsFor: 'operator',
    subject: ref,
    actions: [action('mend', 'Resume it with what it missed', path, { body, command: curlOf(path, body) })],
  });
  return `It is ${subject.status}${reason} since ${iso(row.changedAt)}.`;
}

export async function readReplay(reading: Reading, subject: Subject): Promise<string> {
  const { pool, record } = reading;
  const { id } = subject;
  const ref = refOf(subject);
  const { rows } = await pool.query<{
    since: Date;
    until: Date;
    examined: string;
    replayed: string;
    reachedAt: Date | null;
    finishedAt: Date | null;
    statusReason: string | null;
    actor: string;
    rate: number;
  }>(
    `SELECT since, until, examined, replayed, reached_at AS "reachedAt", finished_at AS "finishedAt",
            status_reason AS "statusReason", actor, rate_per_second AS rate FROM replays WHERE id = $1`,
    [id],
  );
  const row = rows[0]!;
  record.add(
    subject.at,
    'request',
    `${row.actor} asked for the ${titleOf(subject)}, from ${iso(row.since)} to ${iso(row.until)}`,
    {
      subject: ref,
    },
  );
  if (row.finishedAt !== null)
    record.add(
      row.finishedAt,
      'state',
      `it ended: ${subject.status}${row.statusReason === null ? '' : ` (${row.statusReason})`}`,
      {
        subject: ref,
      },
    );
  const workflow = workflowOf(subject);
  if (workflow !== null) record.workflows.set(workflow, ref);
  await readRelated(reading, 'subscription', 'for the subscription', ['id = $2', subject.subscriptionId]);
  const sent = `${row.replayed} of ${row.examined} deliveries looked at were sent again`;
  if (row.finishedAt !== null) return `It is ${subject.status}: ${sent}.`;
  const path = `/api/v1/replays/${id}`;
  const verb = subject.status === 'paused' ? 'resume' : 'pause';
  record.plan({
    at: null,
    what:
      subject.status === 'paused'
        ? 'it waits to be resumed'
        : `it goes on, at no more than ${row.rate} a second, until ${iso(row.until)} is reached`,
    waitsFor: subject.status === 'paused' ? 'operator' : 'worker',
    subject: ref,
    actions: [
      action(
        verb === 'resume' ? 'hurry' : 'stop',
        `${verb === 'resume' ? 'Resume' : 'Pause'} it`,
        `${path}/${verb}`,
        {
          command: curlOf(`${path}/${verb}`),
        },
      ),
      action('stop', 'End it', `${path}/cancel`, { command: curlOf(`${path}/cancel`) }),
    ],
    ...(workflow !== null && { workflowId: workflow }),
  });
  return `It is ${subject.status}: ${sent}, up to ${iso(row.reachedAt)}.`;
}
