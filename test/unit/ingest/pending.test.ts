import fc from 'fast-check';
import { decodePending, encodePending, METADATA_MAX_BYTES } from '../../../src/bridges/ingest/pending';

describe('announced batches in the metadata of an offset', () => {
  it('come back as they were written', () => {
    fc.assert(
      fc.property(
        fc.nat(2 ** 48),
        fc.array(fc.integer({ min: 1, max: 1_000_000 }), { maxLength: 64 }),
        (offset, lengths) => {
          let end = offset - 1;
          const ends = lengths.map((length) => (end += length));
          const metadata = encodePending(offset, ends);
          expect(metadata.length).toBeLessThan(METADATA_MAX_BYTES);
          expect(decodePending(offset, metadata)).toEqual(ends);
        },
      ),
    );
  });

  it('are none when something else wrote the metadata', () => {
    for (const metadata of ['', 'console-consumer', 'b1:', 'b1:0', 'b1:-3', 'b1:5,', 'b2:5', 'b1:1e3'])
      expect(decodePending(7, metadata)).toEqual([]);
  });

  it('can’t overlap', () => {
    expect(() => encodePending(100, [99])).toThrow();
    expect(() => encodePending(100, [150, 150])).toThrow();
  });
});
