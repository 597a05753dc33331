import { Kafka, type Producer } from 'kafkajs';
import { createProducer, sendWhole } from '../../../src/platform/kafka-produce';

const passing = () => Object.assign(new Error('not the leader'), { name: 'KafkaJSNumberOfRetriesExceeded' });
const lasting = () => Object.assign(new Error('too large'), { name: 'KafkaJSNonRetriableError' });
const batch = { acks: -1, topicMessages: [{ topic: 'orders', messages: [{ value: 'a' }, { value: 'b' }] }] };

function failing(...errors: Error[]) {
  const sent: unknown[] = [];
  const sendBatch: Producer['sendBatch'] = (given) => {
    sent.push(given);
    const error = errors.shift();
    return error ? Promise.reject(error) : Promise.resolve([]);
  };
  return { sent, sendBatch };
}

describe('a batch that goes to several brokers', () => {
  it('is sent again as a whole, with all its messages, when one of them fails', async () => {
    const producer = failing(passing(), passing());
    await sendWhole(producer, batch, 10_000);
    expect(producer.sent).toEqual([batch, batch, batch]);
  });

  it('is given up when the time is over, and at once for what no repetition mends', async () => {
    await expect(sendWhole(failing(passing()), batch, 0)).rejects.toThrow('not the leader');
    const producer = failing(lasting());
    await expect(sendWhole(producer, batch, 10_000)).rejects.toThrow('too large');
    expect(producer.sent).toHaveLength(1);
  });

  it('is never repeated in part by kafkajs, which would lose what has moved to a broker that has answered', () => {
    const kafka = new Kafka({ brokers: ['127.0.0.1:1'] });
    const make = jest.spyOn(kafka, 'producer');
    // One that kafkajs refuses would be found out by this too.
    createProducer(kafka, { maxInFlightRequests: 1 });
    expect(make).toHaveBeenCalledWith(
      expect.objectContaining({ maxInFlightRequests: 1, retry: { retries: 0 } }),
    );
  });
});

/** Why: the part of kafkajs that sends, with two brokers of which one is lost when the other has answered. */
describe("kafkajs's own repetition", () => {
  interface Broker {
    nodeId: number;
    produce(asked: { topicData: { partitions: { partition: number }[] }[] }): Promise<unknown>;
  }
  type Send = (sent: object) => Promise<unknown>;
  const makeSend = jest.requireActual<(parts: object) => Send>('kafkajs/src/producer/sendMessages');
  const makeRetry = jest.requireActual<(options: object) => unknown>('kafkajs/src/retry');

  it.each([
    ['loses a partition whose new leader has answered, and resolves', 1, [0], 'resolves'],
    ['without a retry fails, so that all is sent again', 0, [0], 'rejects'],
  ])('%s', async (_, retries, expected, outcome) => {
    const leaders = new Map([
      [0, 1],
      [1, 2],
    ]);
    const stored: number[] = [];
    const broker = (nodeId: number): Broker => ({
      nodeId,
      produce: async ({ topicData }) => {
        const partitions = topicData.flatMap(({ partitions: each }) =>
          each.map(({ partition }) => partition),
        );
        if (nodeId === 2) {
          await new Promise((resolve) => setTimeout(resolve, 20));
          leaders.set(1, 1);
          throw Object.assign(new Error('closed'), { name: 'KafkaJSConnectionClosedError', retriable: true });
        }
        stored.push(...partitions);
        return {
          topics: [
            { topicName: 't', partitions: partitions.map((partition) => ({ partition, errorCode: 0 })) },
          ],
        };
      },
    });
    const brokers = new Map([1, 2].map((id) => [id, broker(id)]));
    const cluster = {
      addMultipleTargetTopics: () => Promise.resolve(),
      refreshMetadataIfNecessary: () => Promise.resolve(),
      refreshMetadata: () => Promise.resolve(),
      removeBroker: () => undefined,
      isConnected: () => true,
      findTopicPartitionMetadata: () => [{ partitionId: 0 }, { partitionId: 1 }],
      findLeaderForPartitions: (_topic: string, partitions: string[]) => {
        const found: Record<number, number[]> = {};
        for (const each of partitions.map(Number)) (found[leaders.get(each)!] ??= []).push(each);
        return found;
      },
      findBroker: ({ nodeId }: { nodeId: string }) => Promise.resolve(brokers.get(Number(nodeId))),
    };
    const eosManager = {
      acquireBrokerLock: () => Promise.resolve(),
      releaseBrokerLock: () => Promise.resolve(),
      isTransactional: () => false,
      getSequence: () => 0,
      updateSequence: () => undefined,
      getProducerId: () => -1,
      getProducerEpoch: () => 0,
    };
    const logger = { error: () => undefined, debug: () => undefined };
    const partitioner = ({ message }: { message: { partition: number } }) => message.partition;
    const retrier = makeRetry({ initialRetryTime: 5, factor: 0, multiplier: 1, maxRetryTime: 5, retries });
    const send = makeSend({ logger, cluster, partitioner, eosManager, retrier });
    const topicMessages = [
      {
        topic: 't',
        messages: [
          { value: 'a', partition: 0 },
          { value: 'b', partition: 1 },
        ],
      },
    ];
    const [result] = await Promise.allSettled([send({ acks: -1, timeout: 1_000, topicMessages })]);
    expect(result.status).toBe(outcome === 'resolves' ? 'fulfilled' : 'rejected');
    expect(stored).toEqual(expected);
  });
});
