import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';
import { readText } from '../../unit/deploy/project-files';

/**
 * The jobs of a workflow, run here as far as a machine without the forge can: each `run` of it under bash, word for word, in a
 * checkout, a home and a folder for temporary files of its job alone; in the place of each action what the caller names for it.
 */

interface Step {
  id?: string;
  name?: string;
  uses?: string;
  with?: Record<string, unknown>;
  run?: string;
  env?: Record<string, string>;
  'working-directory'?: string;
}
interface Job {
  uses?: string;
  needs?: string | string[];
  permissions?: Record<string, string>;
  outputs?: Record<string, string>;
  steps?: Step[];
}
interface Workflow {
  env?: Record<string, string>;
  jobs: Record<string, Job>;
}

/** Where a job runs. */
export interface Runner {
  workspace: string;
  home: string;
  temp: string;
}
type Outputs = Record<string, string>;
/** Does what matters here of an action. @returns its outputs. */
export type Action = (
  inputs: Record<string, string>,
  runner: Runner,
) => Promise<Outputs | void> | Outputs | void;

export interface Settings {
  /** Folder for what the jobs write. */
  top: string;
  /** What `github.…` is, and GITHUB_… for those of its values that are variables as well. */
  github: Record<string, string>;
  /** The `env` of the workflow, where it is another here. */
  env: Record<string, string>;
  /** Every other variable that the steps see. */
  shell: Record<string, string>;
  /** What a job sees besides that may have a token that says who it is (`id-token: write`). */
  identity: Record<string, string>;
  /** By the name of the action, without its version. */
  actions: Record<string, Action>;
}

const STEP_MS = 15 * 60_000;
const SHOWN_CHARACTERS = 4_000;

export class WorkflowRun {
  private readonly workflow: Workflow;
  private readonly env: Record<string, string>;
  private readonly finished: Record<string, Outputs> = {};
  /** Jobs that are another workflow, and are run by other tests. */
  readonly leftOut: string[] = [];
  /** Number of `run` steps that have passed. */
  scripts = 0;

  constructor(
    file: string,
    private readonly settings: Settings,
  ) {
    this.workflow = parse(readText(file)) as Workflow;
    this.env = { ...this.workflow.env, ...settings.env };
  }

  /** Every job, in the order of the file, which has to be one that `needs` allows. */
  async all(): Promise<void> {
    for (const [name, job] of Object.entries(this.workflow.jobs)) {
      const needed = [job.needs ?? []].flat();
      const early = needed.filter((each) => !(each in this.finished));
      if (early.length > 0) throw new Error(`${name} needs ${early.join(', ')}, which come later`);
      if (job.uses === undefined) this.finished[name] = await this.job(name, job, needed);
      else {
        this.leftOut.push(job.uses);
        this.finished[name] = {};
      }
    }
  }

  private async job(name: string, job: Job, needed: string[]): Promise<Outputs> {
    const folder = path.join(this.settings.top, name);
    const runner = {
      workspace: path.join(folder, 'workspace'),
      home: path.join(folder, 'home'),
      temp: path.join(folder, 'temp'),
    };
    for (const each of Object.values(runner)) mkdirSync(each, { recursive: true });
    const steps: Record<string, { outputs: Outputs }> = {};
    const context = {
      github: this.settings.github,
      env: this.env,
      steps,
      needs: Object.fromEntries(needed.map((each) => [each, { outputs: this.finished[each]! }])),
    };
    const resolved = (values: Record<string, unknown> = {}): Record<string, string> =>
      Object.fromEntries(
        Object.entries(values).map(([key, value]) => [key, evaluated(String(value), context)]),
      );
    for (const [index, step] of (job.steps ?? []).entries()) {
      const title = `${name}: ${step.name ?? step.id ?? step.uses ?? `step ${index + 1}`}`;
      let outputs: Outputs;
      if (step.uses !== undefined) {
        const action = this.settings.actions[step.uses.replace(/@.*$/, '')];
        if (action === undefined) throw new Error(`${title}: nothing stands for ${step.uses} here`);
        outputs = (await action(resolved(step.with), runner)) ?? {};
      } else {
        const file = path.join(runner.temp, `_step-${index + 1}`);
        writeFileSync(`${file}.sh`, evaluated(step.run ?? '', context));
        writeFileSync(`${file}.outputs`, '');
        await this.script(title, `${file}.sh`, path.join(runner.workspace, step['working-directory'] ?? ''), {
          ...this.settings.shell,
          ...Object.fromEntries(
            Object.entries(this.settings.github).map(([key, value]) => [
              `GITHUB_${key.toUpperCase()}`,
              value,
            ]),
          ),
          ...{ HOME: runner.home, RUNNER_TEMP: runner.temp, GITHUB_WORKSPACE: runner.workspace, CI: 'true' },
          GITHUB_OUTPUT: `${file}.outputs`,
          ...(job.permissions?.['id-token'] === 'write' ? this.settings.identity : {}),
          ...this.env,
          ...resolved(step.env),
        });
        outputs = Object.fromEntries(
          [...readFileSync(`${file}.outputs`, 'utf8').matchAll(/^([\w-]+)=(.*)$/gm)].map(([, key, value]) => [
            key!,
            value!,
          ]),
        );
        this.scripts += 1;
      }
      if (step.id !== undefined) steps[step.id] = { outputs };
    }
    return resolved(job.outputs);
  }

  /** As the forge runs a `run` that names no shell. */
  private async script(title: string, file: string, cwd: string, env: Record<string, string>): Promise<void> {
    const child = spawn('bash', ['-e', file], {
      cwd,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: STEP_MS,
    });
    let said = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-SHOWN_CHARACTERS)));
    const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
    if (code !== 0) throw new Error(`${title}: ended with ${code ?? signal}\n${said}`);
    if (process.env['DEBUG']) process.stderr.write(`▸ ${title}\n${said}`);
  }
}

/** `${{ steps.name.outputs.image }}` → its value; only paths, which is all that the workflow uses. */
function evaluated(text: string, context: Record<string, unknown>): string {
  return text.replaceAll(/\$\{\{\s*(.*?)\s*\}\}/g, (_all, expression: string) => {
    let value: unknown = /^[\w-]+(\.[\w-]+)+$/.test(expression) ? context : undefined;
    for (const key of expression.split('.')) value = (value as Record<string, unknown> | undefined)?.[key];
    if (typeof value !== 'string' || value === '') throw new Error(`"${expression}" has no value`);
    return value;
  });
}
