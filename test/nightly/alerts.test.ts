import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { eventually, freePort } from '../support/harness';
import { PROJECT_ROOT } from '../../src/platform/project';
import { readText } from '../unit/deploy/project-files';
import { noteResult } from '../support/nightly';
import { goCommands, installed, isMissing } from './tools';

/**
 * An alert on its whole way: a role of remit that stops, Prometheus with the rules of this project, Alertmanager with its
 * configuration of this project, a receiver. Times are cut so that it takes a minute and not ten; nothing else is changed.
 */
const prometheus = installed('prometheus', 'prometheus');
const tools = goCommands('github.com/prometheus/alertmanager', 'v0.28.1', ['cmd/alertmanager', 'cmd/amtool']);

interface Told {
  receiver: string;
  status: 'firing' | 'resolved';
  alerts: { status: string; labels: Record<string, string>; annotations: Record<string, string> }[];
}

if (isMissing(prometheus) || isMissing(tools)) {
  const why = [prometheus, tools].filter(isMissing).map(({ missing }) => missing);
  noteResult(`SKIPPED: ${why.join('; ')}`);
  it.skip(`an alert arrives: ${why.join('; ')}`, () => undefined);
} else {
  const [alertmanager, amtool] = tools as [string, string];
  const top = mkdtempSync(path.join(os.tmpdir(), 'remit-alerts-'));
  const children: ChildProcess[] = [];
  const told: (Told & { at: string })[] = [];
  const receiver = http.createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      told.push({ ...(JSON.parse(body) as Told), at: request.url ?? '' });
      response.writeHead(200).end();
    });
  });
  /** A role, as Prometheus sees it: only what it scrapes. */
  const role = http.createServer((_, response) => response.end('process_start_time_seconds 1\n'));
  const ported = (server: http.Server): number => (server.address() as AddressInfo).port;
  const file = (name: string, text: string): string => {
    writeFileSync(path.join(top, name), text);
    return path.join(top, name);
  };

  beforeAll(async () => {
    for (const server of [receiver, role]) {
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
    }
    mkdirSync(path.join(top, 'secrets'));
    for (const [name, at] of [
      ['page-url', 'page'],
      ['ticket-url', 'ticket'],
    ] as const)
      file(`secrets/${name}`, `http://127.0.0.1:${ported(receiver)}/${at}`);
    const config = file(
      'alertmanager.yml',
      readText('deploy/prometheus/alertmanager.yml')
        .replaceAll('/etc/alertmanager/secrets', path.join(top, 'secrets'))
        .replace(/group_wait: \S+/g, 'group_wait: 1s')
        .replace(/group_interval: \S+/g, 'group_interval: 2s'),
    );
    const [alertsPort, prometheusPort] = [await freePort(), await freePort()];
    file('alerts.yml', readText('deploy/prometheus/alerts.yml').replace(/for: [12]m$/gm, 'for: 2s'));
    file('alerts-purchases.yml', readText('deploy/prometheus/alerts-purchases.yml'));
    // One target in the place of those that DNS would name.
    const scraping = file(
      'prometheus.yml',
      readText('deploy/prometheus/prometheus.yml')
        .replace(/_interval: 10s/g, '_interval: 1s')
        .replace(/"alertmanager:9093"/g, `"127.0.0.1:${alertsPort}"`)
        .replace(
          /dns_sd_configs:[\s\S]*?relabel_configs:[\s\S]*?target_label: role/,
          `static_configs:\n      - targets: ["127.0.0.1:${ported(role)}"]\n        labels: {role: bridge}`,
        ),
    );
    const run = (command: string, args: string[]) =>
      children.push(
        spawn(command, args, { stdio: ['ignore', 'ignore', process.env['DEBUG'] ? 'inherit' : 'ignore'] }),
      );
    run(alertmanager, [
      `--config.file=${config}`,
      `--storage.path=${path.join(top, 'alertmanager')}`,
      `--web.listen-address=127.0.0.1:${alertsPort}`,
      '--cluster.listen-address=',
    ]);
    run(prometheus, [
      `--config.file=${scraping}`,
      `--storage.tsdb.path=${path.join(top, 'prometheus')}`,
      `--web.listen-address=127.0.0.1:${prometheusPort}`,
    ]);
    for (const port of [alertsPort, prometheusPort])
      await eventually(async () => expect((await fetch(`http://127.0.0.1:${port}/-/ready`)).ok).toBe(true));
    await eventually(async () => {
      const answer = await fetch(
        `http://127.0.0.1:${prometheusPort}/api/v1/query?query=up%7Bjob%3D%22remit%22%7D`,
      );
      expect(await answer.text()).toContain('"1"');
    });
  }, 60_000);
  afterAll(async () => {
    for (const child of children) child.kill('SIGKILL');
    for (const server of [receiver, role]) {
      server.closeAllConnections();
      server.close();
    }
    rmSync(top, { recursive: true, force: true });
    await Promise.resolve();
  });

  it('configuration and rules pass the programs that read them', () => {
    const config = path.join(PROJECT_ROOT, 'deploy/prometheus/alertmanager.yml');
    expect(execFileSync(amtool, ['check-config', config], { encoding: 'utf8' })).toContain('SUCCESS');
    const routed = (...labels: string[]) =>
      execFileSync(amtool, ['config', 'routes', 'test', `--config.file=${config}`, ...labels], {
        encoding: 'utf8',
      }).trim();
    expect(routed('severity=page', 'alertname=OutboxOld')).toBe('pages');
    expect(routed('severity=ticket', 'alertname=RemitRestarting')).toBe('tickets');
    expect(routed('alertname=OfSomebodyElse')).toBe('tickets');
  });

  it('a role that stops is told to whoever is paged, once, and that it is back', async () => {
    const stoppedAt = Date.now();
    role.closeAllConnections();
    const { port } = role.address() as AddressInfo;
    role.close();
    const of = (name: string, status: string) =>
      told.filter(
        (each) => each.status === status && each.alerts.some(({ labels }) => labels['alertname'] === name),
      );
    await eventually(() => expect(of('RemitRoleDown', 'firing')).toHaveLength(1), 60_000);
    const arrivedInMs = Date.now() - stoppedAt;
    const [message] = of('RemitRoleDown', 'firing');
    expect(message).toMatchObject({ receiver: 'pages', at: '/page' });
    expect(message?.alerts[0]).toMatchObject({
      labels: { severity: 'page', role: 'bridge' },
      annotations: {
        runbook: 'docs/operations.md#remitroledown',
        summary: expect.stringContaining('bridge') as string,
      },
    });
    role.listen(port, '127.0.0.1');
    await eventually(() => expect(of('RemitRoleDown', 'resolved')).toHaveLength(1), 60_000);
    noteResult(
      `RemitRoleDown arrived ${(arrivedInMs / 1_000).toFixed(1)} s after the role stopped; ${told.length} messages in all`,
    );
  }, 150_000);
}
