"""Reads a topic to its end with the official deserializers, and prints its values as one JSON list.

    registry_consume.py protobuf BOOTSTRAP REGISTRY TOPIC DESCRIPTOR_SET MESSAGE
    registry_consume.py avro|json BOOTSTRAP REGISTRY TOPIC - -
"""

import json
import sys

import confluent_kafka
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import json_format

import messages


def main():
    kind, bootstrap, registry, topic, schema, name = sys.argv[1:]
    client = SchemaRegistryClient({"url": registry})
    if kind == "protobuf":
        message = messages.message_class(schema, name)
        deserializer = ProtobufDeserializer(message, {"use.deprecated.format": False}, client)
    elif kind == "avro":
        deserializer = AvroDeserializer(client)
    else:
        latest = client.get_latest_version(f"{topic}-value").schema
        deserializer = JSONDeserializer(latest, schema_registry_client=client)
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "judge", "enable.partition.eof": True, "enable.auto.commit": False}
    )
    partitions = consumer.list_topics(topic, timeout=60).topics[topic].partitions
    begin = confluent_kafka.OFFSET_BEGINNING
    consumer.assign([confluent_kafka.TopicPartition(topic, partition, begin) for partition in partitions])
    context = SerializationContext(topic, MessageField.VALUE)
    values, ended = [], 0
    while ended < len(partitions):
        record = consumer.poll(60)
        if record is None:
            sys.exit("the topic was not read in time")
        if record.error():
            if record.error().code() != confluent_kafka.KafkaError._PARTITION_EOF:
                sys.exit(str(record.error()))
            ended += 1
            continue
        value = deserializer(record.value(), context)
        if kind == "protobuf" and value is not None:
            value = json_format.MessageToDict(value, preserving_proto_field_name=True)
        values.append(value)
    consumer.close()
    print(json.dumps(values, default=str))


if __name__ == "__main__":
    main()
