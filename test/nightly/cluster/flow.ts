/** Nothing is late before this; on a machine that is slow, nothing that takes no longer than so many times the usual. */
const LATE_MS = 5_000;
const TIMES_USUAL = 3;
const LATE_MAX_MS = 15_000;

interface Item {
  begun: number;
  ended?: number;
}

/** How one kind of work went through something that was done to the cluster. */
export interface Passage {
  /** Until the last work that was late was through and all later work was in time; 0 when nothing was late. */
  secondsToRecover: number;
  /** The longest time without any of it being finished. */
  silentSeconds: number;
  begun: number;
  /** Not finished now. */
  open: number;
}

/** Work of one kind: when each piece was begun, and when it was through to its very end. */
export class Flow {
  private readonly items = new Map<string, Item>();

  /** What takes longer than this is late. */
  lateMs = LATE_MS;

  constructor(readonly kind: string) {}

  /** Takes what was begun since then, while nothing is wrong, as the usual. */
  learnUsual(since: number): void {
    const all = this.latencies(since);
    const usual = all[Math.floor(all.length * 0.95)] ?? LATE_MS;
    this.lateMs = Math.min(LATE_MAX_MS, Math.max(LATE_MS, TIMES_USUAL * usual));
  }

  begin(id: string): void {
    this.items.set(id, { begun: Date.now() });
  }

  end(id: string): void {
    const item = this.items.get(id);
    if (item) item.ended ??= Date.now();
  }

  /** Refused for good: it is no work. */
  forget(id: string): void {
    this.items.delete(id);
  }

  get size(): number {
    return this.items.size;
  }

  open(): string[] {
    return [...this.items].flatMap(([id, { ended }]) => (ended === undefined ? [id] : []));
  }

  /** Whether work that was begun after `since` has been finished, and nothing is late now. */
  isFlowing(since: number): boolean {
    const now = Date.now();
    let finished = false;
    for (const { begun, ended } of this.items.values()) {
      if (ended === undefined && now - begun > this.lateMs) return false;
      if (begun > since && ended !== undefined) finished = true;
    }
    return finished;
  }

  passage(from: number, to = Date.now()): Passage {
    const touched = [...this.items.values()].filter(
      ({ begun, ended }) => begun < to && (ended === undefined || ended > from),
    );
    const late = touched.filter(({ begun, ended = to }) => ended - begun > this.lateMs);
    const ends = touched
      .flatMap(({ ended }) => (ended === undefined || ended > to ? [] : [ended]))
      .sort((a, b) => a - b);
    let [at, silent] = [from, 0];
    for (const end of [...ends, to]) {
      silent = Math.max(silent, end - at);
      at = Math.max(at, end);
    }
    return {
      secondsToRecover: Math.max(0, ...late.map(({ ended = to }) => ended - from)) / 1_000,
      silentSeconds: silent / 1_000,
      begun: touched.filter(({ begun }) => begun >= from).length,
      open: touched.filter(({ ended }) => ended === undefined).length,
    };
  }

  /** Milliseconds from beginning to end of what was begun since then, sorted. */
  latencies(since = 0): number[] {
    return [...this.items.values()]
      .flatMap(({ begun, ended }) => (ended === undefined || begun < since ? [] : [ended - begun]))
      .sort((a, b) => a - b);
  }
}
