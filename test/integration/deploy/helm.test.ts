import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { TASK_QUEUES } from '../../../src/contracts/workflows';
import { loadConfig, ROLE_NEEDS, type ConfigKey } from '../../../src/platform/config';
import { bridgeGroups } from '../../../src/platform/topics';
import {
  KUBERNETES,
  kubeScore,
  lintChart,
  type Manifest,
  manifestMistakes,
  parseManifests,
  RELEASE,
  renderManifests,
  renderText,
  type Sets,
} from '../../support/kubernetes';
import { readText, readYaml } from '../../unit/deploy/project-files';

const SETS = ['minimal', 'production', 'everything-outside'] as const;
const ROLES = ['api', 'bridge', 'worker', 'worker-deliveries', 'relay', 'ingest'] as const;
type Role = (typeof ROLES)[number];
const needsOf = (role: Role | 'migrate'): readonly ConfigKey[] =>
  ROLE_NEEDS[role === 'worker-deliveries' ? 'worker' : role];

/** Why kube-score is not asked about these. */
const NOT_ASKED = {
  'container-image-pull-policy':
    'images are named by version or digest, and one that is there need not be asked for',
  'deployment-has-host-podantiaffinity':
    'topologySpreadConstraints do it, and go on to do it with more pods than nodes',
  'deployment-replicas': 'it does not know KEDA; the number is asked for below',
};

interface Variable {
  name: string;
  value?: string;
  valueFrom?: { secretKeyRef: { name: string; key: string } };
}
interface Container {
  args: string[];
  command?: string[];
  env: Variable[];
  envFrom?: { configMapRef?: { name: string }; secretRef?: { name: string } }[];
  ports?: { name: string; containerPort: number }[];
  securityContext: Record<string, unknown>;
  volumeMounts: { name: string; mountPath: string }[];
  [probe: `${string}Probe`]: { httpGet: { path: string; port: string } };
}
interface PodSpec {
  containers: Container[];
  terminationGracePeriodSeconds?: number;
  securityContext: Record<string, unknown>;
  volumes: Record<string, unknown>[];
  automountServiceAccountToken: boolean;
  serviceAccountName: string;
}
interface Template {
  metadata: { labels: Record<string, string> };
  spec: PodSpec;
}

const rendered = new Map<string, Manifest[]>(SETS.map((set) => [set, renderManifests(set)]));
const of = (set: string): Manifest[] => rendered.get(set) ?? [];

function find<T>(manifests: readonly Manifest[], kind: string, name: string): T {
  const found = manifests.find((each) => each.kind === kind && each.metadata.name === `${RELEASE}${name}`);
  if (found === undefined) throw new Error(`no ${kind} ${RELEASE}${name}`);
  return found as T;
}
const deployment = (manifests: readonly Manifest[], role: Role) =>
  find<Manifest & { spec: { replicas?: number; template: Template } }>(manifests, 'Deployment', `-${role}`)
    .spec;

/** Every pod that the manifests make, by its component. */
function pods(manifests: readonly Manifest[]): [component: string, template: Template][] {
  return manifests.flatMap(({ kind, spec }) => {
    const template =
      kind === 'Deployment' || kind === 'Job'
        ? (spec as { template: Template }).template
        : kind === 'CronJob'
          ? (spec as { jobTemplate: { spec: { template: Template } } }).jobTemplate.spec.template
          : undefined;
    return template ? [[template.metadata.labels['app.kubernetes.io/component'] ?? '', template]] : [];
  });
}

/** What stands in the Secrets, which the chart does not make. */
const SECRETS: Record<string, string> = {
  DATABASE_URL: 'postgresql://remit_service:3f8a1c@postgres:5432/remit',
  ENCRYPTION_KEY: Buffer.from('a key of thirty-two bytes, it is').toString('base64'),
  PROVIDER_SECRET_DECARD: `whsec_${Buffer.from('a secret that nobody would guess').toString('base64')}`,
  ORDER_WEBHOOK_SECRET: `whsec_${Buffer.from('another that nobody would guess!').toString('base64')}`,
};
/** Of a set of values that names how to log in to Kafka. */
const KAFKA_LOGIN = { KAFKA_SASL_USERNAME: 'remit', KAFKA_SASL_PASSWORD: '7d0e55b2' };
const CERTIFICATES = '/etc/remit/certificates';

describe('the Helm chart', () => {
  let folder = '';
  beforeAll(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'remit-helm-'));
    for (const file of ['kafka-ca.crt', 'temporal-ca.crt', 'temporal.crt', 'temporal.key'])
      writeFileSync(path.join(folder, file), '');
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** The environment of a container, with the Secrets there and the certificates in a folder of this test. */
  function environment(manifests: readonly Manifest[], { env, envFrom }: Container): Record<string, string> {
    const all: Record<string, string> = {};
    for (const { configMapRef, secretRef } of envFrom ?? []) {
      if (configMapRef) Object.assign(all, find<Manifest>(manifests, 'ConfigMap', '').data);
      if (secretRef) Object.assign(all, SECRETS);
    }
    for (const { name, value } of env) all[name] = value ?? '';
    if (all['KAFKA_SASL_MECHANISM']) Object.assign(all, KAFKA_LOGIN);
    for (const [name, value] of Object.entries(all)) all[name] = value.replace(CERTIFICATES, folder);
    return all;
  }

  describe.each(SETS)('with the values %s', (set) => {
    it('passes helm lint', () => {
      expect(lintChart(set)).toContain('1 chart(s) linted, 0 chart(s) failed');
    });

    it('renders the same for the oldest and a new Kubernetes', () => {
      expect(renderText(set, {}, KUBERNETES[1])).toBe(renderText(set, {}, KUBERNETES[0]));
    });

    it('is what kube-score has no remark on', () => {
      expect(kubeScore(renderText(set), Object.keys(NOT_ASKED))).toEqual([]);
    });

    it('gives every role a configuration that it starts with', () => {
      for (const [component, { spec }] of pods(of(set))) {
        if (component === 'backup') continue;
        const env = environment(of(set), spec.containers[0]!);
        const load = () => loadConfig(env, needsOf(component as Role));
        expect(load).not.toThrow();
        expect(load()).toMatchObject({ API_PORT: 8080, METRICS_PORT: 9464 });
      }
    });

    it('runs every pod without rights, on a file system that it can not write', () => {
      for (const [component, { spec }] of pods(of(set))) {
        expect([component, spec.automountServiceAccountToken]).toEqual([component, false]);
        expect(spec.securityContext).toMatchObject({
          runAsNonRoot: true,
          seccompProfile: { type: 'RuntimeDefault' },
        });
        for (const { securityContext, volumeMounts } of spec.containers) {
          expect(securityContext).toMatchObject({
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            runAsNonRoot: true,
            capabilities: { drop: ['ALL'] },
          });
          expect(volumeMounts).toContainEqual({ name: 'tmp', mountPath: '/tmp' });
        }
      }
    });

    it('asks every role at the operators’ port whether it lives and is ready', () => {
      for (const role of ROLES) {
        const { ports, ...container } = deployment(of(set), role).template.spec.containers[0]!;
        expect(ports).toContainEqual({ name: 'ops', containerPort: 9464, protocol: 'TCP' });
        expect(container.startupProbe?.httpGet).toEqual({ path: '/healthz', port: 'ops' });
        expect(container.livenessProbe?.httpGet).toEqual({ path: '/healthz', port: 'ops' });
        expect(container.readinessProbe?.httpGet).toEqual({ path: '/readyz', port: 'ops' });
      }
    });

    it('leaves every role more time to stop than its ordered shutdown may take', () => {
      for (const role of ROLES) {
        const { spec } = deployment(of(set), role).template;
        const { SHUTDOWN_TIMEOUT_MS } = loadConfig(environment(of(set), spec.containers[0]!), []);
        const preStopSeconds = role === 'api' ? 10 : 0;
        expect(spec.terminationGracePeriodSeconds).toBeGreaterThan(
          preStopSeconds + SHUTDOWN_TIMEOUT_MS / 1_000,
        );
      }
    });

    it('serves every task queue by one of the two workers', () => {
      const queues = (['worker', 'worker-deliveries'] as const).map((role) => {
        const [command, option, ...names] = deployment(of(set), role).template.spec.containers[0]!.args;
        expect([command, option]).toEqual(['worker', '--queue']);
        return names;
      });
      expect(queues.flat().sort()).toEqual(Object.keys(TASK_QUEUES).sort());
      expect(queues[1]).toEqual(['deliveries']);
    });

    it('lets every pod reach the servers that it needs, and has one policy for each', () => {
      interface Policy {
        podSelector: { matchLabels: Record<string, string> };
        egress: { ports?: { port: number }[]; to?: unknown[] }[];
      }
      const policies = of(set).filter(({ kind }) => kind === 'NetworkPolicy');
      const { networkPolicy: given = {}, config = {} } = readYaml<{
        networkPolicy?: Record<string, { ports?: number[] }>;
        config?: Record<string, unknown>;
      }>(`deploy/helm/values/${set}.yaml`);
      const ports = {
        DATABASE_URL: given['postgres']?.ports?.[0] ?? 5432,
        KAFKA_BROKERS: given['kafka']?.ports?.[0] ?? 9092,
        TEMPORAL_ADDRESS: given['temporal']?.ports?.[0] ?? 7233,
        CLICKHOUSE_URL: given['clickhouse']?.ports?.[0] ?? 8123,
      };
      for (const [component, { metadata }] of pods(of(set))) {
        const selecting = policies.filter(({ spec }) =>
          Object.entries((spec as Policy).podSelector.matchLabels).every(
            ([label, value]) => metadata.labels[label] === value,
          ),
        );
        expect([component, selecting.length]).toEqual([component, 1]);
        const { egress } = selecting[0]!.spec as Policy;
        const open = egress.flatMap((rule) => rule.ports?.map(({ port }) => port) ?? []);
        const needs: readonly string[] =
          component === 'backup' ? ['DATABASE_URL'] : needsOf(component as Role);
        const needed = Object.entries(ports).flatMap(([name, port]) => (needs.includes(name) ? [port] : []));
        const others = Object.values(ports).filter((port) => !needed.includes(port));
        expect(open).toEqual(expect.arrayContaining([53, ...needed]));
        expect([component, open.filter((port) => others.includes(port))]).toEqual([component, []]);
        // Those that make spans reach the collector, where there is one.
        const traced = 'OTEL_EXPORTER_OTLP_ENDPOINT' in config && !/ingest|migrate|backup/.test(component);
        expect([component, open.includes(4318)]).toEqual([component, traced]);
      }
    });
  });

  it('makes manifests that the schemas of Kubernetes, KEDA and the Prometheus Operator know', () => {
    expect(manifestMistakes(SETS.flatMap(of))).toEqual([]);
  });

  it('would be found out about a field that does not exist, one that is missing and one of another type', () => {
    const changes: [kind: string, from: string, to: string, found: RegExp][] = [
      ['Deployment', 'readOnlyRootFilesystem', 'readOnlyRootFileSystem', /"readOnlyRootFileSystem"/],
      ['ConfigMap', '"data"', '"date"', /"date"/],
      ['Job', '"containers"', '"container"', /containers/],
      ['PodDisruptionBudget', '"maxUnavailable":1', '"maxUnavailable":true', /maxUnavailable/],
      ['ScaledObject', 'minReplicaCount', 'minReplicas', /"minReplicas"/],
      ['ServiceMonitor', '"endpoints"', '"endpoint"', /endpoints/],
    ];
    const broken = changes.map(([kind, from, to]) => {
      const text = JSON.stringify(of('production').find((each) => each.kind === kind));
      expect(text).toContain(from);
      return JSON.parse(text.replace(from, to)) as Manifest;
    });
    const found = manifestMistakes(broken);
    for (const [kind, , , expected] of changes)
      expect([kind, found.filter((line) => line.startsWith(`${kind} `)).join('\n')]).toEqual([
        kind,
        expect.stringMatching(expected),
      ]);
  });

  it('would be found out by kube-score about a pod that may write its file system', () => {
    const text = renderText('minimal').replace(
      'readOnlyRootFilesystem: true',
      'readOnlyRootFilesystem: false',
    );
    expect(kubeScore(text, Object.keys(NOT_ASKED)).join('\n')).toContain('writable root filesystem');
  });

  it('keeps two of everything in production, whoever scales it', () => {
    for (const set of ['production', 'everything-outside'])
      for (const role of ROLES) {
        const { replicas } = deployment(of(set), role);
        const scaler = of(set).find(
          ({ kind, metadata }) =>
            ['ScaledObject', 'HorizontalPodAutoscaler'].includes(kind) &&
            metadata.name === `${RELEASE}-${role}`,
        )?.spec as { minReplicaCount?: number; minReplicas?: number } | undefined;
        // One number, not two that contradict each other.
        expect([role, replicas === undefined]).toEqual([role, scaler !== undefined]);
        expect(replicas ?? scaler?.minReplicaCount ?? scaler?.minReplicas).toBeGreaterThanOrEqual(2);
      }
  });

  describe('its secrets', () => {
    it('must be given, and the refusal says how', () => {
      expect(() => renderText(undefined)).toThrow(/Neither existingSecret nor secrets is set.*DATABASE_URL/);
      expect(() => renderText('minimal', { 'secrets.DATABASE_URL': 'x' })).toThrow(/both set/);
    });

    it('are asked for by name when the chart makes the Secret, as the roles would', () => {
      const needed = [...new Set(Object.values(ROLE_NEEDS).flat())];
      const given = (left?: string) => ({
        existingSecret: '',
        ...Object.fromEntries(
          needed
            .filter((name) => name !== left)
            .map((name) => [`secrets.${name}`, SECRETS[name] ?? 'host:1']),
        ),
      });
      const manifests = renderManifests(undefined, given());
      expect(Object.keys(find<Manifest>(manifests, 'Secret', '').stringData ?? {}).sort()).toEqual(
        needed.sort(),
      );
      // The hook runs before that Secret is there, and brings its own.
      const hook = find<Manifest>(manifests, 'Secret', '-migrate');
      expect(hook.metadata.annotations?.['helm.sh/hook']).toBe('pre-install,pre-upgrade');
      for (const name of needed)
        expect(() => renderText(undefined, given(name))).toThrow(new RegExp(`config: ${name}`));
    });

    it('are refused in the ConfigMap', () => {
      expect(() => renderText('minimal', { 'config.ENCRYPTION_KEY': 'x' })).toThrow(/ENCRYPTION_KEY/);
      expect(() => renderText('minimal', { 'config.DATABASE_URL': 'postgresql://a:b@c/d' })).toThrow(
        /password/,
      );
    });
  });

  describe('its migrations', () => {
    const job = (set: string, sets?: Sets) =>
      find<Manifest & { spec: { template: Template } }>(renderManifests(set, sets), 'Job', '-migrate');

    it('run before the roles of a version, with what the owner of the tables has over theirs', () => {
      const { metadata, spec } = job('production');
      expect(metadata.annotations).toMatchObject({
        'helm.sh/hook': 'pre-install,pre-upgrade',
        'helm.sh/hook-delete-policy': 'before-hook-creation',
      });
      const [container] = spec.template.spec.containers;
      expect(container?.args).toEqual(['migrate']);
      expect(container?.envFrom).toEqual([
        { secretRef: { name: 'remit' } },
        { secretRef: { name: 'remit-owner' } },
      ]);
    });

    it('have their way to the servers before they run, also where a namespace lets nothing out', () => {
      const { metadata } = find<Manifest>(of('production'), 'NetworkPolicy', '-migrate');
      expect(metadata.annotations).toMatchObject({
        'helm.sh/hook': 'pre-install,pre-upgrade',
        'helm.sh/hook-delete-policy': 'before-hook-creation,hook-succeeded',
      });
      const weight = (annotations: Record<string, string> = {}) => Number(annotations['helm.sh/hook-weight']);
      expect(weight(metadata.annotations)).toBeLessThan(weight(job('production').metadata.annotations));
    });

    it('need nothing of the chart that a hook comes before', () => {
      const { spec } = job('production').spec.template;
      expect(spec.serviceAccountName).toBe('default');
      expect(spec.containers[0]?.envFrom?.filter(({ configMapRef }) => configMapRef)).toEqual([]);
    });
  });

  it('backs up by the command of remit where the login may replicate, with one writer, and is not ready without a backup', () => {
    const sets = { 'backup.method': 'follow', 'backup.existingSecret': 'remit-backup', 'backup.keep': '3' };
    const manifests = renderManifests('production', sets);
    expect(manifestMistakes(manifests)).toEqual([]);
    expect(manifests.filter(({ kind }) => kind === 'CronJob')).toEqual([]);
    const { spec } = find<Manifest & { spec: { replicas: number; strategy: unknown; template: Template } }>(
      manifests,
      'Deployment',
      '-backup',
    );
    expect(spec).toMatchObject({ replicas: 1, strategy: { type: 'Recreate' } });
    expect(spec.template.spec.containers[0]).toMatchObject({
      args: ['backup', '/backup', '--follow', '--every', '24', '--keep', '3'],
      readinessProbe: { exec: { command: ['node', 'dist/cli.js', 'backup', 'ls', '/backup'] } },
    });
    // One folder has one writer, which can't be spread; its liveness is that of its process.
    const ignored = [
      ...Object.keys(NOT_ASKED),
      ...[
        'deployment-has-poddisruptionbudget',
        'pod-probes',
        'deployment-pod-selector-labels-match-template-metadata-labels',
      ],
    ];
    expect(kubeScore(renderText('production', sets), ignored)).toEqual([]);
    expect(() => renderText('production', { 'backup.method': 'follow' })).toThrow(/REPLICATION/);
  });

  it('writes large numbers and truth values as they are meant', () => {
    const { data } = find<Manifest>(of('production'), 'ConfigMap', '');
    expect(data).toMatchObject({ KAFKA_DEAD_LETTER_RETENTION_MS: '15552000000', KAFKA_TLS: 'true' });
    const { env } = find<Manifest & { spec: { template: Template } }>(of('production'), 'Job', '-migrate')
      .spec.template.spec.containers[0]!;
    expect(env).toContainEqual({ name: 'KAFKA_DEAD_LETTER_RETENTION_MS', value: '15552000000' });
    const fraction = renderManifests('minimal', { 'config.OTEL_TRACES_SAMPLER_ARG': 0.25 });
    expect(find<Manifest>(fraction, 'ConfigMap', '').data).toMatchObject({ OTEL_TRACES_SAMPLER_ARG: '0.25' });
  });

  it('takes variables from Secrets with keys of other names, and the migration those of the owner', () => {
    const from = (name: string) => ({
      name: 'DATABASE_URL',
      valueFrom: { secretKeyRef: { name, key: 'uri' } },
    });
    const nodeIp = { name: 'NODE_IP', valueFrom: { fieldRef: { fieldPath: 'status.hostIP' } } };
    const manifests = renderManifests('minimal', {
      extraEnv: [from('postgres-app'), nodeIp],
      'migrate.extraEnv': [from('postgres-owner')],
    });
    expect(manifestMistakes(manifests)).toEqual([]);
    for (const [component, { spec }] of pods(manifests)) {
      const owner = component === 'migrate' ? 'postgres-owner' : 'postgres-app';
      const { env } = spec.containers[0]!;
      const given = env.filter(({ name }) => name === 'DATABASE_URL');
      expect([component, given]).toEqual([component, [from(owner)]]);
      expect(env).toContainEqual(nodeIp);
    }
    // A login of the owner that is given otherwise is not covered by that of the roles.
    const owned = renderManifests('minimal', { extraEnv: [from('app')], 'migrate.existingSecret': 'owner' });
    const [migrate] = pods(owned).filter(([component]) => component === 'migrate');
    expect(migrate![1].spec.containers[0]!.env.map(({ name }) => name)).not.toContain('DATABASE_URL');
  });

  it('takes out a variable that is null, as a second file of values does', () => {
    const text = renderText('production', {
      'config.SHUTDOWN_TIMEOUT_MS': null,
      'config.KAFKA_TLS_CA_FILE': null,
      'roles.api.config': { LOG_LEVEL: null },
    });
    expect(text).not.toMatch(/nil|SHUTDOWN_TIMEOUT_MS|KAFKA_TLS_CA_FILE|LOG_LEVEL/);
    const { spec } = deployment(parseManifests(text), 'bridge').template;
    // The default of the variable, and some to spare.
    expect(spec.terminationGracePeriodSeconds).toBe(45);
  });

  it.each<[string, Sets, RegExp]>([
    [
      'autoscaling by a CPU that nothing is asked of',
      { 'roles.api.autoscaling': { enabled: true }, 'roles.api.resources': null },
      /needs roles.api.resources.requests.cpu/,
    ],
    ['a section that is left empty', { config: null }, /config is null: leave it out/],
    ['a policy that is null', { networkPolicy: null }, /networkPolicy is null: leave it out/],
    [
      'fewer replicas at most than at least',
      { 'roles.api.autoscaling': { enabled: true, minReplicas: 9, maxReplicas: 2 } },
      /roles.api.autoscaling: minReplicas \(9\) is more than maxReplicas \(2\)/,
    ],
    [
      'a password in a role’s own variables',
      { 'roles.relay.config': { DATABASE_URL: 'postgresql://a:b@c/d' } },
      /DATABASE_URL with a password stands in config/,
    ],
    [
      'a password in the address of another server',
      { 'config.CLICKHOUSE_URL': 'https://a:b@c:8443' },
      /CLICKHOUSE_URL with a password stands in config/,
    ],
    [
      'a variable that is given twice',
      { 'config.LOG_LEVEL': 'info', extraEnv: [{ name: 'LOG_LEVEL', value: 'debug' }] },
      /LOG_LEVEL stands both in config and in extraEnv/,
    ],
    [
      'a secret in the ConfigMap, where it stands',
      { 'config.ENCRYPTION_KEY': 'x' },
      /'\/config\/ENCRYPTION_KEY'/,
    ],
  ])('refuses %s', (_what, sets, message) => {
    expect(() => renderText('minimal', sets)).toThrow(message);
  });

  it('keeps names and labels within their lengths, however long the release and the tag are', () => {
    const tag = `sha-${'a'.repeat(64)}`;
    const manifests = renderManifests('production', { 'image.tag': tag, fullnameOverride: 'r'.repeat(53) });
    expect(manifestMistakes(manifests)).toEqual([]);
    for (const { kind, metadata } of manifests) {
      // A CronJob's jobs have eleven characters more.
      expect([kind, metadata.name.length <= (kind === 'CronJob' ? 52 : 63)]).toEqual([kind, true]);
      const long = Object.values(metadata.labels ?? {}).filter((value) => value.length > 63);
      expect([kind, metadata.name, long]).toEqual([kind, metadata.name, []]);
    }
    expect(renderText('minimal', { 'image.tag': tag })).toContain(`image: "remit:${tag}"`);
  });

  it('replaces the pods when a variable has changed, and keeps them otherwise', () => {
    const sum = (sets?: Record<string, string>) =>
      renderText('minimal', sets).match(/checksum\/config: \w+/)?.[0];
    expect(sum()).toBe(sum());
    expect(sum({ 'config.LOG_LEVEL': 'debug' })).not.toBe(sum());
  });

  describe('with KEDA', () => {
    interface Watched {
      group: string | undefined;
      topic: string | undefined;
    }
    interface Scaled {
      triggers: { type: string; metadata: Record<string, string>; authenticationRef?: { name: string } }[];
    }
    const triggers = (manifests: readonly Manifest[], role: string, type: string) =>
      find<Manifest & { spec: Scaled }>(manifests, 'ScaledObject', `-${role}`).spec.triggers.filter(
        (trigger) => trigger.type === type,
      );
    const groups = (manifests: readonly Manifest[], role: string) =>
      triggers(manifests, role, 'kafka').map(({ metadata }) => ({
        group: metadata['consumerGroup'],
        topic: metadata['topic'],
      }));

    it('watches the groups and topics that the roles read, also under other names', () => {
      const renamed = {
        'config.KAFKA_GROUP_PREFIX': 'pay',
        'config.KAFKA_TOPIC_PREFIX': 'shop.',
        'config.TOPIC_PAYMENT_WEBHOOK_PREFIX': 'hooks.',
        'config.TOPIC_PURCHASES': 'bought',
      };
      for (const sets of [{}, renamed]) {
        const manifests = renderManifests('production', sets);
        const { data = {} } = find<Manifest>(manifests, 'ConfigMap', '');
        const names = Object.entries(data).filter(([name]) =>
          /^(TOPIC|KAFKA_GROUP|KAFKA_TOPIC_PREFIX)/.test(name),
        );
        const config = loadConfig(Object.fromEntries(names), []);
        const watched = [...groups(manifests, 'bridge'), ...groups(manifests, 'worker-deliveries')];
        const byGroup = (a: Watched, b: Watched) => (String(a.group) < String(b.group) ? -1 : 1);
        expect(watched.sort(byGroup)).toEqual(bridgeGroups(config).sort(byGroup));
        expect(groups(manifests, 'worker-deliveries')).toHaveLength(1);
        expect(groups(manifests, 'ingest')).toEqual([
          { group: `${config.KAFKA_GROUP_PREFIX}.ingest.purchases`, topic: config.TOPIC_PURCHASES },
          { group: `${config.KAFKA_GROUP_PREFIX}.ingest.domain-events`, topic: config.TOPIC_DOMAIN_EVENTS },
        ]);
      }
    });

    it('watches the task queues of each worker', () => {
      for (const role of ['worker', 'worker-deliveries'] as const) {
        const served = deployment(of('production'), role).template.spec.containers[0]!.args.slice(2);
        const watched = triggers(of('production'), role, 'temporal').map(
          ({ metadata }) => metadata['taskQueue'],
        );
        expect(watched).toEqual(served.map((queue) => TASK_QUEUES[queue as keyof typeof TASK_QUEUES]));
      }
    });

    it('identifies itself to Kafka and Temporal as the roles do', () => {
      const auth = (set: string, name: string) =>
        find<Manifest & { spec: { secretTargetRef: unknown[] } }>(of(set), 'TriggerAuthentication', name).spec
          .secretTargetRef;
      expect(auth('production', '-kafka')).toEqual([
        { parameter: 'username', name: 'remit', key: 'KAFKA_SASL_USERNAME' },
        { parameter: 'password', name: 'remit', key: 'KAFKA_SASL_PASSWORD' },
        { parameter: 'ca', name: 'remit-certificates', key: 'kafka-ca.crt' },
      ]);
      expect(triggers(of('production'), 'bridge', 'kafka')[0]?.metadata).toMatchObject({
        sasl: 'scram_sha512',
        tls: 'enable',
      });
      expect(
        auth('production', '-temporal').map((each) => (each as { parameter: string }).parameter),
      ).toEqual(['ca', 'cert', 'key']);
      expect(auth('everything-outside', '-temporal')).toEqual([
        { parameter: 'apiKey', name: 'remit', key: 'TEMPORAL_API_KEY' },
      ]);
    });

    it('says what it lacks', () => {
      expect(() => renderText('minimal', { 'keda.enabled': 'true', 'config.KAFKA_BROKERS': '' })).toThrow(
        /keda.enabled needs KAFKA_BROKERS/,
      );
    });
  });

  describe('its monitoring', () => {
    it('has the alerts of deploy/prometheus, and finds every role under the label that they ask for', () => {
      const rules = of('production').filter(({ kind }) => kind === 'PrometheusRule');
      const files = ['alerts-purchases', 'alerts'];
      expect(rules.map(({ metadata }) => metadata.name).sort()).toEqual(
        files.map((file) => `${RELEASE}-${file}`).sort(),
      );
      for (const file of files)
        expect(find<Manifest>(rules, 'PrometheusRule', `-${file}`).spec).toEqual(
          readYaml(`deploy/prometheus/${file}.yml`),
        );
      const asked = [
        ...readText('deploy/prometheus/alerts.yml').matchAll(/absent\(up\{job="remit", role="([^"]+)"\}\)/g),
      ];
      expect(asked.map(([, role]) => role).sort()).toEqual([...ROLES].sort());
      const { selector } = find<Manifest & { spec: { selector: Record<string, string> } }>(
        of('production'),
        'Service',
        '-ops',
      ).spec;
      const scraped = pods(of('production')).filter(([, { metadata }]) =>
        Object.entries(selector).every(([label, value]) => metadata.labels[label] === value),
      );
      expect(scraped.map(([component]) => component).sort()).toEqual([...ROLES].sort());
    });

    it('misses no role that is not to run', () => {
      const text = renderText('production', { 'roles.ingest.enabled': 'false' });
      expect(text).not.toContain('role="ingest"');
      expect(text).toContain('or absent(vector(1))');
      expect(parseManifests(text).filter(({ metadata }) => metadata.name.endsWith('-ingest'))).toEqual([]);
    });
  });

  it('hands the backup the login that owns the tables', () => {
    const [, { spec }] = pods(of('production')).find(([component]) => component === 'backup')!;
    const [{ env, command, args }] = spec.containers as [Container];
    expect(env[0]).toEqual({
      name: 'DATABASE_URL',
      valueFrom: { secretKeyRef: { name: 'remit-owner', key: 'DATABASE_URL' } },
    });
    expect(command).toEqual(['/bin/sh', '-c']);
    expect(args[0]?.trim()).toBe(readText('deploy/helm/remit/files/backup.sh').trim());
  });
});
