import { KafkaJSConnectionClosedError, KafkaJSConnectionError } from 'kafkajs/src/errors';
import Connection from 'kafkajs/src/network/connection';
import apiVersions from 'kafkajs/src/protocol/requests/apiVersions';
import './kafkajs-internals';

/** The first request on a connection; its failure has to make kafkajs try another of the brokers that it knows by name. */
const FIRST_REQUEST = 'ApiVersions';
/** Every broker knows it in this version. */
const askWhetherThere = apiVersions.protocol({ version: 0 });

/** How often a silent broker is tried again. */
const TRY_AGAIN_MS = 2_000;

/** What this process knows of one broker, by whatever client: `host:port`. */
interface Heard {
  /** Milliseconds since 1970; 0 if never. */
  answeredAt: number;
  open: Set<Connection>;
  /** Of a broker that is silent: when it may be tried again. While it is tried, never. */
  tryAgainAt?: number;
}
/** As many as there are brokers. */
const brokers = new Map<string, Heard>();

let installed = false;

/**
 * Lets kafkajs give up on a broker from which a request got no answer in time, as other Kafka clients do, in every client of
 * this process. Idempotent. kafkajs only fails the request: it keeps the connection, does not ask who leads the partition
 * now, and sends the next attempt to the same broker, so that one that hangs (a host that is paused, a disk that does not
 * answer) holds up whatever it led for minutes after another broker has taken over. Here
 *
 * - the connection is closed, which kafkajs knows how to deal with;
 * - when the broker has answered nobody in this process since, all connections to it are closed, so that not every client has to
 *   find out for itself;
 * - until it has answered a question, which it is asked every two seconds, connecting to it fails at once, as if it were down.
 *   The system of a broker that hangs goes on taking connections for it, and kafkajs would put the next batch on one.
 */
export function installSilenceEnd(): void {
  if (installed) return;
  installed = true;
  // eslint-disable-next-line @typescript-eslint/unbound-method -- called below on the connection that they belong to
  const { connect, disconnect, send } = Connection.prototype;
  const connecting = new WeakMap<Connection, Promise<boolean>>();

  const connectToWhatAnswers = async (connection: Connection): Promise<boolean> => {
    const broker = brokerOf(connection);
    const { tryAgainAt } = broker;
    if (tryAgainAt === undefined) return await open(connection, broker);
    if (Date.now() < tryAgainAt)
      throw new KafkaJSConnectionError('the broker does not answer', { broker: addressOf(connection) });
    broker.tryAgainAt = Infinity;
    try {
      await open(connection, broker);
      await connection.send(askWhetherThere());
      return true;
    } finally {
      // It has not answered, or another request has found it silent again.
      if (broker.tryAgainAt !== undefined) broker.tryAgainAt = Date.now() + TRY_AGAIN_MS;
    }
  };
  const open = async (connection: Connection, broker: Heard): Promise<boolean> => {
    try {
      await connect.call(connection);
    } catch (error) {
      if (isTimeout(error)) broker.tryAgainAt ??= Date.now() + TRY_AGAIN_MS;
      // A system that refuses is there, and says that the broker is not.
      else delete broker.tryAgainAt;
      throw error;
    }
    broker.open.add(connection);
    return true;
  };

  // Whoever waited on the closed connection comes back at once; kafkajs would open a socket for each of them.
  Connection.prototype.connect = function () {
    const running = connecting.get(this) ?? connectToWhatAnswers(this).finally(() => connecting.delete(this));
    connecting.set(this, running);
    return running;
  };
  // While a broker is away, kafkajs disconnects each of its connections at every try to reach it. Of a socket that is gone, `unref`
  // only leaves another listener, for a connect that will not come.
  Connection.prototype.disconnect = function () {
    const { socket } = this;
    brokerOf(this).open.delete(this);
    if (socket?.destroyed) socket.unref = () => socket;
    return disconnect.call(this);
  };
  Connection.prototype.send = async function (protocol) {
    const { socket } = this;
    const broker = brokerOf(this);
    const askedAt = Date.now();
    try {
      const answer = await send.call(this, protocol);
      broker.answeredAt = Date.now();
      delete broker.tryAgainAt;
      return answer;
    } catch (error) {
      if (!(error instanceof Error) || error.name !== 'KafkaJSRequestTimeoutError') throw error;
      const reason = `${error.message}, the connection is closed`;
      if (broker.answeredAt <= askedAt) {
        broker.tryAgainAt ??= Date.now() + TRY_AGAIN_MS;
        await Promise.all([...broker.open].map((connection) => close(connection, reason)));
      } else if (this.socket === socket) await close(this, reason); // unless another request has closed it, and it is a new one by now
      throw protocol.request.apiName === FIRST_REQUEST
        ? new KafkaJSConnectionError(reason, { broker: addressOf(this) })
        : closedError(this, reason);
    }
  };
}

/** What waits on it fails: it waits for the same broker. */
async function close(connection: Connection, reason: string): Promise<void> {
  connection.rejectRequests(closedError(connection, reason));
  connection.socket?.destroy();
  await connection.disconnect();
}

const closedError = ({ host, port }: Connection, reason: string): KafkaJSConnectionClosedError =>
  new KafkaJSConnectionClosedError(reason, { host, port });

const addressOf = ({ host, port }: Connection): string => `${host}:${port}`;

function brokerOf(connection: Connection): Heard {
  const address = addressOf(connection);
  const known = brokers.get(address);
  if (known) return known;
  const broker: Heard = { answeredAt: 0, open: new Set() };
  brokers.set(address, broker);
  return broker;
}

/** kafkajs has no other sign of it. */
const isTimeout = (error: unknown): boolean =>
  error instanceof Error && error.message === 'Connection timeout';
