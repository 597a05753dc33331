import http from 'node:http';
import https from 'node:https';
import type { LookupFunction, Socket } from 'node:net';
import { LRUCache } from 'lru-cache';
import type { AddressRules } from './addresses';
import type { ResolveAll } from './dns';

export class RefusedAddressError extends Error {
  constructor() {
    super('the address is private, reserved or otherwise not reachable for webhooks');
  }
}

export class ConnectTimeoutError extends Error {}

export interface AgentSettings {
  rules: AddressRules;
  resolve: ResolveAll;
  /** Longest name resolution, TCP and TLS handshake together. */
  connectTimeoutMs: number;
  connectionsPerOrigin: number;
  /** Origins whose connections are kept open. */
  originsMax: number;
}

/** An idle connection is closed after this long, or what the subscriber's Keep-Alive says: most servers give it 5 s. */
const IDLE_MS = 4_000;

/**
 * Connections to hosts that strangers chose. Which address may be dialled is decided when it is dialled: every address
 * that the name resolves to, and once more the peer of the connected socket.
 */
export class WebhookAgents {
  private readonly kept: LRUCache<string, http.Agent>;
  private readonly once: Readonly<Record<'http:' | 'https:', http.Agent>>;

  constructor(private readonly settings: AgentSettings) {
    // Finishes what is in flight, and keeps nothing open after that.
    this.kept = new LRUCache({ max: settings.originsMax, dispose: retire });
    this.once = { 'http:': this.agent('http:', {}), 'https:': this.agent('https:', {}) };
  }

  /** Gives an idle connection of the origin if there is one. */
  keepingAlive({ origin, protocol }: URL): http.Agent {
    const found = this.kept.get(origin);
    if (found) return found;
    const agent = this.agent(protocol, {
      keepAlive: true,
      maxSockets: this.settings.connectionsPerOrigin,
      scheduling: 'lifo',
      timeout: IDLE_MS,
    });
    this.kept.set(origin, agent);
    return agent;
  }

  /** Gives a new connection each time, which is closed after the answer. */
  fresh({ protocol }: URL): http.Agent {
    return this.once[protocol === 'https:' ? 'https:' : 'http:'];
  }

  /** Closes idle connections now and the others when they are done. Idempotent. */
  close(): void {
    this.kept.clear();
  }

  private agent(protocol: string, options: http.AgentOptions): http.Agent {
    const { rules, resolve, connectTimeoutMs } = this.settings;
    const secure = protocol === 'https:';
    const guarded = { ...options, lookup: guardedLookup(rules, resolve) };
    const agent = secure ? new https.Agent(guarded) : new http.Agent(guarded);
    const dial = agent.createConnection.bind(agent);
    agent.createConnection = (...args) => {
      const socket = dial(...args) as Socket;
      // Before anything that was written meanwhile, the TLS handshake too, leaves for the peer.
      socket.prependOnceListener('connect', () => {
        if (!rules.allows(socket.remoteAddress ?? '')) socket.destroy(new RefusedAddressError());
      });
      const timer = setTimeout(() => socket.destroy(new ConnectTimeoutError()), connectTimeoutMs);
      for (const event of [secure ? 'secureConnect' : 'connect', 'close'])
        socket.once(event, () => clearTimeout(timer));
      return socket;
    };
    distrustIdleData(agent);
    return agent;
  }
}

/** What a server says unasked is no answer to the next request: such a connection is closed (RFC 9112 §9.2). */
function distrustIdleData(agent: http.Agent): void {
  const close = function (this: Socket) {
    this.destroy();
  };
  const keep = agent.keepSocketAlive.bind(agent) as (socket: Socket) => boolean;
  const reuse = agent.reuseSocket.bind(agent);
  agent.keepSocketAlive = (socket) => {
    if (!keep(socket as Socket)) return false;
    socket.on('data', close);
    return true;
  };
  agent.reuseSocket = (socket, request) => {
    socket.off('data', close);
    reuse(socket, request);
  };
}

function retire(agent: http.Agent): void {
  agent.maxFreeSockets = 0;
  for (const sockets of Object.values(agent.freeSockets))
    for (const socket of sockets ?? []) socket.destroy();
}

/** One refused address among a name's addresses refuses the name: nobody mixes them by accident. */
function guardedLookup(rules: AddressRules, resolve: ResolveAll): LookupFunction {
  return (hostname, options, callback) => {
    resolve(hostname, { ...options, all: true }, (error, addresses) => {
      const first = addresses?.[0];
      if (error) callback(error, '', 0);
      else if (!first || addresses.some(({ address }) => !rules.allows(address)))
        callback(new RefusedAddressError(), '', 0);
      else if (options.all) callback(null, addresses);
      else callback(null, first.address, first.family);
    });
  };
}
