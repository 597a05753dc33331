import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { loadConfig } from '../../../src/platform/config';
import { PROJECT } from './project-files';

const BENCH = path.join(PROJECT, 'bench');
const sources = readdirSync(BENCH, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .map((file) => readFileSync(path.join(BENCH, file), 'utf8'));
/** Names of environment variables, as keys of an object. */
const names = [
  ...new Set(sources.flatMap((text) => text.match(/(?<=^\s+)[A-Z][A-Z0-9]*_[A-Z0-9_]+(?=:)/gm) ?? [])),
];

function refusalOf(name: string): string {
  try {
    loadConfig({ [name]: 'x' }, []);
    return '';
  } catch (error) {
    return String(error);
  }
}

describe('a variable that a benchmark sets', () => {
  it.each(names)('%s is one of remit, or nothing that remit minds', (name) => {
    expect(refusalOf(name)).not.toContain(`${name} is no variable of remit`);
  });

  it('would be found if it were gone', () => {
    expect(names.length).toBeGreaterThan(8);
    expect(refusalOf('TOPIC_PURCHASES_DLQ')).toContain('TOPIC_PURCHASES_DLQ is no variable of remit');
  });
});
