import { BlockList, isIP } from 'node:net';

/**
 * Addresses that no webhook may reach: everything that is not a public unicast address of the internet, after the
 * IANA special-purpose registries. What the clouds' metadata services use lies inside these, but for Azure's.
 */
const REFUSED_IPV4: readonly (readonly [network: string, prefix: number])[] = [
  ['0.0.0.0', 8], // this host
  ['10.0.0.0', 8], // private
  ['100.64.0.0', 10], // carrier-grade NAT; Alibaba's metadata
  ['127.0.0.0', 8], // loopback
  ['168.63.129.16', 32], // Azure's host agent
  ['169.254.0.0', 16], // link-local; metadata of AWS, Azure, GCP
  ['172.16.0.0', 12], // private
  ['192.0.0.0', 24], // protocol assignments; Oracle's metadata
  ['192.0.2.0', 24], // documentation
  ['192.88.99.0', 24], // 6to4 relays
  ['192.168.0.0', 16], // private
  ['198.18.0.0', 15], // benchmarking
  ['198.51.100.0', 24], // documentation
  ['203.0.113.0', 24], // documentation
  ['224.0.0.0', 4], // multicast
  ['240.0.0.0', 4], // reserved, broadcast
];

/** IPv6 is refused unless it is global unicast: that leaves out loopback, mapped, NAT64, unique and link-local. */
const GLOBAL_IPV6 = ['2000::', 3] as const;

/** Parts of the global unicast range that lead elsewhere: they embed an IPv4 address, or are not routed. */
const REFUSED_IPV6: readonly (readonly [network: string, prefix: number])[] = [
  ['2001::', 23], // protocol assignments, among them Teredo
  ['2001:db8::', 32], // documentation
  ['2002::', 16], // 6to4
  ['3fff::', 20], // documentation
];

function blockList(subnets: readonly (readonly [string, number])[]): BlockList {
  const list = new BlockList();
  for (const [network, prefix] of subnets)
    list.addSubnet(network, prefix, isIP(network) === 4 ? 'ipv4' : 'ipv6');
  return list;
}

const refusedIPv4 = blockList(REFUSED_IPV4);
const globalIPv6 = blockList([GLOBAL_IPV6]);
const refusedIPv6 = blockList(REFUSED_IPV6);

/** Whether a text is a network such as 10.0.0.0/8 or fd00::/8. */
export function isCidr(text: string): boolean {
  const [network = '', prefix = '', ...rest] = text.split('/');
  const family = isIP(network);
  return (
    rest.length === 0 &&
    family !== 0 &&
    !network.includes('%') &&
    /^\d{1,3}$/.test(prefix) &&
    Number(prefix) <= (family === 4 ? 32 : 128)
  );
}

/** Which addresses webhooks may reach: public ones, and the private networks that configuration allows. */
export class AddressRules {
  private readonly allowed: BlockList;

  /** @throws Error when a network is not a CIDR. */
  constructor(allowedPrivateCidrs: readonly string[]) {
    this.allowed = blockList(
      allowedPrivateCidrs.map((cidr) => {
        if (!isCidr(cidr)) throw new Error(`${cidr} is not a CIDR`);
        const [network = '', prefix] = cidr.split('/');
        return [network, Number(prefix)] as const;
      }),
    );
  }

  /** Whether an IP address may be dialled; false for whatever is not a plain address. */
  allows(address: string): boolean {
    const version = isIP(address);
    // A zone (fe80::1%eth0) names an interface of this machine.
    if (version === 0 || address.includes('%')) return false;
    const family = version === 4 ? 'ipv4' : 'ipv6';
    if (this.allowed.check(address, family)) return true;
    if (family === 'ipv4') return !refusedIPv4.check(address, family);
    return globalIPv6.check(address, family) && !refusedIPv6.check(address, family);
  }

  /**
   * Whether a URL's host is refused without asking DNS: a literal address that is not allowed, or this machine's name.
   * A host that passes may still resolve to a refused address; that is decided when it is dialled.
   */
  refusesHost(hostname: string): boolean {
    const literal = literalAddress(hostname);
    if (literal !== undefined) return !this.allows(literal);
    return /(^|\.)localhost\.?$/i.test(hostname) && !this.allows('127.0.0.1');
  }
}

/** The address that a URL's hostname spells out (URL has normalised octal, hex and short forms); else undefined. */
export function literalAddress(hostname: string): string | undefined {
  const bare = hostname.startsWith('[') && hostname.endsWith(']') ? hostname.slice(1, -1) : hostname;
  return isIP(bare) === 0 ? undefined : bare;
}
