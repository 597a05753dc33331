import '@fontsource-variable/inter/wght.css';
import '@fontsource-variable/jetbrains-mono/wght.css';
import '../styles.css';
import { MutationCache, QueryCache, QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { StrictMode, type ComponentType } from 'react';
import { createRoot } from 'react-dom/client';
import { ApiError } from './api';
import { applyTheme } from './theme';

/**
 * Begins a page, the console's or the portal's.
 * @param sessionKey the query that says who is logged in: asked again when any other is answered 401, as the session has ended.
 */
export function startPage(App: ComponentType, sessionKey: readonly string[]): void {
  // Libraries that add style elements of their own give them this answer's nonce.
  (globalThis as { __webpack_nonce__?: string }).__webpack_nonce__ =
    document.querySelector<HTMLMetaElement>('meta[name="csp-nonce"]')?.content ?? '';
  applyTheme();
  const onError = (error: unknown): void => {
    if (error instanceof ApiError && error.status === 401)
      void client.invalidateQueries({ queryKey: sessionKey });
  };
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
  createRoot(document.getElementById('root')!).render(
    <StrictMode>
      <QueryClientProvider client={client}>
        <App />
      </QueryClientProvider>
    </StrictMode>,
  );
}
