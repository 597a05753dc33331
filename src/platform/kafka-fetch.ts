import { KafkaJSError } from 'kafkajs';
import { KafkaJSOffsetOutOfRange } from 'kafkajs/src/errors';
import { createErrorFromCode } from 'kafkajs/src/protocol/error';
import definition from 'kafkajs/src/protocol/requests/fetch';
import { readFetchAnswer, type Asked, type FetchAnswer } from './fetch-response';
import { IdleFetches } from './idle-fetches';
import './kafkajs-internals';

/** The newest that kafkajs asks for, and the one that every broker from 2.3 on is asked for. */
const FETCH_VERSION = 11;
const OFFSET_OUT_OF_RANGE = 1;

let installed = false;
const idle = new IdleFetches();

/**
 * Lets kafkajs read what it fetches by our decoder (fetch-response.ts), in every client of this process. Idempotent.
 * kafkajs has no interface for it: see docs/adr/0013.
 */
export function installFetchDecoder(): void {
  if (installed) return;
  installed = true;
  const original = definition.protocol.bind(definition);
  definition.protocol = ({ version }) => {
    const protocol = original({ version });
    if (version !== FETCH_VERSION) return protocol;
    return (asked) => {
      const options = { ...asked, maxWaitTime: idle.waitMs(asked) };
      return {
        ...protocol(options),
        response: {
          decode: (payload) =>
            readFetchAnswer(payload, options).catch((error: unknown) => fetchAgain(error, options)),
          parse: (answer: FetchAnswer) => {
            const sound = refuseErrors(answer, options);
            if (bringsSomething(sound)) idle.broughtSomething(options);
            return Promise.resolve(sound);
          },
        },
      };
    };
  };
}

const bringsSomething = ({ responses }: FetchAnswer): boolean =>
  responses.some(({ partitions }) => partitions.some(({ messages }) => messages.length > 0));

/** What is no answer to a fetch at all came to harm on its way. */
function fetchAgain(error: unknown, { topics }: Asked): never {
  const places = topics.flatMap(({ topic, partitions }) =>
    partitions.map(({ partition, fetchOffset }) => `${topic}/${partition} at offset ${fetchOffset}`),
  );
  const why = error instanceof Error ? error.message : String(error);
  throw new KafkaJSError(`the answer to a fetch of ${places.join(', ')} can't be read: ${why}`, {
    retriable: true,
  });
}

/** @throws the error of the first partition that has one, saying where it is. */
function refuseErrors(answer: FetchAnswer, asked: Asked): FetchAnswer {
  for (const { topicName: topic, partitions } of answer.responses)
    for (const { partition, errorCode } of partitions) {
      if (errorCode === 0) continue;
      const error = createErrorFromCode(errorCode);
      const offset = asked.topics
        .find((each) => each.topic === topic)
        ?.partitions.find((each) => each.partition === partition)?.fetchOffset;
      error.message = `${topic}/${partition} at offset ${offset}: ${error.message} (${error.type})`;
      throw errorCode === OFFSET_OUT_OF_RANGE
        ? new KafkaJSOffsetOutOfRange(error, { topic, partition })
        : error;
    }
  return answer;
}
