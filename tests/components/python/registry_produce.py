"""Writes records with the official serializers, which register their schemas.

    registry_produce.py protobuf BOOTSTRAP REGISTRY TOPIC DESCRIPTOR_SET MESSAGE RECORDS
    registry_produce.py avro|json BOOTSTRAP REGISTRY TOPIC SCHEMA_FILE REFERENCES RECORDS

REFERENCES is -, or a JSON list of what the schema refers to: objects with name, subject and the file of the schema, which is
registered first. RECORDS is a JSON list of objects. Of protobuf they are read as protobuf's JSON. A record's key is its field "id".
"""

import json
import sys

import confluent_kafka
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import json_format

import messages


def registered(client, kind, reference):
    with open(reference["file"], encoding="utf-8") as file:
        client.register_schema(reference["subject"], Schema(file.read(), kind.upper()))
    version = client.get_latest_version(reference["subject"]).version
    return SchemaReference(reference["name"], reference["subject"], version)


def main():
    kind, bootstrap, registry, topic, schema, name, records = sys.argv[1:]
    client = SchemaRegistryClient({"url": registry})
    values = json.loads(records)
    if kind == "protobuf":
        message = messages.message_class(schema, name)
        serializer = ProtobufSerializer(message, client, {"use.deprecated.format": False})
        values = [json_format.ParseDict(value, message()) for value in values]
        keys = [str(value.id) for value in values]
    else:
        with open(schema, encoding="utf-8") as file:
            text = file.read()
        if name != "-":
            text = Schema(text, kind.upper(), [registered(client, kind, one) for one in json.loads(name)])
        serializer = AvroSerializer(client, text) if kind == "avro" else JSONSerializer(text, client)
        keys = [str(value.get("id")) for value in values]
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap})
    context = SerializationContext(topic, MessageField.VALUE)
    for key, value in zip(keys, values):
        producer.produce(topic, key=key, value=serializer(value, context), partition=0)
    if producer.flush(60):
        sys.exit("some records were not delivered")


if __name__ == "__main__":
    main()
