/**
 * Memory of batches: the account of all that they hold, and the bytes of rows in pieces of one size that are used again,
 * so that the process does not grow and shrink.
 */
export class ChunkPool {
  static readonly CHUNK_BYTES = 262_144;
  private readonly free: Buffer[] = [];
  private used = 0;

  /** @param keepBytes how much unused memory is kept for later. */
  constructor(private readonly keepBytes: number) {}

  /** Bytes of the chunks that are in use, and of what else was charged. */
  get usedBytes(): number {
    return this.used;
  }

  /** Counts memory that is held outside of chunks; negative when it is given back. */
  charge(bytes: number): void {
    this.used += bytes;
  }

  /** A chunk of at least so many bytes: of the common size whenever that is enough. */
  take(bytes: number): Buffer {
    const size = Math.max(bytes, ChunkPool.CHUNK_BYTES);
    this.used += size;
    if (size > ChunkPool.CHUNK_BYTES) return Buffer.allocUnsafeSlow(size);
    return this.free.pop() ?? Buffer.allocUnsafeSlow(size);
  }

  /** @param reusable false when a request that was given up may still read from it. */
  give(chunk: Buffer, reusable: boolean): void {
    this.used -= chunk.length;
    if (!reusable || chunk.length !== ChunkPool.CHUNK_BYTES) return;
    if ((this.free.length + 1) * ChunkPool.CHUNK_BYTES <= this.keepBytes) this.free.push(chunk);
  }
}

/** Bytes that only grow, in chunks of a pool. What is reserved at once lies in one chunk. */
export class ByteLog {
  private readonly chunks: Buffer[] = [];
  private readonly ends: number[] = [];
  private bytesBefore = 0;
  /** The chunk that was reserved from last, and how far it is filled. */
  chunk: Buffer = EMPTY;
  end = 0;

  constructor(private readonly pool: ChunkPool) {}

  /** Makes room for so many bytes in `chunk` from `end` on; the caller writes them and moves `end`. */
  reserve(bytes: number): void {
    if (this.chunk.length - this.end >= bytes) return;
    this.closeChunk();
    this.bytesBefore += this.end;
    this.chunk = this.pool.take(bytes);
    this.chunks.push(this.chunk);
    this.end = 0;
  }

  /** The chunk with this number, for what remembered where it wrote. */
  chunkAt(index: number): Buffer {
    return this.chunks[index]!;
  }

  get chunkIndex(): number {
    return this.chunks.length - 1;
  }

  /** The filled parts of the chunks, in order. */
  parts(): Buffer[] {
    this.closeChunk();
    return this.chunks.map((chunk, i) => chunk.subarray(0, this.ends[i]));
  }

  get bytes(): number {
    return this.bytesBefore + this.end;
  }

  release(reusable: boolean): void {
    for (const chunk of this.chunks) this.pool.give(chunk, reusable);
    this.chunks.length = 0;
    this.ends.length = 0;
    this.bytesBefore = 0;
    this.chunk = EMPTY;
    this.end = 0;
  }

  private closeChunk(): void {
    if (this.chunks.length > 0) this.ends[this.chunks.length - 1] = this.end;
  }
}

const EMPTY = Buffer.alloc(0);
