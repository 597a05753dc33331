import type { Schemas } from '../lib/api';
import { duration, pretty } from '../lib/format';
import { Code, Panel, Status, Time } from './basics';

const lines = (headers: Record<string, string> | null) =>
  Object.entries(headers ?? {}).map(([name, value]) => `${name}: ${value}`);

/** One attempt: what was sent and what was answered, secrets masked. */
export function AttemptPanel({ attempt }: { attempt: Schemas['DeliveryAttempt'] }) {
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
