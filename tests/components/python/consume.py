"""Reads a topic as others see it (committed records only), decodes its protobuf values, prints a JSON object per record.

It stops when at least `--records` have come and nothing more comes for `--settle` seconds, or with exit code 1 after
`--timeout` seconds.
"""

import argparse
import json
import sys
import time

import confluent_kafka

import messages


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--bootstrap", required=True)
    arguments.add_argument("--topic", required=True)
    arguments.add_argument("--descriptor")
    arguments.add_argument("--message", help="without it, values are shown in hex")
    arguments.add_argument("--key-message")
    arguments.add_argument("--records", type=int, required=True)
    arguments.add_argument("--timeout", type=float, default=60)
    arguments.add_argument("--settle", type=float, default=2)
    options = arguments.parse_args()

    value_class = options.message and messages.message_class(options.descriptor, options.message)
    key_class = options.key_message and messages.message_class(options.descriptor, options.key_message)
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": options.bootstrap,
            "group.id": "judge",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    partitions = consumer.list_topics(options.topic, 20).topics[options.topic].partitions
    first = confluent_kafka.OFFSET_BEGINNING
    consumer.assign([confluent_kafka.TopicPartition(options.topic, partition, first) for partition in partitions])

    deadline = time.monotonic() + options.timeout
    last = time.monotonic()
    count = 0
    while count < options.records or time.monotonic() < last + options.settle:
        if time.monotonic() > deadline:
            sys.exit(f"{count} records of {options.topic} came in {options.timeout} s, {options.records} were expected")
        for record in consumer.consume(10_000, 0.2):
            if record.error() is not None:
                sys.exit(str(record.error()))
            count += 1
            last = time.monotonic()
            print(
                json.dumps(
                    {
                        "partition": record.partition(),
                        "offset": record.offset(),
                        "timestamp": record.timestamp()[1],
                        "headers": {name: (text or b"").decode("utf-8", "replace") for name, text in record.headers() or []},
                        "key": decoded(key_class, record.key()),
                        "value": decoded(value_class, record.value()),
                    }
                )
            )
    consumer.close()


def decoded(message_class, data):
    if data is None or message_class is None:
        return None if data is None else data.hex()
    return messages.plain(message_class.FromString(data))


main()
