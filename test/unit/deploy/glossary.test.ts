import { readdirSync } from 'node:fs';
import path from 'node:path';
import { PROJECT, readText } from './project-files';

/** Words that the glossary has retired, and coined ones that it never had; each means nothing else in this project. */
const RETIRED =
  /up-?keep|house-?keep|\bsweeps?\b|\bswept\b|[a-z]Sweep|Sweep[A-Z]|SWEEP|\bwishes\b|\blaters\b|seeToOthers|\bNEAR_MS\b|\banew\b|gives? rise to|\bsees to\b|AccountLanes|PROVIDER_SECRET_PAYMENTS/i;

/** The glossary names them, and migrate deletes schedules by their former ids. */
const MAY_NAME_THEM = ['docs/glossary.md', 'src/contracts/workflows/names.ts'];

const FILES = ['src', 'docs', 'prisma/functions']
  .flatMap((folder) =>
    readdirSync(path.join(PROJECT, folder), { recursive: true, encoding: 'utf8' }).map((name) =>
      path.posix.join(folder, name),
    ),
  )
  .concat('README.md')
  .filter((file) => /\.(ts|md|sql|ya?ml|json)$/.test(file) && !file.startsWith('src/generated/'))
  .filter((file) => !MAY_NAME_THEM.includes(file));

describe('the glossary', () => {
  it('keeps retired words out of code and documents', () => {
    expect(FILES.length).toBeGreaterThan(300);
    const found = FILES.flatMap((file) =>
      readText(file)
        .split('\n')
        .flatMap((line, index) =>
          RETIRED.test(line) ? [`${file}:${index + 1}: ${RETIRED.exec(line)![0]}`] : [],
        ),
    );
    expect(found).toEqual([]);
  });

  it('is linked from where a reader begins', () => {
    for (const page of ['README.md', 'CONTRIBUTING.md', 'docs/architecture.md'])
      expect(readText(page)).toContain('glossary.md');
  });

  it.each(['lane', 'timeline', 'first attempt', 'correction', 'scope', 'uid', 'scheduled job'])(
    'says what “%s” means',
    (word) => {
      expect(readText('docs/glossary.md')).toContain(`| ${word} |`);
    },
  );
});
