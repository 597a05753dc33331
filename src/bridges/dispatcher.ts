import { backoffMs } from '../platform/backoff';
import { TRACEPARENT } from '../contracts/tracing';
import { headersToStrings, messagingAttributes } from '../platform/kafka';
import type { Logger } from '../platform/logging';
import { metrics } from '../platform/metrics';
import { unreadableReason } from '../platform/record-batch';
import { annotate, inEntrySpan, tracing } from '../platform/tracing';
import { PoisonMessage, type IncomingMessage } from './message';
import { givenCorrelationId } from './message-fields';
import type { PartitionWork, Task } from './partition-work';

export interface DispatcherOptions {
  log: Logger;
  concurrentKeys: number;
  messageMaxBytes: number;
  retryBaseMs: number;
  retryCapMs: number;
  /**
   * Resolves when what the message causes is durable; throws PoisonMessage for one that will never be right.
   * @param yieldPlace to be called when it only waits for others from then on: another message may take its place. Only so many
   *   may wait like that; the rest keep their places.
   */
  handle(message: IncomingMessage, yieldPlace: () => void): Promise<void>;
  /** Resolves when the brokers have the dead letter. */
  deadLetter(message: IncomingMessage, poison: PoisonMessage): Promise<void>;
  /** A message of this partition was settled. */
  onSettled(work: PartitionWork): void;
}

/** Messages that wait for others without a place, for each place. */
const YIELDED_PER_PLACE = 16;

/**
 * Runs the messages of all partitions of a stream: at most `concurrentKeys` at a time, partitions in turn, so that a
 * long batch of one does not hold back a message of another. What fails is retried forever, with growing pauses;
 * a pause holds back its own key only, and takes no place from the others.
 */
export class Dispatcher {
  private readonly works: PartitionWork[] = [];
  private cursor = 0;
  private inFlight = 0;
  private yielded = 0;
  private readonly backingOff = new Map<Task, { work: PartitionWork; timer: NodeJS.Timeout | undefined }>();
  private failingSinceMs: number | undefined;

  constructor(private readonly options: DispatcherOptions) {}

  attach(work: PartitionWork): void {
    this.works.push(work);
  }

  /** Starts nothing more of this partition; what runs is left to finish. */
  detach(work: PartitionWork): void {
    work.close();
    const index = this.works.indexOf(work);
    if (index >= 0) this.works.splice(index, 1);
    for (const [task, { work: owner, timer }] of this.backingOff)
      if (owner === work) {
        clearTimeout(timer);
        this.backingOff.delete(task);
      }
    if (this.backingOff.size === 0) this.failingSinceMs = undefined;
  }

  /** Starts nothing more and waits for what runs. */
  async stop(): Promise<void> {
    const works = [...this.works];
    for (const work of works) this.detach(work);
    await Promise.all(works.map((work) => work.idle()));
  }

  /** Starts whatever may start. */
  pump(): void {
    while (this.inFlight < this.options.concurrentKeys) {
      const next = this.next();
      if (!next) return;
      this.inFlight += 1;
      void this.run(next.work, next.task);
    }
  }

  private next(): { work: PartitionWork; task: Task } | undefined {
    for (let tried = 0; tried < this.works.length; tried += 1) {
      this.cursor = (this.cursor + 1) % this.works.length;
      const work = this.works[this.cursor];
      const task = work?.take();
      if (work && task) return { work, task };
    }
    return undefined;
  }

  /** One try, in the trace of the message. Never rejects. */
  private async run(work: PartitionWork, task: Task): Promise<void> {
    const { topic, partition, offset, key, headers } = task.message;
    let [isOver, hasYielded] = [false, false];
    const yieldPlace = (): void => {
      if (isOver || hasYielded || this.yielded >= this.options.concurrentKeys * YIELDED_PER_PLACE) return;
      hasYielded = true;
      this.yielded += 1;
      this.inFlight -= 1;
      this.pump();
    };
    await inEntrySpan(
      () => ({
        name: `process ${topic}`,
        kind: 'consumer',
        parent: headersToStrings(headers)[TRACEPARENT] ?? null,
        attributes: {
          ...messagingAttributes(topic, key),
          'messaging.destination.partition.id': String(partition),
          'messaging.kafka.offset': Number(offset),
          'remit.correlation_id': correlationOf(task.message),
          'remit.attempt': task.failures + 1,
        },
      }),
      () => this.attempt(work, task, yieldPlace),
    );
    // Outside the trace of the message: what starts next has its own.
    isOver = true;
    if (hasYielded) this.yielded -= 1;
    else this.inFlight -= 1;
    this.pump();
  }

  private async attempt(work: PartitionWork, task: Task, yieldPlace: () => void): Promise<void> {
    try {
      task.poison ??= await this.refusal(task, yieldPlace);
      if (task.poison) await this.options.deadLetter(task.message, task.poison);
      metrics.bridgeMessages.inc({
        topic: work.topic,
        result: task.poison ? 'dead_lettered' : 'started',
      });
      this.settled(work, task);
    } catch (error) {
      tracing()?.current()?.fail(error);
      this.failed(work, task, error);
    }
  }

  /** Hands the message to the handler. Resolves with why it was refused, or undefined when it was taken. */
  private async refusal(
    { message, bytes }: Task,
    yieldPlace: () => void,
  ): Promise<PoisonMessage | undefined> {
    const { messageMaxBytes } = this.options;
    if (message.unreadable)
      return new PoisonMessage(
        'unreadable_batch',
        unreadableReason(message.unreadable, message.value?.length ?? 0),
      );
    if (bytes > messageMaxBytes)
      return new PoisonMessage(
        'message_too_large',
        `the message has ${bytes} bytes; ${messageMaxBytes} are allowed`,
      );
    try {
      await this.options.handle(message, yieldPlace);
      return undefined;
    } catch (error) {
      if (error instanceof PoisonMessage) return error;
      throw error;
    }
  }

  private settled(work: PartitionWork, task: Task): void {
    const { topic, partition, offset } = task.message;
    const { poison } = task;
    if (poison) annotate(() => ({ 'remit.dead_letter_code': poison.code }));
    if (task.poison)
      this.options.log.warn(
        {
          topic,
          partition,
          offset,
          correlationId: correlationOf(task.message),
          code: task.poison.code,
          reason: task.poison.message,
        },
        'message dead-lettered',
      );
    else if (this.options.log.isLevelEnabled('info'))
      this.options.log.info(
        { topic, partition, offset, correlationId: correlationOf(task.message) },
        'message handed on',
      );
    work.settle(task);
    if (this.backingOff.delete(task)) this.noteRecovery();
    this.options.onSettled(work);
  }

  private failed(work: PartitionWork, task: Task, error: unknown): void {
    const { retryBaseMs, retryCapMs, log } = this.options;
    const { topic, partition, offset } = task.message;
    work.giveBack(task);
    metrics.bridgeRetries.inc({ topic });
    if (work.isClosed) return;
    if (this.failingSinceMs === undefined) {
      this.failingSinceMs = Date.now();
      log.warn(
        { err: error, topic, partition, offset },
        'a message is not taken; trying again until it is. Nothing is skipped',
      );
    }
    const timer = setTimeout(
      () => {
        work.retry(task);
        this.pump();
      },
      backoffMs(task.failures, retryBaseMs, retryCapMs),
    );
    this.backingOff.set(task, { work, timer });
  }

  /** Logged once, when nothing is being tried again any more. */
  private noteRecovery(): void {
    if (this.backingOff.size > 0 || this.failingSinceMs === undefined) return;
    this.options.log.info({ durationMs: Date.now() - this.failingSinceMs }, 'messages are taken again');
    this.failingSinceMs = undefined;
  }
}

/** Undefined where the message carries none that we accept: the workflow is given a new one then. */
const correlationOf = ({ headers }: IncomingMessage): string | undefined =>
  givenCorrelationId(headersToStrings(headers));
