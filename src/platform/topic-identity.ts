import type { Kafka } from 'kafkajs';
import Decoder from 'kafkajs/src/protocol/decoder';
import Encoder from 'kafkajs/src/protocol/encoder';
import { createCluster, type Broker, type Cluster, type ProtocolRequest } from './kafkajs-internals';

/**
 * Which log a topic's name stands for. A topic that was deleted and created again has the name and the offsets of the
 * one before, and so has a topic of another cluster; its id (KIP-516) and the cluster's id are its own.
 *
 * kafkajs speaks Metadata up to version 6; ids came with version 10, so the request is built here.
 */

const METADATA_API_KEY = 3;
/** The first with topic ids. Brokers have it since 2.8 and, in 4.x, still. */
const METADATA_VERSION = 10;

const UNKNOWN_TOPIC_OR_PARTITION = 3;
/** What a broker answers whose cluster gives its topics no ids. */
const NO_ID = '00000000-0000-0000-0000-000000000000';

/** Thrown when the brokers can't say which log a topic is; the message says what to do. */
export class TopicIdentityError extends Error {}

interface TopicAnswer {
  errorCode: number;
  name: string;
  id: string;
}

interface MetadataAnswer {
  clientSideThrottleTime: number;
  clusterId: string | null;
  topics: TopicAnswer[];
}

/**
 * The identity `<cluster id>/<topic id>` of each topic that exists; a topic that the broker does not know is missing in
 * the answer. A broker learns of a change with a delay: shortly after a topic was created again, one may still answer
 * with the former id, or that there is none.
 * @throws TopicIdentityError when the brokers have no topic ids (before 2.8) or refuse to describe a topic.
 */
export async function topicIdentities(kafka: Kafka, topics: readonly string[]): Promise<Map<string, string>> {
  const reader = new TopicIdentityReader(kafka);
  try {
    return await reader.read(topics);
  } finally {
    await reader.close();
  }
}

/** `topicIdentities` for asking again and again: keeps its connection. */
export class TopicIdentityReader {
  private readonly cluster: Cluster;

  constructor(kafka: Kafka) {
    this.cluster = createCluster(kafka);
  }

  /** See topicIdentities. Connects on first use, and again when the connection was lost; to another broker after one has failed. */
  async read(topics: readonly string[]): Promise<Map<string, string>> {
    await this.cluster.connect();
    const broker = await this.cluster.brokerPool.findConnectedBroker();
    const newest = broker.versions?.[METADATA_API_KEY]?.maxVersion ?? 0;
    if (newest < METADATA_VERSION)
      throw new TopicIdentityError(
        `the brokers know no topic ids (Metadata up to version ${newest}, needed is ${METADATA_VERSION}): Kafka 2.8 or newer is required`,
      );
    const { clusterId, topics: answers } = await this.ask(broker, topics);
    const known = answers.filter(({ errorCode }) => errorCode !== UNKNOWN_TOPIC_OR_PARTITION);
    return new Map(known.map((answer) => [answer.name, identityOf(clusterId, answer)]));
  }

  /** A broker that failed is the only one that this client knows of: the next call would ask it again, for as long as it hangs. */
  private async ask(broker: Broker, topics: readonly string[]): Promise<MetadataAnswer> {
    try {
      return await broker.connectionPool.send(metadataRequest(topics));
    } catch (error) {
      await this.cluster.brokerPool.createSeedBroker();
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.cluster.disconnect();
  }
}

function identityOf(clusterId: string | null, { errorCode, name, id }: TopicAnswer): string {
  if (errorCode !== 0)
    throw new TopicIdentityError(
      `the brokers do not describe the topic ${name} (Kafka error ${errorCode}); this client needs the right DESCRIBE on it`,
    );
  if (id === NO_ID || !clusterId)
    throw new TopicIdentityError(
      `the topic ${name} has no id: raise the cluster's inter.broker.protocol.version to 2.8 or newer`,
    );
  return `${clusterId}/${id}`;
}

/** Flexible versions (KIP-482) have a buffer of tags behind the header, behind the body, and behind each struct. */
const NO_TAGS = 0;

function metadataRequest(topics: readonly string[]): ProtocolRequest<MetadataAnswer> {
  return {
    request: {
      apiKey: METADATA_API_KEY,
      apiVersion: METADATA_VERSION,
      apiName: 'Metadata',
      encode: () => {
        const body = new Encoder().writeInt8(NO_TAGS).writeUVarInt(topics.length + 1);
        for (const name of topics)
          body.writeBuffer(Buffer.alloc(16)).writeUVarIntString(name).writeInt8(NO_TAGS);
        body.writeBoolean(false).writeBoolean(false).writeBoolean(false).writeInt8(NO_TAGS);
        return Promise.resolve(body);
      },
    },
    response: {
      decode: (payload) => Promise.resolve(readMetadata(new Decoder(payload))),
      parse: (answer) => Promise.resolve(answer),
    },
  };
}

function readMetadata(decoder: Decoder): MetadataAnswer {
  skipTags(decoder);
  const clientSideThrottleTime = decoder.readInt32();
  decoder.readUVarIntArray(skipBroker);
  const clusterId = decoder.readUVarIntString();
  decoder.readInt32(); // controller
  const topics = decoder.readUVarIntArray(readTopic) ?? [];
  return { clientSideThrottleTime, clusterId, topics };
}

function skipBroker(decoder: Decoder): void {
  decoder.readInt32(); // node
  decoder.readUVarIntString(); // host
  decoder.readInt32(); // port
  decoder.readUVarIntString(); // rack
  skipTags(decoder);
}

function readTopic(decoder: Decoder): TopicAnswer {
  const errorCode = decoder.readInt16();
  const name = decoder.readUVarIntString() ?? '';
  const id = uuid(decoder.readBytes(16));
  decoder.readBoolean(); // internal
  decoder.readUVarIntArray(skipPartition);
  decoder.readInt32(); // operations
  skipTags(decoder);
  return { errorCode, name, id };
}

function skipPartition(decoder: Decoder): void {
  decoder.readInt16(); // error
  decoder.readInt32(); // partition
  decoder.readInt32(); // leader
  decoder.readInt32(); // leader's epoch
  for (let list = 0; list < 3; list += 1) decoder.readUVarIntArray((node) => node.readInt32()); // replicas
  skipTags(decoder);
}

/** kafkajs's own `readTaggedFields` takes one byte too little of each tag. */
function skipTags(decoder: Decoder): void {
  const tags = decoder.readUVarInt();
  for (let tag = 0; tag < tags; tag += 1) {
    decoder.readUVarInt();
    decoder.offset += decoder.readUVarInt();
  }
}

function uuid(bytes: Buffer | null): string {
  const hex = bytes?.toString('hex') ?? '';
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
