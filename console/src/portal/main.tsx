import { RouterProvider } from '@tanstack/react-router';
import { useEffect, useRef, useState, type ReactNode } from 'react';
import { portalCall } from '../lib/api';
import { startPage } from '../lib/start-page';
import { Failure, Loading } from '../ui/basics';
import { OverlayProvider } from '../ui/dialogs';
import { router } from './router';
import { PORTAL_SESSION_KEY, PortalProvider, usePortalState, type PortalSession } from './session';

function App() {
  const { problem, opening } = useLink();
  const { data, error, refetch } = usePortalState(!opening && problem === undefined);
  if (problem !== undefined) return <Closed title="This link can’t be opened">{problem}</Closed>;
  if (!data) return error ? <Failure error={error} retry={() => void refetch()} /> : <Loading rows={3} />;
  if (!data.session)
    return <Closed title="Nothing is open here">Ask whoever sent you here for a new link.</Closed>;
  return <Open session={data.session} />;
}

/** The code of a link; other fragments are places in the page. */
const codeOf = (hash: string): string | undefined => /^#([A-Za-z0-9_-]{43})$/.exec(hash)?.[1];

/**
 * Opens the link that the address holds, whose code is in the fragment so that no server and no log sees it. A link that
 * can't be opened shows nothing, not even what another link has opened in this browser.
 */
function useLink(): { opening: boolean; problem: string | undefined } {
  const [problem, setProblem] = useState<string | undefined>();
  const [opening, setOpening] = useState(codeOf(location.hash) !== undefined);
  const begun = useRef(false);
  useEffect(() => {
    // Another link in a page that is open already is another login.
    const another = () => {
      if (codeOf(location.hash) !== undefined) location.reload();
    };
    window.addEventListener('hashchange', another);
    return () => window.removeEventListener('hashchange', another);
  }, []);
  useEffect(() => {
    const code = codeOf(location.hash);
    if (code === undefined || begun.current) return;
    begun.current = true;
    portalCall('POST', 'login', { code })
      .then(() => history.replaceState(null, '', location.pathname + location.search))
      .catch((error: unknown) =>
        setProblem(error instanceof Error ? error.message : 'The link did not work.'),
      )
      .finally(() => setOpening(false));
  }, []);
  return { opening, problem };
}

function Open({ session }: { session: PortalSession }) {
  const { name, colors } = session.brand;
  useEffect(() => {
    const { style, dataset } = document.documentElement;
    dataset['brand'] = name ?? 'Webhooks';
    if (!colors) return;
    style.setProperty('--accent-fill', colors.fill);
    style.setProperty('--on-accent', colors.text);
    style.setProperty('--accent', `light-dark(${colors.onLight}, ${colors.onDark})`);
    style.setProperty('--accent-soft', 'var(--off-soft)');
  }, [name, colors]);
  return (
    <PortalProvider value={session}>
      <OverlayProvider>
        <RouterProvider router={router as never} />
      </OverlayProvider>
    </PortalProvider>
  );
}

function Closed({ title, children }: { title: string; children: ReactNode }) {
  useEffect(() => {
    document.title = title;
  });
  return (
    <main className="login">
      <div className="panel">
        <h1>{title}</h1>
        <p>{children}</p>
      </div>
    </main>
  );
}

startPage(App, PORTAL_SESSION_KEY);
