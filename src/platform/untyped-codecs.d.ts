/** Codec packages that bring no types, as far as they are used. */

declare module 'lz4js' {
  /**
   * Decompresses one LZ4 block of `source` into `target`; reads back into what stands before `targetStart`.
   * @returns where the output ends, also when that is past the end of `target`.
   */
  export function decompressBlock(
    source: Uint8Array,
    target: Uint8Array,
    sourceStart: number,
    sourceBytes: number,
    targetStart: number,
  ): number;
}

declare module 'snappyjs' {
  export function uncompress(block: Buffer, maxBytes?: number): Buffer;
  export function compress(data: Buffer): Buffer;
}
