/** The ceiling of `bench ingress`: Express, its JSON parser and one kafkajs send a request, with acks=all. */
import express from 'express';
import { Kafka, Partitioners } from 'kafkajs';

async function main(): Promise<void> {
  const kafka = new Kafka({ clientId: 'bare', brokers: [process.env['KAFKA_BROKERS']!], logLevel: 1 });
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
  await producer.connect();
  const app = express();
  app.use(express.json());
  app.post('/webhook', async (request, response) => {
    const event = request.body as { transactionId: string };
    await producer.send({
      topic: process.env['BARE_TOPIC']!,
      acks: -1,
      messages: [{ key: event.transactionId, value: JSON.stringify(event) }],
    });
    response.status(202).json({ accepted: true });
  });
  app.listen(Number(process.env['BARE_PORT']), '127.0.0.1', () => process.send?.('ready'));
}

void main();
