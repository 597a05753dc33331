import { loadConfig, type Config } from '../../src/platform/config';
import { derivedSettings, SETTINGS } from '../../src/platform/settings';

const WHOLE = loadConfig({}, []);
const FIXED = new Set<string>([...Object.keys(SETTINGS), ...Object.keys(derivedSettings(WHOLE))]);

/**
 * A configuration of variables, as a process reads them, and of settings that no variable sets (platform/settings.ts), all
 * given as text.
 * @returns it, and the variables alone, for child processes.
 */
export function testConfig(values: Readonly<Record<string, string>>): {
  config: Config;
  env: Record<string, string>;
} {
  const given = Object.entries(values);
  const env = Object.fromEntries(given.filter(([name]) => !FIXED.has(name)));
  const settings = given
    .filter(([name]) => FIXED.has(name))
    .map(([name, text]) => [name, typeof WHOLE[name as keyof Config] === 'number' ? Number(text) : text]);
  return { config: { ...loadConfig(env, []), ...(Object.fromEntries(settings) as Partial<Config>) }, env };
}
