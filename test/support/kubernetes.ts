import { execFileSync } from 'node:child_process';
import path from 'node:path';
import ts from 'typescript';
import { parseAllDocuments } from 'yaml';
import { findHelm, findKubeScore } from '../../src/embedded/kubernetes-tools';

const PROJECT = path.resolve(__dirname, '..', '..');
const CHART = path.join(PROJECT, 'deploy/helm/remit');
/** Release and namespace of what the tests render. */
export const RELEASE = 'remit';
/** Oldest and newest version of Kubernetes that the chart is rendered for. */
export const KUBERNETES = ['1.27.0', '1.34.0'] as const;

export interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: { name: string; labels?: Record<string, string>; annotations?: Record<string, string> };
  spec?: unknown;
  data?: Record<string, string>;
  stringData?: Record<string, string>;
}

function tool(found: string | undefined, name: string): string {
  if (found !== undefined) return found;
  throw new Error(`There is no ${name}: \`npm test\` builds it with Go, which is not in PATH.`);
}

const valuesFile = (set: string) => path.join(PROJECT, 'deploy/helm/values', `${set}.yaml`);

/** Runs helm on the chart, with its settings in no home folder. @throws Error with what it says. */
function helm(args: readonly string[]): string {
  try {
    return execFileSync(tool(findHelm(), 'Helm'), args, {
      encoding: 'utf8',
      maxBuffer: 64 * 1024 * 1024,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 120_000,
    });
  } catch (error) {
    const { stderr, stdout } = error as { stderr?: string; stdout?: string };
    throw new Error(`helm ${args[0]}: ${stderr ?? ''}${stdout ?? ''}`, { cause: error });
  }
}

/** Values beside those of a file: text as `--set` takes it, all else in JSON. */
export type Sets = Record<string, unknown>;
const settings = (sets: Sets) =>
  Object.entries(sets).flatMap(([name, value]) =>
    typeof value === 'string'
      ? ['--set', `${name}=${value}`]
      : ['--set-json', `${name}=${JSON.stringify(value)}`],
  );

export const lintChart = (set: string): string => helm(['lint', '--strict', CHART, '-f', valuesFile(set)]);

/** `helm template`, hooks and all. `set`: one of deploy/helm/values, or undefined for the chart's own values. */
export function renderText(
  set: string | undefined,
  sets: Sets = {},
  kubeVersion: string = KUBERNETES[0],
): string {
  const files = set === undefined ? [] : ['-f', valuesFile(set)];
  return helm(['template', RELEASE, CHART, '--kube-version', kubeVersion, ...files, ...settings(sets)]);
}

export function parseManifests(text: string): Manifest[] {
  return parseAllDocuments(text).flatMap((document) => {
    if (document.errors.length > 0) throw document.errors[0]!;
    const manifest = document.toJS() as Manifest | null;
    return manifest === null ? [] : [manifest];
  });
}

export const renderManifests = (set: string | undefined, sets: Sets = {}): Manifest[] =>
  parseManifests(renderText(set, sets));

/** What kube-score finds, one line each; `ignored` are the ids of its tests that are not asked. */
export function kubeScore(manifests: string, ignored: readonly string[]): string[] {
  const args = [
    'score',
    '--output-format',
    'ci',
    '--kubernetes-version',
    'v1.27',
    '--ignore-container-cpu-limit',
  ];
  const ignoring = ignored.flatMap((id) => ['--ignore-test', id]);
  const run = () =>
    execFileSync(tool(findKubeScore(), 'kube-score'), [...args, ...ignoring, '-'], {
      encoding: 'utf8',
      input: manifests,
      maxBuffer: 64 * 1024 * 1024,
      timeout: 120_000,
    });
  let output: string;
  try {
    output = run();
  } catch (error) {
    // Exits with 1 when it finds something.
    output = (error as { stdout?: string }).stdout ?? '';
    if (output === '') throw error;
  }
  const lines = output.split('\n').filter((line) => line !== '');
  if (lines.length === 0) throw new Error('kube-score looked at nothing');
  return lines.filter((line) => !/^\[(OK|SKIPPED)\]/.test(line));
}

const CUSTOM: Record<string, string> = {
  'keda.sh': '@kubernetes-models/keda',
  'monitoring.coreos.com': '@kubernetes-models/prometheus-operator',
};

/** `apps/v1` `Deployment` → the module with its schema and its type. */
function modelOf({ apiVersion, kind }: Manifest): string {
  const [group = ''] = apiVersion.split('/');
  return `${CUSTOM[group] ?? 'kubernetes-models'}/${apiVersion}/${kind}`;
}

/**
 * What is wrong with manifests, one line each. Twice: against the schemas that Kubernetes, KEDA and the Prometheus Operator
 * publish (types, required fields, formats), and against the types made of the same schemas, which know no other fields.
 */
export function manifestMistakes(manifests: readonly Manifest[]): string[] {
  return [...manifests.flatMap(schemaMistakes), ...typeMistakes(manifests)];
}

function schemaMistakes(manifest: Manifest): string[] {
  type Model = new (data: Manifest) => { validate(): void };
  const { [manifest.kind]: Model } = jest.requireActual<Record<string, Model>>(modelOf(manifest));
  if (Model === undefined) return [`${manifest.apiVersion} ${manifest.kind}: unknown`];
  try {
    new Model(manifest).validate();
    return [];
  } catch (error) {
    return [`${manifest.kind} ${manifest.metadata.name}: ${(error as Error).message}`];
  }
}

function typeMistakes(manifests: readonly Manifest[]): string[] {
  const file = path.join(PROJECT, 'test/support/manifests-to-check.ts');
  const source = manifests
    .map(
      (manifest, index) =>
        `const m${index}: import('${modelOf(manifest)}').I${manifest.kind} = ${JSON.stringify(manifest, null, 1)};\n`,
    )
    .join('');
  const options: ts.CompilerOptions = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    // What the manifests are is all that is asked: the smallest library will do.
    lib: ['lib.es5.d.ts'],
    types: [],
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.Node16,
    moduleResolution: ts.ModuleResolutionKind.Node16,
  };
  const host = ts.createCompilerHost(options);
  const onDisk = ts.createCompilerHost(options);
  host.fileExists = (name) => name === file || onDisk.fileExists(name);
  host.readFile = (name) => (name === file ? source : onDisk.readFile(name));
  host.getSourceFile = (name, version, ...rest) =>
    name === file ? ts.createSourceFile(name, source, version) : onDisk.getSourceFile(name, version, ...rest);
  const program = ts.createProgram([file], options, host);
  const lines = source.split('\n');
  return ts.getPreEmitDiagnostics(program).map(({ messageText, start }) => {
    const before = source.slice(0, start ?? 0).split('\n');
    const manifest = manifests[before.filter((line) => line.startsWith('const m')).length - 1];
    const what = `${manifest?.kind} ${manifest?.metadata.name}: ${lines[before.length - 1]?.trim()}`;
    return `${what} ← ${ts.flattenDiagnosticMessageText(messageText, ' ')}`;
  });
}
