import { isDatabaseUnavailable } from './postgres-errors';
import { inSharedSpan, tracing, type TraceSpan } from './tracing';

/**
 * Lets concurrent calls share one: what is asked for while a call is under way goes out together with the next one. Keeps
 * a call for one item as fast as it was, and gets cheaper per item the more there is to do.
 */
export interface CoalescerOptions<Item, Answer> {
  /** Answers every item, in the order given. A rejection is the answer of all of them. */
  run(items: Item[]): Promise<Answer[]>;
  /** Items that one call carries at most, as `sizeOf` counts them; the first one always. */
  maxItems: number;
  /** How many an item counts for; 1 when left out. */
  sizeOf?: (item: Item) => number;
  /** Calls under way at most; one without it, since few large ones cost the database less than many. */
  maxCalls?: number;
  /**
   * Whether an error may be the fault of one item: then each is tried on its own, so that nobody pays for another. When left
   * out, any but that of a database outage, where it would only make more calls.
   */
  mayBeOneItems?: (error: unknown) => boolean;
}

interface Waiting<Item, Answer> {
  item: Item;
  /** The span in which it was asked for. */
  span: TraceSpan | undefined;
  resolve: (answer: Answer) => void;
  reject: (error: unknown) => void;
}

export class Coalescer<Item, Answer> {
  private waiting: Waiting<Item, Answer>[] = [];
  private calls = 0;
  private scheduled = false;

  constructor(private readonly options: CoalescerOptions<Item, Answer>) {}

  /** What waits is bounded by the callers: each of them waits for its own answer. */
  add(item: Item): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ item, span: tracing()?.current(), resolve, reject });
      if (this.scheduled) return;
      this.scheduled = true;
      // The rest of this turn of the event loop joins the call.
      setImmediate(() => this.next());
    });
  }

  private next(): void {
    this.scheduled = false;
    while (this.waiting.length > 0 && this.calls < (this.options.maxCalls ?? 1)) {
      this.calls += 1;
      void this.call(this.waiting.splice(0, this.nextBatch()));
    }
  }

  private nextBatch(): number {
    const { maxItems, sizeOf } = this.options;
    if (!sizeOf) return maxItems;
    let [count, size] = [1, sizeOf(this.waiting[0]!.item)];
    for (const { item } of this.waiting.slice(1, maxItems)) {
      size += sizeOf(item);
      if (size > maxItems) break;
      count += 1;
    }
    return count;
  }

  private async call(batch: Waiting<Item, Answer>[]): Promise<void> {
    try {
      const answers = await this.run(batch);
      batch.forEach(({ resolve }, index) => resolve(answers[index]!));
    } catch (error) {
      const { mayBeOneItems = (error: unknown) => !isDatabaseUnavailable(error) } = this.options;
      if (batch.length > 1 && mayBeOneItems(error)) for (const each of batch) await this.alone(each);
      else for (const { reject } of batch) reject(error);
    } finally {
      this.calls -= 1;
      this.next();
    }
  }

  private run(batch: readonly Waiting<Item, Answer>[]): Promise<Answer[]> {
    return inSharedSpan(
      'shared call',
      batch.map(({ span }) => span),
      () => this.options.run(batch.map(({ item }) => item)),
    );
  }

  private async alone(each: Waiting<Item, Answer>): Promise<void> {
    try {
      const [answer] = await this.run([each]);
      each.resolve(answer!);
    } catch (error) {
      each.reject(error);
    }
  }
}
