import {
  allHandlersFinished,
  CancellationScope,
  condition,
  isCancellation,
  sleep,
} from '@temporalio/workflow';
import type { DeadLetterActivities } from '../activities/dead-letters';
import type { DeadLetterCode } from '../contracts/errors';
import {
  CARRIED_BYTES_MAX,
  DEAD_LETTERS_BYTES,
  DEAD_LETTERS_TOGETHER,
  EARLY_PAUSE_MAX_MS,
  EARLY_PAUSE_MIN_MS,
  GATHER_MS,
  WAITING_BYTES_MAX,
  WAITING_MESSAGES_MAX,
} from '../contracts/workflows/limits';
import type { CarriedMessages, RefusedMessage } from '../contracts/workflows';
import { steps } from './described';
import { DEAD_LETTER_STEP, historyIsLong, unlessRefused } from './durable-steps';
import { endTrace, withinTrace } from './tracing';

const { deadLetterMessages } = steps<DeadLetterActivities>(DEAD_LETTER_STEP);

const EARLY = { summary: 'the message came before what it is about: try again then' };

export interface Refusal {
  code: DeadLetterCode;
  reason: string;
}

/** What a workflow does with its messages. */
export interface Handling<M, R> {
  /** Applies a message in the database. Called again while it is early. */
  apply(message: M): Promise<R>;
  /**
   * What the answer means. `waitUntil`: what the message is about may still come until then (ISO 8601). `refusal`: why
   * the message can't be applied, when it is not to wait or has waited long enough.
   */
  judge(result: R): { waitUntil: string | null; refusal: Refusal | undefined };
  /** What follows from the answer that is final. */
  conclude(message: M, result: R): void;
  /** What a dead letter of the message is made of. */
  letterOf(message: M): Omit<RefusedMessage, keyof Refusal>;
  /** Ends this run; the next one begins with what is carried. */
  continueAsNew(carried: CarriedMessages<M>): Promise<never>;
}

/**
 * The messages of one workflow, applied one after the other in the order in which they came. One that is early waits,
 * with all that came after it, until what it is about is there or its time is up. What waits is bounded in number and
 * bytes; what is beyond goes to the DLQ, the newest first to go. A history that grew long goes on in a new run, to which
 * everything is handed over: no message is ever forgotten, whatever comes and however fast.
 */
export class Mailbox<M extends object, R> {
  private readonly messages: { message: M; bytes: number }[] = [];
  private bytes = 0;
  private readonly refused: RefusedMessage[] = [];
  private earlySince: string | null;

  constructor(
    private readonly handling: Handling<M, R>,
    carried: CarriedMessages<M> = { messages: [], earlySince: null },
  ) {
    carried.messages.forEach((message) => this.receive(message));
    this.earlySince = carried.earlySince;
  }

  get size(): number {
    return this.messages.length;
  }

  receive(message: M): void {
    const bytes = utf8Length(JSON.stringify(message));
    this.messages.push({ message, bytes });
    this.bytes += bytes;
  }

  /** Applies what is there and what comes meanwhile; resolves when nothing is left. */
  async workOff(): Promise<void> {
    try {
      for (;;) {
        const first = this.messages[0];
        if (first) {
          // Asked before it is awaited: each promise of a workflow costs the worker a stack trace.
          if (this.mayContinue()) await this.continueWhenLong();
          await withinTrace(first.message, () => this.handle(first.message));
        } else if (this.refused.length > 0) await this.sendRefused();
        else return;
      }
    } catch (error) {
      // Cancelled by an operator: what waits is not applied any more, and not lost.
      if (isCancellation(error)) await CancellationScope.nonCancellable(() => this.giveUp());
      throw error;
    }
  }

  /** Ends the run when its history is long and nothing would be lost by it. */
  async continueWhenLong(): Promise<void> {
    if (!this.mayContinue()) return;
    await this.sendRefused();
    // While they were sent, more may have come.
    if (!this.mayContinue()) return;
    const messages = this.messages.map(({ message }) => message);
    await this.handling.continueAsNew({ messages, earlySince: this.earlySince });
  }

  /** An update that is being carried out is answered first; an inbox too large to be handed over gets shorter first. */
  private mayContinue(): boolean {
    return historyIsLong() && allHandlersFinished() && this.bytes <= CARRIED_BYTES_MAX;
  }

  private async handle(message: M): Promise<void> {
    const result = await unlessRefused(
      () => this.handling.apply(message),
      (reason) => this.refuse(message, { code: 'invalid_message', reason }),
    );
    if (result !== undefined) {
      const { waitUntil, refusal } = this.handling.judge(result);
      const leftMs = waitUntil === null ? 0 : Date.parse(waitUntil) - Date.now();
      if (leftMs > 0) return this.pause(leftMs);
      if (waitUntil === null) this.earlySince = null;
      if (refusal) this.refuse(message, refusal);
      this.handling.conclude(message, result);
    }
    // Only now: a run that ended before would have begun with it once more.
    this.takeFirst();
    if (this.refused.length >= DEAD_LETTERS_TOGETHER) await this.sendRefused();
  }

  /** Waits until the first message is to be tried again, seeing to what comes meanwhile. */
  private async pause(leftMs: number): Promise<void> {
    this.earlySince ??= new Date().toISOString();
    const waitedMs = Date.now() - Date.parse(this.earlySince);
    const pauseMs = Math.min(Math.max(waitedMs / 2, EARLY_PAUSE_MIN_MS), EARLY_PAUSE_MAX_MS, leftMs);
    const until = Date.now() + Math.ceil(pauseMs);
    await this.sendRefused();
    for (let restMs = pauseMs; restMs > 0; restMs = until - Date.now()) {
      const disturbed = await condition(() => this.exceeds() || this.mayContinue(), Math.ceil(restMs), EARLY);
      if (!disturbed) return;
      if (this.exceeds()) {
        await sleep(GATHER_MS, { summary: 'gather what is too much, to dead-letter it together' });
        await this.refuseExcess();
      }
      await this.continueWhenLong();
    }
  }

  private exceeds(): boolean {
    return this.size > 1 && (this.size > WAITING_MESSAGES_MAX || this.bytes > WAITING_BYTES_MAX);
  }

  private async refuseExcess(): Promise<void> {
    const kept = [...this.messages];
    let { bytes } = this;
    while (kept.length > 1 && (kept.length > WAITING_MESSAGES_MAX || bytes > WAITING_BYTES_MAX))
      bytes -= kept.pop()?.bytes ?? 0;
    // Oldest first, as they came.
    for (const { message } of this.messages.slice(kept.length))
      this.refuse(message, {
        code: 'too_many_waiting',
        reason: `${kept.length} messages wait already for what this one is about`,
      });
    this.messages.splice(kept.length);
    this.bytes = bytes;
    await this.sendRefused();
  }

  private refuse(message: M, refusal: Refusal): void {
    this.refused.push({ ...this.handling.letterOf(message), ...refusal });
    endTrace(message, `${refusal.code}: ${refusal.reason}`);
  }

  private async sendRefused(): Promise<void> {
    while (this.refused.length > 0) {
      const some = firstOf(this.refused);
      await deadLetterMessages(some);
      this.refused.splice(0, some.length);
    }
  }

  private async giveUp(): Promise<void> {
    const reason = 'its workflow was cancelled before it could be applied';
    while (this.size > 0) this.refuse(this.takeFirst(), { code: 'cancelled', reason });
    await this.sendRefused();
  }

  private takeFirst(): M {
    const taken = this.messages.shift();
    if (!taken) throw new Error('there is no message');
    this.bytes -= taken.bytes;
    endTrace(taken.message);
    return taken.message;
  }
}

/** As many as one activity takes, at least one. */
function firstOf(refused: readonly RefusedMessage[]): RefusedMessage[] {
  let bytes = 0;
  const end = refused.findIndex((message, index) => {
    bytes += utf8Length(JSON.stringify(message));
    return index > 0 && (index >= DEAD_LETTERS_TOGETHER || bytes > DEAD_LETTERS_BYTES);
  });
  return refused.slice(0, end < 0 ? refused.length : end);
}

/** Bytes of a text in UTF-8. */
function utf8Length(text: string): number {
  return new TextEncoder().encode(text).length;
}
