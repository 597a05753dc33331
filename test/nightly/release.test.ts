import { execFile, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { findExecutable } from '../../src/embedded/cache';
import { containerTool } from '../../src/embedded/container-tools';
import { PROJECT_ROOT } from '../../src/platform/project';
import { REMIT_IMAGE } from '../../scripts/lib/containers/base-images';
import { noteResult } from '../support/nightly';
import { parseManifests } from '../support/kubernetes';
import { readText } from '../unit/deploy/project-files';
import { Identities, type Running } from './release/identity';
import { basicAuth, digestOf, PASSWORD, Registry, USERNAME, type StoredManifest } from './release/registry';
import { WorkflowRun, type Action, type Runner } from './release/workflow';
import { installed, isMissing } from './tools';

/**
 * A release of the version of package.json: every script of .github/workflows/release.yml, with a registry of its own in the place of
 * ghcr.io and authorities of its own in the place of Sigstore's, and then the commands of SECURITY.md on what came of it. What only the
 * forge has is replaced, each by what stands below: the actions, who it says that runs, and the GitHub release (a folder).
 */

const { version } = JSON.parse(readText('package.json')) as { version: string };
const TAG = `v${version}`;
/** Capitals, which no registry takes. */
const OWNER = 'Some-Owner';
const REPOSITORY = `${OWNER}/remit`;
const [IMAGE, CHART] = [REPOSITORY.toLowerCase(), `${OWNER.toLowerCase()}/charts/remit`];
/** Whom the forge's token names when a tag is released. */
const RELEASE: Running = {
  repository: REPOSITORY,
  workflow: '.github/workflows/release.yml',
  ref: `refs/tags/${TAG}`,
};

const needed = [
  installed('go', 'golang-go, or https://go.dev/dl'),
  installed('git', 'git'),
  installed('bash', 'bash'),
];
const missing = needed.filter(isMissing).map((each) => each.missing);

/** What one command of SECURITY.md came to. */
interface Call {
  /** `verify remit:0.2.0` */
  what: string;
  ok: boolean;
}

if (missing.length > 0) {
  noteResult(`SKIPPED: ${missing.join('; ')}`);
  it.skip(`a release is built, signed and published: ${missing.join('; ')}`, () => undefined);
} else {
  const top = realpathSync(mkdtempSync(path.join(os.tmpdir(), 'remit-release-')));
  const at = (...names: string[]) => path.join(top, ...names);
  const standIns = at('stand-ins');
  const assets = at('assets');
  /** Attested by actions that only the forge can run: `name@digest`. */
  const provenance: string[] = [];
  const report = (line: string) => void process.stderr.write(`  ${line}\n`);
  let registry: Registry;
  let identities: Identities;
  let run: WorkflowRun;
  let cosign = '';
  let published = '';
  const verified = { passed: 0, refused: 0 };

  /** For the scripts: of this process only what they need, so that no setting of its user has a say. */
  const shell = (): Record<string, string> => ({
    PATH: [standIns, path.dirname(process.execPath), process.env['PATH']].join(path.delimiter),
    SSL_CERT_FILE: registry.certificates.file,
    ...goSettings(),
  });

  const docker = (home: string) => path.join(home, '.docker', 'config.json');
  const exists = async (subject: string) => {
    const [name = '', digest = ''] = subject.split('@');
    await registry.manifest(name.replace(`${registry.host}/`, ''), digest);
  };
  /** In the place of BuildKit: the image of `npm run containers`, or where there is none the least that is an image. */
  const pushImage = async (tag: string, { home }: Runner): Promise<string> => {
    const [, repository = '', name = ''] = /^[^/]+\/(.+):([^:]+)$/.exec(tag) ?? [];
    const podman = findExecutable('podman');
    if (podman === undefined || spawnSync(podman, ['image', 'exists', REMIT_IMAGE]).status !== 0) {
      published = `an empty image in the place of remit's: ${podman === undefined ? 'there is no podman here' : `podman has no ${REMIT_IMAGE}, which npm run containers makes`}`;
      return registry.putImage(repository, name, ['amd64', 'arm64'], 'remit');
    }
    published = `${REMIT_IMAGE} of podman`;
    const digest = at('digest');
    execFileSync(
      podman,
      ['push', '--quiet', '--authfile', docker(home), '--cert-dir', registry.certificates.folder,
       '--digestfile', digest, REMIT_IMAGE, `docker://${tag}`], // prettier-ignore
      { stdio: ['ignore', 'ignore', 'inherit'], timeout: 15 * 60_000 },
    );
    return readFileSync(digest, 'utf8').trim();
  };

  const actions: Record<string, Action> = {
    'actions/checkout': (_inputs, { workspace }) => checkOut(workspace),
    'docker/setup-qemu-action': () => undefined,
    'docker/setup-buildx-action': () => undefined,
    'actions/setup-go': () => undefined,
    'sigstore/cosign-installer': ({ 'cosign-release': release }) => {
      const pinned = /cosign\/v3 (v\S+)/.exec(readText('src/embedded/cosign/go.mod'))?.[1];
      expect(release).toBe(pinned);
    },
    'docker/login-action': ({ registry: host = '', username, password }, { home }) => {
      expect([host, username, password]).toEqual([registry.host, USERNAME, PASSWORD]);
      mkdirSync(path.dirname(docker(home)), { recursive: true });
      writeFileSync(docker(home), JSON.stringify({ auths: { [host]: { auth: basicAuth } } }));
    },
    'docker/build-push-action': async ({ tags = '', push, platforms }, runner) => {
      expect([tags, push, platforms]).toEqual([
        `${registry.host}/${IMAGE}:${version}`,
        'true',
        'linux/amd64,linux/arm64',
      ]);
      return { digest: await pushImage(tags, runner) };
    },
    'actions/attest-build-provenance': async (inputs) => {
      const subject = `${inputs['subject-name']}@${inputs['subject-digest']}`;
      await exists(subject);
      provenance.push(subject);
    },
  };

  beforeAll(async () => {
    cosign = await containerTool('cosign', report);
    registry = new Registry(await containerTool('registry', report), at('registry'));
    await registry.start();
    for (const folder of [standIns, assets]) mkdirSync(folder, { recursive: true });
    identities = new Identities(
      {
        cosign,
        fulcio: await containerTool('fulcio', report),
        timestamps: await containerTool('timestampServer', report),
      },
      at('sigstore'),
      registry.certificates.file,
    );
    await identities.start();
    const program = (name: string, text: string) =>
      writeFileSync(path.join(standIns, name), text, { mode: 0o755 });
    program('cosign', cosignStandIn(cosign, identities.files.signing));
    program('gh', ghStandIn(assets));
    program('docker', '#!/bin/bash\nexit 0\n');
    run = new WorkflowRun('.github/workflows/release.yml', {
      top: at('jobs'),
      github: {
        actor: USERNAME,
        token: PASSWORD,
        ref_name: TAG,
        repository: REPOSITORY,
        repository_owner: OWNER,
        server_url: 'https://github.com',
        sha: '0'.repeat(40),
      },
      env: { REGISTRY: registry.host },
      shell: { ...shell(), TRUSTED_ROOT: identities.files.ours },
      identity: identities.variables(RELEASE),
      actions,
    });
  }, 30 * 60_000);
  afterAll(async () => {
    if (published !== '')
      noteResult(
        `${run.scripts} scripts of the workflow passed; ${published}; of the verifications of SECURITY.md ${verified.passed} passed and ` +
          `${verified.refused} refused: other signers, a changed SBOM, another image and another chart under the tag`,
      );
    await registry?.stop();
    await identities?.stop();
    rmSync(top, { recursive: true, force: true });
  });

  /**
   * The commands of SECURITY.md, as somebody pastes them in a folder with the files of the release.
   * @param changed what of them is to be another; who issues the tokens here is put in always.
   */
  async function verify(
    changed: (script: string) => string = (script) => script,
    root: 'ours' | 'others' = 'ours',
  ): Promise<Call[]> {
    const [, block] = /^## Verifying a release\n[^]*?```sh\n([^]*?)```/m.exec(readText('SECURITY.md')) ?? [];
    const script = block!
      .replaceAll('ghcr.io/OWNER', `${registry.host}/${OWNER.toLowerCase()}`)
      .replaceAll('OWNER', OWNER)
      .replace(/^VERSION=.*/m, `VERSION=${version}`)
      .replace(/^ISSUER=.*/m, `ISSUER=${identities.url}`);
    const calls = at('calls');
    rmSync(calls, { force: true });
    writeFileSync(at('verify.sh'), changed(script));
    const home = at('verifier');
    mkdirSync(path.dirname(docker(home)), { recursive: true });
    writeFileSync(docker(home), JSON.stringify({ auths: { [registry.host]: { auth: basicAuth } } }));
    // Not in step with it: the registry writes to this process.
    const child = spawn('bash', [at('verify.sh')], {
      cwd: assets,
      env: { ...shell(), HOME: home, CALLS: calls, TRUSTED_ROOT: identities.files[root] },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await once(child, 'close');
    if (process.env['DEBUG']) process.stderr.write(said);
    // A refusal is to be one of what was published, and not of a registry that did not answer.
    expect(said).not.toMatch(/deadline exceeded|connection refused/);
    return readFileSync(calls, 'utf8')
      .trim()
      .split('\n')
      .map((line) => {
        const [, code, what = ''] = /^(\d+) (.*)$/.exec(line)!;
        verified[code === '0' ? 'passed' : 'refused'] += 1;
        return { ok: code === '0', what: what.replaceAll(`${registry.host}/${OWNER.toLowerCase()}/`, '') };
      });
  }
  const ALL = [
    `verify remit:${version}`,
    `verify-attestation remit:${version}`,
    `verify charts/remit:${version}`,
    `verify-blob remit-${version}.cdx.json`,
  ] as const;
  const failed = (calls: Call[]): string[] => {
    expect(calls.map(({ what }) => what)).toEqual(ALL);
    return calls.flatMap(({ what, ok }) => (ok ? [] : [what]));
  };

  it(
    'every script of the release workflow passes, in its order',
    async () => {
      await run.all();
      expect(run.leftOut).toEqual(['./.github/workflows/check.yml']);
      expect(run.scripts).toBeGreaterThanOrEqual(7);
      expect(readdirSync(assets).sort()).toEqual(
        [`remit-${version}.cdx.json`, `remit-${version}.cdx.json.sigstore.json`, 'release.json'].sort(),
      );
      const release = JSON.parse(readFileSync(path.join(assets, 'release.json'), 'utf8')) as Record<
        string,
        string
      >;
      expect(release).toMatchObject({ tag: TAG, title: `remit ${version}` });
      const [, changes] = /^## .*\n([^]*?)(?=^## |$(?![^]))/m.exec(readText('CHANGELOG.md'))!;
      expect(release['notes']).toContain(changes!.trim());
      expect(release['notes']).toMatch(
        new RegExp(`^Image: ${registry.host}/${IMAGE}@sha256:[0-9a-f]{64}$`, 'm'),
      );
      expect(provenance.map((each) => each.replace(/@.*/, ''))).toEqual(
        [IMAGE, CHART].map((name) => `${registry.host}/${name}`),
      );
    },
    40 * 60_000,
  );

  it('nobody pushes to the registry without the login of the workflow', async () => {
    expect((await registry.ask('GET', `/v2/${IMAGE}/manifests/${version}`, undefined, false)).status).toBe(
      401,
    );
  });

  it('the chart that is pulled names the published image by its digest, and no other of remit', async () => {
    const [home, folder] = [at('installer'), at('pulled')];
    mkdirSync(folder);
    const helm = at('jobs', 'chart', 'temp', 'bin', 'helm');
    const ask = (args: string[], input?: string) =>
      execFileSync(helm, args, {
        encoding: 'utf8',
        env: { ...shell(), HOME: home },
        input,
        stdio: ['pipe', 'pipe', 'pipe'],
      });
    ask(['registry', 'login', registry.host, '--username', USERNAME, '--password-stdin'], PASSWORD);
    ask(['pull', `oci://${registry.host}/${CHART}`, '--version', version, '--destination', folder]);
    const manifests = ask([
      'template',
      'remit',
      path.join(folder, `remit-${version}.tgz`),
      '--kube-version',
      '1.34.0',
      '-f',
      path.join(PROJECT_ROOT, 'deploy/helm/values/minimal.yaml'),
    ]);
    const { body } = await registry.manifest(IMAGE, version);
    const images = [...JSON.stringify(parseManifests(manifests)).matchAll(/"image":"([^"]*)"/g)].map(
      ([, name]) => name,
    );
    // One for each role, and the migration.
    expect(images.length).toBeGreaterThanOrEqual(7);
    expect([...new Set(images)]).toEqual([`${registry.host}/${IMAGE}@${digestOf(body)}`]);
  });

  it('image, SBOM and chart pass the commands of SECURITY.md', async () => {
    expect(failed(await verify())).toEqual([]);
  });

  it.each<[string, (script: string) => string]>([
    ['another tag', (script) => script.replace('@refs/tags/v$VERSION', '@refs/tags/v9.9.9')],
    ['a branch', (script) => script.replace('@refs/tags/v$VERSION', '@refs/heads/main')],
    ['another workflow', (script) => script.replace('/release.yml@', '/check.yml@')],
    ['another repository', (script) => script.replace(`${REPOSITORY}/.github`, `${OWNER}/other/.github`)],
    ['another forge', (script) => script.replace(/^ISSUER=.*/m, 'ISSUER=https://gitlab.com')],
  ])('none passes as signed by %s', async (_who, changed) => {
    expect(failed(await verify(changed))).toEqual([...ALL]);
  });

  it('none passes where another authority is believed', async () => {
    expect(failed(await verify(undefined, 'others'))).toEqual([...ALL]);
  });

  it('an image that a branch has signed does not pass under the tag', async () => {
    const ours = await registry.manifest(IMAGE, version);
    const digest = await registry.putImage(IMAGE, version, ['amd64'], 'of a branch');
    // The issuer of its token is in this process.
    const sign = (running: Running) =>
      promisify(execFile)(
        path.join(standIns, 'cosign'),
        ['sign', '--yes', `${registry.host}/${IMAGE}@${digest}`],
        {
          env: {
            ...shell(),
            HOME: at('verifier'),
            TRUSTED_ROOT: identities.files.ours,
            ...identities.variables(running),
          },
        },
      );
    try {
      await sign({ ...RELEASE, ref: 'refs/heads/main' });
      expect(failed(await verify())).toEqual([
        `verify remit:${version}`,
        `verify-attestation remit:${version}`,
      ]);
      // It was for the signer alone.
      await sign(RELEASE);
      expect(failed(await verify())).toEqual([`verify-attestation remit:${version}`]);
    } finally {
      await registry.putManifest(IMAGE, version, ours);
    }
  });

  it('the SBOM that is attested for the image is the one of the release', () => {
    const attested = spawnSync(
      cosign,
      [
        ...['verify-attestation', '--type', 'cyclonedx', '--trusted-root', identities.files.ours],
        ...['--insecure-ignore-tlog', '--insecure-ignore-sct', '--use-signed-timestamps'],
        ...['--certificate-identity-regexp', '.', '--certificate-oidc-issuer', identities.url],
        `${registry.host}/${IMAGE}:${version}`,
      ],
      { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024, env: { ...shell(), HOME: at('verifier') } },
    );
    expect(attested.status).toBe(0);
    const { payload } = JSON.parse(attested.stdout) as { payload: string };
    const { predicate } = JSON.parse(Buffer.from(payload, 'base64').toString()) as { predicate: unknown };
    const released = readFileSync(path.join(assets, `remit-${version}.cdx.json`), 'utf8');
    expect(predicate).toEqual(JSON.parse(released));
  });

  it('one changed byte of the SBOM is seen', async () => {
    const file = path.join(assets, `remit-${version}.cdx.json`);
    const bytes = readFileSync(file);
    const changed = Buffer.from(bytes);
    changed[changed.length >> 1]! ^= 1;
    writeFileSync(file, changed);
    try {
      expect(failed(await verify())).toEqual([`verify-blob remit-${version}.cdx.json`]);
    } finally {
      writeFileSync(file, bytes);
    }
    expect(failed(await verify())).toEqual([]);
  });

  it.each([
    ['image', IMAGE, [`verify remit:${version}`, `verify-attestation remit:${version}`]],
    ['chart', CHART, [`verify charts/remit:${version}`]],
  ])('another %s under the tag is seen', async (_what, repository, seen) => {
    const ours: StoredManifest = await registry.manifest(repository, version);
    await registry.putImage(repository, version, ['amd64'], 'of somebody else');
    try {
      expect(failed(await verify())).toEqual(seen);
    } finally {
      await registry.putManifest(repository, version, ours);
    }
    expect(failed(await verify())).toEqual([]);
  });
}

/** What git has of this folder, as it is now, with the date that is written when a release is made. */
function checkOut(workspace: string): void {
  const files = execFileSync('git', ['ls-files', '-z'], { cwd: PROJECT_ROOT, encoding: 'utf8' });
  for (const file of files.split('\0').filter(Boolean))
    cpSync(path.join(PROJECT_ROOT, file), path.join(workspace, file));
  const changelog = path.join(workspace, 'CHANGELOG.md');
  writeFileSync(
    changelog,
    readFileSync(changelog, 'utf8').replace(/^## (\S+) \(unreleased\)$/m, '## $1 (2026-12-01)'),
  );
}

/** Go's folders, so that nothing is downloaded or compiled twice, and how it reaches modules. */
function goSettings(): Record<string, string> {
  const names = ['GOPATH', 'GOMODCACHE', 'GOCACHE', 'GOPROXY', 'GONOSUMDB', 'GOSUMDB', 'GOTOOLCHAIN'];
  const values = execFileSync('go', ['env', '-json', ...names], { encoding: 'utf8' });
  return { ...(JSON.parse(values) as Record<string, string>), GOWORK: 'off' };
}

/**
 * cosign, told to use the authorities of this test instead of Sigstore's public ones, which have logs besides; notes what comes of
 * each verification.
 */
function cosignStandIn(cosign: string, signing: string): string {
  return `#!/bin/bash
command=$1; shift
case $command in
  sign | attest | sign-blob)
    exec ${cosign} $command --signing-config ${signing} --trusted-root "$TRUSTED_ROOT" "$@" ;;
esac
${cosign} $command --trusted-root "$TRUSTED_ROOT" --insecure-ignore-tlog --insecure-ignore-sct --use-signed-timestamps "$@"
code=$?
echo "$code $command \${@: -1}" >> "$CALLS"
exit $code
`;
}

/** `gh release create`: keeps the files, and what was said of them. Any other command of gh is left to the forge. */
function ghStandIn(assets: string): string {
  return `#!/usr/bin/env node
const { cpSync, readFileSync, writeFileSync } = require('node:fs');
const { parseArgs } = require('node:util');
const args = process.argv.slice(2);
if (args[0] !== 'release') process.exit(0);
if (!process.env.GH_TOKEN) throw new Error('GH_TOKEN is not set');
const { values, positionals } = parseArgs({
  args, allowPositionals: true,
  options: { 'verify-tag': { type: 'boolean' }, title: { type: 'string' }, 'notes-file': { type: 'string' } },
});
const [, verb, tag, ...files] = positionals;
if (verb !== 'create' || !values['verify-tag']) throw new Error('gh ' + args.join(' '));
for (const file of files) cpSync(file, ${JSON.stringify(assets)} + '/' + file);
const notes = readFileSync(values['notes-file'], 'utf8');
writeFileSync(${JSON.stringify(path.join(assets, 'release.json'))}, JSON.stringify({ tag, title: values.title, notes }));
`;
}
