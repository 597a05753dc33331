import path from 'node:path';
import { Timeline, type TimelineAction, type TimelineEntry } from '../contracts/timeline';
import { printable } from '../platform/terminal';
import { ApiRefusal, callApi, type ApiOptions } from './api-call';
import { localAccess } from './local-access';
import { mintToken } from './token';

/** How `remit why` is called. */
export interface WhyCommand extends ApiOptions {
  json: boolean;
  tenant?: string;
}

const TOKEN_S = 60;

/**
 * `remit why`: prints what happened to one thing and what will, as the API reads it.
 * @returns the exit code: 1 when there is no such thing.
 * @throws Error when no API is known or it does not answer.
 */
export async function runWhy(
  dataDir: string,
  id: string,
  { json, tenant, url, token }: WhyCommand,
  say: (line: string) => void,
): Promise<number> {
  const { endpoints, config } = await localAccess(path.join(dataDir, 'endpoints.json'));
  const api = url ?? endpoints.api;
  if (!api) throw new Error('no API is known: start remit first (npm start), or name it with --url');
  const mint = () =>
    mintToken(config, { subject: 'operator', tenant, scopes: ['read', 'platform'], expiresInS: TOKEN_S });
  const access = { api, token: token === undefined ? mint : () => Promise.resolve(token) };
  try {
    const body = await callApi(access, 'GET', `/api/v1/timeline/${encodeURIComponent(id)}`);
    if (json) say(JSON.stringify(body));
    else for (const line of timelineAsText(Timeline.parse(body))) say(line);
    return 0;
  } catch (error) {
    if (!(error instanceof ApiRefusal) || error.status !== 404) throw error;
    say(
      `Nothing of the tenant has the id or reference ${printable(id)}. Another tenant’s is found with --tenant; what was deleted by retention is gone.`,
    );
    return 1;
  }
}

/** Widest source: dead_letter. */
const SOURCE_WIDTH = 11;
const MARKS: Record<TimelineEntry['level'], string> = { info: ' ', warning: '!', error: '✗' };

/** A timeline for people: why, what happened, what will happen with how to hurry or stop it. */
export function* timelineAsText({
  subject,
  why,
  happened,
  willHappen,
  related,
  notes,
}: Timeline): Iterable<string> {
  const { kind, id, title, status, workflowId } = subject;
  yield `${kind} ${printable(id)}${status === null ? '' : `  ${status}`}`;
  yield `  ${printable(title)}${subject.userId === null || kind === 'user' ? '' : `, user ${printable(subject.userId)}`}`;
  if (workflowId !== null) yield `  workflow ${printable(workflowId)}`;
  yield `  ${printable(why)}`;
  yield '';
  yield 'What happened';
  let day = '';
  for (const { at, source, level, what, correlationId } of happened) {
    if (at.slice(0, 10) !== day) yield `  ${(day = at.slice(0, 10))}`;
    const trace = correlationId === null ? '' : `  [${printable(correlationId)}]`;
    yield `  ${MARKS[level]} ${at.slice(11, 23)}  ${source.padEnd(SOURCE_WIDTH)}  ${printable(what)}${trace}`;
  }
  yield '';
  yield 'What will happen';
  if (willHappen.length === 0) yield '    nothing: it has ended';
  for (const { at, what, actions } of willHappen) {
    yield `    ${at === null ? 'when it comes' : `${at.slice(0, 19)}Z`}  ${printable(what)}`;
    for (const action of actions) yield `        ${actionText(action)}`;
  }
  if (related.length > 0) yield* ['', 'See also'];
  for (const each of related)
    yield `    remit why ${printable(each.id)}   ${each.kind}${each.status === null ? '' : ` ${each.status}`}, ${printable(each.relation)}`;
  for (const note of notes) yield `\nNote: ${printable(note)}`;
}

function actionText({ label, method, path: where, command }: TimelineAction): string {
  const how = command ?? (where === null ? '' : `${method} ${where}`);
  return `${label}${how === '' ? '' : `:  ${printable(how)}`}`;
}
