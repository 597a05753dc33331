import { createSocket, type Socket } from 'node:dgram';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { Resolver } from 'node:dns';
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { isCidr } from '../../../src/platform/config-rules';
import { AddressRules, literalAddress } from '../../../src/webhooks/addresses';
import { loadConfig } from '../../../src/platform/config';
import type { ResolveAll } from '../../../src/webhooks/dns';
import { createWebhookClient, type WebhookClient } from '../../../src/webhooks/client';
import table from './ssrf-addresses.json';
import { clientSettings, listen, LOOPBACK, subscriber } from '../../support/subscriber';

const open: { close(): Promise<void> | void }[] = [];
const closing = <T extends { close(): Promise<void> | void }>(each: T): T => {
  open.push(each);
  return each;
};
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close();
});

const post = (client: WebhookClient, url: string) =>
  client.postWebhook({ url, headers: {}, body: '{}', timeoutMs: 3_000 });

/** Plays DNS: every name has these addresses. */
const resolvingTo =
  (...addresses: string[]): ResolveAll =>
  (_hostname, _options, callback) =>
    callback(
      null,
      addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    );

const rows = (verdict: 'refused' | 'allowed') => {
  const found = table.filter((row) => row.verdict === verdict);
  if (found.length === 0) throw new Error('the address list is empty');
  return found.map(({ name, reason }) => [name, reason] as const);
};

describe('addresses that webhooks may not reach', () => {
  let sockets = 0;
  const count = () => void sockets++;
  beforeEach(() => {
    sockets = 0;
    subscribe('net.client.socket', count);
  });
  afterEach(() => void unsubscribe('net.client.socket', count));

  test.each(rows('refused'))('%s is refused without opening a socket (%s)', async (host) => {
    const client = closing(createWebhookClient(clientSettings()));
    for (const scheme of ['http', 'https'])
      expect(await post(client, `${scheme}://${host}:9/hook`)).toMatchObject({
        result: 'refused_address',
        statusCode: null,
        responseBody: null,
      });
    expect(sockets).toBe(0);
  });

  test.each(rows('refused'))('a name that resolves to %s is refused (%s)', async (host) => {
    const address = literalAddress(new URL(`http://${host}`).hostname) ?? '';
    const client = closing(createWebhookClient(clientSettings(), { resolve: resolvingTo(address) }));
    expect((await post(client, 'http://subscriber.example/hook')).result).toBe('refused_address');
  });

  test.each(rows('allowed'))('%s is not refused (%s)', (host) => {
    const { hostname } = new URL(`http://${host}`);
    expect(new AddressRules([]).refusesHost(hostname)).toBe(false);
    expect(new AddressRules([]).allows(literalAddress(hostname) ?? '')).toBe(true);
  });

  test('a socket that is opened is counted, so that zero means something', async () => {
    const server = closing(await subscriber((response) => response.end()));
    const client = closing(createWebhookClient(clientSettings(LOOPBACK)));
    expect((await post(client, server.url)).result).toBe('delivered');
    expect(sockets).toBe(1);
  });
});

describe('the guard at dial time', () => {
  test('a listening loopback server sees no connection by any spelling of its address', async () => {
    const v4 = closing(
      await listen(
        http.createServer((_, response) => response.end()),
        '0.0.0.0',
      ),
    );
    const client = closing(createWebhookClient(clientSettings()));
    for (const host of ['127.0.0.1', '0.0.0.0', '127.1', '2130706433', '[::ffff:127.0.0.1]', 'localhost'])
      expect([host, (await post(client, `http://${host}:${v4.port}/`)).result]).toEqual([
        host,
        'refused_address',
      ]);
    expect(v4.connections()).toBe(0);
  });

  test('one private address among public ones refuses the name', async () => {
    const server = closing(await listen(http.createServer((_, response) => response.end())));
    const client = closing(
      createWebhookClient(clientSettings(), { resolve: resolvingTo('1.1.1.1', '127.0.0.1') }),
    );
    const answer = await post(client, `http://subscriber.example:${server.port}/`);
    expect(answer.result).toBe('refused_address');
    expect(answer.error).not.toContain('127.0.0.1');
    expect(server.connections()).toBe(0);
  });

  test('a name without any address is refused', async () => {
    const client = closing(createWebhookClient(clientSettings(), { resolve: resolvingTo() }));
    expect((await post(client, 'http://subscriber.example/')).result).toBe('refused_address');
  });

  test('a private network is reached only when configuration allows it', async () => {
    const server = closing(await subscriber((response) => response.end()));
    const client = closing(createWebhookClient(clientSettings(LOOPBACK)));
    expect((await post(client, server.url)).result).toBe('delivered');
    expect((await post(client, `http://127.0.0.2:${server.port}`)).result).toBe('refused_address');
  });

  test('a redirect to an internal address is not followed', async () => {
    const internal = closing(await subscriber((response) => response.end('secret')));
    const outside = closing(
      await subscriber((response) => void response.writeHead(302, { location: internal.url }).end()),
    );
    const client = closing(createWebhookClient(clientSettings(LOOPBACK)));
    expect(await post(client, outside.url)).toMatchObject({
      result: 'http_error',
      statusCode: 302,
      responseBody: '',
    });
    expect(internal.connections()).toBe(0);
  });

  test('proxy settings of the environment do not lead around it', async () => {
    const proxy = closing(await subscriber((response) => response.end()));
    process.env['http_proxy'] = process.env['HTTP_PROXY'] = proxy.url;
    try {
      const client = closing(createWebhookClient(clientSettings()));
      expect((await post(client, 'http://127.0.0.1:9/')).result).toBe('refused_address');
      expect(proxy.connections()).toBe(0);
    } finally {
      delete process.env['http_proxy'];
      delete process.env['HTTP_PROXY'];
    }
  });
});

/** A DNS server that answers every A question with the next address, for no time at all. */
async function dnsServer(answers: string[]): Promise<{ port: number; questions(): number; close(): void }> {
  const socket: Socket = createSocket('udp4');
  let questions = 0;
  socket.on('message', (query, from) => {
    const address = answers[Math.min(questions++, answers.length - 1)] ?? '';
    const question = query.subarray(12, query.indexOf(0, 12) + 5);
    const header = Buffer.from([query[0] ?? 0, query[1] ?? 0, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    const record = Buffer.from([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, ...address.split('.').map(Number)]);
    socket.send(Buffer.concat([header, question, record]), from.port, from.address);
  });
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  return {
    port: socket.address().port,
    questions: () => questions,
    close: () => socket.close(),
  };
}

describe('DNS rebinding', () => {
  test('a name that first leads to an allowed address and then to another is refused the second time', async () => {
    // 127.0.0.2 plays the public address; 127.0.0.1 is the target inside.
    const outside = closing(
      await subscriber((response) => void response.writeHead(200, { connection: 'close' }).end(), {
        host: '127.0.0.2',
      }),
    );
    const inside = closing(await subscriber((response) => response.end('secret'), { port: outside.port }));
    const dns = closing(await dnsServer(['127.0.0.2', '127.0.0.1']));
    const resolver = new Resolver();
    resolver.setServers([`127.0.0.1:${dns.port}`]);
    const resolve: ResolveAll = (hostname, _options, callback) =>
      resolver.resolve4(hostname, (error, addresses) =>
        callback(
          error,
          (addresses ?? []).map((address) => ({ address, family: 4 })),
        ),
      );
    const client = closing(
      createWebhookClient(clientSettings({ WEBHOOK_ALLOWED_PRIVATE_CIDRS: ['127.0.0.2/32'] }), { resolve }),
    );

    const url = `http://rebind.example:${outside.port}/hook`;
    expect((await post(client, url)).result).toBe('delivered');
    expect((await post(client, url)).result).toBe('refused_address');
    expect(dns.questions()).toBe(2);
    expect(outside.received).toHaveLength(1);
    expect(inside.connections()).toBe(0);
  });

  test('the address that was checked is the one that is dialled: DNS is asked once a connection', async () => {
    const outside = closing(await subscriber((response) => response.end(), { host: '127.0.0.2' }));
    let asked = 0;
    const resolve: ResolveAll = (_hostname, _options, callback) =>
      callback(null, [{ address: asked++ === 0 ? '127.0.0.2' : '127.0.0.1', family: 4 }]);
    const client = closing(
      createWebhookClient(clientSettings({ WEBHOOK_ALLOWED_PRIVATE_CIDRS: ['127.0.0.2/32'] }), { resolve }),
    );
    const url = `http://rebind.example:${outside.port}/`;
    expect((await post(client, url)).result).toBe('delivered');
    // Kept alive: once it is idle again, the connection whose peer was checked serves the second delivery.
    await sleep(50);
    expect((await post(client, url)).result).toBe('delivered');
    expect(asked).toBe(1);
    expect(outside.connections()).toBe(1);
  });
});

describe('the list of allowed private networks', () => {
  test.each(['127.0.0.1/32', '10.0.0.0/8', 'fd00::/8', '::1/128', '0.0.0.0/0'])('%s is a network', (cidr) => {
    expect(isCidr(cidr)).toBe(true);
  });
  test.each([
    '',
    '127.0.0.1',
    '10.0.0.0/33',
    '::1/129',
    'localhost/8',
    '10.0.0.0/8/8',
    '10.0.0.0/-1',
    'fe80::%1/10',
    '1.2.3/8',
  ])('%j is none and refused', (cidr) => {
    expect(isCidr(cidr)).toBe(false);
    expect(() => new AddressRules([cidr])).toThrow('CIDR');
    const env = { WEBHOOK_ALLOWED_PRIVATE_CIDRS: cidr || 'none' };
    expect(() => loadConfig(env, [])).toThrow(/WEBHOOK_ALLOWED_PRIVATE_CIDRS(\.0)?: must be CIDRs/);
  });
  test('allows an IPv6 network', () => {
    const rules = new AddressRules(['fd00:1::/32']);
    expect([rules.allows('fd00:1::5'), rules.allows('fd00:2::5'), rules.allows('fd00:1::5%eth0')]).toEqual([
      true,
      false,
      false,
    ]);
  });

  test('holds for an address that NAT64 or a mapped address leads to', () => {
    const rules = new AddressRules(['10.1.0.0/16']);
    expect(
      ['64:ff9b::a01:1', '64:ff9b:1::a01:1', '::ffff:10.1.0.1', '64:ff9b::a02:1', '::ffff:10.2.0.1'].map(
        (each) => rules.allows(each),
      ),
    ).toEqual([true, true, true, false, false]);
  });
});
