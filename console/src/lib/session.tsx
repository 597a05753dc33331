import { useQuery, useQueryClient } from '@tanstack/react-query';
import { createContext, useContext, type ReactNode } from 'react';
import { consoleCall, useCsrfToken } from './api';

type Role = 'viewer' | 'operator' | 'admin';

/** As src/contracts/console.ts has it. */
export interface ConsoleState {
  session: {
    subject: string;
    tenant: string;
    role: Role;
    platform: boolean;
    expiresAt: string;
    endsAt: string;
    csrfToken: string;
    temporalUi: string | null;
    temporalNamespace: string;
  } | null;
  oidcIssuer: string | null;
  version: string;
}
export type Session = NonNullable<ConsoleState['session']>;

const SESSION_KEY = ['console-session'];
const REFRESH_MS = 5 * 60_000;
const Context = createContext<{ session: Session; version: string } | undefined>(undefined);

export function useConsoleState() {
  return useQuery({
    queryKey: SESSION_KEY,
    queryFn: async () => {
      const state = (await consoleCall('GET', 'session')) as ConsoleState;
      useCsrfToken(state.session?.csrfToken ?? '');
      return state;
    },
    refetchInterval: REFRESH_MS,
    staleTime: REFRESH_MS,
    retry: 1,
  });
}

export function useForgetSession(): () => Promise<void> {
  const client = useQueryClient();
  return async () => {
    client.removeQueries({ predicate: ({ queryKey }) => queryKey[0] !== SESSION_KEY[0] });
    await client.invalidateQueries({ queryKey: SESSION_KEY });
  };
}

export function SessionProvider({ state, children }: { state: ConsoleState; children: ReactNode }) {
  return (
    <Context.Provider value={{ session: state.session!, version: state.version }}>
      {children}
    </Context.Provider>
  );
}

/** Who is logged in, and what that allows. */
export function useSession() {
  const value = useContext(Context);
  if (!value) throw new Error('nobody is logged in');
  const { session } = value;
  return {
    ...value,
    /** May act: resend, pause, submit evidence. */
    mayAct: session.role !== 'viewer',
    /** May change configuration and read the audit log. */
    mayAdminister: session.role === 'admin',
    /** May see what belongs to the installation: dead letters, lag, purchases. */
    maySeeInstallation: session.platform,
    /** The Temporal UI's page of a workflow; undefined where no UI is known. */
    workflowUrl: (workflowId: string): string | undefined =>
      session.temporalUi === null
        ? undefined
        : `${session.temporalUi.replace(/\/$/, '')}/namespaces/${encodeURIComponent(session.temporalNamespace)}/workflows/${encodeURIComponent(workflowId)}`,
  };
}
