import { createCRC32 } from 'hash-wasm';
import { formatLsn, type Lsn } from './wal-names';

/** Of a page's header, as PostgreSQL's xlog_internal.h has it. */
const PAGE = { bytes: 8_192, flagsAt: 2, remainingAt: 16, header: 24, longHeader: 40 } as const;
/** Its flags: a record of the page before goes on; the header is long; the record of the page before was given up in a crash. */
const CONTINUES = 0x1;
const LONG_HEADER = 0x2;
const OVERWRITES = 0x8;
/** Of a record's header, as xlogrecord.h has it. */
const RECORD = { header: 24, infoAt: 16, managerAt: 17, crcAt: 20, alignment: 8 } as const;
/** The record after which the rest of a segment is empty: XLOG_SWITCH of the resource manager XLOG. */
const SWITCH = { manager: 0, info: 0x40 } as const;

type Crc = Awaited<ReturnType<typeof createCRC32>>;

/**
 * Compares each record of segments that follow each other with its checksum, as PostgreSQL does when it applies them. It takes
 * the first record that is damaged for the end of the log, and works from there without a word: that has to be known before.
 */
export class WalRecords {
  private open: { at: Lsn; left: number; head: Buffer; got: number } | undefined;
  /** Bytes of a record whose beginning was not seen. */
  private skipped = 0;
  private maySwitch = true;

  private constructor(private readonly crc: Crc) {}

  /** With CRC-32C, as PostgreSQL computes it. */
  static async create(): Promise<WalRecords> {
    return new WalRecords(await createCRC32(0x82f63b78));
  }

  /** Forgets a record that goes on in a segment that does not come. */
  reset(): void {
    this.open = undefined;
    this.skipped = 0;
    this.maySwitch = true;
  }

  /**
   * Reads the next segment.
   * @param first its place in the log.
   * @param end bytes of it that were received, all of which the server had written.
   * @returns what is wrong with it, if something is.
   */
  next(segment: Buffer, first: Lsn, end: number): string | undefined {
    for (let at = 0; at < end;) {
      if (at % PAGE.bytes === 0) {
        const wrong = this.beginPage(segment, first, at);
        if (wrong !== undefined) return wrong;
        at += segment.readUInt16LE(at + PAGE.flagsAt) & LONG_HEADER ? PAGE.longHeader : PAGE.header;
        continue;
      }
      const room = Math.min(at - (at % PAGE.bytes) + PAGE.bytes, end) - at;
      if (this.skipped > 0) {
        const skipped = Math.min(this.skipped, room);
        this.skipped -= skipped;
        at = aligned(at + skipped);
        continue;
      }
      if (this.open === undefined) {
        // A length never crosses a page.
        if (room < 4) return undefined;
        const length = segment.readUInt32LE(at);
        if (length === 0 && this.maySwitch) return undefined;
        if (length < RECORD.header) return `there is no record at ${formatLsn(first + BigInt(at))}`;
        this.open = { at: first + BigInt(at), left: length, head: Buffer.alloc(RECORD.header), got: 0 };
        this.crc.init();
      }
      const taken = Math.min(this.open.left, room);
      this.take(this.open, segment.subarray(at, at + taken));
      if (this.open.left > 0) at += taken;
      else {
        const { head, at: began } = this.open;
        this.open = undefined;
        if (!this.isWhole(head)) return `its record at ${formatLsn(began)} is not as it was written`;
        at = aligned(at + taken);
      }
    }
    return undefined;
  }

  private beginPage(segment: Buffer, first: Lsn, at: number): string | undefined {
    const flags = segment.readUInt16LE(at + PAGE.flagsAt);
    const remaining = flags & CONTINUES ? segment.readUInt32LE(at + PAGE.remainingAt) : 0;
    if (flags & OVERWRITES) this.reset();
    else if (this.open === undefined && this.skipped === 0) this.skipped = remaining;
    else if (remaining !== (this.open?.left ?? this.skipped))
      return `its page at ${formatLsn(first + BigInt(at))} does not continue the one before`;
    return undefined;
  }

  private take(record: NonNullable<typeof this.open>, bytes: Buffer): void {
    const ofHead = Math.min(RECORD.header - record.got, bytes.length);
    if (ofHead > 0) bytes.copy(record.head, record.got, 0, ofHead);
    record.got += ofHead;
    record.left -= bytes.length;
    if (bytes.length > ofHead) this.crc.update(bytes.subarray(ofHead));
  }

  private isWhole(head: Buffer): boolean {
    this.maySwitch =
      head[RECORD.managerAt] === SWITCH.manager && (head[RECORD.infoAt]! & 0xf0) === SWITCH.info;
    // Its header last, up to the checksum itself.
    this.crc.update(head.subarray(0, RECORD.crcAt));
    return Number.parseInt(this.crc.digest(), 16) === head.readUInt32LE(RECORD.crcAt);
  }
}

const aligned = (at: number): number => Math.ceil(at / RECORD.alignment) * RECORD.alignment;
