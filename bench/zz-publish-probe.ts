import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import express from 'express';
import { Pool } from 'undici';
import { mintToken } from '../src/operations/token';
import { startRole } from '../test/support/processes';
import { freePort, openStage } from './support/stage';

const N = Number(process.env['N'] ?? 4000);
const ROUNDS = Number(process.env['ROUNDS'] ?? 3);
const CALLERS = 16;
async function callAll(origin: string, p: string, headers: Record<string, string>, body: string, count: number) {
  const pool = new Pool(origin, { connections: CALLERS, pipelining: 1 });
  const t = performance.now();
  let next = 0;
  await Promise.all(
    Array.from({ length: CALLERS }, async () => {
      for (let i = next++; i < count; i = next++) {
        const a = await pool.request({ path: p, method: 'POST', headers, body });
        const text = await a.body.text();
        if (a.statusCode !== 202) throw new Error(`${a.statusCode} ${text}`);
      }
    }),
  );
  const s = (performance.now() - t) / 1000;
  await pool.close();
  return count / s;
}
const cpu = (pid: number) => {
  const f = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(f[11]) + Number(f[12])) * 10;
};
async function main() {
  const stage = await openStage(() => undefined, { API_RATE_LIMIT_REQUESTS: process.env['RL'] ?? '0', API_RATE_LIMIT_USER_REQUESTS: '0' });
  const prof = process.env['PROF'] ? ['--cpu-prof', `--cpu-prof-dir=${process.env['PROF']}`] : [];
  const mp = stage.config.METRICS_PORT;
  const api = spawn(process.execPath, [...prof, path.join(__dirname, '../dist/cli.js'), 'api'], {
    env: { ...process.env, ...stage.env, NODE_ENV: 'production', LOG_LEVEL: process.env['LL'] ?? 'warn', METRICS_PORT: String(mp) },
    stdio: ['ignore', process.env['LL'] ? 'ignore' : 'inherit', 'inherit'],
  });
  for (;;) {
    const ok = await fetch(`http://127.0.0.1:${mp}/readyz`).then((r) => r.ok).catch(() => false);
    if (ok) break;
    await sleep(200);
  }
  const relay = process.env['RELAY'] === '0' ? undefined : await startRole(['relay'], stage.env, await freePort());
  try {
    const id = `bench-${randomUUID()}`;
    const token = await mintToken(stage.config, { subject: 'b', tenant: id, scopes: ['admin'], expiresInS: 3600 });
    const origin = `http://127.0.0.1:${stage.config.API_PORT}`;
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
    const schema = { type: 'object', required: ['orderId'], properties: { orderId: { type: 'string' }, amount: { type: 'string' }, note: { type: 'string', maxLength: 200 } } };
    for (const body of [{ name: 'bench.plain' }, { name: 'bench.schema', schema }])
      await fetch(`${origin}/api/v1/event-types`, { method: 'POST', headers, body: JSON.stringify(body) }).then(async (r) => { if (!r.ok) throw new Error(await r.text()); });
    const data = { orderId: 'o-1', amount: '100.00', note: 'x'.repeat(100) };
    await stage.db.pool.query('CREATE TABLE IF NOT EXISTS bench_events (id text PRIMARY KEY, body jsonb)');
    const app = express();
    app.post('/events', express.json(), async (q, r) => {
      const i = randomUUID();
      await stage.db.pool.query({ name: 'bench_insert', text: 'INSERT INTO bench_events VALUES ($1, $2)', values: [i, JSON.stringify(q.body)] });
      r.status(202).json({ id: i });
    });
    const server = app.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const bare = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    for (const type of ['bench.plain', 'bench.schema'])
      await callAll(origin, '/api/v1/events', headers, JSON.stringify({ type, data }), 1500);
    for (let i = 0; i < ROUNDS; i++) {
      const line: string[] = [];
      const b = await callAll(bare, '/events', headers, JSON.stringify({ type: 'x', data }), N);
      line.push(`bare ${b.toFixed(0)}/s`);
      for (const type of ['bench.plain', 'bench.schema']) {
        const c = cpu(api.pid!);
        const r = await callAll(origin, '/api/v1/events', headers, JSON.stringify({ type, data }), N);
        line.push(`${type} ${r.toFixed(0)}/s ratio ${(r / b).toFixed(2)} api ${((cpu(api.pid!) - c) / N).toFixed(3)} ms cpu`);
      }
      console.log(line.join('; '), 'load', readFileSync('/proc/loadavg', 'utf8').split(' ')[0]);
    }
    server.closeAllConnections();
    server.close();
  } finally {
    api.kill('SIGTERM');
    await once(api, 'exit');
    await relay?.stop();
    await stage.close();
  }
}
main().then(() => process.exit(0), (e) => { console.error(e); process.exit(1); });
