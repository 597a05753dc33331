/** Parts of kafkajs that it does not publish: kafkajs-internals.ts says which version this is true of. */

declare module 'kafkajs/package.json' {
  export const version: string;
}

declare module 'kafkajs/src/protocol/decoder' {
  /** Reads the types of Kafka's protocol from a buffer. Compact types are those of flexible versions (KIP-482). */
  export default class Decoder {
    offset: number;
    buffer: Buffer;
    constructor(buffer: Buffer);
    readInt8(): number;
    readInt16(): number;
    readInt32(): number;
    readInt64(): bigint;
    readBoolean(): boolean;
    readString(): string | null;
    /** Without a length, it is read first. */
    readBytes(length?: number): Buffer | null;
    readArray<T>(read: (decoder: Decoder) => T): T[];
    readArrayAsync<T>(read: (decoder: Decoder) => Promise<T>): Promise<T[]>;
    /** A compact nullable string. */
    readUVarIntString(): string | null;
    /** A compact nullable array. */
    readUVarIntArray<T>(read: (decoder: Decoder) => T): T[] | null;
    readUVarInt(): number;
  }
}

declare module 'kafkajs/src/protocol/encoder' {
  /** Writes the types of Kafka's protocol. */
  export default class Encoder {
    readonly buffer: Buffer;
    writeInt8(value: number): this;
    writeInt16(value: number): this;
    writeInt32(value: number): this;
    writeInt64(value: number): this;
    writeString(value: string): this;
    writeBytes(value: Buffer): this;
    writeBoolean(value: boolean): this;
    writeBuffer(value: Buffer): this;
    writeUVarInt(value: number): this;
    /** A compact nullable string. */
    writeUVarIntString(value: string | null): this;
  }
}

declare module 'kafkajs/src/protocol/messageSet/decoder' {
  import type Decoder from 'kafkajs/src/protocol/decoder';

  interface Message {
    magicByte: number;
    attributes: number;
    timestamp?: string;
    offset: string;
    key: Buffer | null;
    value: Buffer | null;
  }

  /** Reads the format of before Kafka 0.11. */
  export default function decodeMessageSet(decoder: Decoder, bytes: number): Promise<Message[]>;
}

declare module 'kafkajs/src/protocol/requests/fetch' {
  interface FetchOptions {
    /** Milliseconds. */
    maxWaitTime?: number | undefined;
    topics: { topic: string; partitions: { partition: number; fetchOffset: string }[] }[];
  }

  interface FetchProtocol {
    request: unknown;
    response: { decode(payload: Buffer): Promise<unknown>; parse(decoded: never): Promise<unknown> };
    requestTimeout: number;
  }

  /** What a broker's connections take the protocol of a fetch from, each time they fetch. */
  const definition: {
    versions: string[];
    protocol(which: { version: number }): (options: FetchOptions) => FetchProtocol;
  };
  export default definition;
}

declare module 'kafkajs/src/protocol/requests/apiVersions' {
  import type { SentRequest } from 'kafkajs/src/network/connection';

  /** The first request on a connection, which needs no login. */
  const definition: { protocol(which: { version: number }): () => SentRequest };
  export default definition;
}

declare module 'kafkajs/src/network/requestQueue' {
  interface SocketRequest {
    readonly entry: { readonly apiName: string };
    /** Milliseconds since 1970. */
    sentAt: number;
    /** Milliseconds. */
    requestTimeout: number;
    /** Rejects it; its answer, should it come, is for nobody. */
    timeoutRequest(): void;
  }

  interface PushedRequest {
    entry: {
      correlationId: number;
      apiKey: number;
      apiName: string;
      apiVersion: number;
      resolve(answer: { payload: Buffer | null }): void;
      reject(error: Error): void;
    };
    expectResponse: boolean;
    /** Milliseconds; at least those of the queue. */
    requestTimeout?: number;
    sendRequest(): void;
  }

  /** What one connection has sent, and what waits to be sent. */
  export default class RequestQueue {
    constructor(options: {
      maxInFlightRequests: number | null;
      /** Milliseconds. */
      requestTimeout: number;
      enforceRequestTimeout: boolean;
      clientId: string;
      broker: string;
      logger: { debug(message: string): void; warn(message: string): void };
      isConnected?(): boolean;
    });
    push(request: PushedRequest): void;
    fulfillRequest(answer: { correlationId: number; payload: Buffer; size: number }): void;
    /** Milliseconds for which the broker wants nothing more. */
    maybeThrottle(ms: number): void;
    readonly enforceRequestTimeout: boolean;
    /** By correlation id, in the order in which they were sent. */
    readonly inflight: Map<number, SocketRequest>;
    /** Not sent yet: the broker throttles, or too many are in flight. */
    readonly pending: readonly SocketRequest[];
    isConnected(): boolean;
    /** Called when the connection is open. */
    scheduleRequestTimeoutCheck(): void;
    /** Called after every answer, and when a request has to wait. Sends what may be sent a moment later. */
    scheduleCheckPendingRequests(): void;
    /** Called when the connection is closed. */
    destroy(): void;
  }
}

declare module 'kafkajs/src/protocol/error' {
  /** The error that kafkajs's retries and rebalances go by. */
  export function createErrorFromCode(
    code: number,
  ): Error & { type: string; code: number; retriable: boolean };
}

declare module 'kafkajs/src/errors' {
  export class KafkaJSOffsetOutOfRange extends Error {
    constructor(error: Error, place: { topic: string; partition: number });
  }
  export class KafkaJSConnectionError extends Error {
    constructor(message: string, where: { broker: string });
  }
  /** Of a connection that was there: kafkajs forgets the broker until it hears of it again. */
  export class KafkaJSConnectionClosedError extends KafkaJSConnectionError {
    constructor(message: string, where: { host: string; port: number });
  }
}

declare module 'kafkajs/src/network/connection' {
  import type { Socket } from 'node:net';
  import type { ISocketFactory } from 'kafkajs';

  export interface SentRequest {
    request: { apiName: string };
    response: unknown;
  }

  /** One connection to a broker; the class from which the pools of all clients make theirs. */
  export default class Connection {
    readonly host: string;
    readonly port: number;
    readonly socket: Socket | undefined;
    constructor(options: {
      host: string;
      port: number;
      socketFactory: ISocketFactory;
      logger: unknown;
      /** Milliseconds. */
      connectionTimeout: number;
      requestTimeout: number;
      enforceRequestTimeout?: boolean;
    });
    isConnected(): boolean;
    connect(): Promise<boolean>;
    send(protocol: SentRequest): Promise<unknown>;
    /** Fails what waits for an answer or to be sent. */
    rejectRequests(error: Error): void;
    disconnect(): Promise<boolean>;
  }
}
