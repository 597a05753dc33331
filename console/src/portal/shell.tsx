import { Link, Outlet } from '@tanstack/react-router';
import { LogOut } from 'lucide-react';
import { Suspense } from 'react';
import { exact, relative } from '../lib/format';
import { Loading, useNow } from '../ui/basics';
import { ThemeMenu } from '../ui/theme-menu';
import { usePortal } from './session';

const PLACES = [
  ['/', 'Subscriptions'],
  ['/deliveries', 'Deliveries'],
  ['/events', 'Events'],
] as const;

export function Shell() {
  const { brand, endsAt, readOnly, end } = usePortal();
  const now = useNow();
  return (
    <div className="portal">
      <a className="skip btn" href="#content">
        Skip to content
      </a>
      <header className="top">
        <span className="brand clip">{brand.name ?? 'Webhooks'}</span>
        <span className="grow" />
        <span className="only-wide" title={exact(endsAt)}>
          {readOnly ? 'Read-only, ends' : 'Ends'} {relative(endsAt, now)}
        </span>
        <ThemeMenu />
        <button
          type="button"
          className="btn plain icon"
          aria-label="End the session"
          onClick={() => void end()}
        >
          <LogOut size={16} />
        </button>
      </header>
      <nav className="tabs" aria-label="Portal">
        {PLACES.map(([to, title]) => (
          <Link
            key={to}
            to={to}
            activeOptions={{ exact: to === '/', includeSearch: false }}
            activeProps={{ className: 'active' }}
          >
            {title}
          </Link>
        ))}
      </nav>
      <main id="content" tabIndex={-1} style={{ display: 'contents' }}>
        <Suspense fallback={<Loading />}>
          <Outlet />
        </Suspense>
      </main>
    </div>
  );
}
