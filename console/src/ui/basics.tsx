import { Check, Copy, ExternalLink, Info, OctagonAlert, TriangleAlert } from 'lucide-react';
import { useEffect, useRef, useState, type ReactNode } from 'react';
import { ApiError, IN_PORTAL } from '../lib/api';
import { exact, grouped, relative } from '../lib/format';
import { useSession } from '../lib/session';

type Tone = 'ok' | 'warn' | 'bad' | 'info' | 'off';

const TONES: Record<string, Tone> = {
  succeeded: 'ok',
  finished: 'ok',
  delivered: 'ok',
  won: 'ok',
  active: 'ok',
  done: 'ok',
  posted: 'ok',
  clean: 'ok',
  ok: 'ok',
  stable: 'ok',
  pending: 'info',
  new: 'info',
  running: 'info',
  opened: 'warn',
  under_review: 'info',
  proposed: 'warn',
  enabled: 'ok',
  failing: 'warn',
  paused: 'warn',
  held: 'warn',
  waiting: 'warn',
  warning: 'warn',
  expired: 'warn',
  empty: 'warn',
  failed: 'bad',
  exhausted: 'bad',
  disabled: 'bad',
  lost: 'bad',
  charged_back: 'bad',
  error: 'bad',
  stopped: 'bad',
  refused: 'bad',
  dead: 'bad',
  cancelled: 'off',
  rejected: 'off',
};

/** A status, by its word and a mark; colour only supports them. */
export function Status({ value }: { value: string | null | undefined }) {
  if (value === null || value === undefined) return <span className="muted">–</span>;
  return (
    <span className={`chip ${TONES[value.toLowerCase()] ?? 'off'}`}>
      {value.toLowerCase().replaceAll('_', ' ')}
    </span>
  );
}

export function Chip({ tone, children }: { tone: Tone; children: ReactNode }) {
  return <span className={`chip ${tone}`}>{children}</span>;
}

/** Redraws once in a while, so that relative times stay true. */
export function useNow(everyMs = 15_000): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}

/** Relative; exact on hover and for screen readers. */
export function Time({ at }: { at: string | null | undefined }) {
  const now = useNow();
  if (!at) return <span className="muted">–</span>;
  return (
    <time dateTime={at} title={exact(at)} className="nowrap">
      {relative(at, now)}
    </time>
  );
}

/** Major units as the API gives them, with the currency. */
export function Money({
  amount,
  currency,
}: {
  amount: string | null | undefined;
  currency: string | null | undefined;
}) {
  if (amount === null || amount === undefined) return <span className="muted">–</span>;
  return (
    <span className="nowrap">
      {grouped(amount)} <span className="muted">{currency}</span>
    </span>
  );
}

/** @returns false where the page may not: without TLS, or in a frame that was not allowed to. */
export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

/** An id that can be copied. */
export function Id({ value, clip = true }: { value: string; clip?: boolean }) {
  const [copied, setCopied] = useState(false);
  return (
    <span className="id">
      <span className={clip ? 'mono clip' : 'mono'} title={value}>
        {value}
      </span>
      <button
        type="button"
        aria-label={copied ? 'Copied' : `Copy ${value}`}
        onClick={() => {
          void copy(value).then((done) => {
            setCopied(done);
            setTimeout(() => setCopied(false), 1_500);
          });
        }}
      >
        {copied ? <Check size={13} /> : <Copy size={13} />}
      </button>
    </span>
  );
}

/** A link to the workflow in the Temporal UI. */
export function Workflow({ id }: { id: string | null | undefined }) {
  const { workflowUrl } = useSession();
  if (!id) return <span className="muted">none</span>;
  const url = workflowUrl(id);
  if (url === undefined) return <Id value={id} />;
  return (
    <a href={url} target="_blank" rel="noreferrer" className="mono">
      {id} <ExternalLink size={12} aria-label="opens the Temporal UI" />
    </a>
  );
}

export function Note({ tone, children }: { tone: 'info' | 'warn' | 'bad'; children: ReactNode }) {
  const Icon = tone === 'info' ? Info : tone === 'warn' ? TriangleAlert : OctagonAlert;
  return (
    <div className={`note ${tone}`} role={tone === 'bad' ? 'alert' : 'status'}>
      <Icon size={15} aria-hidden />
      <div className="grow">{children}</div>
    </div>
  );
}

export function Loading({ rows = 6 }: { rows?: number }) {
  return (
    <div className="bars" role="status" aria-label="Loading">
      {Array.from({ length: rows }, (_, i) => (
        <i key={i} style={{ width: `${92 - ((i * 23) % 55)}%` }} />
      ))}
    </div>
  );
}

export function Empty({
  title,
  children,
  action,
}: {
  title: string;
  children?: ReactNode;
  action?: ReactNode;
}) {
  return (
    <div className="state">
      <b>{title}</b>
      {children && <p>{children}</p>}
      {action}
    </div>
  );
}

/** What went wrong and what to do about it. */
export function Failure({ error, retry }: { error: unknown; retry?: () => void }) {
  const status = error instanceof ApiError ? error.status : undefined;
  const title =
    status === 403
      ? IN_PORTAL
        ? 'This link does not allow this'
        : 'Your role does not allow this'
      : status === 404
        ? 'There is nothing of this id'
        : status === 0
          ? 'The API can’t be reached'
          : 'This could not be loaded';
  const advice = IN_PORTAL
    ? undefined
    : status === 403
      ? 'Somebody with the role admin can give you another one.'
      : status === 404
        ? 'Look for it with ⌘K: it may be of another kind, or of another tenant.'
        : undefined;
  return (
    <div className="state" role="alert">
      <b>{title}</b>
      <p>{error instanceof Error ? error.message : 'Unknown error.'}</p>
      {advice && <p>{advice}</p>}
      {retry && status !== 403 && status !== 404 && (
        <button type="button" className="btn" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}

/** The page of something that is not there yet, or could not be loaded. */
export function Unready({
  query,
}: {
  query: { isPending: boolean; error: unknown; refetch: () => unknown };
}) {
  return (
    <div className="page">
      {query.isPending ? <Loading /> : <Failure error={query.error} retry={() => void query.refetch()} />}
    </div>
  );
}

export function Facts({ facts }: { facts: readonly (readonly [string, ReactNode])[] }) {
  return (
    <dl className="facts">
      {facts.map(([name, value]) => (
        <div key={name} style={{ display: 'contents' }}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

export function Panel({
  title,
  actions,
  children,
  flush = false,
}: {
  title?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
  flush?: boolean;
}) {
  return (
    <section className="panel">
      {(title !== undefined || actions !== undefined) && (
        <header>
          {title !== undefined && <h2 className="grow">{title}</h2>}
          {actions}
        </header>
      )}
      {flush ? children : <div className="body">{children}</div>}
    </section>
  );
}

export function Head({
  title,
  children,
  actions,
}: {
  title: ReactNode;
  children?: ReactNode;
  actions?: ReactNode;
}) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${heading.current?.textContent ?? 'Console'} · ${document.documentElement.dataset['brand'] ?? 'remit'}`;
  });
  return (
    <header className="heading">
      <div className="head">
        <h1 className="grow" ref={heading}>
          {title}
        </h1>
        {actions}
      </div>
      {children && <p>{children}</p>}
    </header>
  );
}

export function Code({ children, hex = false, label }: { children: string; hex?: boolean; label: string }) {
  return (
    // It scrolls: the keyboard must reach it.
    <pre className={hex ? 'code hex' : 'code'} tabIndex={0} role="region" aria-label={label}>
      {children}
    </pre>
  );
}
