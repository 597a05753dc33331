export type Theme = 'system' | 'light' | 'dark';
const KEY = 'remit-theme';

export function themeChoice(): Theme {
  try {
    const kept = localStorage.getItem(KEY);
    return kept === 'light' || kept === 'dark' ? kept : 'system';
  } catch {
    // A browser may keep nothing for a page in another site's frame.
    return 'system';
  }
}

export function chooseTheme(theme: Theme): void {
  applyTheme(theme);
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // As above: it holds until the page is left.
  }
}

export function applyTheme(theme = themeChoice()): void {
  document.documentElement.dataset['theme'] = theme;
}
