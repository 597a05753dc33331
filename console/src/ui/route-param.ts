import { useParams } from '@tanstack/react-router';

/** A parameter of the page's address, by its name. */
export function useRouteParam(name: 'id' | 'name' | 'topic'): string {
  const params: Record<string, string | undefined> = useParams({ strict: false });
  return params[name] ?? '';
}
