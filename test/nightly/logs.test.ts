import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { contentKey, embeddedCacheDir } from '../../src/embedded/cache';
import { PROJECT_ROOT } from '../../src/platform/project';
import { successWebhook } from '../support/callers';
import { eventually } from '../support/harness';
import { newTransaction, userWith } from '../support/money';
import { LocalRemit } from './local-remit';
import { noteResult } from '../support/nightly';
import { goCommands, isMissing, type Missing } from './tools';

/**
 * deploy/logs/otel-collector.yaml, as it is, in a real OpenTelemetry Collector, over the lines that remit prints while it settles
 * payments: as a role prints them, and as Docker and containerd wrap them.
 */
const collector = buildCollector();
/** As a role prints it, as Docker and as containerd keep it, of two containers. */
const WRAPPINGS = 4;

function buildCollector(): string | Missing {
  const builder = goCommands('go.opentelemetry.io/collector/cmd/builder', 'v0.165.0', ['.']);
  if (isMissing(builder)) return builder;
  const recipe = path.join(PROJECT_ROOT, 'deploy/logs/otel-collector-builder.yaml');
  const folder = path.join(
    embeddedCacheDir(process.env),
    'nightly',
    `otelcol-${contentKey(readFileSync(recipe))}`,
  );
  const file = path.join(folder, 'build', 'otelcol-logs');
  if (!existsSync(file)) {
    mkdirSync(folder, { recursive: true });
    cpSync(recipe, path.join(folder, 'builder.yaml'));
    process.stderr.write('  building the OpenTelemetry Collector with Go, once (some minutes)\n');
    execFileSync(builder[0]!, ['--config=builder.yaml'], {
      cwd: folder,
      env: { ...process.env, CGO_ENABLED: '0', GOWORK: 'off' },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  }
  return file;
}

/** OTLP in JSON, as far as it is looked at. */
interface Value {
  stringValue?: string;
}
interface LogRecord {
  timeUnixNano?: string;
  severityText?: string;
  severityNumber?: number;
  body?: Value;
  attributes?: { key: string; value: Value }[];
  traceId?: string;
  spanId?: string;
}
interface Logs {
  resourceLogs: {
    resource: { attributes?: { key: string; value: Value }[] };
    scopeLogs: { logRecords: LogRecord[] }[];
  }[];
}
type Received = LogRecord & { service: string | undefined; of: Record<string, string | undefined> };

if (isMissing(collector)) {
  noteResult(`SKIPPED: ${collector.missing}`);
  it.skip(`logs are shipped: ${collector.missing}`, () => undefined);
} else {
  const received: Received[] = [];
  let [bytes, traces] = ['', 0];
  const receiver = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
      if (request.url !== '/v1/logs') return void (traces += 1);
      const raw = Buffer.concat(chunks);
      const text = (request.headers['content-encoding'] === 'gzip' ? gunzipSync(raw) : raw).toString();
      bytes += text;
      for (const { resource, scopeLogs } of (JSON.parse(text) as Logs).resourceLogs)
        for (const record of scopeLogs.flatMap(({ logRecords }) => logRecords))
          received.push({
            ...record,
            service: resource.attributes?.find(({ key }) => key === 'service.name')?.value.stringValue,
            of: Object.fromEntries(
              (record.attributes ?? []).map(({ key, value }) => [key, value.stringValue]),
            ),
          });
    });
  });
  let remit: LocalRemit;
  let endpoint = '';
  let running: ChildProcess | undefined;
  let said = '';
  const logs = () => path.join(remit.top, 'logs');

  const startCollector = () => {
    running = spawn(collector, [`--config=${path.join(PROJECT_ROOT, 'deploy/logs/otel-collector.yaml')}`], {
      env: {
        ...process.env,
        LOG_FILES: path.join(logs(), '*.log'),
        LOGS_OTLP_ENDPOINT: endpoint,
        LOG_POSITIONS: path.join(remit.top, 'positions'),
      },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    running.stderr!.on('data', (chunk: Buffer) => (said += chunk.toString()));
  };
  const killCollector = async () => {
    const gone = once(running!, 'exit');
    running!.kill('SIGTERM');
    await gone;
  };
  /** Waits while the collector runs; one that ended says why. */
  const untilReceived = (assert: () => void) =>
    eventually(
      () => {
        if (running!.exitCode === null) assert();
      },
      60_000,
      200,
    ).finally(() => {
      if (running!.exitCode !== null) throw new Error(`the collector ended:\n${said}`);
    });

  beforeAll(async () => {
    receiver.listen(0, '127.0.0.1');
    await once(receiver, 'listening');
    endpoint = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`;
    remit = new LocalRemit({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint });
    await remit.start();
    const userId = await userWith(remit.db);
    for (let n = 0; n < 5; n++) {
      const { id } = await newTransaction(remit.db, userId, 'payment', 100n);
      await successWebhook(remit.endpoints.api, remit.config, id);
    }
    await eventually(async () => {
      const { rows } = await remit.db.pool.query(`SELECT FROM payments WHERE status = 'succeeded'`);
      expect(rows).toHaveLength(5);
    });
    await remit.stop();
  }, 240_000);
  afterAll(async () => {
    if (running?.exitCode === null) running.kill('SIGKILL');
    receiver.closeAllConnections();
    receiver.close();
    await remit?.remove();
  }, 60_000);

  it('every line arrives once, with its time, level, trace and ids, in whatever a container runtime wraps it', async () => {
    const lines = remit
      .printed()
      .split('\n')
      .filter((line) => line.trim() !== '');
    const ours = lines
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(ours.length).toBeGreaterThan(20);
    const at = '2026-11-26T12:00:00.123456789Z';
    mkdirSync(logs());
    const write = (name: string, wrap: (line: string) => string) =>
      writeFileSync(path.join(logs(), `${name}.log`), lines.map((line) => `${wrap(line)}\n`).join(''));
    // containerd writes a long line in parts, and its files are read side by side.
    const inParts = (minute: number) => (line: string) =>
      [`P ${line.slice(0, 50)}`, `P ${line.slice(50, 90)}`, `F ${line.slice(90)}`]
        .map((part) => `2026-11-26T12:0${minute}:00.123456789Z stdout ${part}`)
        .join('\n');
    write('role', (line) => line);
    write('docker-json', (line) => JSON.stringify({ log: `${line}\n`, stream: 'stdout', time: at }));
    for (const minute of [1, 2]) write(`containerd-${minute}`, inParts(minute));
    startCollector();
    await untilReceived(() => expect(received.length).toBe(WRAPPINGS * lines.length));
    expect(said).not.toMatch(/\t(warn|error)\t/);

    // A line of each kind, as often as it was written, as remit wrote it.
    const key = (record: Received) => `${record.of['correlationId'] ?? ''} ${record.body?.stringValue}`;
    for (const line of ours) {
      const same = received.filter(
        (record) => record.body?.stringValue === line['msg'] && record.of['time'] === line['time'],
      );
      expect([line['msg'], same.length >= WRAPPINGS]).toEqual([line['msg'], true]);
      for (const record of same) {
        expect(record.severityText?.toLowerCase()).toBe(line['level']);
        expect(BigInt(record.timeUnixNano ?? 0) / 1_000_000n).toBe(BigInt(Date.parse(String(line['time']))));
        expect(record.service).toMatch(/^remit-\w+$/);
      }
    }
    const settled = received.filter(({ body }) => body?.stringValue === 'operation on a balance');
    expect(new Set(settled.map(key)).size).toBeGreaterThanOrEqual(5);
    for (const { of, traceId, spanId } of settled) {
      expect(of['correlationId']).toBeTruthy();
      expect([traceId, spanId]).toEqual([of['trace_id'], of['span_id']]);
    }
    const traced = received.filter(({ traceId }) => traceId !== undefined && traceId !== '').length;
    noteResult(
      `${lines.length} lines in ${WRAPPINGS} files, ${received.length} records received, ${traced} with a trace; ${traces} exports of traces`,
    );
  }, 120_000);

  it('no secret of the installation is in them', () => {
    const secrets = Object.values(
      JSON.parse(readFileSync(path.join(remit.dataDir, 'secrets.json'), 'utf8')) as Record<string, string>,
    );
    const password = readFileSync(path.join(remit.dataDir, 'postgres.password'), 'utf8').trim();
    expect(secrets.length).toBeGreaterThan(3);
    for (const secret of [...secrets, password]) expect(bytes).not.toContain(secret.replace(/^whsec_/, ''));
  });

  it('a collector that is started again goes on where it was', async () => {
    await killCollector();
    const before = received.length;
    const line = {
      level: 'info',
      time: new Date().toISOString(),
      role: 'api',
      msg: 'written while nobody read',
    };
    appendFileSync(path.join(logs(), 'role.log'), `${JSON.stringify(line)}\n`);
    startCollector();
    await untilReceived(() => expect(received.length).toBeGreaterThan(before));
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    expect(received.slice(before).map(({ body, service }) => [body?.stringValue, service])).toEqual([
      ['written while nobody read', 'remit-api'],
    ]);
  }, 90_000);
}
