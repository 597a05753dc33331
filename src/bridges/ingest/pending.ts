/**
 * The batches of a partition that may be on their way into ClickHouse are written into the metadata of its committed
 * offset before the first of them is sent. They follow each other without a gap from the committed offset on, so their
 * last offsets say everything: committed 100 with `b1:99,50` is the batches 100–198 and 199–248.
 */

const VERSION = 'b1:';
/** Brokers refuse longer metadata (offset.metadata.max.bytes). */
export const METADATA_MAX_BYTES = 4_096;

/** @param ends last offsets of the batches, ascending; all at or past `committed`. */
export function encodePending(committed: number, ends: readonly number[]): string {
  if (ends.length === 0) return '';
  let next = committed;
  const lengths = ends.map((end) => {
    const length = end + 1 - next;
    if (!Number.isSafeInteger(length) || length < 1) throw new Error(`a batch ends at ${end} before ${next}`);
    next = end + 1;
    return length;
  });
  return VERSION + lengths.join(',');
}

/** Last offsets of the batches. Metadata of another origin (a tool that moved the offset) says nothing: no batches. */
export function decodePending(committed: number, metadata: string): number[] {
  if (!/^b1:[1-9]\d{0,15}(,[1-9]\d{0,15})*$/.test(metadata)) return [];
  let end = committed - 1;
  return metadata
    .slice(VERSION.length)
    .split(',')
    .map((length) => (end += Number(length)));
}
