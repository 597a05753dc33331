import dns from 'node:dns';
import { open } from 'node:fs/promises';
import { isIP } from 'node:net';
import path from 'node:path';
import type { Config } from '../platform/config';

/** Resolves a name to all its addresses, as `dns.lookup` does with `all`. */
export type ResolveAll = (
  hostname: string,
  options: dns.LookupAllOptions,
  callback: (error: NodeJS.ErrnoException | null, addresses: dns.LookupAddress[]) => void,
) => void;

export type ResolverSettings = Pick<Config, 'WEBHOOK_DNS_TIMEOUT_MS' | 'WEBHOOK_DNS_TRIES'>;

const HOSTS_FILE =
  process.platform === 'win32'
    ? path.join(process.env['SystemRoot'] ?? 'C:\\Windows', 'System32\\drivers\\etc\\hosts')
    : '/etc/hosts';
/** What is read of the hosts file: it names machines near by, not the internet. */
const HOSTS_MAX_BYTES = 262_144;
const HOSTS_REREAD_MS = 5_000;
/** A resolver learns once which servers the operating system names, and a machine may move to another network. */
const RESOLVER_MAX_AGE_MS = 60_000;

/**
 * Resolves names that strangers chose. `dns.lookup` blocks one of the process's four threads for a name, so that a
 * single zone whose servers are silent would hold up every other name; this asks the DNS servers on a socket instead,
 * with a limit of time for each name. The hosts file goes first, as everywhere. Names without a dot and `localhost` are
 * the operator's own (containers, search domains) and go to the operating system: no stranger's server is asked for
 * those. Other names are looked up as they are, without search domains.
 * @param servers addresses of the DNS servers, `ip:port`; those of the operating system when left out.
 */
export function createResolver(
  config: ResolverSettings,
  { servers, hostsFile = HOSTS_FILE }: { servers?: readonly string[]; hostsFile?: string } = {},
): ResolveAll {
  const { WEBHOOK_DNS_TIMEOUT_MS: timeout, WEBHOOK_DNS_TRIES: tries } = config;
  let resolver: dns.promises.Resolver | undefined;
  let madeAt = 0;
  const current = (): dns.promises.Resolver => {
    if (resolver && performance.now() - madeAt < RESOLVER_MAX_AGE_MS) return resolver;
    madeAt = performance.now();
    resolver = new dns.promises.Resolver({ timeout, tries });
    if (servers) resolver.setServers(servers);
    return resolver;
  };
  const hosts = new HostsFile(hostsFile);

  const resolve = async (hostname: string, options: dns.LookupAllOptions): Promise<dns.LookupAddress[]> => {
    const name = hostname.toLowerCase().replace(/\.$/, '');
    const near = await hosts.find(name);
    if (near.length > 0) return near;
    if (!name.includes('.') || name.endsWith('.localhost'))
      return dns.promises.lookup(hostname, { ...options, all: true });
    return ask(current(), hostname);
  };
  return (hostname, options, callback) => {
    resolve(hostname, options).then(
      // In a turn of its own: what the callback throws is not an error of the name.
      (addresses) => setImmediate(callback, null, addresses),
      (error: NodeJS.ErrnoException) => setImmediate(callback, error, []),
    );
  };
}

/** Both families at once. One of them that has no answer does not keep the other from being used. */
async function ask(resolver: dns.promises.Resolver, hostname: string): Promise<dns.LookupAddress[]> {
  const answers = await Promise.allSettled([resolver.resolve4(hostname), resolver.resolve6(hostname)]);
  const addresses = answers.flatMap((answer, index) =>
    answer.status === 'fulfilled'
      ? answer.value.map((address) => ({ address, family: index === 0 ? 4 : 6 }))
      : [],
  );
  if (addresses.length > 0) return addresses;
  const errors = answers.flatMap((answer) =>
    answer.status === 'rejected' ? [answer.reason as NodeJS.ErrnoException] : [],
  );
  // That one family has no records says less than that nobody answered for the other.
  throw errors.find(({ code }) => code !== dns.NODATA) ?? errors[0] ?? new Error('no address');
}

/** The names of a hosts file, read again when what was read is some seconds old. */
class HostsFile {
  private names = Promise.resolve(new Map<string, dns.LookupAddress[]>());
  private readAt = -Infinity;

  constructor(private readonly file: string) {}

  async find(name: string): Promise<dns.LookupAddress[]> {
    if (performance.now() - this.readAt > HOSTS_REREAD_MS) {
      this.readAt = performance.now();
      // Without one, nothing is near by.
      this.names = this.read().catch(() => new Map<string, dns.LookupAddress[]>());
    }
    return (await this.names).get(name) ?? [];
  }

  private async read(): Promise<Map<string, dns.LookupAddress[]>> {
    const names = new Map<string, dns.LookupAddress[]>();
    const file = await open(this.file);
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(HOSTS_MAX_BYTES), 0, HOSTS_MAX_BYTES, 0);
      for (const line of buffer.toString('utf8', 0, bytesRead).split(/\r?\n/)) {
        const [address = '', ...aliases] = line.replace(/#.*/, '').trim().split(/\s+/);
        const family = isIP(address);
        if (family === 0) continue;
        for (const alias of aliases) {
          const name = alias.toLowerCase();
          names.set(name, [...(names.get(name) ?? []), { address, family }]);
        }
      }
    } finally {
      await file.close();
    }
    return names;
  }
}
