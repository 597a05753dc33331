import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createResolver } from '../../../src/webhooks/dns';
import { createWebhookClient, type WebhookClientSettings } from '../../../src/webhooks/client';
import { dnsServer, type DnsServer } from './dns-server';
import { clientSettings, LOOPBACK, subscriber } from '../../support/subscriber';

const open: { close(): Promise<void> }[] = [];
const closing = <T extends { close(): Promise<void> }>(each: T): T => {
  open.push(each);
  return each;
};
afterEach(async () => {
  for (const each of open.splice(0)) await each.close();
});

async function hostsFile(text: string): Promise<string> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'remit-hosts-'));
  closing({ close: () => rm(folder, { recursive: true, force: true }) });
  const file = path.join(folder, 'hosts');
  await writeFile(file, text);
  return file;
}

/** A client that asks the given DNS server. */
async function clientOf(dns: DnsServer, hosts = '', changes: Partial<WebhookClientSettings> = LOOPBACK) {
  const settings = clientSettings(changes);
  const resolve = createResolver(settings, { servers: [dns.address], hostsFile: await hostsFile(hosts) });
  const client = closing(createWebhookClient(settings, { resolve }));
  return (url: string) => client.postWebhook({ url, headers: {}, body: '{}', timeoutMs: 30_000 });
}

const POST_TIMEOUT_MS = 60_000;

describe('names of subscribers', () => {
  test(
    'of a zone that never answers delay no other name',
    async () => {
      const zones = (name: string) => (name.endsWith('.dead.test') ? 'silence' : '127.0.0.1');
      const dns = closing(await dnsServer(zones));
      const server = closing(await subscriber((response) => response.end()));
      // Nothing of the silent zone is over in less than ten seconds, a second for each try.
      const patience = { WEBHOOK_CONNECT_TIMEOUT_MS: 12_000, WEBHOOK_DNS_TRIES: 10 };
      const post = await clientOf(dns, '', { ...LOOPBACK, ...patience });
      let over = 0;
      const dead = Array.from({ length: 24 }, (_, index) =>
        post(`http://n${index}.dead.test/`).finally(() => over++),
      );
      for (let index = 0; index < 12; index++) {
        const answer = await post(`http://n${index}.alive.test:${server.port}/`);
        expect(answer.result).toBe('delivered');
      }
      // Twelve names in turn, before a single silent one was given up.
      expect(over).toBe(0);
      for (const { result } of await Promise.all(dead)) expect(['timeout', 'dns_error']).toContain(result);
    },
    POST_TIMEOUT_MS,
  );

  test('are not resolved when they do not exist', async () => {
    const dns = closing(await dnsServer((name) => (name === 'none.test' ? 'nothing' : '127.0.0.1')));
    const post = await clientOf(dns);
    expect(await post('http://none.test/')).toMatchObject({
      result: 'dns_error',
      error: 'the host name can not be resolved: ENOTFOUND',
    });
    expect(dns.asked).toContain('none.test');
  });

  test('are refused when they lead to a private address, whoever says so', async () => {
    const server = closing(await subscriber((response) => response.end()));
    const dns = closing(await dnsServer(() => '127.0.0.1'));
    const strict = { WEBHOOK_ALLOWED_PRIVATE_CIDRS: [] };
    const post = await clientOf(dns, '127.0.0.1 near.test', strict);
    for (const name of ['far.test', 'near.test', 'localhost', 'x.localhost'])
      expect((await post(`http://${name}:${server.port}/`)).result).not.toBe('delivered');
    expect((await post(`http://far.test:${server.port}/`)).result).toBe('refused_address');
    expect((await post(`http://near.test:${server.port}/`)).result).toBe('refused_address');
    expect(server.connections()).toBe(0);
  });

  test('are found in the hosts file first, and without a dot by the operating system', async () => {
    const server = closing(await subscriber((response) => response.end()));
    const dns = closing(await dnsServer(() => 'nothing'));
    const hosts = '# near by\n127.0.0.1\treceiver Receiver.Example # ours\n\nnonsense here.test\n';
    const post = await clientOf(dns, hosts, { WEBHOOK_ALLOWED_PRIVATE_CIDRS: ['127.0.0.1/32', '::1/128'] });
    for (const name of ['receiver', 'receiver.example', 'RECEIVER.example.', 'localhost'])
      expect([name, (await post(`http://${name}:${server.port}/`)).result]).toEqual([name, 'delivered']);
    expect(dns.asked).toEqual([]);
    expect((await post('http://here.test/')).result).toBe('dns_error');
  });
});
