import { labelsOfSeries } from './known-metrics';
import { readCompose, readText, readYaml, remitServices } from './project-files';

interface Rule {
  alert: string;
  expr: string;
  labels: { severity: string };
  annotations: { summary: string; runbook: string };
}
const { groups } = readYaml<{ groups: { name: string; rules: Rule[] }[] }>('deploy/prometheus/alerts.yml');
const rules = groups.flatMap((group) => group.rules);
const ofAlert = rules.map((rule) => [rule.alert, rule] as const);
/** Metrics that Prometheus itself makes of a scrape. */
const OF_PROMETHEUS = new Set(['up']);

describe('Prometheus alerts', () => {
  it.each(ofAlert)('%s uses metrics and labels that remit has', (_alert, { expr }) => {
    const series = [...expr.matchAll(/\b((?:remit|process|temporal)_[a-z0-9_]+|up)\b(?:\{([^}]*)\})?/g)];
    expect(series.length).toBeGreaterThan(0);
    for (const [, name = '', selector = ''] of series) {
      if (OF_PROMETHEUS.has(name)) continue;
      const labels = labelsOfSeries(name);
      expect([name, labels]).toEqual([name, expect.any(Array)]);
      const asked = [...selector.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)].map(([, label]) => label);
      for (const label of asked) expect([...(labels ?? []), 'job', 'role', 'instance']).toContain(label);
    }
  });

  it.each(ofAlert)(
    '%s says how urgent it is and where to read what to do',
    (alert, { labels, annotations }) => {
      expect(['page', 'ticket']).toContain(labels.severity);
      expect(annotations.summary).not.toBe('');
      expect(annotations.runbook).toBe(`docs/operations.md#${alert.toLowerCase()}`);
      expect(readText('docs/operations.md')).toMatch(new RegExp(`^### ${alert}$`, 'm'));
    },
  );

  it('have names of their own', () => {
    expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length);
  });

  it('watch payments, money conflicts, lag, dead letters, the outbox and deliveries', () => {
    const all = rules.map(({ expr }) => expr).join('\n');
    for (const metric of [
      'remit_provider_events_total',
      'remit_money_conflicts_total',
      'remit_consumer_lag_messages',
      'remit_dead_letters_total',
      'remit_outbox_oldest_seconds',
      'remit_delivery_attempts_total',
    ])
      expect(all).toContain(metric);
  });
});

interface Route {
  receiver: string;
  matchers?: string[];
  routes?: Route[];
}
interface Alertmanager {
  route: Route;
  receivers: { name: string; webhook_configs: Record<string, unknown>[] }[];
  inhibit_rules: { source_matchers: string[]; target_matchers: string[]; equal?: string[] }[];
}

describe('Alertmanager', () => {
  const config = readYaml<Alertmanager>('deploy/prometheus/alertmanager.yml');
  const purchases = readYaml<{ groups: { rules: Rule[] }[] }>('deploy/prometheus/alerts-purchases.yml');
  const all = [...rules, ...purchases.groups.flatMap((group) => group.rules)];

  it('has a way for every severity that an alert may have, and a receiver at its end', () => {
    const ways = new Map(
      (config.route.routes ?? []).map(({ matchers, receiver }) => [matchers?.join(), receiver]),
    );
    for (const severity of new Set(all.map(({ labels }) => labels.severity)))
      expect(ways.get(`severity="${severity}"`)).toBeDefined();
    const receivers = config.receivers.map(({ name }) => name);
    for (const receiver of [config.route.receiver, ...ways.values()]) expect(receivers).toContain(receiver);
  });

  it('keeps back only alerts that are there, by alerts that are there', () => {
    const known = new Set(all.map(({ alert }) => alert));
    const named = config.inhibit_rules
      .flatMap((rule) => [...rule.source_matchers, ...rule.target_matchers])
      .flatMap((matcher) => /^alertname=~?"(.+)"$/.exec(matcher)?.[1]?.split('|') ?? []);
    expect(named.length).toBeGreaterThan(5);
    expect(named.filter((name) => !known.has(name))).toEqual([]);
  });

  it('has no secret, and reads what may be one from files', () => {
    for (const { webhook_configs } of config.receivers)
      for (const hook of webhook_configs) expect(Object.keys(hook)).toContain('url_file');
    expect(readText('deploy/prometheus/alertmanager.yml')).not.toMatch(
      /^\s*[^#\s].*(url|key|token|password): /m,
    );
  });

  it('is where Prometheus sends its alerts', () => {
    const { alerting } = readYaml<{
      alerting: { alertmanagers: { static_configs: { targets: string[] }[] }[] };
    }>('deploy/prometheus/prometheus.yml');
    const targets = alerting.alertmanagers.flatMap(({ static_configs }) =>
      static_configs.flatMap(({ targets }) => targets),
    );
    expect(targets).toEqual(['alertmanager:9093']);
    expect(Object.keys(readCompose().services)).toContain('alertmanager');
  });
});

describe('Prometheus', () => {
  it('scrapes every service that runs remit, and misses each one', () => {
    const { scrape_configs } = readYaml<{
      scrape_configs: { job_name: string; dns_sd_configs?: { names: string[]; port: number }[] }[];
    }>('deploy/prometheus/prometheus.yml');
    const found = scrape_configs.find(({ job_name }) => job_name === 'remit')?.dns_sd_configs?.[0];
    const lasting = remitServices(readCompose())
      .filter(([, { restart }]) => restart !== 'no')
      .map(([name]) => name);
    expect(found?.names.sort()).toEqual([...lasting].sort());
    expect(found?.port).toBe(9464);
    const missing = rules.find(({ alert }) => alert === 'RemitRoleMissing')?.expr ?? '';
    expect([...missing.matchAll(/role="([^"]+)"/g)].map(([, role]) => role).sort()).toEqual(
      [...lasting].sort(),
    );
  });
});
