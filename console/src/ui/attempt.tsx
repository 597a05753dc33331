import { useQuery } from '@tanstack/react-query';
import { api, ok, type Schemas } from '../lib/api';
import { duration, pretty } from '../lib/format';
import { Code, Failure, Loading, Panel, Status, Time } from './basics';

type Delivery = Schemas['Delivery'];

/** What the last attempt of a delivery met. */
export const lastAnswer = ({ lastStatusCode, lastError, attempts }: Delivery) =>
  lastStatusCode !== null
    ? `HTTP ${lastStatusCode}`
    : (lastError ?? (attempts === 0 ? 'not attempted yet' : '–'));

const lines = (headers: Record<string, string> | null) =>
  Object.entries(headers ?? {}).map(([name, value]) => `${name}: ${value}`);

/** One attempt: what was sent and what was answered, secrets masked. */
function AttemptPanel({ attempt }: { attempt: Schemas['DeliveryAttempt'] }) {
  const { attempt: n, startedAt, durationMs, result, statusCode, error, url, responseBody } = attempt;
  const answered = lines(attempt.responseHeaders);
  return (
    <Panel
      title={
        <>
          Attempt {n}{' '}
          <span className="muted">
            · <Time at={startedAt} /> · {duration(durationMs)}
          </span>
        </>
      }
      actions={<Status value={result === 'delivered' ? 'delivered' : 'failed'} />}
    >
      {url !== null && (
        <Code label={`Request of attempt ${n}`}>
          {[`POST ${url}`, ...lines(attempt.requestHeaders)].join('\n')}
        </Code>
      )}
      <p>
        {statusCode === null ? 'No answer' : `Answered HTTP ${statusCode}`}{' '}
        <span className="tag">{result}</span>
      </p>
      {error && <p className="bad-text">{error}</p>}
      {answered.length > 0 && (
        <Code label={`Headers of the answer to attempt ${n}`}>{answered.join('\n')}</Code>
      )}
      {responseBody ? (
        <Code label={`Answer to attempt ${n}`}>{pretty(responseBody)}</Code>
      ) : (
        <p className="muted">{statusCode === null ? '' : 'The answer had no body.'}</p>
      )}
    </Panel>
  );
}

/** What a delivery sends, and each of its attempts. */
export function BodyAndAttempts({ delivery: { id, eventId, attempts: made } }: { delivery: Delivery }) {
  const attempts = useQuery({
    queryKey: ['attempts', id, made],
    queryFn: () =>
      ok(api.GET('/api/v1/deliveries/{id}/attempts', { params: { path: { id }, query: { limit: 100 } } })),
  });
  const event = useQuery({
    queryKey: ['events', eventId],
    queryFn: () => ok(api.GET('/api/v1/events/{id}', { params: { path: { id: eventId } } })),
  });
  return (
    <>
      <Panel title="Body">
        <Code label="Body">
          {event.data
            ? JSON.stringify(
                { type: event.data.type, timestamp: event.data.timestamp, data: event.data.data },
                null,
                2,
              )
            : '…'}
        </Code>
      </Panel>
      <h2>Attempts</h2>
      {attempts.isPending ? (
        <Loading rows={3} />
      ) : !attempts.data ? (
        <Failure error={attempts.error} />
      ) : attempts.data.items.length === 0 ? (
        <p className="muted">Not attempted yet.</p>
      ) : (
        attempts.data.items.map((attempt) => <AttemptPanel key={attempt.attempt} attempt={attempt} />)
      )}
    </>
  );
}
