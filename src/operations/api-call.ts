import { request } from 'undici';

/** How a command reaches the API. */
export interface ApiAccess {
  /** Base URL of the API. */
  api: string;
  /** A bearer token; asked for at each call, so that it has not expired when a command runs for long. */
  token: () => Promise<string>;
}

/** The API's answer when it does not do what it was asked. */
export class ApiRefusal extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

const API_TIMEOUT_MS = 15_000;

/**
 * @returns the body of the API's answer.
 * @throws ApiRefusal with what the problem document says, Error when there is no answer.
 */
export async function callApi(
  { api, token }: ApiAccess,
  method: 'GET' | 'POST' | 'DELETE',
  path: string,
  body?: object,
): Promise<Record<string, unknown>> {
  const authorization = `Bearer ${await token()}`;
  const answer = await request(new URL(path, api), {
    method,
    headers: { authorization, ...(body && { 'content-type': 'application/json' }) },
    ...(body && { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(API_TIMEOUT_MS),
  }).catch((error: unknown) => {
    throw new Error(
      `${api} does not answer (${String(error)}): is remit running there? Name the API with --url`,
      {
        cause: error,
      },
    );
  });
  const text = await answer.body.text();
  if (answer.statusCode >= 300)
    throw new ApiRefusal(
      answer.statusCode,
      `${method} ${path} was answered ${answer.statusCode}: ${problemOf(text)}`,
    );
  return text === '' ? {} : (JSON.parse(text) as Record<string, unknown>);
}

/** What a problem document says, in one line; otherwise the text as it came. */
function problemOf(text: string): string {
  try {
    const { title, detail, errors } = JSON.parse(text) as {
      title?: string;
      detail?: string;
      errors?: { path: string; message: string }[];
    };
    const fields = (errors ?? []).map(({ path, message }) => `${path} ${message}`);
    return [detail ?? title ?? text, ...fields].join('; ');
  } catch {
    return text;
  }
}

/** How a command reaches the API: the local one, with a token signed with AUTH_JWT_SECRET, when left out. */
export interface ApiOptions {
  url?: string;
  token?: string;
}
