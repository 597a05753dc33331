import java.nio.charset.StandardCharsets;
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Writes as another team's service would: Apache's own client, with its own batching and compression.
 * Arguments: brokers, then TOPIC,CODEC,COUNT,VALUE_BYTES,MODE for each stream. Keys are CODEC-NUMBER. Of mode `plain`,
 * every 50th value is missing and every 51st empty; `aborted` writes two transactions, of which it aborts the first
 * (keys begin with "aborted-") and commits the second.
 */
public class ForeignProducer {
  public static void main(String[] args) throws Exception {
    for (int i = 1; i < args.length; i++) {
      String[] stream = args[i].split(",");
      int count = Integer.parseInt(stream[2]);
      int bytes = Integer.parseInt(stream[3]);
      boolean transactional = stream[4].equals("aborted");
      try (KafkaProducer<byte[], byte[]> producer = connect(args[0], stream[1], transactional)) {
        if (!transactional) send(producer, stream[0], stream[1], count, bytes, true);
        else {
          producer.initTransactions();
          producer.beginTransaction();
          send(producer, stream[0], "aborted-" + stream[1], count, bytes, false);
          producer.flush();
          producer.abortTransaction();
          producer.beginTransaction();
          send(producer, stream[0], stream[1], count, bytes, false);
          producer.commitTransaction();
        }
      }
    }
  }

  static KafkaProducer<byte[], byte[]> connect(String brokers, String codec, boolean transactional) {
    Properties settings = new Properties();
    settings.put("bootstrap.servers", brokers);
    settings.put("compression.type", codec);
    settings.put("batch.size", 900_000);
    settings.put("linger.ms", 100);
    settings.put("acks", "all");
    if (transactional) settings.put("transactional.id", "foreign-" + System.nanoTime());
    return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
  }

  static void send(
      KafkaProducer<byte[], byte[]> producer, String topic, String name, int count, int bytes, boolean gaps) {
    for (int n = 0; n < count; n++) {
      byte[] value = value(name, n, bytes);
      if (gaps && n % 50 == 49) value = null;
      else if (gaps && n % 51 == 50) value = new byte[0];
      ProducerRecord<byte[], byte[]> record =
          new ProducerRecord<>(topic, (name + "-" + n).getBytes(StandardCharsets.UTF_8), value);
      record.headers().add("written-by", "java".getBytes(StandardCharsets.UTF_8));
      producer.send(record);
    }
    producer.flush();
  }

  static byte[] value(String name, int n, int bytes) {
    StringBuilder text = new StringBuilder("{\"name\":\"" + name + "\",\"n\":" + n + ",\"text\":\"");
    while (text.length() < bytes) text.append(Integer.toString(n * 7919 + text.length(), 36)).append(' ');
    return text.append("\"}").toString().getBytes(StandardCharsets.UTF_8);
  }
}
