import ipaddr from 'ipaddr.js';
import { BlockList, isIP } from 'node:net';
import { isCidr } from '../platform/config-rules';

/**
 * What webhooks may reach is what ipaddr.js, after the IANA special-purpose registries, calls `unicast`, and of IPv6 only
 * what IANA has given out: ipaddr.js takes an address for unicast unless it knows better. What the clouds' metadata
 * services use lies outside these already, but for Azure's.
 */
const GLOBAL_IPV6 = ipaddr.IPv6.parseCIDR('2000::/3');
const AZURE_HOST_AGENT = '168.63.129.16';

function isPublicIPv4(address: ipaddr.IPv4): boolean {
  return address.range() === 'unicast' && address.toString() !== AZURE_HOST_AGENT;
}

function isPublicIPv6(address: ipaddr.IPv6): boolean {
  return address.range() === 'unicast' && address.match(GLOBAL_IPV6) && !isIsatap(address);
}

/** An interface id that tunnels to an IPv4 address of the site that it names (RFC 5214 §6.1). */
function isIsatap({ parts }: ipaddr.IPv6): boolean {
  return ((parts[4] ?? 0) & ~0x0200) === 0 && parts[5] === 0x5efe;
}

/** Where the IPv4 address of a NAT64 address stands, by the length of the translator's prefix (RFC 6052 §2.2). */
const IPV4_OCTETS = {
  96: [12, 13, 14, 15],
  64: [9, 10, 11, 12],
  56: [7, 9, 10, 11],
  48: [6, 7, 9, 10],
} as const;

/**
 * The IPv4 addresses that a packet to an IPv6 address may end at: of a mapped one, and of one that a NAT64 translates
 * (64:ff9b::/96, which DNS64 makes of every name that has IPv4 alone). How long the prefix is that an operator has taken
 * from 64:ff9b:1::/48 can't be seen, so there it is each of them that is no `0.x.y.z`, which leads nowhere. Tunnels (6to4,
 * Teredo, ISATAP, compatible addresses) are no such case: they name a router, not a host, and nobody needs them.
 */
function targetsOf(address: ipaddr.IPv6): ipaddr.IPv4[] {
  const range = address.range();
  if (range === 'ipv4Mapped') return [address.toIPv4Address()];
  if (range !== 'rfc6052') return [];
  const octets = address.toByteArray();
  const read = (at: readonly number[]) => new ipaddr.IPv4(at.map((index) => octets[index] ?? 0));
  if (address.parts[2] === 0) return [read(IPV4_OCTETS[96])];
  return Object.values(IPV4_OCTETS)
    .map(read)
    .filter(({ octets: [first] }) => first !== 0);
}

function blockList(subnets: readonly (readonly [string, number])[]): BlockList {
  const list = new BlockList();
  for (const [network, prefix] of subnets)
    list.addSubnet(network, prefix, isIP(network) === 4 ? 'ipv4' : 'ipv6');
  return list;
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
  allows(text: string): boolean {
    const family = isIP(text);
    // A zone (fe80::1%eth0) names an interface of this machine.
    if (family === 0 || text.includes('%')) return false;
    if (family === 4) return this.allowsIPv4(ipaddr.IPv4.parse(text));
    if (this.allowed.check(text, 'ipv6')) return true;
    // Rewritten by URL: ipaddr.js takes `::1.2.3.4` for the mapped `::ffff:1.2.3.4`.
    const address = ipaddr.IPv6.parse(new URL(`http://[${text}]`).hostname.slice(1, -1));
    const targets = targetsOf(address);
    return targets.length > 0 ? targets.every((target) => this.allowsIPv4(target)) : isPublicIPv6(address);
  }

  private allowsIPv4(address: ipaddr.IPv4): boolean {
    return this.allowed.check(address.toString(), 'ipv4') || isPublicIPv4(address);
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
