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
    readBoolean(): boolean;
    readBytes(length: number): Buffer | null;
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
    writeInt8(value: number): this;
    writeBoolean(value: boolean): this;
    writeBuffer(value: Buffer): this;
    writeUVarInt(value: number): this;
    /** A compact nullable string. */
    writeUVarIntString(value: string | null): this;
  }
}
