import { useEffect, useRef, useState } from 'react';
import icon from '../icon.svg';
import { consoleCall } from '../lib/api';
import { useForgetSession, type ConsoleState } from '../lib/session';
import { Loading, Note } from '../ui/basics';

const PROBLEMS: Record<string, string> = {
  forbidden:
    'You are known to the issuer, but it gives you no role here. Ask an administrator for viewer, operator or admin.',
  unavailable: 'The issuer could not be reached. Try again in a moment.',
  unauthenticated: 'The login was not finished in this browser, or took too long. Try again.',
};

/** By a one-time link, whose code is in the fragment so that no server and no log sees it; or at the issuer. */
export function Login({ state }: { state: ConsoleState }) {
  const forget = useForgetSession();
  const [problem, setProblem] = useState<string | undefined>(() => {
    const code = new URLSearchParams(location.search).get('problem');
    return code === null ? undefined : (PROBLEMS[code] ?? 'The login did not work. Try again.');
  });
  const begun = useRef(false);
  const [redeeming, setRedeeming] = useState(location.hash.length > 1);
  const here = location.pathname + location.search;
  const next = here.startsWith('/console/login') ? '/console' : here;
  useEffect(() => {
    document.title = 'Log in · remit';
    const code = location.hash.slice(1);
    if (!code || begun.current) return;
    begun.current = true;
    history.replaceState(null, '', location.pathname);
    consoleCall('POST', 'login', { code })
      .then(() => {
        history.replaceState(null, '', '/console');
        return forget();
      })
      .catch((error: unknown) => {
        setRedeeming(false);
        setProblem(error instanceof Error ? error.message : 'The login did not work.');
      });
  }, [forget]);
  if (redeeming) return <Loading rows={3} />;
  return (
    <main className="login">
      <div className="panel">
        <div className="brand" style={{ padding: 0 }}>
          <img src={icon} alt="" /> remit
        </div>
        <h1>Log in to the console</h1>
        {problem && <Note tone="bad">{problem}</Note>}
        {state.oidcIssuer && (
          <a className="btn primary" href={`/console/login/oidc?next=${encodeURIComponent(next)}`}>
            Continue at {state.oidcIssuer}
          </a>
        )}
        <div className="muted">
          <p>
            {state.oidcIssuer ? 'Or with' : 'With'} a one-time link. <code>npm start</code> prints one when it
            is ready; this prints another:
          </p>
          <pre className="code" style={{ marginTop: 6 }}>
            npm run remit -- console-link
          </pre>
        </div>
        <p className="muted">
          <a href="/docs">API documentation</a>
        </p>
      </div>
    </main>
  );
}
