import { Loading } from './basics';
import type { Search } from './filters';

/** What the routers of console and portal share. Everything in the address is text: filters are what they say, `?status=failed`. */
export const ROUTER_OPTIONS = {
  defaultPreload: 'intent',
  defaultPendingComponent: () => <Loading />,
  scrollRestoration: true,
  parseSearch: (text: string): Search => Object.fromEntries(new URLSearchParams(text)),
  stringifySearch: (search: Record<string, unknown>): string => {
    const text = new URLSearchParams(search as Search).toString();
    return text ? `?${text}` : '';
  },
} as const;
