import { KafkaJSConnectionClosedError, KafkaJSConnectionError } from 'kafkajs/src/errors';
import Connection from 'kafkajs/src/network/connection';
import apiVersions from 'kafkajs/src/protocol/requests/apiVersions';
import './kafkajs-internals';

/** The first request on a connection; its failure has to make kafkajs try another of the brokers that it knows by name. */
const FIRST_REQUEST = 'ApiVersions';

/** Every broker knows it. */
const askWhetherThere = apiVersions.protocol({ version: 0 });

/** `host:port` of brokers that were silent and have answered nothing since. */
const silent = new Set<string>();

let installed = false;

/**
 * Lets kafkajs give up a connection on which a request got no answer in time, as other Kafka clients do, in every client of
 * this process. Idempotent. kafkajs only fails the request: it keeps the connection, does not ask who leads the partition
 * now, and sends the next attempt to the same broker, so that one that hangs (a host that is paused, a disk that does not
 * answer) holds up whatever it led for minutes after another broker has taken over. Closed, the connection is what kafkajs
 * knows how to deal with.
 *
 * The system of a broker that hangs goes on taking connections for it, so that a new one says nothing. kafkajs would put the next
 * batch on it; here it has to answer a question before it counts as connected.
 */
export function installSilenceEnd(): void {
  if (installed) return;
  installed = true;
  // eslint-disable-next-line @typescript-eslint/unbound-method -- called below on the connection that they belong to
  const { connect, disconnect, send } = Connection.prototype;
  const connecting = new WeakMap<Connection, Promise<boolean>>();
  const connectToWhatAnswers = async (connection: Connection) => {
    await connect.call(connection);
    if (silent.has(addressOf(connection))) await connection.send(askWhetherThere());
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
    if (socket?.destroyed) socket.unref = () => socket;
    return disconnect.call(this);
  };
  Connection.prototype.send = async function (protocol) {
    const { socket, host, port } = this;
    try {
      const answer = await send.call(this, protocol);
      if (silent.size > 0) silent.delete(addressOf(this));
      return answer;
    } catch (error) {
      if (!(error instanceof Error) || error.name !== 'KafkaJSRequestTimeoutError') throw error;
      const closed = new KafkaJSConnectionClosedError(`${error.message}, the connection is closed`, {
        host,
        port,
      });
      silent.add(addressOf(this));
      // What else waits on it waits for the same broker; unless another request has closed it, and it is a new one by now.
      if (this.socket === socket) {
        this.rejectRequests(closed);
        socket?.destroy();
        await this.disconnect();
      }
      throw protocol.request.apiName === FIRST_REQUEST
        ? new KafkaJSConnectionError(closed.message, { broker: `${host}:${port}` })
        : closed;
    }
  };
}

const addressOf = ({ host, port }: Connection): string => `${host}:${port}`;
