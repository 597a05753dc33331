import { labelsOfSeries } from './known-metrics';
import { filesBelow, readCompose, readText, readYaml, withDefaults } from './project-files';

interface Panel {
  id: number;
  type: string;
  title: string;
  targets?: { expr: string }[];
}
interface Dashboard {
  title: string;
  uid: string;
  panels: Panel[];
}

const files = filesBelow('deploy/grafana').filter((file) => file.endsWith('.json'));
const read = (file: string) => JSON.parse(readText(file)) as Dashboard;
/** Labels that Prometheus adds. */
const ADDED = ['le', 'job', 'role', 'instance'];

describe('the Grafana dashboards', () => {
  it('are those of payments, of purchases and of workers', () => {
    expect(files.sort()).toEqual([
      'deploy/grafana/payments.json',
      'deploy/grafana/purchases.json',
      'deploy/grafana/workers.json',
    ]);
    const uids = files.map((file) => read(file).uid);
    expect(new Set(uids).size).toBe(uids.length);
  });

  it.each(files)('%s asks for metrics and labels that remit has', (file) => {
    const charts = read(file).panels.filter(({ type }) => type !== 'row');
    expect(charts.length).toBeGreaterThan(5);
    for (const { title, targets } of charts) {
      expect([title, targets?.length]).not.toEqual([title, 0]);
      for (const { expr } of targets ?? []) {
        const series = [...expr.matchAll(/\b((?:remit|process|temporal)_[a-z0-9_]+)\b(?:\{([^}]*)\})?/g)];
        expect([title, series.length]).not.toEqual([title, 0]);
        const labels = series.flatMap(([, name = '']) => {
          const found = labelsOfSeries(name);
          expect([title, name, found]).toEqual([title, name, expect.any(Array)]);
          return found ?? [];
        });
        const asked = [
          ...series.flatMap(([, , selector = '']) => [...selector.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)]),
        ].map(([, label]) => label);
        const grouped = [...expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, list = '']) =>
          list.split(',').map((label) => label.trim()),
        );
        for (const label of [...asked, ...grouped]) expect([...labels, ...ADDED]).toContain(label);
      }
    }
  });

  it.each(files)('%s has panels with ids of their own', (file) => {
    const ids = read(file).panels.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('are what the Grafana of Compose shows, from its Prometheus', () => {
    const { services } = readCompose();
    const mounts = (services['grafana']?.volumes ?? []).map((volume) => withDefaults(volume).split(':'));
    const folder = readYaml<{ providers: { options: { path: string } }[] }>(
      'deploy/grafana/provisioning/dashboards/remit.yml',
    ).providers[0]?.options.path;
    expect(mounts).toContainEqual(['./deploy/grafana', folder, 'ro']);
    expect(mounts).toContainEqual(['./deploy/grafana/provisioning', '/etc/grafana/provisioning', 'ro']);
    const { datasources } = readYaml<{ datasources: { type: string; url: string }[] }>(
      'deploy/grafana/provisioning/datasources/prometheus.yml',
    );
    expect(datasources).toEqual([
      expect.objectContaining({ type: 'prometheus', url: 'http://prometheus:9090' }),
    ]);
    expect(Object.keys(services)).toContain('prometheus');
  });
});
