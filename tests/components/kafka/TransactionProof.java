// Proves that the broker enforces what exactly-once rests on: one transaction committed, one aborted, one fenced;
// a read_committed reader sees the first only, a read_uncommitted reader sees all. Run by the tests as a single source file:
//   java -cp 'JARS/*' TransactionProof.java BOOTSTRAP TOPIC

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public final class TransactionProof {
    public static void main(String[] arguments) throws Exception {
        String bootstrap = arguments[0];
        String topic = arguments[1];
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get();
        }
        try (KafkaProducer<String, String> first = producer(bootstrap)) {
            first.initTransactions();
            first.beginTransaction();
            first.send(new ProducerRecord<>(topic, "committed"));
            first.commitTransaction();
            first.beginTransaction();
            first.send(new ProducerRecord<>(topic, "aborted"));
            first.flush();
            first.abortTransaction();
            first.beginTransaction();
            first.send(new ProducerRecord<>(topic, "fenced"));
            first.flush();
            // A second producer of the same transactional.id aborts what the first left open, and fences it.
            try (KafkaProducer<String, String> second = producer(bootstrap)) {
                second.initTransactions();
                System.out.println("late commit of the fenced producer: " + lateCommit(first));
            }
        }
        System.out.println("read_committed: " + read(bootstrap, topic, "read_committed"));
        System.out.println("read_uncommitted: " + read(bootstrap, topic, "read_uncommitted"));
    }

    private static String lateCommit(KafkaProducer<String, String> producer) {
        try {
            producer.commitTransaction();
            return "accepted";
        } catch (ProducerFencedException | InvalidProducerEpochException expected) {
            return "refused";
        }
    }

    private static KafkaProducer<String, String> producer(String bootstrap) {
        return new KafkaProducer<>(
                Map.of("bootstrap.servers", bootstrap, "transactional.id", "proof", "enable.idempotence", "true"),
                new StringSerializer(),
                new StringSerializer());
    }

    private static List<String> read(String bootstrap, String topic, String isolation) {
        TopicPartition partition = new TopicPartition(topic, 0);
        List<String> values = new ArrayList<>();
        try (KafkaConsumer<String, String> consumer =
                new KafkaConsumer<>(
                        Map.of("bootstrap.servers", bootstrap, "isolation.level", isolation),
                        new StringDeserializer(),
                        new StringDeserializer())) {
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long end = consumer.endOffsets(List.of(partition)).get(partition);
            long deadline = System.nanoTime() + Duration.ofSeconds(20).toNanos();
            while (consumer.position(partition) < end && System.nanoTime() < deadline) {
                consumer.poll(Duration.ofMillis(200)).forEach(record -> values.add(record.value()));
            }
        }
        return values;
    }
}
