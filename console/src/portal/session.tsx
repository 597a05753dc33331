import { useQuery, useQueryClient } from '@tanstack/react-query';
import { createContext, useContext } from 'react';
import { portalCall, useCsrfToken } from '../lib/api';

/** As src/contracts/portal.ts has it. */
export interface PortalState {
  session: {
    readOnly: boolean;
    endsAt: string;
    csrfToken: string;
    brand: {
      name: string | null;
      colors: { fill: string; text: string; onLight: string; onDark: string } | null;
    };
  } | null;
}
export type PortalSession = NonNullable<PortalState['session']>;

export const PORTAL_SESSION_KEY = ['portal-session'];
const REFRESH_MS = 60_000;
const Context = createContext<PortalSession | undefined>(undefined);
export const PortalProvider = Context.Provider;

export function usePortalState(enabled: boolean) {
  return useQuery({
    queryKey: PORTAL_SESSION_KEY,
    queryFn: async () => {
      const state = (await portalCall('GET', 'session')) as PortalState;
      useCsrfToken(state.session?.csrfToken ?? '');
      return state;
    },
    enabled,
    refetchInterval: REFRESH_MS,
    staleTime: REFRESH_MS,
    retry: 1,
  });
}

/** What the link allows. */
export function usePortal(): PortalSession & { end: () => Promise<void> } {
  const session = useContext(Context);
  const client = useQueryClient();
  if (!session) throw new Error('the portal is not open');
  return {
    ...session,
    end: async () => {
      await portalCall('POST', 'logout', {});
      client.removeQueries({ predicate: ({ queryKey }) => queryKey[0] !== PORTAL_SESSION_KEY[0] });
      await client.invalidateQueries({ queryKey: PORTAL_SESSION_KEY });
    },
  };
}
