/** Where a login leads to when nothing better is asked for. */
export const CONSOLE_HOME = '/console';

/**
 * The page of the console that a login was asked to lead back to; the first page for anything else, so that no link can
 * use the login to lead somewhere foreign.
 */
export function returnPath(asked: unknown): string {
  if (typeof asked !== 'string' || asked.length > 1_000) return CONSOLE_HOME;
  if (!/^\/console(?:[/?][\x21-\x5b\x5d-\x7e]*)?$/.test(asked)) return CONSOLE_HOME;
  // What it names after a browser's own reading must still be a page of the console.
  const url = new URL(asked, 'http://console.invalid');
  const inside = url.pathname === CONSOLE_HOME || url.pathname.startsWith(`${CONSOLE_HOME}/`);
  return url.host === 'console.invalid' && inside ? `${url.pathname}${url.search}` : CONSOLE_HOME;
}
