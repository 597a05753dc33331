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
