import { setTimeout as sleep } from 'node:timers/promises';
import { eventually } from '../../support/harness';
import { freeze, thaw, type Cluster, type Member } from './cluster';
import type { Load } from './load';

/** What a fault does may show late: when sessions, leases and retries run out. */
const SEEN_AFTER_MS = 12_000;
const LOOK_MS = 250;
const TOLD_EACH = 80;
/** Work that does not flow after this long does not come back. */
const RECOVER_MAX_MS = 180_000;
const COMPLETE_MAX_MS = 180_000;
/** How long one is away of which there is no other. */
const SOLE_AWAY_MS = 10_000;

export interface Fault {
  name: string;
  how: 'kill -9' | 'freeze';
  member: (cluster: Cluster) => Member;
  /** There is no other: work waits until it is back. */
  sole?: boolean;
  /** What is frozen is killed by whoever replaces it, and is brought back as after a kill. */
  fenced?: boolean;
}

const follower = (which: number) => (cluster: Cluster) => {
  const controller = cluster.kafka.controller();
  const others = cluster.kafka.nodeIds.filter((id) => id !== controller);
  return cluster.broker(others[which]!);
};

type Victim = Pick<Fault, 'member' | 'sole' | 'fenced'> & { victim: string };

const VICTIMS: readonly Victim[] = [
  { victim: 'PostgreSQL primary', member: (cluster) => cluster.postgres('primary'), fenced: true },
  { victim: 'PostgreSQL standby', member: (cluster) => cluster.postgres('standby') },
  { victim: 'broker: the controller', member: (cluster) => cluster.broker(cluster.kafka.controller()) },
  { victim: 'broker: a follower', member: follower(0) },
  { victim: 'broker: the other follower', member: follower(1) },
  { victim: 'Temporal node 1', member: (cluster) => cluster.temporal(1) },
  { victim: 'Temporal node 2', member: (cluster) => cluster.temporal(2) },
  { victim: 'ClickHouse', member: (cluster) => cluster.clickhouseServer(), sole: true },
  ...['api', 'bridge', 'worker', 'deliveries', 'relay', 'ingest'].map((role) => ({
    victim: `one ${role} of two`,
    member: (cluster: Cluster) => cluster.role(`${role} 1`),
  })),
];

/** Each in turn is killed, then each frozen, the other of its kind carrying on. */
export const FAULTS: readonly Fault[] = (['kill -9', 'freeze'] as const).flatMap((how) =>
  VICTIMS.map(({ victim, ...rest }) => ({ name: `${how} ${victim}`, how, ...rest })),
);

/** Those whose names have one of the texts in them, in the order of the texts; all without one. @param texts separated by commas. */
export const chosenFaults = (texts = ''): Fault[] => [
  ...new Set(texts.split(',').flatMap((text) => FAULTS.filter(({ name }) => name.includes(text)))),
];

/** What one fault did. */
export interface Outcome {
  fault: string;
  from: number;
  to: number;
  /** By kind of work: until all that was late was through. */
  seconds: Record<string, number>;
  /** The longest time without anything finished, and of what kind. */
  silent: { seconds: number; kind: string };
  /** The same as `seconds`, of any kind, after what was away had come back. */
  secondsOnReturn: number;
  /** It did not come back in time. */
  stuck: string[];
}

export class Faults {
  readonly outcomes: Outcome[] = [];

  constructor(
    private readonly cluster: Cluster,
    private readonly load: Load,
    private readonly say: (line: string) => void,
  ) {}

  async inject(fault: Fault): Promise<void> {
    await this.untilComplete();
    const member = fault.member(this.cluster);
    this.say(`${fault.name} (${member.name}, process ${member.pids()[0]})`);
    const from = Date.now();
    if (fault.how === 'kill -9') await member.kill();
    else freeze(member);
    if (fault.sole) await sleep(SOLE_AWAY_MS);
    const stuck = fault.sole ? [] : await this.untilFlowing(from);

    const returned = Date.now();
    if (fault.how === 'kill -9' || fault.fenced) await member.back();
    else thaw(member);
    stuck.push(...(await this.untilFlowing(returned)));
    await this.untilComplete();

    const to = Date.now();
    const flows = Object.values(this.load.flows);
    const seen = flows.map((flow) => ({ flow, passage: flow.passage(from, fault.sole ? to : returned) }));
    const silent = seen.reduce((most, each) =>
      each.passage.silentSeconds > most.passage.silentSeconds ? each : most,
    );
    const outcome: Outcome = {
      fault: fault.name,
      from,
      to,
      seconds: Object.fromEntries(seen.map(({ flow, passage }) => [flow.kind, passage.secondsToRecover])),
      silent: { seconds: silent.passage.silentSeconds, kind: silent.flow.kind },
      secondsOnReturn: fault.sole
        ? 0
        : Math.max(...flows.map((flow) => flow.passage(returned, to).secondsToRecover)),
      stuck: [...new Set(stuck)],
    };
    this.outcomes.push(outcome);
    this.say(JSON.stringify({ ...outcome, from: undefined, to: undefined }));
  }

  /** @returns kinds of work that do not flow in time. */
  private async untilFlowing(since: number): Promise<string[]> {
    const deadline = since + RECOVER_MAX_MS;
    const flows = Object.values(this.load.flows).filter(({ size }) => size > 0);
    for (let looks = 0; ;) {
      await sleep(LOOK_MS);
      const waiting = flows.filter((flow) => !flow.isFlowing(since)).map(({ kind }) => kind);
      if (++looks % TOLD_EACH === 0 && waiting.length > 0) this.say(`  waiting for ${waiting.join(', ')}`);
      if (waiting.length === 0 && Date.now() - since > SEEN_AFTER_MS) return [];
      if (Date.now() > deadline) return waiting;
    }
  }

  /** Replicas are in sync again: the next fault meets a whole cluster. */
  private async untilComplete(): Promise<void> {
    const kafka = this.cluster.kafkaClient();
    await eventually(
      async () => {
        await this.cluster.kafka.expectComplete(kafka);
        if (!this.cluster.pair.isComplete) throw new Error('PostgreSQL has no standby');
      },
      COMPLETE_MAX_MS,
      500,
    );
  }

  /** Of any kind of work, and what took it. */
  slowest(): string {
    const all = this.outcomes.flatMap(({ fault, seconds, secondsOnReturn }) => [
      { fault, seconds: Math.max(...Object.values(seconds)) },
      { fault: `the return after ${fault}`, seconds: secondsOnReturn },
    ]);
    const most = all.reduce((a, b) => (b.seconds > a.seconds ? b : a), { fault: 'none', seconds: 0 });
    return `${most.seconds.toFixed(1)} s (${most.fault})`;
  }

  /** Markdown, a line a fault. */
  table(): string {
    const kinds = Object.values(this.load.flows).map(({ kind }) => kind);
    const head = ['fault', ...kinds, 'longest silence', 'on return', 'begun', 'lost', 'arrived again'];
    const number = (seconds: number) => (seconds === 0 ? '0' : seconds.toFixed(1));
    const rows = this.outcomes.map(({ fault, seconds, silent, secondsOnReturn, from, to, stuck }) => {
      const passages = Object.values(this.load.flows).map((flow) => flow.passage(from, to));
      return [
        fault + (stuck.length > 0 ? ` (stuck: ${stuck.join(', ')})` : ''),
        ...kinds.map((kind) => number(seconds[kind]!)),
        `${number(silent.seconds)} (${silent.kind})`,
        number(secondsOnReturn),
        passages.reduce((sum, { begun }) => sum + begun, 0),
        passages.reduce((sum, { open }) => sum + open, 0),
        this.load.repeatedBetween(from, to),
      ];
    });
    const line = (cells: readonly unknown[]) => `| ${cells.join(' | ')} |`;
    return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
  }
}
