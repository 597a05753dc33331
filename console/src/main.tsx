import '@fontsource-variable/inter/wght.css';
import '@fontsource-variable/jetbrains-mono/wght.css';
import './styles.css';
import { MutationCache, QueryCache, QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { RouterProvider } from '@tanstack/react-router';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { ApiError } from './lib/api';
import { SessionProvider, useConsoleState } from './lib/session';
import { applyTheme } from './lib/theme';
import { router } from './router';
import { Login } from './screens/login';
import { Failure, Loading } from './ui/basics';
import { OverlayProvider } from './ui/dialogs';

// Libraries that add style elements of their own give them this answer's nonce.
(globalThis as { __webpack_nonce__?: string }).__webpack_nonce__ =
  document.querySelector<HTMLMetaElement>('meta[name="csp-nonce"]')?.content ?? '';
applyTheme();

/** A session that ended shows the login, wherever that is noticed. */
function onError(error: unknown): void {
  if (error instanceof ApiError && error.status === 401)
    void client.invalidateQueries({ queryKey: ['console-session'] });
}
const client: QueryClient = new QueryClient({
  queryCache: new QueryCache({ onError }),
  mutationCache: new MutationCache({ onError }),
  defaultOptions: {
    queries: {
      staleTime: 2_000,
      retry: (failures, error) =>
        failures < 2 && !(error instanceof ApiError && error.status >= 400 && error.status < 500),
    },
  },
});

function App() {
  const { data, error, refetch } = useConsoleState();
  if (!data) return error ? <Failure error={error} retry={() => void refetch()} /> : <Loading rows={3} />;
  if (!data.session) return <Login state={data} />;
  return (
    <SessionProvider state={data}>
      <OverlayProvider>
        <RouterProvider router={router} />
      </OverlayProvider>
    </SessionProvider>
  );
}

createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <QueryClientProvider client={client}>
      <App />
    </QueryClientProvider>
  </StrictMode>,
);
