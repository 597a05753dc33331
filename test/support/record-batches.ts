import { crc32 } from 'hash-wasm';

export interface CraftedBatch {
  baseOffset: number;
  /** The records' section as it stands in the batch; `recordsOf` makes sound ones. */
  body: Buffer;
  /** How many records it claims to hold. */
  count: number;
  lastOffsetDelta?: number;
  /** Codec in the lowest three bits. */
  attributes?: number;
  /** Another checksum than the right one. */
  wrongChecksum?: boolean;
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = ((value << 1) ^ (value >> 31)) >>> 0;
  for (; rest >= 0x80; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  return Buffer.from([...bytes, rest]);
}

/** Records without keys and headers, with offsets that count on. */
export function recordsOf(values: readonly (string | Buffer)[]): Buffer {
  return Buffer.concat(
    values.map((value, index) => {
      const bytes = Buffer.from(value);
      const record = Buffer.concat([
        Buffer.from([0]),
        varint(0),
        varint(index),
        varint(-1),
        varint(bytes.length),
        bytes,
        varint(0),
      ]);
      return Buffer.concat([varint(record.length), record]);
    }),
  );
}

/** A record batch as it stands in a broker's log (magic 2), with whatever is asked for wrong about it. */
export async function craftBatch(batch: CraftedBatch): Promise<Buffer> {
  const { baseOffset, body, count, attributes = 0, wrongChecksum = false } = batch;
  const header = Buffer.alloc(61);
  header.writeBigInt64BE(BigInt(baseOffset), 0);
  header.writeInt32BE(49 + body.length, 8);
  header.writeInt8(2, 16);
  header.writeInt16BE(attributes, 21);
  header.writeInt32BE(batch.lastOffsetDelta ?? count - 1, 23);
  header.writeBigInt64BE(BigInt(Date.now()), 27);
  header.writeBigInt64BE(BigInt(Date.now()), 35);
  header.writeBigInt64BE(-1n, 43);
  header.writeInt16BE(-1, 51);
  header.writeInt32BE(-1, 53);
  header.writeInt32BE(count, 57);
  const whole = Buffer.concat([header, body]);
  const checksum = parseInt(await crc32(whole.subarray(21), 0x82f63b78), 16);
  whole.writeUInt32BE((checksum ^ (wrongChecksum ? 1 : 0)) >>> 0, 17);
  return whole;
}
