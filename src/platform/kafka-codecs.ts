import { promisify } from 'node:util';
import { gunzip as gunzipWithCallback } from 'node:zlib';
import { Decompress } from 'fzstd';
import { CompressionCodecs, CompressionTypes } from 'kafkajs';
import { decompressBlock } from 'lz4js';
import { uncompress } from 'snappyjs';

/**
 * The four compression codecs of Kafka, to read. Packages without native code: they install on every platform, and in
 * the image, where optional packages are left out. None of them holds state between two calls, so that what failed
 * can't spoil what comes next.
 */

/** Thrown when bytes are not what their codec makes, or more than was allowed comes out of them. */
export class CodecError extends Error {}

type Inflate = (compressed: Buffer, maxBytes: number) => Buffer | Promise<Buffer>;

/** By the codec's number in a batch's attributes. */
const CODECS: Readonly<Record<number, { name: string; inflate: Inflate }>> = {
  [CompressionTypes.GZIP]: { name: 'gzip', inflate: inflateGzip },
  [CompressionTypes.Snappy]: { name: 'snappy', inflate: inflateSnappy },
  [CompressionTypes.LZ4]: { name: 'lz4', inflate: inflateLz4 },
  [CompressionTypes.ZSTD]: { name: 'zstd', inflate: inflateZstd },
};

/**
 * Decompresses what a batch holds.
 * @throws CodecError when there is no such codec, the bytes are not of it, or more than `maxBytes` would come out: what
 * exceeds them is never held in memory.
 */
export async function inflate(codec: number, compressed: Buffer, maxBytes: number): Promise<Buffer> {
  const known = CODECS[codec];
  if (!known) throw new CodecError(`there is no compression codec ${codec}`);
  try {
    return await known.inflate(compressed, maxBytes);
  } catch (error) {
    if (error instanceof CodecError) throw error;
    // Whatever a codec throws, it is about these bytes.
    throw new CodecError(`not ${known.name}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

const tooMuch = (maxBytes: number) => new CodecError(`more than ${maxBytes} bytes come out of it`);

const gunzip = promisify(gunzipWithCallback);

async function inflateGzip(compressed: Buffer, maxOutputLength: number): Promise<Buffer> {
  try {
    return await gunzip(compressed, { maxOutputLength });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') throw tooMuch(maxOutputLength);
    throw error;
  }
}

/** How the JVM's snappy frames its blocks; librdkafka writes one block without a frame. */
const XERIAL_MAGIC = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00]);
const XERIAL_HEADER_BYTES = 16;

function inflateSnappy(compressed: Buffer, maxBytes: number): Buffer {
  if (!compressed.subarray(0, XERIAL_MAGIC.length).equals(XERIAL_MAGIC))
    return snappyBlock(compressed, maxBytes);
  const blocks: Buffer[] = [];
  let left = maxBytes;
  for (let at = XERIAL_HEADER_BYTES; at < compressed.length;) {
    const length = compressed.readInt32BE(at);
    const start = at + 4;
    if (length < 0 || length > compressed.length - start) throw new CodecError('a snappy block is cut off');
    at = start + length;
    const block = snappyBlock(compressed.subarray(start, at), left);
    blocks.push(block);
    left -= block.length;
  }
  return Buffer.concat(blocks);
}

/** A block says first, in a varint, how much it holds. */
function snappyBlock(block: Buffer, maxBytes: number): Buffer {
  let length = 0;
  for (let at = 0; at < 5; at += 1) {
    const byte = block[at] ?? 0;
    length += (byte & 0x7f) * 2 ** (7 * at);
    if (byte < 0x80) break;
  }
  if (length > maxBytes) throw tooMuch(maxBytes);
  return uncompress(block);
}

const LZ4_MAGIC = 0x184d2204;
const LZ4_BLOCK_BYTES: Readonly<Record<number, number>> = {
  4: 65_536,
  5: 262_144,
  6: 1_048_576,
  7: 4_194_304,
};
const LZ4_STORED = 0x80000000;

/**
 * The frame is read here and its blocks by the library, whose own reading of frames trusts the lengths in them. The
 * checksums in a frame are left alone: the batch around it has one.
 */
function inflateLz4(frame: Buffer, maxBytes: number): Buffer {
  if (frame.readUInt32LE(0) !== LZ4_MAGIC) throw new CodecError('no lz4 frame');
  const flags = frame.readUInt8(4);
  const blockBytes = LZ4_BLOCK_BYTES[(frame.readUInt8(5) >> 4) & 7];
  // Version 1, and no dictionary, which nobody could have agreed upon.
  if (flags >> 6 !== 1 || flags & 1 || blockBytes === undefined) throw new CodecError('no lz4 frame');
  const blockChecksumBytes = flags & 0x10 ? 4 : 0;
  let output: Buffer = Buffer.alloc(0);
  let length = 0;
  for (let at = flags & 0x08 ? 15 : 7; ;) {
    const head = frame.readUInt32LE(at);
    const stored = head >= LZ4_STORED;
    const size = stored ? head - LZ4_STORED : head;
    const start = at + 4;
    if (head === 0) return output.subarray(0, length);
    if (size > frame.length - start) throw new CodecError('an lz4 block is cut off');
    const room = Math.min(blockBytes, maxBytes - length);
    output = grown(output, length, room);
    const end = stored
      ? length + copied(frame, start, size, output, length)
      : decompressBlock(frame, output, start, size, length);
    if (end - length > room) throw room < blockBytes ? tooMuch(maxBytes) : new CodecError('no lz4 block');
    if (!(end >= length)) throw new CodecError('no lz4 block');
    length = end;
    at = start + size + blockChecksumBytes;
  }
}

function copied(from: Buffer, start: number, size: number, to: Buffer, at: number): number {
  from.copy(to, at, start, start + size);
  return size;
}

/** The same bytes with room for more behind `length`; doubles, so that few copies are made. */
function grown(buffer: Buffer, length: number, room: number): Buffer {
  if (buffer.length >= length + room) return buffer;
  const larger = Buffer.alloc(Math.max(length + room, buffer.length * 2));
  buffer.copy(larger, 0, 0, length);
  return larger;
}

const ZSTD_MAGIC = 0xfd2fb528;
/** The largest window that zstd's own tools take without being asked to; Kafka's clients use 8 MiB at most. */
const ZSTD_WINDOW_MAX_LOG = 27;

function inflateZstd(compressed: Buffer, maxBytes: number): Buffer {
  refuseLargeWindow(compressed, maxBytes);
  const chunks: Uint8Array[] = [];
  let length = 0;
  const stream = new Decompress((chunk) => {
    length += chunk.length;
    if (length > maxBytes) throw tooMuch(maxBytes);
    chunks.push(chunk);
  });
  stream.push(compressed, true);
  return Buffer.concat(chunks, length);
}

/** A frame's header says how much memory its reading takes, before anything was read. */
function refuseLargeWindow(frame: Buffer, maxBytes: number): void {
  if (frame.length < 6 || frame.readUInt32LE(0) !== ZSTD_MAGIC) throw new CodecError('no zstd frame');
  const descriptor = frame.readUInt8(4);
  const singleSegment = (descriptor & 0x20) !== 0;
  if (!singleSegment) {
    if (10 + (frame.readUInt8(5) >> 3) > ZSTD_WINDOW_MAX_LOG) throw tooMuch(maxBytes);
    return;
  }
  const sizeBytes = 1 << (descriptor >> 6);
  const at = 5 + [0, 1, 2, 4][descriptor & 3]!;
  const size = sizeBytes === 8 ? Number(frame.readBigUInt64LE(at)) : frame.readUIntLE(at, sizeBytes);
  if (size > maxBytes) throw tooMuch(maxBytes);
}

/** kafkajs's own decoder still reads what was written before Kafka 0.11 (message sets); it asks here. */
const LEGACY_MAX_BYTES = 67_108_864;
const kafkajsCodecs = CompressionCodecs as Record<number, () => object>;
for (const [codec, { name }] of Object.entries(CODECS))
  kafkajsCodecs[Number(codec)] = () => ({
    compress: () => Promise.reject(new Error(`remit does not write ${name}`)),
    decompress: (compressed: Buffer) => inflate(Number(codec), compressed, LEGACY_MAX_BYTES),
  });
