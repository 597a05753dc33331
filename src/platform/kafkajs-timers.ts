import RequestQueue from 'kafkajs/src/network/requestQueue';
import './kafkajs-internals';

/** How often all connections are looked at for requests that got no answer: those are given five seconds and more. */
const LOOK_MS = 1_000;

/** What a broker answers from memory, without asking its disk or another broker. */
const FROM_MEMORY = new Set([
  'ApiVersions',
  'Metadata',
  'GroupCoordinator',
  'Heartbeat',
  'OffsetFetch',
  'ListOffsets',
]);
/** A broker that takes longer for that hangs. Half a session, so that a member has the time to find its group's new coordinator. */
const FROM_MEMORY_MS = 5_000;

/** The queues of connections that are open. */
const open = new Set<RequestQueue>();
/** When the broker answered last, in milliseconds since 1970. */
const answeredAt = new WeakMap<RequestQueue, number>();
let look: NodeJS.Timeout | undefined;
let installed = false;

/**
 * Takes the place of kafkajs's timers, in every client of this process. Idempotent.
 *
 * Each connection of kafkajs 2.2.4 looks every millisecond, from its first answer on, whether a request waits for a broker that
 * throttles (https://github.com/tulios/kafkajs/issues/1704, open): nine hundred wake-ups a second for nothing, the most of what an
 * idle process cost. Here it looks while there is such a request; one that is sent when there is none asks again by itself.
 * And ten times a second each looks for requests that are over their time: here one timer looks for all connections.
 *
 * A request has the time that kafkajs gives all of them, which is what a batch may take until its replicas have it. What
 * a broker answers from memory has FROM_MEMORY_MS, counted from when it was the broker's turn: it answers a connection's requests one
 * after the other. kafkajs knows a shorter time for one request, and does not keep it.
 */
export function installQuietTimers(): void {
  if (installed) return;
  installed = true;
  const { prototype } = RequestQueue;
  // Called with the queue that they are of, like the methods that they were.
  // eslint-disable-next-line @typescript-eslint/unbound-method
  const { scheduleCheckPendingRequests, fulfillRequest, destroy } = prototype;

  prototype.scheduleCheckPendingRequests = function () {
    if (this.pending.length > 0) scheduleCheckPendingRequests.call(this);
  };
  prototype.scheduleRequestTimeoutCheck = function () {
    if (!this.enforceRequestTimeout) return;
    open.add(this);
    // The connections' sockets keep the process alive, as long as there are any.
    // After this turn's answers have been read: where this process itself stood still, it is not the brokers that are late.
    look ??= setInterval(() => setImmediate(endLateRequests), LOOK_MS).unref();
  };
  prototype.fulfillRequest = function (answer) {
    answeredAt.set(this, Date.now());
    fulfillRequest.call(this, answer);
  };
  prototype.destroy = function () {
    open.delete(this);
    if (open.size === 0) {
      clearInterval(look);
      look = undefined;
    }
    destroy.call(this);
  };
}

function endLateRequests(): void {
  const now = Date.now();
  for (const queue of open) {
    const [next] = queue.inflight.values();
    if (next && FROM_MEMORY.has(next.entry.apiName)) {
      const since = Math.max(next.sentAt, answeredAt.get(queue) ?? 0);
      if (now - since > FROM_MEMORY_MS) next.timeoutRequest();
    }
    for (const request of queue.inflight.values())
      if (now - request.sentAt > request.requestTimeout) request.timeoutRequest();
    if (!queue.isConnected()) queue.destroy();
  }
}
